"""Units with one state and gates: the candidate is mixed with the state, or the input is."""

import abc
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._initial import (
    Rule,
    between,
    by_block,
    by_inputs,
    constant,
    glorot,
    glorot_blocks,
    normal,
    ones,
    orthogonal,
    zeros,
)
from .._results import InputError
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import activation, gates, sigmoid
from ._base import AbstractGatedField


def _recurrent(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Orthogonal for rectified candidates, whose state has no bound."""
    return (orthogonal if field.activation == "relu" else glorot)(key, shape, field)


def _remember(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Gates that keep for 1 to ``longest`` steps; without it they begin at sigma(1)."""
    start = jnp.ones(field.hidden_size, jnp.result_type(float))
    if field.longest is not None:
        start = jnp.log(between(1.0, field.longest)(key, start.shape, field))
    return jnp.concatenate([start, jnp.zeros_like(start)])


class UpdateGated(AbstractGatedField):
    """One gate that keeps: ``h' = (1 - sigma(s - beta)).g - (1 - sigma(s)).h``, ``g = tanh(a)``.

    ``s = V_s x + b_s + W_s h``, ``a = V x + b + W h``. Order 1, depth 1. With Euler and dt = 1 it
    is the UGRNN; with ``beta = 1``, by which more is let in than forgotten, JANET; with
    ``activation="relu"`` the light GRU, whose batch normalisation of ``V x`` is no part of a cell.

    **Arguments**: ``input_size``, ``hidden_size``; ``activation`` of the candidate; ``beta``;
    ``longest``, a number of steps above 1 up to which units shall remember at first, or None;
    ``init``; ``key``. **Parameters**, packed in the order s, a: ``weight`` (hidden, 2 hidden),
    ``input_weight`` (input, 2 hidden), both Glorot uniform, a rectified unit's ``weight``
    orthogonal; ``bias`` (2 hidden,), zero for a and for s ``log U(1, longest)`` (chrono), or 1.

    torchrecurrent trains ``beta``, which is fixed in the paper.

    Reference: Collins, Sohl-Dickstein, Sussillo, arXiv:1611.09913; van der Westhuizen, Lasenby,
    arXiv:1804.04849; Ravanelli et al., arXiv:1803.10225.
    """

    activation: str = eqx.field(static=True)
    beta: float = eqx.field(static=True)
    longest: float | None = eqx.field(static=True)
    weight: Float[Array, "hidden 2*hidden"]
    input_weight: Float[Array, "input 2*hidden"]
    bias: Float[Array, "2*hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": _recurrent,
        "input_weight": glorot,
        "bias": _remember,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        beta: float = 0.0,
        longest: float | None = None,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        if longest is not None and not longest > 1:
            raise InputError(f"longest = {longest!r}: give a number of steps above 1, or None.")
        self.activation, self.beta, self.longest = activation, float(beta), longest
        self._draw(input_size, hidden_size, init, key)

    def __check_init__(self):
        activation(self.activation)

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> tuple[State, State]:
        form, inner = self.split(y @ self.weight + u)
        forget = 1 - sigmoid(form)
        enter = 1 - sigmoid(form - self.beta) if self.beta else forget
        return forget, enter * activation(self.activation)(inner)


class IndRNN(AbstractGatedField):
    """Units without connections to each other: ``h' = -h + relu(w.h + V x + b)``.

    Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``activation``; ``init``; ``key``.
    **Parameters**: ``weight`` w (hidden,) from U(0, 1), ``input_weight`` (input, hidden) from
    U(-k, k) with k = sqrt(6/(65 input)), ``bias`` (hidden,), zero, as in the authors' code.

    torchrecurrent's default is tanh.

    Reference: Li, Li, Cook, Zhu, Gao, arXiv:1803.04831.
    """

    activation: str = eqx.field(static=True)
    weight: Float[Array, " hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": between(0.0, 1.0),
        "input_weight": by_inputs(math.sqrt(6 / 65)),
        "bias": zeros,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "relu",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.activation = activation
        self._draw(input_size, hidden_size, init, key)

    def __check_init__(self):
        activation(self.activation)

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> tuple[State, State]:
        return jnp.ones_like(y), activation(self.activation)(self.weight * y + u)


class FastRNN(AbstractGatedField):
    """A residual connection with two trained scalars: ``h' = sigma(alpha) g - sigma(-beta) h``.

    ``g = tanh(W h + V x + b)``; with Euler and dt = 1 the state is weighted by ``sigma(beta)``.
    Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``activation``; ``init``; ``key``.
    **Parameters**: ``weight`` (hidden, hidden) and ``input_weight`` (input, hidden) from
    N(0, 0.1^2), ``bias`` (hidden,), 1, ``alpha`` -3, ``beta`` 3, as in the authors' code.

    torchrecurrent begins with alpha and beta the other way round.

    Reference: Kusupati et al., arXiv:1901.02358.
    """

    activation: str = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]
    alpha: Float[Array, ""]
    beta: Float[Array, ""]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": normal(0.1),
        "input_weight": normal(0.1),
        "bias": ones,
        "alpha": constant(-3.0),
        "beta": constant(3.0),
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.activation = activation
        self._draw(input_size, hidden_size, init, key)

    def __check_init__(self):
        activation(self.activation)

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> tuple[State, State]:
        candidate = activation(self.activation)(y @ self.weight + u)
        return jnp.broadcast_to(sigmoid(-self.beta), y.shape), sigmoid(self.alpha) * candidate


class FastGRNN(AbstractGatedField):
    """Gate and candidate of one form: ``h' = (sigma(zeta) (1 - z) + sigma(nu)).g - (1 - z).h``.

    ``z = sigma(a + b_z)``, ``g = tanh(a + b_g)``, ``a = W h + V x``. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``gate_activation`` of z; ``init``; ``key``.
    **Parameters**: ``weight`` (hidden, hidden) and ``input_weight`` (input, hidden) from
    N(0, 0.1^2), ``bias`` (2 hidden,) in the order z, g, 1, ``zeta`` 1, ``nu`` -4, as in the
    authors' code.

    torchrecurrent's gate is tanh by default, zeta begins at 3, nu at -3.

    Reference: Kusupati et al., arXiv:1901.02358.
    """

    gate_activation: str = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, "2*hidden"]
    zeta: Float[Array, ""]
    nu: Float[Array, ""]

    input_biases: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": normal(0.1),
        "input_weight": normal(0.1),
        "bias": ones,
        "zeta": constant(1.0),
        "nu": constant(-4.0),
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gate_activation: str = "sigmoid",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.gate_activation = gate_activation
        self._draw(input_size, hidden_size, init, key)

    def __check_init__(self):
        activation(self.gate_activation)

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> tuple[State, State]:
        form = y @ self.weight + u
        gate_bias, bias = self.split(self.bias)
        forget = 1 - activation(self.gate_activation)(form + gate_bias)
        enter = sigmoid(self.zeta) * forget + sigmoid(self.nu)
        return forget, enter * jnp.tanh(form + bias)


class ATR(AbstractGatedField):
    """Twin gates, of a sum and a difference: ``h' = sigma(p + q).p - (1 - sigma(p - q)).h``.

    ``p = V x + b``, ``q = W h + d``. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    (hidden, hidden), ``input_weight`` (input, hidden), ``bias`` b (hidden,), which the authors do
    not have, and ``recurrent_bias`` d (hidden,); all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Zhang, Xiong, Su, Lin, Zhang, arXiv:1810.12546.
    """

    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]
    recurrent_bias: Float[Array, " hidden"]

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> tuple[State, State]:
        q = y @ self.weight + self.recurrent_bias
        enter, keep = gates(jnp.concatenate([u + q, u - q]), "ss")
        return 1 - keep, enter * u


class SGRN(AbstractGatedField):
    """One form for gate and content: ``h' = -h + tanh((1 - f).p + f.h)``, ``f = sigma(p + q)``.

    ``p = V x + b``, ``q = W h + d``. Order 1, depth 2.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    (hidden, hidden), ``input_weight`` (input, hidden), ``bias`` b and ``recurrent_bias`` d
    (hidden,); all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Zu, Wei, IET Gener. Transm. Distrib. 15 (2021).
    """

    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]
    recurrent_bias: Float[Array, " hidden"]

    depth: ClassVar[int] = 2

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> tuple[State, State]:
        keep = sigmoid(u + y @ self.weight + self.recurrent_bias)
        return jnp.ones_like(y), jnp.tanh((1 - keep) * u + keep * y)


class CFN(AbstractGatedField):
    """The chaos-free network: ``h' = -h + theta.tanh(h) + eta.tanh(V x + b)``.

    ``theta, eta = sigma(V' x + b' + W h)``. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    (hidden, 2 hidden) in the order theta, eta, ``input_weight`` (input, 3 hidden) in the order
    theta, eta, content, from U(-1/sqrt(hidden), 1/sqrt(hidden)); ``bias`` (3 hidden,), which
    begins at 1, -1 and 0; the paper's content has none.

    Reference: Laurent, von Brecht, arXiv:1612.06212.
    """

    weight: Float[Array, "hidden 2*hidden"]
    input_weight: Float[Array, "input 3*hidden"]
    bias: Float[Array, "3*hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {"bias": by_block(1.0, -1.0, 0.0)}

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> tuple[State, State]:
        split = 2 * self.hidden_size
        keep, enter = gates(y @ self.weight + u[:split], "ss")
        return jnp.ones_like(y), keep * jnp.tanh(y) + enter * jnp.tanh(u[split:])


class AbstractContentField(AbstractGatedField):
    """A content of the input only and a gate: ``k = sigma(V_k x + b_k + W h)``, ``tanh(V x + b)``.

    **Parameters**, packed in the order gate, content.
    """

    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input 2*hidden"]
    bias: Float[Array, "2*hidden"]

    def gate_and_content(self, y: State, u: Float[Array, " forms"]) -> list[Array]:
        """Return the gate and the content."""
        form, inner = self.split(u)
        return gates(jnp.concatenate([y @ self.weight + form, inner]), "st")


class LightRU(AbstractContentField):
    """A candidate of the input only: ``h' = k.(tanh(V x + b) - h)``.

    ``k = sigma(V_k x + b_k + W h)``. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**, packed in
    the order k, content: ``weight`` (hidden, hidden), ``input_weight`` (input, 2 hidden), ``bias``
    (2 hidden,); all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Ye et al., Electronics 13 (2024) 3204.
    """

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> tuple[State, State]:
        enter, content = self.gate_and_content(y, u)
        return enter, enter * content


class STAR(AbstractContentField):
    """A stackable unit: ``h' = -h + tanh((1 - k).h + k.tanh(V x + b))``.

    ``k = sigma(V_k x + b_k + W h)``. Order 1, depth 2.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**, packed in
    the order k, content: ``weight`` (hidden, hidden), ``input_weight`` (input, 2 hidden), both
    orthogonal, ``bias`` (2 hidden,), which begins at -1 and 0.

    The authors' code, unlike the paper, weights the content by ``sigma(. + 1)``, as JANET does.

    Reference: Turkoglu, D'Aronco, Wegner, Schindler, arXiv:1911.11033.
    """

    depth: ClassVar[int] = 2
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": orthogonal,
        "input_weight": orthogonal,
        "bias": by_block(-1.0, 0.0),
    }

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> tuple[State, State]:
        enter, content = self.gate_and_content(y, u)
        return jnp.ones_like(y), jnp.tanh((1 - enter) * y + enter * content)


class AbstractBistableField(AbstractGatedField):
    """Units that feed back on themselves: ``h' = (1 - c).(tanh(V x + b + a.h) - h)``.

    ``a = 1 + tanh(p)``, ``c = sigma(q)``; where a > 1 a unit has two stable states. ``feedback(y)``
    is the part of p and q that depends on the state. Order 1, depth 2.
    """

    input_weight: Float[Array, "input 3*hidden"]
    bias: Float[Array, "3*hidden"]

    depth: ClassVar[int] = 2

    @abc.abstractmethod
    def feedback(self, y: State) -> Float[Array, " forms"]:
        """Return what the state adds to p and q."""

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> tuple[State, State]:
        split = 2 * self.hidden_size
        strength, keep = gates(u[:split] + self.feedback(y), "ts")
        forget = 1 - keep
        return forget, forget * jnp.tanh(u[split:] + (1 + strength) * y)


class BR(AbstractBistableField):
    """The bistable cell: ``h' = (1 - c).(tanh(V x + b + a.h) - h)``, each unit on its own.

    ``a = 1 + tanh(w_a.h + V_a x + b_a)``, ``c = sigma(w_c.h + V_c x + b_c)``. Order 1, depth 2.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    (2 hidden,) in the order a, c, 1; ``input_weight`` (input, 3 hidden) in the order a, c,
    candidate, Glorot uniform each; ``bias`` (3 hidden,), zero; the authors' candidate has none.

    Reference: Vecoven, Ernst, Drion, PLOS ONE 16 (2021) e0252676.
    """

    weight: Float[Array, "2*hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": ones,
        "input_weight": glorot_blocks,
        "bias": zeros,
    }

    def feedback(self, y: State) -> Float[Array, " forms"]:
        return self.weight * jnp.concatenate([y, y])


class NBR(AbstractBistableField):
    """The neuromodulated bistable cell: ``h' = (1 - c).(tanh(V x + b + a.h) - h)``.

    As ``BR``, but all units act on ``a = 1 + tanh(W_a h + V_a x + b_a)`` and
    ``c = sigma(W_c h + V_c x + b_c)``. Order 1, depth 2.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    (hidden, 2 hidden) in the order a, c and ``input_weight`` (input, 3 hidden) in the order a, c,
    candidate, Glorot uniform each; ``bias`` (3 hidden,), zero; the authors' candidate has none.

    Reference: Vecoven, Ernst, Drion, PLOS ONE 16 (2021) e0252676.
    """

    weight: Float[Array, "hidden 2*hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": glorot_blocks,
        "input_weight": glorot_blocks,
        "bias": zeros,
    }

    def feedback(self, y: State) -> Float[Array, " forms"]:
        return y @ self.weight
