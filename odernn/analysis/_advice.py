"""Changes to a cell that were measured to carry gradients as far as wanted."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell, TrainedStep
from .._field import AbstractField
from .._initial import orthogonal
from .._layer import Layer
from .._method import RK4, ImplicitMidpoint
from .._results import InputError
from .._typing import Array, PyTree
from ..fields import LEM, LSTM, Gated, ProjectedLSTM
from ._measure import (
    Recurrence,
    against_lag,
    backward,
    check_inputs,
    directions,
    horizon_of,
    run,
    take,
)

PROBES = 8
"""Random directions whose gradients are followed in each sequence."""

Kind = Literal["dt", "method", "damping", "initialisation", "time scale"]


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

    Each candidate (another initialisation, forget bias, damping, step size, method) is run on the
    inputs and measured: only what was measured to solve the problem is called a solution. If
    none does, the one that comes nearest is returned with ``solved=False``, if it helps at all; and
    nothing, if the gradient is in the band as it is. A measurement at the start of training: it
    does not say what the weights become.

    **Arguments**: ``cell``, a ``Cell`` or ``Layer``; ``xs`` of shape (time, input) or (batch, time,
    input); ``horizon``, the wanted lag, by default as many steps as the inputs have; ``kappa``;
    ``key``, for the random directions and for new weights.

    Solutions come in the order of how little they change: initial weights first, then biases,
    damping, step size, method. Raises ``InputError`` for what is no cell, and for a lag that is
    longer than the inputs.

    >>> import jax, odernn
    >>> from odernn.analysis._advice import advise
    >>> cell = odernn.zoo.CTRNN(1, 8, key=jax.random.key(0))
    >>> found = advise(cell, jax.random.normal(jax.random.key(1), (200, 1)))
    >>> [advice.kind for advice in found if advice.solved][-1]
    'dt'
    """
    if not isinstance(cell, Layer | Cell):
        raise InputError(f"cell is a {type(cell).__name__}: give a Cell or a Layer.")
    layer = cell if isinstance(cell, Layer) else Layer(cell)
    recurrence, _ = take(layer)
    xs = check_inputs(recurrence, xs)
    wanted = check_wanted(horizon, xs.shape[1])
    check_kappa(kappa)
    key = jax.random.key(0) if key is None else key
    before = _measure(layer, xs, key)
    own = before[wanted - 1] if before is not None else math.inf
    if abs(own) <= math.log(kappa):
        return ()
    tried = []
    for change, kind, changed in _candidates(layer.cell, own, wanted, kappa, key):
        after = _measure(_with_cell(layer, changed), xs, key)
        if after is None:
            continue
        value = float(after[wanted - 1])
        solved = abs(value) <= math.log(kappa)
        far = float(horizon_of(after, kappa))
        tried.append((value, Advice(change, kind, _exp(value), far, solved, changed)))
    solutions = tuple(advice for _, advice in tried if advice.solved)
    if solutions:
        return solutions
    value, best = min(tried, key=lambda pair: abs(pair[0]), default=(math.inf, None))
    return (best,) if best is not None and abs(value) < abs(own) else ()


def check_wanted(horizon: Any, steps: int) -> int:
    """Return the wanted lag; raise ``InputError`` unless it is measured."""
    if horizon is None:
        return steps
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise InputError(f"horizon = {horizon!r}: give a whole number of steps of at least 1.")
    if horizon > steps:
        raise InputError(
            f"horizon = {horizon} but {steps} steps are measured: give longer sequences (and "
            "steps=) or a shorter horizon."
        )
    return int(horizon)


def check_kappa(kappa: Any) -> None:
    """Raise ``InputError`` unless it is a number above one."""
    number = isinstance(kappa, int | float) and not isinstance(kappa, bool)
    if not number or not 1 < kappa < math.inf:
        raise InputError(f"kappa = {kappa!r}: give a tolerance above 1, 10 say.")


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _with_cell(layer: Layer, cell: Cell) -> Layer:
    # A state that a method carried is another method's start no more.
    start = layer.initial_state
    if start is not None and type(cell.method) is not type(layer.cell.method):
        start = layer.cell.method.current(layer._start(None)[0])
    return Layer(cell, None, start, layer.reverse)


def _measure(layer: Layer, xs: Array, key: Any) -> np.ndarray | None:
    """Return the logarithm of the mean gradient against lag; None if a state is not finite."""
    cell = layer.cell
    dt = cell.step_size
    # A traced step size: cells that differ in it are compiled once.
    traced = eqx.tree_at(lambda d: d.log_dt, TrainedStep(1.0), jnp.log(jnp.asarray(dt, float)))
    traced = Cell(cell.field, cell.method, traced, cell.interpolation)
    recurrence, y = take(Layer(traced, None, layer.initial_state, layer.reverse))
    form = recurrence.layout
    probes = directions(key, (len(xs), min(PROBES, form.size), form.size), form.dtype)
    logs, finite = _growth(recurrence, y, xs, probes)
    if not bool(finite):
        return None
    return against_lag(np.asarray(logs)).mean(axis=0)


@eqx.filter_jit
def _growth(recurrence: Recurrence, y: PyTree, xs: Array, probes: Array) -> tuple[Array, Array]:
    vector, rest = recurrence.layout.split(y)

    def one(x: Array, probes: Array) -> tuple[Array, Array]:
        steps = run(recurrence, vector, rest, recurrence.items(x))
        return backward(recurrence, steps, probes)[0], jnp.all(jnp.isfinite(steps.after))

    logs, finite = jax.vmap(one)(xs, probes)
    return logs, jnp.all(finite)


# --- Candidates ----------------------------------------------------------------------------------


def _candidates(
    cell: Cell, own: float, wanted: int, kappa: float, key: Any
) -> Iterator[tuple[str, Kind, Cell]]:
    """Changes to try, the smaller ones first.

    ``own`` is the logarithm of the gradient at the wanted lag: the size of a change follows from
    it, as if the growth per step were proportional to what is changed.
    """
    own = math.copysign(min(abs(own), 700.0 * wanted), own)
    dt = float(cell.step_size)
    rate = own / (wanted * dt)
    field = cell.field
    names = _recurrent(field)
    if names:
        drawn = [
            orthogonal(k, getattr(field, name).shape, field).astype(getattr(field, name).dtype)
            for k, name in zip(jax.random.split(key, len(names)), names, strict=True)
        ]
        changed = _field(cell, dict(zip(names, drawn, strict=True)))
        yield "orthogonal initialisation", "initialisation", changed
        for power in (1.0, 2.0):
            scale = min(max(math.exp(min(max(-power * rate, -3.0), 3.0)), 0.05), 3.0)
            scaled = {name: _times(getattr(field, name), scale) for name in names}
            if abs(scale - 1) > 0.01:
                yield f"recurrent weights x {scale:.3g}", "initialisation", _field(cell, scaled)
    yield from _biases(cell, wanted, key)
    # Of an oscillator gamma is a frequency, and epsilon damps only the half of what is carried.
    name = next((name for name in ("epsilon", "gamma") if hasattr(field, name)), None)
    value = getattr(field, name) if name else None
    if name and isinstance(value, float):
        steps = [value + weight * rate for weight in ((2, 3.5) if name == "epsilon" else (1, 1.75))]
        for new in dict.fromkeys(float(f"{max(0.0, new):.3g}") for new in steps):
            if new != value:
                yield f"{name} = {new:g}", "damping", _field(cell, {name: new})
    for part in (0.5, 0.15):
        new = float(f"{dt * part * math.log(kappa) / abs(own):.3g}")
        if 0 < new < dt:
            kept = TrainedStep(new) if isinstance(cell.dt, TrainedStep) else new
            changed = Cell(field, cell.method, kept, cell.interpolation)
            yield f"dt = {new:g}", "dt", changed
    if own > 0:
        for name, method in (("rk4", RK4()), ("implicitmidpoint", ImplicitMidpoint())):
            if method.fits(field) and type(method) is not type(cell.method):
                changed = Cell(field, method, cell.dt, cell.interpolation)
                yield f"method = {name}", "method", changed


def _recurrent(field: AbstractField) -> list[str]:
    """Trained matrices from hidden units to hidden units, or to packed gates."""
    found = []
    for entry in dataclasses.fields(field):
        value = getattr(field, entry.name)
        if entry.name in field.fixed or "input" in entry.name or not eqx.is_array(value):
            continue
        hidden = field.hidden_size
        square = value.ndim == 2 and value.shape[0] == hidden and value.shape[1] % hidden == 0
        if square and jnp.issubdtype(value.dtype, jnp.floating):
            found.append(entry.name)
    return found


def _biases(cell: Cell, wanted: int, key: Any) -> Iterator[tuple[str, Kind, Cell]]:
    """Biases of the gates that decide how long a state is kept."""
    field: Any = cell.field
    bias = getattr(field, "bias", None)
    if not isinstance(field, LSTM | ProjectedLSTM | Gated | LEM) or bias is None:
        return
    # A gate that is closed to one part in ``wanted`` keeps its state for so many steps.
    far = math.log(max(wanted - 1.0, 1.5))
    if isinstance(field, LEM):
        width = field.hidden_size
        changed = bias.at[: 2 * width].set(-far)
        yield f"time-scale bias = {-far:.3g}", "time scale", _field(cell, {"bias": changed})
        return
    width = len(bias) // (3 if isinstance(field, Gated) else 4)
    kept = slice(width, 2 * width)
    yield (
        f"forget bias = {far:.3g}",
        "time scale",
        _field(cell, {"bias": bias.at[kept].set(far)}),
    )
    drawn = jnp.log(jax.random.uniform(key, (width,), bias.dtype, 1.0, max(wanted - 1.0, 1.5)))
    changed = bias.at[kept].set(drawn)
    if not isinstance(field, Gated):
        changed = changed.at[:width].set(-drawn)
    text = f"forget bias = log U(1, {max(wanted - 1, 1.5):g}) (chrono initialisation)"
    yield text, "initialisation", _field(cell, {"bias": changed})


def _times(array: Array, scale: float) -> Array:
    return array * jnp.asarray(scale, array.dtype)


def _field(cell: Cell, values: dict[str, Any]) -> Cell:
    """The cell with other values in its field, arrays or fixed numbers."""
    field = object.__new__(type(cell.field))
    for entry in dataclasses.fields(cell.field):
        value = values.get(entry.name, getattr(cell.field, entry.name))
        # A module is frozen, and its constructor would draw all weights anew.
        object.__setattr__(field, entry.name, value)
    return Cell(field, cell.method, cell.dt, cell.interpolation)
