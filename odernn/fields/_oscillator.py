"""Second-order fields."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractPartitionedField, AbstractSemilinearField
from .._initial import check_sizes, uniform
from .._operator import Blocks
from .._typing import Array, Float, PRNGKeyArray, Scalar, State


class Oscillator(AbstractPartitionedField, AbstractSemilinearField):
    """Coupled, damped, driven oscillators: ``h'' = tanh(W h + U h' + V x + b) - gamma h - eps h'``.

    State blocks ``h`` and ``v = h'``; a sequential method updates the velocity first. Order 2,
    depth 1. With Gauss-Seidel (IMEX) Euler it is the coRNN.

    **Arguments**: ``input_size``, ``hidden_size``; ``gamma``, squared frequency, and ``epsilon``,
    damping, both fixed; ``key``. **Parameters**: ``weight`` W and ``velocity_weight`` U (hidden,
    hidden), ``input_weight`` (input, hidden), ``bias`` (hidden,), all from U(-k, k) with
    k = 1/sqrt(input + 2 hidden), as in the authors' code.

    Reference: Rusch, Mishra, "Coupled Oscillatory Recurrent Neural Network", arXiv:2010.00951.
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    gamma: float = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    velocity_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "v")
    update_order: ClassVar[tuple[str, ...]] = ("v", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 0, "v": 1}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gamma: float = 1.0,
        epsilon: float = 1.0,
        key: PRNGKeyArray,
    ):
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        keys = jax.random.split(key, 4)
        bound = (input_size + 2 * hidden_size) ** -0.5
        self.input_size, self.hidden_size = input_size, hidden_size
        self.gamma, self.epsilon = float(gamma), float(epsilon)
        self.weight = uniform(keys[0], (hidden_size, hidden_size), bound)
        self.velocity_weight = uniform(keys[1], (hidden_size, hidden_size), bound)
        self.input_weight = uniform(keys[2], (input_size, hidden_size), bound)
        self.bias = uniform(keys[3], (hidden_size,), bound)

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " hidden"]:
        return x @ self.input_weight + self.bias

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, " hidden"]:
        if block == "h":
            return y["v"]
        return self._force(y, frozen) - self.gamma * y["h"] - self.epsilon * y["v"]

    def linear(self) -> Blocks:
        matrix = [[0.0, 1.0], [-self.gamma, -self.epsilon]]
        return Blocks(jnp.asarray(matrix, self.dtype), ("h", "v"))

    def rest(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return {"h": jnp.zeros_like(y["h"]), "v": self._force(y, u)}

    def _force(self, y: State, u: Float[Array, " hidden"]) -> Float[Array, " hidden"]:
        # One product with the stacked weights is faster than two with half the rows each.
        weights = jnp.concatenate([self.weight, self.velocity_weight])
        return jnp.tanh(jnp.concatenate([y["h"], y["v"]]) @ weights + u)
