"""Units whose candidate sees the state through a gate: the relatives of the first GRU."""

import abc
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._initial import Rule, constant, glorot, glorot_blocks
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import activation, gates, sigmoid
from ._base import AbstractGatedField


class AbstractResetField(AbstractGatedField):
    """A reset gate before the product: ``h' = z.(g - h)``, ``g = tanh(a + W_g (r.h))``.

    ``parts(y, u)`` returns r, z and a. Order 1, depth 2.
    """

    candidate_weight: Float[Array, "hidden hidden"]

    depth: ClassVar[int] = 2

    @abc.abstractmethod
    def parts(self, y: State, u: Float[Array, " forms"]) -> tuple[Array, Array, Array]:
        """Return the reset gate r, the rate z and the candidate's form a of the input."""

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> tuple[State, State]:
        reset, rate, form = self.parts(y, u)
        return rate, rate * jnp.tanh(form + (reset * y) @ self.candidate_weight)


class ResetGated(AbstractResetField):
    """The first GRU: ``h' = (1 - z).(g - h)``, ``g = tanh(V_g x + b_g + W_g (r.h))``.

    ``r, z = sigma(V x + b + W h)``: unlike in ``Gated``, the state is reset before the product.
    Order 1, depth 2. With Euler, dt = 1 gives the GRU of the paper and dt < 1 the GRU-ODE. MUT2 is
    the same network with ``z`` for ``1 - z``; in the paper it adds the input itself to r, for
    which ``V_r = I``.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**:
    ``weight`` (hidden, 2 hidden) in the order r, z, ``candidate_weight`` W_g (hidden, hidden), both
    Glorot uniform each, ``input_weight`` (input, 3 hidden) in the order r, z, g, Glorot uniform,
    ``bias`` (3 hidden,), 0.05, as in the code of GRU-ODE.

    Reference: Cho et al., arXiv:1406.1078; Jozefowicz, Zaremba, Sutskever, ICML (2015); De Brouwer
    et al., arXiv:1905.12374.
    """

    weight: Float[Array, "hidden 2*hidden"]
    input_weight: Float[Array, "input 3*hidden"]
    bias: Float[Array, "3*hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": glorot_blocks,
        "candidate_weight": glorot_blocks,
        "input_weight": glorot,
        "bias": constant(0.05),
    }

    def parts(self, y: State, u: Float[Array, " forms"]) -> tuple[Array, Array, Array]:
        split = 2 * self.hidden_size
        reset, keep = gates(y @ self.weight + u[:split], "ss")
        return reset, 1 - keep, u[split:]


class MGU(AbstractResetField):
    """The minimal gated unit: ``h' = f.(g - h)``, ``g = tanh(V_g x + b_g + W_g (f.h))``.

    ``f = sigma(V x + b + W h)`` is both gates. Order 1, depth 2.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    and ``candidate_weight`` W_g (hidden, hidden), ``input_weight`` (input, 2 hidden) and ``bias``
    (2 hidden,) in the order f, g; all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Zhou, Wu, Zhang, Zhou, arXiv:1603.09420.
    """

    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input 2*hidden"]
    bias: Float[Array, "2*hidden"]

    def parts(self, y: State, u: Float[Array, " forms"]) -> tuple[Array, Array, Array]:
        form, candidate = self.split(u)
        gate = sigmoid(y @ self.weight + form)
        return gate, gate, candidate


class MiRU(AbstractResetField):
    """A reset gate and no other: ``h' = -h + tanh(V_g x + b_g + W_g (r.h))``.

    ``r = sigma(V x + b + W h)``. Order 1, depth 2. With Euler and dt = 1 - lambda it is the MiRU-1
    with the update coefficient lambda.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    and ``candidate_weight`` W_g (hidden, hidden), ``input_weight`` (input, 2 hidden) and ``bias``
    (2 hidden,) in the order r, g; all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Zyarah, Kudithipudi, arXiv:2503.06175.
    """

    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input 2*hidden"]
    bias: Float[Array, "2*hidden"]

    def parts(self, y: State, u: Float[Array, " forms"]) -> tuple[Array, Array, Array]:
        form, candidate = self.split(u)
        return sigmoid(y @ self.weight + form), jnp.ones_like(y), candidate


class MUT1(AbstractResetField):
    """A rate of the input only: ``h' = z.(g - h)``, ``g = tanh(a + d + W_g (r.h))``.

    ``a = tanh(V_g x + b_g)``, ``r = sigma(V_r x + b_r + W h)``, ``z = sigma(V_z x + b_z)``. Order
    1, depth 2. The paper has ``a = tanh(x)``, for which ``V_g = I``, ``b_g = 0``.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    and ``candidate_weight`` W_g (hidden, hidden), ``input_weight`` (input, 3 hidden) and ``bias``
    (3 hidden,) in the order r, z, g, ``candidate_bias`` d (hidden,); all from
    U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Jozefowicz, Zaremba, Sutskever, ICML (2015).
    """

    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input 3*hidden"]
    bias: Float[Array, "3*hidden"]
    candidate_bias: Float[Array, " hidden"]

    def parts(self, y: State, u: Float[Array, " forms"]) -> tuple[Array, Array, Array]:
        size = self.hidden_size
        forms = jnp.concatenate([y @ self.weight + u[:size], u[size:]])
        reset, rate, content = gates(forms, "sst")
        return reset, rate, content + self.candidate_bias


class MUT3(AbstractResetField):
    """A rate that sees ``tanh(h)``: ``h' = z.(g - h)``, ``g = tanh(V_g x + b_g + W_g (r.h))``.

    ``r = sigma(V_r x + b_r + W h)``, ``z = sigma(V_z x + b_z + W_z tanh(h))``. Order 1, depth 2.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``,
    ``rate_weight`` W_z and ``candidate_weight`` W_g (hidden, hidden), ``input_weight`` (input,
    3 hidden) and ``bias`` (3 hidden,) in the order r, z, g; all from
    U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Jozefowicz, Zaremba, Sutskever, ICML (2015).
    """

    weight: Float[Array, "hidden hidden"]
    rate_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input 3*hidden"]
    bias: Float[Array, "3*hidden"]

    def parts(self, y: State, u: Float[Array, " forms"]) -> tuple[Array, Array, Array]:
        for_reset, for_rate, candidate = self.split(u)
        rate = sigmoid(jnp.tanh(y) @ self.rate_weight + for_rate)
        return sigmoid(y @ self.weight + for_reset), rate, candidate


class SGU(AbstractGatedField):
    """One multiplicative gate: ``h' = z.(softplus(tanh(W_g (p.h) + d).h) - h)``.

    ``p = V_g x + b_g``, ``z = sigma(V_z x + b_z + W h)`` with the hard logistic function
    ``clip(a/6 + 1/2, 0, 1)``. Order 1, depth 2. With ``deep`` what the softplus is of is
    multiplied by a matrix P.

    **Arguments**: ``input_size``, ``hidden_size``; ``deep``; ``gate_activation`` of z,
    ``output_activation``; ``init``; ``key``. **Parameters**: ``weight`` and ``inner_weight`` W_g
    (hidden, hidden), ``projection`` P (hidden, hidden) or None, ``input_weight`` (input, 2 hidden)
    and ``bias`` (2 hidden,) in the order p, z, ``inner_bias`` d (hidden,), which the paper does not
    have; all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Gao, Glowacka, arXiv:1604.02910.
    """

    deep: bool = eqx.field(static=True)
    gate_activation: str = eqx.field(static=True)
    output_activation: str = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    inner_weight: Float[Array, "hidden hidden"]
    projection: Float[Array, "hidden hidden"] | None
    input_weight: Float[Array, "input 2*hidden"]
    bias: Float[Array, "2*hidden"]
    inner_bias: Float[Array, " hidden"]

    depth: ClassVar[int] = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        deep: bool = False,
        gate_activation: str = "hard_sigmoid",
        output_activation: str = "softplus",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.deep = bool(deep)
        self.gate_activation, self.output_activation = gate_activation, output_activation
        self._draw(input_size, hidden_size, init, key, absent=() if deep else ("projection",))

    def __check_init__(self):
        activation(self.gate_activation)
        activation(self.output_activation)

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> tuple[State, State]:
        scale, form = self.split(u)
        inner = jnp.tanh((scale * y) @ self.inner_weight + self.inner_bias) * y
        if self.projection is not None:
            inner = inner @ self.projection
        rate = activation(self.gate_activation)(form + y @ self.weight)
        return rate, rate * activation(self.output_activation)(inner)
