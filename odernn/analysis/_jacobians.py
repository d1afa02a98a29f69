"""The Jacobians of a cell's step and of its field on a region; and regions found by computing."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell
from .._enclosure import Enclosed, MatrixSet, NotEnclosed, enclose
from .._interpolation import HeldInput, StackedInput
from .._method._solve import depends
from .._results import InputError
from .._typing import Array, ArrayLike, PyTree
from ._measure import take
from ._region import Region, box, element_count, everywhere

_GROWTH = 1.05
"""By how much a box that is still growing is widened, so that it ends."""


def step_set(cell: Cell, region: Region) -> MatrixSet:
    """Return a set that contains the Jacobians of the cell's step on the region.

    Raises ``NotEnclosed`` where the step has operations without a rule.
    """
    return MatrixSet.of(_enclosed(cell, region))


def field_set(cell: Cell, region: Region) -> MatrixSet:
    """Return a set that contains the Jacobians dF/dy of the cell's field on the region.

    Raises ``NotEnclosed`` as ``step_set`` does, for fields that change with time or read their own
    past, and for inputs that are interpolated, which the step sees outside the region.
    """
    if not isinstance(cell.interpolation, HeldInput | StackedInput):
        raise NotEnclosed("inputs are interpolated")
    field = cell.field
    y, x = eqx.filter_eval_shape(field.initial_state), _example_input(cell)
    _check_real(y)
    if field.delays:
        raise NotEnclosed("the field reads its own past")
    size = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(y))
    # What a method carries besides comes after, or is not there.
    state = region.state_lower[:size], region.state_upper[:size]
    if cell.method.memory:
        raise NotEnclosed("the method carries past slopes, so the state is not the field's")

    def slope(y: PyTree, x: PyTree) -> PyTree:
        return field(0.0, y, cell.drive(x))

    _check_autonomous(lambda time, y, x: field(time, y, cell.drive(x)), y, x)
    return MatrixSet.of(enclose(slope, y, x, state, _inputs(cell, region)))


def step_rate(cell: Cell, region: Region | None = None, weights: Array | None = None) -> Array:
    """Return a bound of the step Jacobian's maximum norm; it can be compiled and differentiated.

    ``upper >= ||J||`` in the norm ``max_i |v_i| / weights_i`` for all states and inputs of the
    region, all of them by default. The cell may be traced: for training that keeps a certificate.
    Raises ``NotEnclosed`` where the step has operations without a rule.
    """
    matrices = step_set(cell, everywhere(cell) if region is None else region)
    dtype = jnp.result_type(float)
    columns = jnp.ones(matrices.size, dtype) if weights is None else jnp.asarray(weights, dtype)
    return (matrices.row_sums(columns) / columns).max()


def reachable(cell: Cell, inputs: Any = np.inf) -> Region:
    """Return the states that the cell can reach from its initial state, or a box around them.

    The box is found by interval arithmetic: it contains the initial state, and a step leads from it
    into itself for every input in ``inputs`` (b for [-b, b], or (lower, upper); all by default).
    Its sides are infinite where no bound was found.

    >>> import jax, odernn
    >>> cell = odernn.zoo.GRU(3, 8, key=jax.random.key(0))
    >>> print(odernn.analysis.reachable(cell).text)
    states within reach, y in [-1, 1]; inputs in [-inf, inf]
    """
    given = box(cell, inputs=inputs)
    start = _flat(jax.tree.leaves(cell.initial_state()))
    lower = upper = start

    def image(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = Region(lower, upper, given.input_lower, given.input_upper, "")
        outputs = _enclosed(cell, found).outputs
        low = np.concatenate([np.ravel(out.lower) for out in outputs])
        high = np.concatenate([np.ravel(out.upper) for out in outputs])
        return np.minimum(start, low), np.maximum(start, high)

    def inside(low: np.ndarray, high: np.ndarray) -> bool:
        return bool((low >= lower - 1e-12).all() and (high <= upper + 1e-12).all())

    try:
        # Many networks do not leave the unit box.
        lower, upper = np.minimum(start, -1.0), np.maximum(start, 1.0)
        if not inside(*image(lower, upper)):
            lower = upper = start
        for turn in range(60):
            low, high = image(lower, upper)
            if inside(low, high):
                # What such a box leads to is another one, and may be smaller.
                for _ in range(3):
                    lower, upper = image(lower, upper)
                break
            # Boxes that grow for long are widened, then opened.
            factor = 1.0 if turn < 10 else _GROWTH ** (turn - 9)
            grown = turn > 40
            lower = np.where(low < lower - 1e-12, -np.inf if grown else factor * low, lower)
            upper = np.where(high > upper + 1e-12, np.inf if grown else factor * high, upper)
        else:
            lower, upper = np.full(len(start), -np.inf), np.full(len(start), np.inf)
    except NotEnclosed:
        lower, upper = np.full(len(start), -np.inf), np.full(len(start), np.inf)
    words = box(cell, _like(cell, lower, upper), (given.input_lower, given.input_upper))
    text = words.text.replace("states in a box", "states within reach", 1)
    return Region(lower, upper, given.input_lower, given.input_upper, text)


def box_of_data(cell: Cell, xs: ArrayLike, margin: float = 0.0) -> Region:
    """Return the box that the states on a data set, and its inputs, fill.

    A certificate on it is about that box only: other data may lead elsewhere. ``xs`` has the shape
    (time, input) or (batch, time, input); ``margin`` widens every side by this share of its length.
    Raises ``InputError`` for other shapes and for values that are not finite.
    """
    xs = jnp.asarray(xs, jnp.finfo(cell.field.dtype).dtype)
    shape = xs.shape
    if xs.ndim == 2:
        xs = xs[None]
    if xs.ndim != 3 or xs.shape[-1] != cell.input_size or not xs.size:
        raise InputError(
            f"xs has the shape {shape}: give (time, {cell.input_size}) or (batch, time, "
            f"{cell.input_size})."
        )
    if not bool(jnp.isfinite(xs).all()):
        raise InputError("xs has values that are not finite: leave these steps out.")
    low, high = _extremes(cell, xs)
    lower, upper = _flat(low), _flat(high)
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise InputError("the states on xs are not finite: the network explodes on these data.")
    input_lower, input_upper = (
        np.asarray(a, np.float64) for a in (xs.min(axis=(0, 1)), xs.max(axis=(0, 1)))
    )
    lower, upper = _wider(lower, upper, margin)
    input_lower, input_upper = _wider(input_lower, input_upper, margin)
    words = box(cell, _like(cell, lower, upper), (input_lower, input_upper))
    text = words.text.replace("states in a box", "the box that these data fill: states", 1)
    return Region(lower, upper, input_lower, input_upper, text)


@eqx.filter_jit
def _extremes(cell: Cell, xs: Array) -> tuple[list[Array], list[Array]]:
    """The smallest and the largest value of every element of the state, on all sequences."""

    def parts(y: PyTree) -> list[Array]:
        return [part for leaf in jax.tree.leaves(y) for part in _real_parts(leaf)]

    def step(carry: Any, item: Any) -> tuple[Any, None]:
        (y, low, high), (_, u, elapsed) = carry, item
        y = cell.step(y, u, elapsed=elapsed)
        low, high = (
            jax.tree.map(f, a, parts(y)) for f, a in ((jnp.minimum, low), (jnp.maximum, high))
        )
        return (y, low, high), None

    def one(items: Any) -> tuple[list[Array], list[Array]]:
        y = cell.initial_state()
        (_, low, high), _ = jax.lax.scan(step, (y, parts(y), parts(y)), items)
        return low, high

    low, high = jax.vmap(lambda xs: one(take(cell)[0].items(xs)))(xs)
    return [a.min(axis=0) for a in low], [a.max(axis=0) for a in high]


def _enclosed(cell: Cell, region: Region) -> Enclosed:
    y, x = eqx.filter_eval_shape(cell.initial_state), _example_input(cell)
    _check_real(y)

    def step(time: Any, y: PyTree, x: PyTree) -> PyTree:
        return cell.step(y, cell.drive(x), elapsed=time, phase="later")

    _check_autonomous(step, y, x)
    state = region.state_lower, region.state_upper
    return enclose(lambda y, x: step(0.0, y, x), y, x, state, _inputs(cell, region))


def _check_autonomous(function: Callable[..., PyTree], y: PyTree, x: PyTree) -> None:
    time = jax.ShapeDtypeStruct((), jnp.finfo(jax.tree.leaves(y)[0].dtype).dtype)
    if depends(function, time, y, x):
        raise NotEnclosed("the step changes with time")


def _example_input(cell: Cell) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(cell.input_shape, jnp.finfo(cell.field.dtype).dtype)


def _check_real(y: PyTree) -> None:
    for leaf in jax.tree.leaves(y):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise NotEnclosed(f"the state has the type {leaf.dtype}")


def _real_parts(leaf: Any) -> list[Any]:
    return [leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf]


def _flat(leaves: list[Any]) -> np.ndarray:
    """All numbers one after the other, of complex leaves the real parts first."""
    parts = [np.ravel(part) for leaf in leaves for part in _real_parts(np.asarray(leaf))]
    return np.concatenate(parts).astype(np.float64)


def _inputs(cell: Cell, region: Region) -> tuple[np.ndarray, np.ndarray]:
    samples = cell.interpolation.samples
    return np.tile(region.input_lower, samples), np.tile(region.input_upper, samples)


def _like(cell: Cell, lower: np.ndarray, upper: np.ndarray) -> tuple[PyTree, PyTree]:
    """Bounds as pytrees like the state."""
    leaves, structure = jax.tree.flatten(eqx.filter_eval_shape(cell.initial_state))
    stops = np.cumsum([element_count(leaf) for leaf in leaves])[:-1]
    return structure.unflatten(np.split(lower, stops)), structure.unflatten(np.split(upper, stops))


def _wider(lower: np.ndarray, upper: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    more = margin * (upper - lower)
    return lower - more, upper + more
