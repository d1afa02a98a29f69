"""A step on flat, real states, and what is measured along its trajectories.

The state of any step becomes one real vector: its leaves one after the other as in
``jax.tree.leaves``, of a complex leaf all real parts first. That keeps the 2-norm, and the Jacobian
of a step is one real matrix. What is no part of the state (counters, past step lengths of a
multistep method) is carried beside it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from .._cell import Cell, TrainedStep
from .._interpolation import drive_at
from .._layer import Layer
from .._results import InputError
from .._typing import Array, PyTree
from .._unroll._linear import evaluate, program_of_call
from ..zoo._network import undelayed
from ._order import _take

DENSE = 32
"""States up to which the Jacobian of every step is formed."""
SATURATED = 0.05
"""A slope below this part of the largest one counts as saturated."""


class Layout(NamedTuple):
    """Where the leaves of a state lie in its vector; ``kinds``: "real", "complex" or "rest"."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    kinds: tuple[str, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """Number of real numbers in the state."""
        width = {"real": 1, "complex": 2, "rest": 0}
        return sum(
            width[kind] * math.prod(shape)
            for shape, kind in zip(self.shapes, self.kinds, strict=True)
        )

    def split(self, y: PyTree) -> tuple[Array, tuple]:
        """Return the vector of a state, and what is carried beside it."""
        parts, rest = [], []
        for leaf, kind in zip(jax.tree.leaves(y), self.kinds, strict=True):
            if kind == "rest":
                rest.append(leaf)
            elif kind == "real":
                parts.append(jnp.ravel(leaf).astype(self.dtype))
            else:
                both = (jnp.real(leaf), jnp.imag(leaf))
                parts.extend(jnp.ravel(part).astype(self.dtype) for part in both)
        return jnp.concatenate(parts), tuple(rest)

    def join(self, vector: Array, rest: tuple) -> PyTree:
        """Return the state of a vector."""
        leaves, kept, start = [], list(rest), 0

        def read(shape: tuple[int, ...]) -> Array:
            nonlocal start
            start += math.prod(shape)
            return vector[start - math.prod(shape) : start].reshape(shape)

        for shape, dtype, kind in zip(self.shapes, self.dtypes, self.kinds, strict=True):
            if kind == "rest":
                leaves.append(kept.pop(0))
            elif kind == "real":
                leaves.append(read(shape).astype(dtype))
            else:
                leaves.append(lax.complex(read(shape), read(shape)).astype(dtype))
        return jax.tree.unflatten(self.structure, leaves)


def layout(y: PyTree, *, numbers: bool = True) -> Layout:
    """Return the layout of a state; without ``numbers``, scalars beside arrays are no state."""
    leaves, structure = jax.tree.flatten(y)
    arrays = any(jnp.ndim(leaf) for leaf in leaves)

    def kind(leaf: Any) -> str:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return "rest"
        if arrays and not numbers and leaf.ndim == 0:
            return "rest"
        return "complex" if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else "real"

    kinds = tuple(map(kind, leaves))
    real = [jnp.finfo(a.dtype).dtype for a, k in zip(leaves, kinds, strict=True) if k != "rest"]
    if not real or not sum(a.size for a, k in zip(leaves, kinds, strict=True) if k != "rest"):
        raise InputError("y has no floating-point numbers: a state needs at least one.")
    shapes, dtypes = tuple(a.shape for a in leaves), tuple(np.dtype(a.dtype) for a in leaves)
    return Layout(structure, shapes, dtypes, kinds, np.result_type(*real))


class Recurrence(eqx.Module):
    """A step with the layout of its state; arrays of a ``Cell`` are traced, not compiled in."""

    step: Any
    layout: Layout = eqx.field(static=True)
    name: str = eqx.field(static=True)
    reverse: bool = eqx.field(static=True, default=False)
    first_leaf: bool = eqx.field(static=True, default=False)  # the next layer sees no other

    def __call__(self, vector: Array, rest: tuple, item: Any) -> tuple[Array, tuple, Array]:
        """Return the next state, what is carried beside it, and what the next layer sees."""
        y = self.layout.join(vector, rest)
        if isinstance(self.step, Cell):
            x, u, elapsed = item
            after = self.step.step(y, u, elapsed=elapsed)
            seen = self.step.output(after, x)
        else:
            after, seen = self._called(y, item)
        vector, rest = self.layout.split(after)
        return vector, rest, seen

    def _called(self, y: PyTree, x: Any) -> tuple[PyTree, Array]:
        returned = self.step(y, x)
        if jax.tree.structure(returned) == self.layout.structure:
            after = returned
            seen = jax.tree.leaves(after)[0] if self.first_leaf else after
        else:
            after, seen = returned
        leaves = [jnp.ravel(a) for a in jax.tree.leaves(seen) if eqx.is_inexact_array(a)]
        parts = [p for a in leaves for p in ((a.real, a.imag) if jnp.iscomplexobj(a) else (a,))]
        seen = jnp.concatenate([p.astype(self.layout.dtype) for p in parts]) if parts else None
        return after, jnp.zeros(0, self.layout.dtype) if seen is None else seen

    def items(self, xs: Any) -> Any:
        """Return what the steps take, of the inputs of one sequence."""
        if not isinstance(self.step, Cell):
            return xs
        cell = self.step
        xs = xs.astype(jnp.result_type(cell.field.dtype))
        xs = xs[::-1] if self.reverse else xs
        count, samples, windows = len(xs), cell.interpolation.samples, xs
        if samples > 1:
            past = jnp.broadcast_to(xs[:1], (samples - 1, *xs.shape[1:]))
            windows = jnp.concatenate([past, xs])[np.arange(count)[:, None] + np.arange(samples)]
        elapsed = jnp.arange(count, dtype=jnp.finfo(cell.field.dtype).dtype)
        return xs, jax.vmap(cell.drive)(windows), elapsed


def take(step: Any, y: PyTree = None) -> tuple[Recurrence, PyTree]:
    """Return a step as a recurrence, and the state to start from.

    Raises ``InputError`` for what is no step, and if a function comes without a state.
    """
    if isinstance(step, Layer | Cell):
        layer = step if isinstance(step, Layer) else Layer(step)
        cell, (start, _) = layer.cell, layer._start(y)
        name = f"{type(cell.field).__name__} + {type(undelayed(cell.method)).__name__}"
        form = layout(start, numbers=cell.method.memory == 0)
        return Recurrence(cell, form, name, layer.reverse), start
    found = _take(step)
    y = found.y if y is None else y
    if y is None:
        raise InputError(
            "y is missing: a function is measured from an example of its state, jnp.zeros(8) say."
        )

    def array(leaf: Any) -> Array:
        abstract = isinstance(leaf, jax.ShapeDtypeStruct)
        return jnp.zeros(leaf.shape, leaf.dtype) if abstract else jnp.asarray(leaf)

    y = jax.tree.map(array, y)
    name = type(step).__name__ if isinstance(step, eqx.Module) else ""
    name = name or getattr(step, "__name__", type(step).__name__)
    form = layout(y)
    return Recurrence(found.function, form, name, first_leaf=found.block_size is not None), y


def check_step(recurrence: Recurrence, y: PyTree, x: Any) -> None:
    """Raise ``InputError`` unless the function returns a state like the one it takes."""
    if isinstance(recurrence.step, Cell):
        return
    form = recurrence.layout
    returned = eqx.filter_eval_shape(recurrence.step, y, x)
    state = returned
    if jax.tree.structure(returned) != form.structure:
        pair = isinstance(returned, tuple) and len(returned) == 2
        state = returned[0] if pair else returned
    same = jax.tree.structure(state) == form.structure
    if not same or tuple(a.shape for a in jax.tree.leaves(state)) != form.shapes:
        raise InputError(
            f"the step returns {jax.tree.map(lambda a: a.shape, returned)}, in which there is no "
            f"state like the one it takes, {jax.tree.map(jnp.shape, y)}: give a function "
            "(y, x) -> y or (y, x) -> (y, output)."
        )


def check_inputs(recurrence: Recurrence, xs: Any) -> Array:
    """Return inputs of shape (batch, time, input); raise ``InputError`` for others."""
    try:
        xs = jnp.asarray(xs)
    except (TypeError, ValueError):
        raise InputError("xs is no array: give inputs of shape (time, input).") from None
    wanted = recurrence.step.input_size if isinstance(recurrence.step, Cell) else "input"
    fits = xs.ndim in (2, 3) and xs.shape[-1] == (wanted if wanted != "input" else xs.shape[-1])
    if not fits or 0 in xs.shape[:-1]:
        raise InputError(
            f"xs has the shape {xs.shape}: give inputs of shape (time, {wanted}) or "
            f"(batch, time, {wanted}), with at least one step."
        )
    return xs[None] if xs.ndim == 2 else xs


class Run(NamedTuple):
    """One trajectory: the states before each step, and what went with them."""

    vectors: Any  # (time, states)
    rests: Any
    items: Any
    after: Any  # (time, states)
    seen: Any  # (time, hidden)


def run(recurrence: Recurrence, vector: Array, rest: tuple, items: Any) -> Run:
    """Take all steps of one sequence."""

    def turn(carry: Any, item: Any) -> tuple[Any, Any]:
        vector, rest = carry
        after, carried, seen = recurrence(vector, rest, item)
        return (after, carried), (vector, rest, after, seen)

    _, (vectors, rests, after, seen) = lax.scan(turn, (vector, rest), items)
    return Run(vectors, rests, items, after, seen)


@eqx.filter_jit
def trajectories(recurrence: Recurrence, y: PyTree, xs: Array) -> Run:
    """Run all sequences, from the same state."""
    vector, rest = recurrence.layout.split(y)
    return jax.vmap(lambda x: run(recurrence, vector, rest, recurrence.items(x)))(xs)


def jacobian(recurrence: Recurrence, vector: Array, rest: tuple, item: Any) -> Array:
    """Return the Jacobian of a step, rows are outputs."""
    return jax.jacrev(lambda v: recurrence(v, rest, item)[0])(vector)


@eqx.filter_jit
def jacobians(recurrence: Recurrence, vectors: Array, rests: Any, items: Any) -> Array:
    """Return the Jacobians of many steps, stacked along the first axis."""
    return jax.vmap(lambda *step: jacobian(recurrence, *step))(vectors, rests, items)


@eqx.filter_jit
def field_jacobians(recurrence: Recurrence, vectors: Array, rests: Any, items: Any) -> Array:
    """Return ``dt dF/dy`` at the beginning of many steps of a cell."""
    cell: Cell = recurrence.step

    def one(vector: Array, rest: tuple, item: Any) -> Array:
        y = cell.method.current(recurrence.layout.join(vector, rest))
        _, u, elapsed = item
        form = layout(y)
        state, beside = form.split(y)
        dt = cell.dt.value.astype(form.dtype) if isinstance(cell.dt, TrainedStep) else cell.dt

        def rate(v: Array) -> Array:
            slope = cell.field(elapsed * dt, form.join(v, beside), drive_at(u, 0.0))
            return dt * form.split(slope)[0]

        return jax.jacrev(rate)(state)

    return jax.vmap(one)(vectors, rests, items)


def has_real_field(recurrence: Recurrence) -> bool:
    """Whether it is a cell on a real state, whose field reads no past ones."""
    if not isinstance(recurrence.step, Cell) or recurrence.step.field.delays:
        return False
    state = eqx.filter_eval_shape(recurrence.step.field.initial_state)
    return all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(state))


def backward(
    recurrence: Recurrence, steps: Run, probes: Array, block: Array | None = None
) -> tuple[Array, Array | None]:
    """Follow cotangents from the end of a sequence to its start.

    Returns, in the order of time, the logarithm of the growth of each probe in each step, of shape
    (time, probes), and the 2-norms of the Jacobians (time,) by subspace iteration on ``block``
    (vectors, states), which each step takes over from the one after it; None without it.
    """

    def turn(carry: Any, step: Any) -> tuple[Any, Any]:
        probes, block = carry
        vector, rest, item = step

        def take_step(v: Array) -> Array:
            return recurrence(v, rest, item)[0]

        _, pull = jax.vjp(take_step, vector)

        def back(rows: Array) -> Array:
            return jax.vmap(lambda v: pull(v)[0])(rows)

        def push(rows: Array) -> Array:
            return jax.vmap(lambda v: jax.jvp(take_step, (vector,), (v,))[1])(rows)

        grown, norm = back(probes), None
        size = jnp.linalg.norm(grown, axis=1)
        # Scaled to one, no product is too small or too large for a float.
        probes = grown / jnp.where(size > 0, size, jnp.ones_like(size))[:, None]
        if block is not None:
            for _ in range(2):
                block = jnp.linalg.qr(back(push(block)).T)[0].T
            norm = jnp.linalg.norm(push(block), 2)
        return (probes, block), (jnp.log(size), norm)

    sequence = (steps.vectors, steps.rests, steps.items)
    _, (logs, norms) = lax.scan(turn, (probes, block), sequence, reverse=True)
    return logs, norms


@eqx.filter_jit
def all_backward(
    recurrence: Recurrence, steps: Run, probes: Array, block: Array | None
) -> tuple[Array, Array | None]:
    """Do ``backward`` for all sequences; ``probes`` of shape (batch, probes, states)."""
    return jax.vmap(lambda s, p: backward(recurrence, s, p, block))(steps, probes)


def dense_backward(matrices: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """Return what ``backward`` does for all sequences, from their Jacobians (batch, time, m, m)."""
    logs = np.empty((*matrices.shape[:2], probes.shape[1]))
    for k in reversed(range(matrices.shape[1])):
        probes = probes @ matrices[:, k]
        size = np.linalg.norm(probes, axis=-1)
        with np.errstate(divide="ignore"):
            logs[:, k] = np.log(size)
        probes = probes / np.where(size > 0, size, 1.0)[..., None]
    return logs


def directions(key: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Draw unit vectors along the last axis."""
    vectors = jax.random.normal(key, shape, dtype)
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def against_lag(logs: np.ndarray) -> np.ndarray:
    """Return the logarithms of the gradients (batch, lags), lag 1 first, of growths in time.

    Of each sequence the geometric mean over its probes.
    """
    return np.cumsum(np.asarray(logs, np.float64).mean(axis=-1)[:, ::-1], axis=1)


def horizon_of(log_gradient: np.ndarray, kappa: float) -> int:
    """Return the largest lag whose gradient lies in [1/kappa, kappa], 0 if there is none."""
    inside = np.flatnonzero(np.abs(log_gradient) <= math.log(kappa) + 1e-9)
    return int(inside[-1]) + 1 if inside.size else 0


# --- Saturation ----------------------------------------------------------------------------------


def saturation(recurrence: Recurrence, vector: Array, rest: tuple, item: Any) -> dict[str, Array]:
    """Return the share of saturated activations of a step, by name.

    The step's program is evaluated, and what goes into tanh and the logistic function is looked at
    (also into the logistic function as ``(1 + tanh(z/2))/2``); of relu the share of zeros.
    Activations inside a loop are not seen, nor those of parameters only.
    """
    closed = jax.make_jaxpr(lambda *step: recurrence(*step))(vector, rest, item)
    found: dict[str, list[Array]] = {}
    arguments = jax.tree.leaves((vector, rest, item))
    _walk(closed.jaxpr, closed.consts, arguments, [True] * len(arguments), found)
    return {
        name: jnp.mean(jnp.concatenate(parts).astype(recurrence.layout.dtype))
        for name, parts in found.items()
    }


@eqx.filter_jit
def all_saturation(
    recurrence: Recurrence, vectors: Array, rests: Any, items: Any
) -> dict[str, Array]:
    """Return the mean of ``saturation`` over many steps."""
    shares = jax.vmap(lambda *step: saturation(recurrence, *step))(vectors, rests, items)
    return {name: jnp.mean(share) for name, share in shares.items()}


def _walk(
    jaxpr: Jaxpr, consts: list, arguments: list, live: list[bool], found: dict[str, list]
) -> tuple[list, list[bool]]:
    """Evaluate a program and note its activations; ``live`` is what is no parameter."""
    environment = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))
    alive = {v for v, is_live in zip(jaxpr.invars, live, strict=True) if is_live}
    scales: dict[Any, Any] = {}

    def get(v: Any) -> Any:
        return v.val if isinstance(v, Literal) else environment[v]

    def lives(v: Any) -> bool:
        return not isinstance(v, Literal) and v in alive

    for eqn in jaxpr.eqns:
        values, living = [get(v) for v in eqn.invars], [lives(v) for v in eqn.invars]
        inner = program_of_call(eqn)
        if inner is None:
            results, alive_after = evaluate(eqn, values), [any(living)] * len(eqn.outvars)
        else:
            results, alive_after = _walk(inner.jaxpr, inner.consts, values, living, found)
        fixed = [
            v for v, yes in zip(values, living, strict=True) if not (yes or isinstance(v, Tracer))
        ]
        if eqn.primitive.name == "mul" and fixed:
            scales[eqn.outvars[0]] = fixed[0]
        if any(living):
            scale = None if isinstance(eqn.invars[0], Literal) else scales.get(eqn.invars[0])
            _note(eqn, fixed, results, scale, found)
        environment.update(zip(eqn.outvars, results, strict=True))
        alive.update(v for v, yes in zip(eqn.outvars, alive_after, strict=True) if yes)
    return [get(v) for v in jaxpr.outvars], [lives(v) for v in jaxpr.outvars]


def _note(eqn: JaxprEqn, fixed: list, results: list, scale: Any, found: dict[str, list]) -> None:
    """Note which elements of an activation are saturated.

    ``fixed`` are the operands that are numbers known now, ``scale`` the one that the argument was
    multiplied with: half of it goes into tanh where the logistic function is meant.
    """

    def add(name: str, saturated: Any) -> None:
        if saturated.size:
            found.setdefault(name, []).append(jnp.ravel(saturated))

    match eqn.primitive.name:
        case "logistic":
            add("logistic", 4 * results[0] * (1 - results[0]) < SATURATED)
        case "max" if fixed and not np.any(fixed[0]):
            add("relu", results[0] <= 0)
        case "tanh":
            flat = jnp.ravel(1 - results[0] ** 2 < SATURATED)
            half = False if scale is None else np.asarray(scale) == 0.5
            half = np.broadcast_to(half, results[0].shape).ravel()
            add("logistic", flat[np.flatnonzero(half)])
            add("tanh", flat[np.flatnonzero(~half)])


Progress = Callable[[str, float], None]
"""Called with the name of what is measured next and the share that is done."""
