"""Second-order fields."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._field import AbstractPartitionedField, AbstractSemilinearField
from .._initial import Rule, uniform
from .._operator import Blocks
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._base import AbstractAffineField


def _as_one_layer(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw as for one layer that reads input, position and velocity."""
    return uniform(key, shape, (field.input_size + 2 * field.hidden_size) ** -0.5)


class AbstractOscillatorField(
    AbstractAffineField, AbstractPartitionedField, AbstractSemilinearField
):
    """Oscillators with a bounded force: ``h'' = force - stiffness h - damping h'``.

    State blocks ``h`` and ``v = h'``; a sequential method updates the velocity first.
    """

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "v")
    update_order: ClassVar[tuple[str, ...]] = ("v", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 0, "v": 1}

    stiffness: eqx.AbstractVar[float]
    damping: eqx.AbstractVar[float]

    @abc.abstractmethod
    def force(self, y: State, u: Float[Array, " hidden"]) -> Float[Array, " hidden"]:
        """Return the force on each unit."""

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, " hidden"]:
        if block == "h":
            return y["v"]
        return self.force(y, frozen) - self.stiffness * y["h"] - self.damping * y["v"]

    def linear(self) -> Blocks:
        matrix = [[0.0, 1.0], [-self.stiffness, -self.damping]]
        return Blocks(jnp.asarray(matrix, self.dtype), ("h", "v"))

    def rest(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return {"h": jnp.zeros_like(y["h"]), "v": self.force(y, u)}


class Oscillator(AbstractOscillatorField):
    """Coupled, damped, driven oscillators: ``h'' = tanh(W h + U h' + V x + b) - gamma h - eps h'``.

    State blocks ``h`` and ``v = h'``; a sequential method updates the velocity first. Order 2,
    depth 1. With Gauss-Seidel (IMEX) Euler it is the coRNN.

    **Arguments**: ``input_size``, ``hidden_size``; ``gamma``, squared frequency, and ``epsilon``,
    damping, both fixed; ``init``; ``key``. **Parameters**: ``weight`` W and ``velocity_weight`` U
    (hidden, hidden), ``input_weight`` (input, hidden), ``bias`` (hidden,), all from U(-k, k) with
    k = 1/sqrt(input + 2 hidden), as in the authors' code.

    Reference: Rusch, Mishra, "Coupled Oscillatory Recurrent Neural Network", arXiv:2010.00951.
    """

    gamma: float = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    velocity_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    rules: ClassVar[Mapping[str, Rule]] = dict.fromkeys(
        ("weight", "velocity_weight", "input_weight", "bias"), _as_one_layer
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gamma: float = 1.0,
        epsilon: float = 1.0,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.gamma, self.epsilon = float(gamma), float(epsilon)
        self._draw(input_size, hidden_size, init, key)

    @property
    def stiffness(self) -> float:
        """``gamma``, the squared frequency."""
        return self.gamma

    @property
    def damping(self) -> float:
        """``epsilon``."""
        return self.epsilon

    def force(self, y: State, u: Float[Array, " hidden"]) -> Float[Array, " hidden"]:
        # One product with the stacked weights is faster than two with half the rows each.
        weights = jnp.concatenate([self.weight, self.velocity_weight])
        return jnp.tanh(jnp.concatenate([y["h"], y["v"]]) @ weights + u)
