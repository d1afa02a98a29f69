"""First-order fields: leaky and antisymmetric."""

from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._field import AbstractRelaxationField, AbstractSemilinearField
from .._initial import Rule, by_inputs, by_variance, zeros
from .._operator import Diagonal
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import activation
from ._base import AbstractAffineField, check_biases


class AbstractLeakyField(AbstractAffineField, AbstractSemilinearField, AbstractRelaxationField):
    """What leaky units compute, whatever is trained of them: ``h' = -h + phi(W h + V x + b)``."""

    activation: eqx.AbstractVar[str]
    weight: eqx.AbstractVar[Float[Array, "hidden hidden"]]

    def __call__(
        self, time: Scalar, y: Float[Array, " hidden"], u: Float[Array, " hidden"]
    ) -> Float[Array, " hidden"]:
        return self.rest(time, y, u) - y

    def linear(self) -> Diagonal:
        return Diagonal(-1.0)

    def rest(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> Float[Array, " hidden"]:
        return activation(self.activation)(y @ self.weight + u)

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> tuple[State, State]:
        return jnp.ones_like(y), self.rest(time, y, u)


class Leaky(AbstractLeakyField):
    """Leaky units: ``h' = -h + tanh(W h + V x + b)``.

    With Euler and dt = 1 it is the Elman network, with dt < 1 the leaky (CTRNN) one. Order 1,
    depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``activation``, "tanh", "relu", ...; ``biases``,
    the number of bias vectors: 1, 0, or 2, of which PyTorch adds one to the input and one to the
    state; ``init``; ``key``. **Parameters**: ``weight`` (hidden, hidden), ``input_weight`` (input,
    hidden), ``bias`` and ``recurrent_bias`` (hidden,) or None; stored input-major, so that a
    product is ``h @ weight``. All start as U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Elman, Cogn. Sci. 14 (1990); Funahashi and Nakamura, Neural Networks 6 (1993).
    """

    activation: str = eqx.field(static=True)
    biases: int = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"] | None
    recurrent_bias: Float[Array, " hidden"] | None

    input_biases: ClassVar[tuple[str, ...]] = ("bias", "recurrent_bias")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        biases: int = 1,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.activation, self.biases = activation, biases
        self._draw(input_size, hidden_size, init, key, absent=check_biases(biases))

    def __check_init__(self):
        activation(self.activation)


class AbstractAntisymmetricField(AbstractAffineField):
    """A field with the antisymmetric matrix ``A = M - M^T - gamma I``."""

    gamma: float = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": by_variance,
        "input_weight": by_inputs(),
        "bias": zeros,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gamma: float = 0.01,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.gamma = float(gamma)
        self._draw(input_size, hidden_size, init, key)

    def turn(self, y: Float[Array, " hidden"]) -> Float[Array, " hidden"]:
        """Return ``A y``."""
        return y @ (self.weight - self.weight.T) - self.gamma * y


class Antisymmetric(AbstractAntisymmetricField):
    """Antisymmetric units: ``h' = tanh((M - M^T - gamma I) h + V x + b)``.

    The Jacobian's eigenvalues are close to the imaginary axis: the flow neither grows nor
    forgets quickly; ``gamma`` (diffusion) makes up for the growth that Euler's method adds.
    Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``gamma`` >= 0; ``init``; ``key``.
    **Parameters**: ``weight`` M (hidden, hidden) from N(0, 1/hidden), ``input_weight`` (input,
    hidden) from U(-1/sqrt(input), 1/sqrt(input)), ``bias`` (hidden,), zero.

    Reference: Chang, Chen, Haber, Chi, "AntisymmetricRNN", arXiv:1902.09689.
    """

    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    def __call__(
        self, time: Scalar, y: Float[Array, " hidden"], u: Float[Array, " hidden"]
    ) -> Float[Array, " hidden"]:
        return jnp.tanh(self.turn(y) + u)
