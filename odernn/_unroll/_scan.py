"""The plain loop, differentiated by JAX."""

import equinox as eqx
import jax
from jax import lax

from .._results import InputError
from .._typing import PyTree, State
from ._base import AbstractUnroll, Prepare, Step, in_parts, steps


class Scan(AbstractUnroll):
    """Repeat the step with ``jax.lax.scan`` and differentiate through it.

    **Arguments**: ``checkpoint``, the number of steps between stored states: the gradient then
    keeps about ``time / checkpoint + checkpoint`` steps in memory instead of ``time`` and computes
    each step twice. ``None`` stores all. ``checkpoint = sqrt(time)`` needs least.

    Supports forward mode and higher derivatives. Raises ``InputError`` unless ``checkpoint`` is a
    whole number of at least 1. Reference: Griewank and Walther, *Evaluating Derivatives*, ch. 12.
    """

    checkpoint: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        k = self.checkpoint
        if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
            raise InputError(f"checkpoint = {k!r}: give a whole number of steps, or None.")

    def __call__(
        self, step: Step, prepare: Prepare, y0: State, inputs: PyTree
    ) -> tuple[State, State]:
        prepared = prepare(inputs)

        def body(y, v):
            y = step(y, v)
            return y, y

        if self.checkpoint is None or self.checkpoint >= steps(inputs):
            last, states = lax.scan(body, y0, prepared)
            return states, last
        # Of each part only the first state is kept.
        part = jax.checkpoint(lambda y, vs: lax.scan(body, y, vs), prevent_cse=False)
        return in_parts(part, y0, prepared, self.checkpoint)
