"""Initial values by design: a gradient of about one at a wanted lag, searched and measured."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell, TrainedStep
from .._layer import Layer
from .._results import InputError
from .._typing import Array, PyTree
from ._freedoms import Freedom, Kind, freedoms, numbers, with_values
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
SEQUENCES = 2
"""Sequences of noise that are measured where no data are given."""
REFINEMENTS = 10
"""Values that are tried between two with gradients above and below one."""


@dataclasses.dataclass(frozen=True, eq=False)
class Initialised:
    """A cell, what was changed of it, and the gradient that was measured before and after.

    Attributes: ``cell``; ``change``, in words ("bias for time constants up to 245 steps"), "" if
    there is none; ``freedom``: "time scale", "initialisation", "damping", "dt",
    "method" or None; ``before`` and ``gradient``, the mean gradients at the wanted lag;
    ``horizon``, the memory horizon; ``solved``, whether ``gradient`` is in [1/kappa, kappa];
    ``reason``, why not, in words, or "".
    """

    cell: Cell
    change: str
    freedom: Kind | None
    before: float
    gradient: float
    horizon: float
    solved: bool
    reason: str = ""

    @property
    def distance(self) -> float:
        """How far the logarithm of the gradient is from zero."""
        return abs(_log(self.gradient))

    def __str__(self) -> str:
        text = (
            f"{self.change or 'nothing changed'}: gradient {self.before:.3g} -> {self.gradient:.3g}"
        )
        return f"{text}, horizon {self.horizon:g}" + (f"; {self.reason}" if self.reason else "")


def initialise(
    cell: Any, horizon: int, xs: Any = None, *, kappa: float = 10.0, key: Any = None
) -> Initialised:
    """Return the cell with initial values by which gradients reach the horizon.

    The cell is changed in one respect, and is otherwise as it was: in the first of these that
    brings the gradient at the lag ``horizon`` into [1/kappa, kappa], near to 1 where it can.

    - Time scales: biases of gates and time constants, spread evenly in the logarithm over the
      units. They are the trained vectors on which the rates of relaxation depend, whatever the
      field calls them.
    - Initial weights: orthogonal recurrent matrices, or its own, times a number.
    - Damping, and the fixed numbers that say how long is remembered (gamma, epsilon, theta, ...).
    - The step size dt, which only gets smaller.
    - The method, where gradients grow.

    One number is searched in each of them. The gradient is the geometric mean over random
    directions, along trajectories: where time scales differ, slow units outweigh fast ones, and it
    says that some units remember, not that all do. It is a start: training may go elsewhere.

    **Arguments**: ``cell``, a ``Cell`` or ``Layer``; ``horizon``, in steps; ``xs``, inputs of shape
    (time, input) or (batch, time, input), by default white noise of variance one; ``kappa``;
    ``key``, for directions, noise and new weights.

    Where gradients reach the horizon as they are, nothing is changed. Where no change suffices, the
    nearest one is returned, ``solved`` is False and ``reason`` says what was tried. Raises
    ``InputError`` for what is no cell, and for a horizon that is no whole number of at least 1 or
    longer than the inputs.

    >>> import jax, odernn
    >>> from odernn.analysis import initialise
    >>> found = initialise(odernn.zoo.LSTM(1, 16, key=jax.random.key(0)), 50)
    >>> found.freedom, found.solved, found.before < 1e-3, found.gradient > 0.1
    ('time scale', True, True, True)

    Reference: Tallec and Ollivier, "Can recurrent neural networks warp time?", arXiv:1804.11188,
    for biases that follow from the horizon.
    """
    layer = check_cell(cell)
    wanted = check_wanted(horizon, None)
    check_kappa(kappa)
    key = jax.random.key(0) if key is None else key
    if xs is None:
        noise = jax.random.fold_in(key, 1)
        xs = jax.random.normal(noise, (SEQUENCES, wanted, layer.input_size))
    xs = check_inputs(take(layer)[0], xs)
    if xs.shape[1] < wanted:
        raise InputError(
            f"horizon = {horizon} but xs has {xs.shape[1]} steps: give inputs as long as the "
            "horizon, or none."
        )
    search = Search(layer, xs, wanted, float(kappa), key)
    start, best = search.start(), None
    if start.solved:
        return start
    tried: list[str] = []
    for found in search.attempts(start):
        if found.solved:
            return found
        tried.append(str(found.freedom))
        if best is None or found.distance < best.distance:
            best = found
    reason = f"no freedom: tried {', '.join(dict.fromkeys(tried))}" if tried else "no freedom"
    if best is None or best.distance >= start.distance:
        best = start
    return dataclasses.replace(best, reason=reason)


def check_cell(cell: Any) -> Layer:
    """Return the layer of a cell; raise ``InputError`` for what is neither."""
    if not isinstance(cell, Layer | Cell):
        raise InputError(f"cell is a {type(cell).__name__}: give a Cell or a Layer.")
    return cell if isinstance(cell, Layer) else Layer(cell)


def check_wanted(horizon: Any, steps: int | None) -> int:
    """Return the wanted lag, by default all steps; raise ``InputError`` unless it is measured."""
    if horizon is None and steps is not None:
        return steps
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise InputError(f"horizon = {horizon!r}: give a whole number of steps of at least 1.")
    if steps is not None and horizon > steps:
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


def _log(value: float) -> float:
    return math.log(value) if 0 < value < math.inf else math.copysign(math.inf, value - 1)


# --- Search --------------------------------------------------------------------------------------


class Tried(NamedTuple):
    """A value of a freedom, the cell, the logarithm of its gradient, and its horizon."""

    x: float
    cell: Cell
    value: float
    horizon: float


@dataclasses.dataclass(frozen=True)
class Search:
    """What is measured, and how far the logarithm of the gradient may be from zero."""

    layer: Layer
    xs: Array
    wanted: int
    kappa: float
    key: Any

    def start(self) -> Initialised:
        """Return the cell as it is."""
        tried = self._try(0.0, self.layer.cell)
        return self._initialised(tried, "", None, math.exp(min(tried.value, 700)))

    def attempts(self, start: Initialised) -> Iterator[Initialised]:
        """Yield the best of each freedom, measured, the smaller changes first."""
        for freedom in freedoms(self.layer.cell, _log(start.gradient), self.wanted, self.key):
            best = self._along(freedom)
            words = freedom.words(best.x, best.cell)
            yield self._initialised(best, words, freedom.kind, start.gradient)

    def _along(self, freedom: Freedom) -> Tried:
        """Follow a freedom until the gradient is about one, from one side to between two."""
        near, tried = math.log(self.kappa) / 3, []

        def enough(x: float) -> bool:
            tried.append(self._try(x, freedom.change(x)))
            return abs(tried[-1].value) <= near

        for x in freedom.points:
            if enough(x):
                return tried[-1]
            if len(tried) > 1 and tried[-1].value * tried[-2].value < 0:
                low, high = tried[-2:]
                for _ in range(REFINEMENTS):
                    if enough(low.x + _share(low.value, high.value) * (high.x - low.x)):
                        return tried[-1]
                    same = tried[-1].value * low.value > 0
                    low, high = (tried[-1], high) if same else (low, tried[-1])
                break
        least = min(abs(one.value) for one in tried)
        # Where more changes next to nothing, less is taken.
        return next(one for one in tried if abs(one.value) <= 1.1 * least)

    def _try(self, x: float, cell: Cell) -> Tried:
        logs = measure(_with_cell(self.layer, cell), self.xs, self.key)
        if logs is None or math.isnan(logs[self.wanted - 1]):
            return Tried(x, cell, math.inf, 0.0)
        return Tried(x, cell, float(logs[self.wanted - 1]), float(horizon_of(logs, self.kappa)))

    def _initialised(
        self, tried: Tried, change: str, freedom: Kind | None, before: float
    ) -> Initialised:
        gradient = math.exp(tried.value) if tried.value < 700 else math.inf
        solved = abs(tried.value) <= math.log(self.kappa)
        return Initialised(tried.cell, change, freedom, before, gradient, tried.horizon, solved)


def _share(low: float, high: float) -> float:
    """Where to look for zero between two values, as a share of the way."""
    line = low / (low - high) if math.isfinite(low) and math.isfinite(high) else 0.5
    return min(max(line, 0.15), 0.85)


# --- Measurement ---------------------------------------------------------------------------------


def _with_cell(layer: Layer, cell: Cell) -> Layer:
    # A state that a method carried is another method's start no more.
    start = layer.initial_state
    if start is not None and type(cell.method) is not type(layer.cell.method):
        start = layer.cell.method.current(layer._start(None)[0])
    return Layer(cell, None, start, layer.reverse)


def measure(layer: Layer, xs: Array, key: Any) -> np.ndarray | None:
    """Return the logarithm of the mean gradient against lag; None if a state is not finite.

    Cells that differ in arrays, step size and free numbers only are compiled once.
    """
    cell = layer.cell
    dt = eqx.tree_at(
        lambda d: d.log_dt, TrainedStep(1.0), jnp.log(jnp.asarray(cell.step_size, float))
    )
    free = numbers(cell.field)
    field = with_values(cell.field, dict.fromkeys(free, 0.5))
    traced = Cell(field, cell.method, dt, cell.interpolation)
    recurrence, y = take(Layer(traced, None, layer.initial_state, layer.reverse))
    form = recurrence.layout
    probes = directions(key, (len(xs), min(PROBES, form.size), form.size), form.dtype)
    try:
        logs, finite = _growth(
            recurrence, y, xs, probes, {name: jnp.asarray(value) for name, value in free.items()}
        )
    except jax.errors.ConcretizationTypeError:
        # A field that computes with its numbers in Python.
        fixed = with_values(traced, {"field": cell.field})
        recurrence = dataclasses.replace(recurrence, step=fixed)
        logs, finite = _growth(recurrence, y, xs, probes, {})
    if not bool(finite):
        return None
    return against_lag(np.asarray(logs)).mean(axis=0)


@eqx.filter_jit
def _growth(
    recurrence: Recurrence, y: PyTree, xs: Array, probes: Array, free: dict[str, Array]
) -> tuple[Array, Array]:
    # The checks of a constructor are for numbers, not for what is traced.
    cell = with_values(recurrence.step, {"field": with_values(recurrence.step.field, free)})
    recurrence = dataclasses.replace(recurrence, step=cell)
    vector, rest = recurrence.layout.split(y)

    def one(x: Array, probes: Array) -> tuple[Array, Array]:
        steps = run(recurrence, vector, rest, recurrence.items(x))
        return backward(recurrence, steps, probes)[0], jnp.all(jnp.isfinite(steps.after))

    logs, finite = jax.vmap(one)(xs, probes)
    return logs, jnp.all(finite)
