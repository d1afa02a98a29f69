"""First-order fields made stable: Lipschitz, gated antisymmetric, reservoirs, increments."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._field import AbstractSemilinearField
from .._initial import (
    Rule,
    by_input_size,
    check_sizes,
    constant,
    normal,
    uniform,
    zeros,
)
from .._operator import Dense
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import activation, gates
from ._base import AbstractAffineField
from ._leaky import AbstractAntisymmetricField, AbstractLeakyField


def _by_deviation(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw from N(0, (deviation/hidden)^2)."""
    return normal(field.deviation / field.hidden_size)(key, shape, field)


def _by_input_scale(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    return uniform(key, shape, field.input_scale)


def _by_bias_scale(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    return uniform(key, shape, field.bias_scale)


def _by_radius(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw from U(-b, b): by the circular law the spectral radius is about ``radius``."""
    return uniform(key, shape, field.radius * math.sqrt(3 / field.hidden_size))


def _by_scale(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    return uniform(key, shape, field.scale)


class AbstractLipschitzField(AbstractAffineField):
    """What the Lipschitz fields share: matrices with a bounded symmetric part.

    A matrix B stands for ``S(B) = beta (B - B^T) + (1 - beta) (B + B^T) - gamma I``.
    """

    beta: float = eqx.field(static=True)
    gamma: float = eqx.field(static=True)
    alpha: float = eqx.field(static=True)
    deviation: float = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    linear_weight: Float[Array, "hidden hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": _by_deviation,
        "linear_weight": _by_deviation,
        "input_weight": by_input_size,
        "bias": by_input_size,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        beta: float = 0.75,
        gamma: float = 0.001,
        alpha: float = 1.0,
        deviation: float = 1.0,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.beta, self.gamma, self.alpha = float(beta), float(gamma), float(alpha)
        self.deviation = float(deviation)
        self._draw(input_size, hidden_size, init, key)

    def skewed(self, matrix: Float[Array, "hidden hidden"]) -> Float[Array, "hidden hidden"]:
        """Return ``S(B)`` of a matrix B."""
        skew, symmetric = matrix - matrix.T, matrix + matrix.T
        one = jnp.eye(self.hidden_size, dtype=matrix.dtype)
        return self.beta * skew + (1 - self.beta) * symmetric - self.gamma * one


class Lipschitz(AbstractLipschitzField, AbstractSemilinearField):
    """Lipschitz units: ``h' = alpha h S(B) + tanh(h S(C) + V x + b)``.

    ``S(B) = beta (B - B^T) + (1 - beta) (B + B^T) - gamma I``: skew for beta = 1, symmetric for
    beta = 0. With beta in (1/2, 1) and gamma > 0 the linear part is damped as far as B is small,
    and tanh adds what is bounded. Order 1, depth 1. Euler's method with the authors' dt is the
    Lipschitz RNN, which the authors also integrate by the midpoint method and RK4. Products are of
    rows, as in their code; the paper's column form has A = S(B)^T.

    **Arguments**: ``input_size``, ``hidden_size``; ``beta``, ``gamma``, ``alpha``, fixed numbers;
    ``deviation`` of the first matrices, times hidden; ``init``; ``key``. **Parameters**: ``weight``
    C and ``linear_weight`` B (hidden, hidden) from N(0, (deviation/hidden)^2); ``input_weight``
    (input, hidden) and ``bias`` (hidden,) from U(-1/sqrt(input), 1/sqrt(input)).

    Reference: Erichson, Azencot, Queiruga, Hodgkinson, Mahoney, "Lipschitz Recurrent Neural
    Networks", arXiv:2006.12070.
    """

    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    def __call__(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return self.linear().apply(y) + self.rest(time, y, u)

    def linear(self) -> Dense:
        return Dense(self.alpha * self.skewed(self.linear_weight))

    def rest(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return jnp.tanh(y @ self.skewed(self.weight) + u)


class GatedLipschitz(AbstractLipschitzField):
    """Gated Lipschitz units: ``h' = sigma(h S(C) + V' x + b').(alpha h S(B) + tanh(...))``.

    The tanh is of ``h S(C) + V x + b``: the gate reads the state by its matrix; S is as in
    ``Lipschitz``. Order 1, depth 1. Euler's method
    with the authors' dt is the gated Lipschitz RNN.

    **Arguments** and **parameters** as of ``Lipschitz``, with ``input_weight`` (input, 2 hidden)
    and ``bias`` (2 hidden,) in the order gate, candidate.

    Reference: Erichson, Azencot, Queiruga, Hodgkinson, Mahoney, "Lipschitz Recurrent Neural
    Networks", arXiv:2006.12070.
    """

    input_weight: Float[Array, "input 2*hidden"]
    bias: Float[Array, "2*hidden"]

    def __call__(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> State:
        inner = y @ self.skewed(self.weight)
        gate, candidate = gates(jnp.concatenate([inner, inner]) + u, "st")
        linear = self.alpha * (y @ self.skewed(self.linear_weight))
        return gate * (linear + candidate)


class GatedAntisymmetric(AbstractAntisymmetricField):
    """Gated antisymmetric units: ``h' = sigma(A h + V' x + b').tanh(A h + V x + b)``.

    ``A = M - M^T - gamma I`` in both factors. Order 1, depth 1. Euler's method is the gated
    antisymmetric RNN. torchrecurrent has a bias of the product with A besides and leaves it out of
    the gate.

    **Arguments**: ``input_size``, ``hidden_size``; ``gamma`` >= 0; ``init``; ``key``.
    **Parameters**: ``weight`` M (hidden, hidden) from N(0, 1/hidden); ``input_weight`` (input,
    2 hidden) from U(-1/sqrt(input), 1/sqrt(input)) and ``bias`` (2 hidden,), zero, in the order
    gate, candidate.

    Reference: Chang, Chen, Haber, Chi, "AntisymmetricRNN", arXiv:1902.09689.
    """

    input_weight: Float[Array, "input 2*hidden"]
    bias: Float[Array, "2*hidden"]

    def __call__(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> State:
        inner = self.turn(y)
        gate, candidate = gates(jnp.concatenate([inner, inner]) + u, "st")
        return gate * candidate


class AbstractReservoirField(AbstractAffineField):
    """A field whose weights are random and stay as they are drawn; only the read-out is trained."""

    input_scale: float = eqx.field(static=True)
    bias_scale: float = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    fixed: ClassVar[tuple[str, ...]] = ("weight", "input_weight", "bias")


class Reservoir(AbstractReservoirField, AbstractLeakyField):
    """Leaky units with fixed random weights: ``h' = -h + tanh(W h + V x + b)``.

    Euler's method is the echo-state network; dt is the leak rate. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``radius``, of the spectrum of W, about: below
    one the state forgets where it began; ``input_scale``, ``bias_scale``; ``init``; ``key``.
    **Parameters**, none of them trained (see ``odernn.trained``): ``weight`` W (hidden, hidden)
    from U(-r, r) with r = radius sqrt(3/hidden), which has this radius by the circular law;
    ``input_weight`` (input, hidden) from U(-input_scale, input_scale); ``bias`` (hidden,) from
    U(-bias_scale, bias_scale).

    Reference: Jaeger, "The echo state approach to analysing and training recurrent neural
    networks", GMD report 148 (2001); Jaeger et al., Neural Networks 20 (2007) for leaky units;
    Gallicchio, Micheli, Pedrelli (2019) for the radius.
    """

    radius: float = eqx.field(static=True)

    activation: ClassVar[str] = "tanh"
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": _by_radius,
        "input_weight": _by_input_scale,
        "bias": _by_bias_scale,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        radius: float = 0.9,
        input_scale: float = 1.0,
        bias_scale: float = 1.0,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.radius, self.input_scale = float(radius), float(input_scale)
        self.bias_scale = float(bias_scale)
        self._draw(input_size, hidden_size, init, key)


class AntisymmetricReservoir(AbstractReservoirField, AbstractAntisymmetricField):
    """Antisymmetric units, fixed: ``h' = tanh((M - M^T - gamma I) h + V x + b)``.

    Its weights are random. Euler's method is the Euler state network. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``gamma`` >= 0; ``scale``, ``input_scale``,
    ``bias_scale``; ``init``; ``key``. **Parameters**, none of them trained (see
    ``odernn.trained``): ``weight`` M (hidden, hidden) from U(-scale, scale); ``input_weight``
    (input, hidden) from U(-input_scale, input_scale); ``bias`` (hidden,) from U(-bias_scale,
    bias_scale).

    Reference: Gallicchio, "Euler State Networks: Non-dissipative Reservoir Computing",
    arXiv:2203.09382.
    """

    scale: float = eqx.field(static=True)

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": _by_scale,
        "input_weight": _by_input_scale,
        "bias": _by_bias_scale,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gamma: float = 0.001,
        scale: float = 1.0,
        input_scale: float = 1.0,
        bias_scale: float = 1.0,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.gamma, self.scale = float(gamma), float(scale)
        self.input_scale, self.bias_scale = float(input_scale), float(bias_scale)
        self._draw(input_size, hidden_size, init, key)

    def __call__(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return jnp.tanh(self.turn(y) + u)


class Incremental(AbstractAffineField):
    """Relaxation towards an increment: ``h' = g_K(h, x) - h``, g_K near an equilibrium.

    g is K Euler steps of lengths eta_i on an ODE in which h is a constant::

        g_{i+1} = g_i + eta_i (phi(W (g_i + h) + V x + b) - alpha (g_i + h)),    g_0 = h

    At its equilibrium g + h is a function of x alone, so that h+ and h have opposite derivatives:
    gradients neither grow nor vanish. Euler with dt = 1 gives h+ = g_K, the incremental RNN. g is
    no part of the state, as nothing of it but g_K = h+ is carried. Order 1, depth K.

    **Arguments**: ``input_size``, ``hidden_size``; ``steps`` K; ``alpha``; ``activation`` phi;
    ``restart``, begin from g_0 = 0 as the paper writes it, not from h as the authors compute it;
    ``init``; ``key``. **Parameters**: ``weight`` W (hidden, hidden) and ``input_weight`` (input,
    hidden) from N(0, 0.01); ``bias`` (hidden,), zero; ``steplengths`` eta (K,), 0.01.

    Reference: Kag, Zhang, Saligrama, "RNNs Incrementally Evolving on an Equilibrium Manifold: A
    Panacea for Vanishing and Exploding Gradients?", ICLR (2020), arXiv:1908.08574.
    """

    steps: int = eqx.field(static=True)
    alpha: float = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    restart: bool = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]
    steplengths: Float[Array, " steps"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": normal(0.1),
        "input_weight": normal(0.1),
        "bias": zeros,
        "steplengths": constant(0.01),
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        steps: int = 5,
        alpha: float = 1.0,
        activation: str = "relu",
        restart: bool = False,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        check_sizes(steps=steps)
        self.steps, self.alpha, self.activation = steps, float(alpha), activation
        self.restart = bool(restart)
        self._draw(input_size, hidden_size, init, key)

    def __check_init__(self):
        activation(self.activation)

    @property
    def steps_size(self) -> int:
        """Number of step lengths."""
        return self.steps

    @property
    def depth(self) -> int:
        """Nested nonlinearities: one an inner step."""
        return self.steps

    def __call__(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        total = y if self.restart else 2 * y  # g + h
        for i in range(self.steps):
            slope = activation(self.activation)(total @ self.weight + u) - self.alpha * total
            total = total + self.steplengths[i] * slope
        return total - 2 * y
