"""Changes to a cell that were measured to carry gradients as far as wanted."""

import dataclasses
from typing import Any

import jax

from .._cell import Cell
from ._freedoms import Kind
from ._initialise import Search, check_cell, check_kappa, check_wanted
from ._measure import check_inputs, take


@dataclasses.dataclass(frozen=True, eq=False)
class Advice:
    """A change to a cell, and what was measured after it, on the same inputs.

    Attributes: ``change``, in words ("dt = 0.05"); ``kind``: "dt", "method", "damping",
    "initialisation" or "time scale"; ``gradient``, the mean gradient at the wanted lag;
    ``horizon``, the memory horizon; ``solved``, whether the gradient at the wanted lag is in
    [1/kappa, kappa] now; ``cell``, the changed cell.
    """

    change: str
    kind: Kind
    gradient: float
    horizon: float
    solved: bool
    cell: Cell

    def __str__(self) -> str:
        result = "solves it" if self.solved else "helps, but does not solve it"
        return f"{self.change} {result}: gradient {self.gradient:.3g}, horizon {self.horizon:g}"


def advise(
    cell: Any, xs: Any, horizon: int | None = None, kappa: float = 10.0, *, key: Any = None
) -> tuple[Advice, ...]:
    """Return the changes of a cell that bring its gradient at the wanted lag into [1/kappa, kappa].

    Along each freedom of the cell (time scales, initial weights, damping, step size, method; see
    ``initialise``) the change is searched that brings the gradient near to one. Each is run on the
    inputs and measured: only what was measured to solve the problem is called a solution. If
    none does, the one that comes nearest is returned with ``solved=False``, if it helps at all; and
    nothing, if the gradient is in the band as it is. A measurement at the start of training: it
    does not say what the weights become.

    **Arguments**: ``cell``, a ``Cell`` or ``Layer``; ``xs`` of shape (time, input) or (batch, time,
    input); ``horizon``, the wanted lag, by default as many steps as the inputs have; ``kappa``;
    ``key``, for the random directions and for new weights.

    Solutions come in the order of how little they change: time scales first, then initial weights,
    damping, step size, method. Raises ``InputError`` for what is no cell, and for a lag that is
    longer than the inputs.

    >>> import jax, odernn
    >>> from odernn.analysis._advice import advise
    >>> cell = odernn.zoo.CTRNN(1, 8, key=jax.random.key(0))
    >>> found = advise(cell, jax.random.normal(jax.random.key(1), (200, 1)))
    >>> [advice.kind for advice in found if advice.solved][-1]
    'dt'
    """
    layer = check_cell(cell)
    xs = check_inputs(take(layer)[0], xs)
    wanted = check_wanted(horizon, xs.shape[1])
    check_kappa(kappa)
    search = Search(layer, xs, wanted, float(kappa), jax.random.key(0) if key is None else key)
    start = search.start()
    if start.solved:
        return ()
    found = list(search.attempts(start))
    solutions = [one for one in found if one.solved]
    nearest = sorted(found, key=lambda one: one.distance)[:1]
    return tuple(
        Advice(one.change, one.freedom, one.gradient, one.horizon, one.solved, one.cell)
        for one in solutions or nearest
        if one.freedom is not None and one.distance < start.distance
    )
