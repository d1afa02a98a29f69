"""Read-outs: from hidden states to what is asked for."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from ._results import InputError
from ._typing import Array, Bool, Float, PRNGKeyArray


class AbstractReadout(eqx.Module):
    """An affine map of hidden states: ``W h + b``, with (input, output) ``weight`` and ``bias``.

    Both start as U(-1/sqrt(input), 1/sqrt(input)).
    """

    input_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    weight: Float[Array, "input output"]
    bias: Float[Array, " output"]

    def __init__(self, input_size: int, output_size: int, *, key: PRNGKeyArray):
        for name, size in (("input_size", input_size), ("output_size", output_size)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise InputError(f"{name} = {size!r}: give a whole number of at least 1.")
        outer, inner = jax.random.split(key)
        bound, dtype = input_size**-0.5, jnp.result_type(float)
        self.input_size, self.output_size = input_size, output_size
        self.weight = jax.random.uniform(outer, (input_size, output_size), dtype, -bound, bound)
        self.bias = jax.random.uniform(inner, (output_size,), dtype, -bound, bound)

    @abc.abstractmethod
    def __call__(
        self, hs: Float[Array, "time hidden"], valid: Bool[Array, " time"] | None = None
    ) -> Float[Array, "*time output"]:
        """Return the output; ``valid`` marks the steps that count."""


class LastStep(AbstractReadout):
    """One output a sequence, read from the last step that counts: (time, hidden) -> (output,)."""

    def __call__(
        self, hs: Float[Array, "time hidden"], valid: Bool[Array, " time"] | None = None
    ) -> Float[Array, " output"]:
        if valid is None:
            return hs[-1] @ self.weight + self.bias
        last = hs.shape[0] - 1 - jnp.argmax(valid[::-1])
        return hs[last] @ self.weight + self.bias


class MeanPool(AbstractReadout):
    """One output a sequence, read from the mean over the steps that count."""

    def __call__(
        self, hs: Float[Array, "time hidden"], valid: Bool[Array, " time"] | None = None
    ) -> Float[Array, " output"]:
        if valid is None:
            mean = jnp.mean(hs, axis=0)
        else:
            weight = valid.astype(hs.dtype) / jnp.maximum(jnp.sum(valid), 1).astype(hs.dtype)
            mean = weight @ hs
        return mean @ self.weight + self.bias


class EachStep(AbstractReadout):
    """One output a step: (time, hidden) -> (time, output)."""

    def __call__(
        self, hs: Float[Array, "time hidden"], valid: Bool[Array, " time"] | None = None
    ) -> Float[Array, "time output"]:
        return hs @ self.weight + self.bias
