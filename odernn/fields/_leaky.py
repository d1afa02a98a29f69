"""First-order fields: leaky and antisymmetric."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractField, AbstractRelaxationField, AbstractSemilinearField
from .._initial import check_sizes, uniform
from .._operator import Diagonal
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import activation


class Leaky(AbstractSemilinearField, AbstractRelaxationField):
    """Leaky units: ``h' = -h + tanh(W h + V x + b)``.

    With Euler and dt = 1 it is the Elman network, with dt < 1 the leaky (CTRNN) one. Order 1,
    depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``activation``, "tanh" or "relu"; ``key``.
    **Parameters**: ``weight`` (hidden, hidden), ``input_weight`` (input, hidden), ``bias``
    (hidden,); stored input-major, so that a product is ``h @ weight``. All start as
    U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Elman, Cogn. Sci. 14 (1990); Funahashi and Nakamura, Neural Networks 6 (1993).
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    def __init__(
        self, input_size: int, hidden_size: int, *, activation: str = "tanh", key: PRNGKeyArray
    ):
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        recurrent, inward, bias = jax.random.split(key, 3)
        bound = hidden_size**-0.5
        self.input_size, self.hidden_size = input_size, hidden_size
        self.activation = activation
        self.weight = uniform(recurrent, (hidden_size, hidden_size), bound)
        self.input_weight = uniform(inward, (input_size, hidden_size), bound)
        self.bias = uniform(bias, (hidden_size,), bound)

    def __check_init__(self):
        activation(self.activation)

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " hidden"]:
        return x @ self.input_weight + self.bias

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


class Antisymmetric(AbstractField):
    """Antisymmetric units: ``h' = tanh((M - M^T - gamma I) h + V x + b)``.

    The Jacobian's eigenvalues are close to the imaginary axis: the flow neither grows nor
    forgets quickly; ``gamma`` (diffusion) makes up for the growth that Euler's method adds.
    Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``gamma`` >= 0; ``key``. **Parameters**:
    ``weight`` M (hidden, hidden) from N(0, 1/hidden), ``input_weight`` (input, hidden) from
    U(-1/sqrt(input), 1/sqrt(input)), ``bias`` (hidden,), zero.

    Reference: Chang, Chen, Haber, Chi, "AntisymmetricRNN", arXiv:1902.09689.
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    gamma: float = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    def __init__(
        self, input_size: int, hidden_size: int, *, gamma: float = 0.01, key: PRNGKeyArray
    ):
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        recurrent, inward = jax.random.split(key)
        dtype = jnp.result_type(float)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.gamma = float(gamma)
        self.weight = jax.random.normal(recurrent, (hidden_size, hidden_size), dtype)
        self.weight = self.weight * hidden_size**-0.5
        self.input_weight = uniform(inward, (input_size, hidden_size), input_size**-0.5)
        self.bias = jnp.zeros(hidden_size, dtype)

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " hidden"]:
        return x @ self.input_weight + self.bias

    def __call__(
        self, time: Scalar, y: Float[Array, " hidden"], u: Float[Array, " hidden"]
    ) -> Float[Array, " hidden"]:
        skew = self.weight - self.weight.T
        return jnp.tanh(y @ skew - self.gamma * y + u)
