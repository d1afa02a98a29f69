"""Fixed points of a step under a constant input."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._cell import Cell
from .._results import InputError
from .._typing import Array, PyTree
from ._measure import Recurrence, check_inputs, check_step, jacobians, take

LARGEST_SOLVED = 256
"""States up to which a diagnosis looks for fixed points."""


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPoint:
    """A state that a step leaves as it is, to rounding.

    Attributes: ``state``, a pytree of NumPy arrays like the step's own; ``eigenvalues`` of the step
    Jacobian there, those of largest modulus first, and ``spectral_radius``, the largest modulus;
    ``stable``, whether that is below one, so that the step comes back from small displacements;
    ``residual``, the largest component of ``step(y) - y``.
    """

    state: PyTree
    eigenvalues: np.ndarray
    spectral_radius: float
    stable: bool
    residual: float


def find_fixed_points(
    step: Any, x: Any, starts: PyTree, *, tolerance: float | None = None, max_steps: int = 50
) -> tuple[FixedPoint, ...]:
    """Return the distinct fixed points of a step that Newton's method finds from some starts.

    It solves ``step(y, x) = y`` by Newton's method, whose steps are shortened until the residual
    falls. A point is reported only where the residual and the last update are small, and it
    is a state (of qubits it has norm 1); that none is found does not mean that there is none.

    **Arguments**: ``step``, a ``Cell`` or ``Layer``, or any function ``(y, x) -> y`` or
    ``(y, x) -> (y, output)``; ``x``, the input that is held, of shape (input,); ``starts``, states
    stacked along a new first axis, taken from trajectories say; ``tolerance`` for the residual
    relative to 1 + the largest component of the state, by default the precision to the power 0.75;
    ``max_steps`` of Newton's method.

    Returns them sorted by their spectral radius. Raises ``InputError`` for starts that do not fit.

    >>> import jax.numpy as jnp
    >>> from odernn.analysis._fixed_points import find_fixed_points
    >>> starts = jnp.array([[-1.0], [0.1], [2.0]])
    >>> [p.stable for p in find_fixed_points(lambda y, x: jnp.tanh(2 * y), None, starts)]
    [True, True, False]

    Reference: Sussillo and Barak, Neural Computation 25 (2013).
    """
    leaves = jax.tree.leaves(starts)
    if not leaves or any(jnp.ndim(a) == 0 or len(a) != len(leaves[0]) for a in leaves):
        raise InputError("starts holds no stacked states: give states along a new first axis.")
    if not len(leaves[0]):
        raise InputError("starts is empty: give at least one state to start from.")
    first = jax.tree.map(lambda a: jnp.asarray(a)[0], starts)
    recurrence, y = take(step, first)
    if isinstance(recurrence.step, Cell):
        x = check_inputs(recurrence, jnp.asarray(x)[None] if jnp.ndim(x) == 1 else x)
        item = jax.tree.map(lambda a: a[0], recurrence.items(x[0]))
        begin = recurrence.step.field.initial_state()
        # States of the field alone are started as a method's own first step does it.
        if jax.tree.structure(begin) == jax.tree.structure(starts):
            starts = jax.vmap(recurrence.step.start)(starts)
    else:
        check_step(recurrence, y, x)
        item = x
    vectors, rests = jax.vmap(recurrence.layout.split)(jax.tree.map(jnp.asarray, starts))
    return fixed_points(recurrence, vectors, rests, item, tolerance, max_steps)


def fixed_points(
    recurrence: Recurrence,
    vectors: Array,
    rests: Any,
    item: Any,
    tolerance: float | None = None,
    max_steps: int = 50,
) -> tuple[FixedPoint, ...]:
    """Return the distinct fixed points found from some vectors."""
    precision = float(jnp.finfo(recurrence.layout.dtype).eps)
    limit = precision**0.75 if tolerance is None else tolerance
    points, residuals, updates = (
        np.asarray(a) for a in _newton(recurrence, vectors, rests, item, limit, max_steps)
    )
    scale = 1 + np.abs(points).max(axis=1)
    good = np.isfinite(points).all(axis=1)
    good &= (residuals <= limit * scale) & (updates <= np.sqrt(limit) * scale)
    kept: list[int] = []
    for i in np.flatnonzero(good):
        apart = max(precision**0.3, limit) * scale[i]
        if all(np.abs(points[i] - points[j]).max() > apart for j in kept):
            kept.append(int(i))
    if not kept:
        return ()
    chosen, carried = jax.tree.map(lambda a: a[np.array(kept)], (jnp.asarray(points), rests))
    held = jax.tree.map(lambda a: jnp.broadcast_to(a, (len(kept), *jnp.shape(a))), item)
    matrices = np.asarray(jacobians(recurrence, chosen, carried, held), np.float64)
    states = [recurrence.layout.join(v, r) for v, r in _rows((chosen, carried), len(kept))]
    found = []
    for i, state, matrix in zip(kept, states, matrices, strict=True):
        if not np.isfinite(matrix).all() or not _is_state(recurrence.step, state):
            continue
        eigenvalues = np.linalg.eigvals(matrix).astype(complex)
        eigenvalues = eigenvalues[np.argsort(-np.abs(eigenvalues), kind="stable")]
        radius = float(np.abs(eigenvalues[0]))
        state = jax.tree.map(np.asarray, state)
        found.append(FixedPoint(state, eigenvalues, radius, radius < 1, float(residuals[i])))
    return tuple(sorted(found, key=lambda point: point.spectral_radius))


def _is_state(step: Any, state: PyTree) -> bool:
    """Whether a cell may be in a state: a linear step leaves zero, which is none of a qubit."""
    if not isinstance(step, Cell):
        return True
    try:
        step.field.check_state(step.method.current(state))
    except InputError:
        return False
    return True


def _rows(tree: PyTree, count: int) -> list[Any]:
    return [jax.tree.map(lambda a, i=i: a[i], tree) for i in range(count)]


@eqx.filter_jit
def _newton(
    recurrence: Recurrence, vectors: Array, rests: Any, item: Any, limit: float, max_steps: int
) -> tuple[Array, Array, Array]:
    """Return where Newton's method ends, the residuals and the last full updates (maxima)."""
    # How much of a full update is taken: the part that leaves the smallest residual.
    parts = jnp.asarray(0.5 ** np.arange(8), vectors.dtype)

    def one(vector: Array, rest: tuple) -> tuple[Array, Array, Array]:
        def residual(v: Array) -> Array:
            return recurrence(v, rest, item)[0] - v

        def size(v: Array) -> Array:
            r = jnp.max(jnp.abs(residual(v)))
            return jnp.where(jnp.isfinite(r), r, jnp.full_like(r, jnp.inf))

        def unfinished(carry: Any) -> Array:
            v, left, update, turns = carry
            scale = 1 + jnp.max(jnp.abs(v))
            done = (left <= limit * scale) & (update <= limit**0.5 * scale)
            return ~done & (turns < max_steps) & jnp.isfinite(left)

        def turn(carry: Any) -> Any:
            v, left, _, turns = carry
            r = residual(v)
            full = jnp.linalg.solve(jax.jacrev(residual)(v), -r)
            # Where the Jacobian is singular, one step of the recurrence itself.
            full = jnp.where(jnp.all(jnp.isfinite(full)), full, r)
            trials = v + parts[:, None] * full
            sizes = jax.vmap(size)(trials)
            best = jnp.argmin(sizes)
            better = sizes[best] < left
            after = jnp.where(better, trials[best], v)
            update = jnp.max(jnp.abs(full))
            return after, jnp.where(better, sizes[best], left), update, turns + 1

        infinite = jnp.asarray(jnp.inf, vector.dtype)
        start = (vector, size(vector), infinite, jnp.zeros((), jnp.int32))
        v, left, update, _ = lax.while_loop(unfinished, turn, start)
        return v, left, update

    return jax.vmap(one)(vectors, rests)
