"""What every way of repeating a step is."""

import abc
from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
from jax import lax

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


def read(stack: PyTree, k: Any) -> PyTree:
    """Return entry ``k`` of a stack.

    Under ``vmap`` a loop that reads by index keeps the batch axis in front of the time axis,
    where a ``lax.scan`` over the stack would move it behind, which costs a transposed copy.
    """
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, k, 0, keepdims=False), stack)


def write(stack: PyTree, entry: PyTree, k: Any) -> PyTree:
    """Return the stack with entry ``k`` replaced."""
    return jax.tree.map(lambda a, e: lax.dynamic_update_index_in_dim(a, e, k, 0), stack, entry)
