"""What every way of repeating a step is."""

import abc
from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from .._typing import PyTree, State

Step: TypeAlias = Callable[[State, Any], State]
"""``step(y, v)``, the next state; a pytree (``eqx.Module``) whose arrays are the parameters."""

Prepare: TypeAlias = Callable[[PyTree], PyTree]
"""``prepare(inputs)``, what ``step`` takes, for a stack of any number of steps at once."""


class AbstractUnroll(eqx.Module):
    """A way to repeat a step over a sequence and to differentiate the result.

    ``unroll(step, prepare, y0, inputs)`` returns the states after each step, stacked, and the last
    one: ``y_{k+1} = step(y_k, prepare(inputs)_k)``. Every leaf of ``inputs`` has the time as its
    first axis. A strategy never sees a cell: it works for any step function whose parameters are
    the arrays of the pytrees ``step`` and ``prepare``.
    """

    @abc.abstractmethod
    def __call__(
        self, step: Step, prepare: Prepare, y0: State, inputs: PyTree
    ) -> tuple[State, State]:
        """Return (states of shape (time, ...), last state)."""


def steps(inputs: PyTree) -> int:
    """Return the number of steps: the length of the first axis of all leaves."""
    return jax.tree.leaves(inputs)[0].shape[0]


def in_parts(
    run: Callable[[State, PyTree], tuple[State, State]], y0: State, inputs: PyTree, size: int
) -> tuple[State, State]:
    """Run all steps, ``size`` at a time, then the rest; return (states, last state).

    ``run(y, inputs)`` returns (last state, states) of a part.
    """
    length = steps(inputs)
    count = length // size
    whole = count * size
    if count == 1:
        last, states = run(y0, jax.tree.map(lambda a: a[:whole], inputs))
    else:
        parts = jax.tree.map(lambda a: a[:whole].reshape(count, size, *a.shape[1:]), inputs)
        last, states = lax.scan(run, y0, parts)
        states = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), states)
    if whole < length:
        last, rest = run(last, jax.tree.map(lambda a: a[whole:], inputs))
        states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), states, rest)
    return states, last


def read(stack: PyTree, k: Any) -> PyTree:
    """Return entry ``k`` of a stack."""
    return jax.tree.map(lambda a: _read(0)(a, k), stack)


def write(stack: PyTree, entry: PyTree, k: Any) -> PyTree:
    """Return the stack with entry ``k`` replaced."""
    return jax.tree.map(lambda a, e: _write(0)(a, e, k), stack, entry)


def together(tree: PyTree) -> PyTree:
    """Return the tree unchanged, each of its arrays depending on all of them as JAX sees it.

    Under ``vmap`` all have the batch axis then, or none. A ``jax.custom_vjp`` with results of both
    kinds counts the derivative of those without it once for each example.
    """
    leaves, structure = jax.tree.flatten(tree)
    marks = [jnp.ravel(a)[0] == 0 for a in leaves]
    mark = reduce(jnp.logical_xor, marks)
    # The compiler sees that both cases are the same.
    return jax.tree.unflatten(structure, [jnp.where(mark, a, a) for a in leaves])


# Under `vmap` a loop that reads and writes by index keeps the batch axis in front of the time axis,
# where a `lax.scan` over the stack would move it behind, at the cost of transposed copies. JAX's
# own batching rules turn these two operations into gather and scatter with checks of the bounds;
# ours stay slices. They are used outside of differentiation only: `custom_vmap` has no transpose.


@cache
def _read(axis: int) -> Callable:
    """Read one entry along an axis."""

    @custom_vmap
    def read(stack, k):
        return lax.dynamic_index_in_dim(stack, k, axis, keepdims=False)

    @read.def_vmap
    def batched(axis_size, in_batched, stack, k):
        if in_batched[1]:
            plain = partial(lax.dynamic_index_in_dim, axis=axis, keepdims=False)
            return jax.vmap(plain, in_axes=[0 if b else None for b in in_batched])(stack, k), True
        return _read(axis + 1)(stack, k), True

    return read


@cache
def _write(axis: int) -> Callable:
    """Replace one entry along an axis."""

    @custom_vmap
    def write(stack, entry, k):
        return lax.dynamic_update_index_in_dim(stack, entry, k, axis)

    @write.def_vmap
    def batched(axis_size, in_batched, stack, entry, k):
        if in_batched[2]:
            plain = partial(lax.dynamic_update_index_in_dim, axis=axis)
            axes = [0 if b else None for b in in_batched]
            return jax.vmap(plain, in_axes=axes)(stack, entry, k), True
        if not in_batched[0]:
            stack = jnp.broadcast_to(stack, (axis_size, *stack.shape))
        if not in_batched[1]:
            entry = jnp.broadcast_to(entry, (axis_size, *entry.shape))
        return _write(axis + 1)(stack, entry, k), True

    return write
