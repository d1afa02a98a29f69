"""Read-outs: from hidden states to what is asked for."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from ._initial import check_sizes, uniform
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
        check_sizes(input_size=input_size, output_size=output_size)
        outer, inner = jax.random.split(key)
        bound = input_size**-0.5
        self.input_size, self.output_size = input_size, output_size
        self.weight = uniform(outer, (input_size, output_size), bound)
        self.bias = uniform(inner, (output_size,), bound)

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
