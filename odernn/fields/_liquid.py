"""Liquid networks: liquid time constants, and their closed form."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractRelaxationField, AbstractSplitField
from .._initial import Rule, between, check_sizes, ones, uniform, zeros
from .._results import InputError, unknown_name
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import activation, gates, sigmoid
from ._base import AbstractAffineField, AbstractDeclaredField


def _polarity(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw 1 or, in one case of three, -1."""
    return jnp.where(jax.random.bernoulli(key, 1 / 3, shape), -1.0, 1.0).astype(
        jnp.result_type(float)
    )


class LiquidTimeConstant(AbstractDeclaredField, AbstractRelaxationField):
    """Neurons with conductances: ``c h' = g.(r - h) + sum_j w_j.s_j.(E_j - h)``.

    The sum goes over the neurons and the inputs: ``s_j = sigma(k_j (h_j - m_j))`` opens the synapse
    of weight w_j, which pulls towards the potential E_j; inputs are first scaled and shifted, as
    outputs are. The more is open, the faster the neuron. Order 1, depth 1. Six steps of the fused
    Euler method are the LTC; there ``epsilon``, which keeps the authors' code from dividing by
    zero, is a small leak towards 0. The next layer sees all neurons; in ncps only the first ones,
    the motor neurons, if the wiring has others.

    **Arguments**: ``input_size``; ``hidden_size``, the number of neurons; ``implicit``: c, g and
    the weights are the softplus of what is trained, positive by construction, else they are as they
    are trained and to be kept positive; ``sparse``: with masks of synapses that there are,
    all of them at first; ``epsilon``; ``init``; ``key``. **Parameters**: ``capacitance`` c, from
    U(0.4, 0.6), ``leak`` g from U(0.001, 1) and ``resting`` r from U(-0.2, 0.2), all (hidden,);
    ``weight`` w from U(0.001, 1), ``steepness`` k from U(3, 8), ``midpoint`` m from U(0.3, 0.8) and
    ``reversal`` E, 1 or (a third) -1, all (hidden, hidden), from row to column; likewise
    ``input_weight``, ``input_steepness``, ``input_midpoint``, ``input_reversal`` (input, hidden);
    ``input_scale``, 1, and ``input_shift``, 0, (input,); ``output_scale``, 1, and ``output_shift``,
    0, (hidden,); ``mask`` (hidden, hidden) and ``input_mask`` (input, hidden) or None, not trained.

    Reference: Hasani, Lechner, Amini, Rus, Grosu, "Liquid Time-constant Networks",
    arXiv:2006.04439.
    """

    implicit: bool = eqx.field(static=True)
    sparse: bool = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)
    capacitance: Float[Array, " hidden"]
    leak: Float[Array, " hidden"]
    resting: Float[Array, " hidden"]
    weight: Float[Array, "hidden hidden"]
    steepness: Float[Array, "hidden hidden"]
    midpoint: Float[Array, "hidden hidden"]
    reversal: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    input_steepness: Float[Array, "input hidden"]
    input_midpoint: Float[Array, "input hidden"]
    input_reversal: Float[Array, "input hidden"]
    input_scale: Float[Array, " input"]
    input_shift: Float[Array, " input"]
    output_scale: Float[Array, " hidden"]
    output_shift: Float[Array, " hidden"]
    mask: Float[Array, "hidden hidden"] | None
    input_mask: Float[Array, "input hidden"] | None

    fixed: ClassVar[tuple[str, ...]] = ("mask", "input_mask")
    rules: ClassVar[Mapping[str, Rule]] = {
        "capacitance": between(0.4, 0.6),
        "leak": between(0.001, 1.0),
        "resting": between(-0.2, 0.2),
        **dict.fromkeys(("weight", "input_weight"), between(0.001, 1.0)),
        **dict.fromkeys(("steepness", "input_steepness"), between(3.0, 8.0)),
        **dict.fromkeys(("midpoint", "input_midpoint"), between(0.3, 0.8)),
        **dict.fromkeys(("reversal", "input_reversal"), _polarity),
        **dict.fromkeys(("input_scale", "output_scale"), ones),
        **dict.fromkeys(("input_shift", "output_shift"), zeros),
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        implicit: bool = True,
        sparse: bool = False,
        epsilon: float = 1e-8,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        if not epsilon >= 0:
            raise InputError(f"epsilon = {epsilon!r}: give a number of at least 0.")
        self.implicit, self.sparse, self.epsilon = bool(implicit), bool(sparse), float(epsilon)
        self._draw(input_size, hidden_size, init, key, absent=("mask", "input_mask"))
        if sparse:
            # All are there, whatever rule drew the other matrices.
            self.mask = jnp.ones_like(self.weight)
            self.input_mask = jnp.ones_like(self.input_weight)

    def drive(self, x: Float[Array, " input"]) -> tuple[Array, Array]:
        return self._synapses(x * self.input_scale + self.input_shift, "input_")

    def output(self, y: State) -> Float[Array, " hidden"]:
        return y * self.output_scale + self.output_shift

    def __call__(self, time: Scalar, y: State, u: tuple[Array, Array]) -> State:
        rate, drive = self.relaxation(time, y, u)
        return drive - rate * y

    def relaxation(self, time: Scalar, y: State, u: tuple[Array, Array]) -> tuple[State, State]:
        conductance, current = self._synapses(y, "")
        capacitance, leak = self._positive(self.capacitance), self._positive(self.leak)
        rate = conductance + u[0] + (leak + self.epsilon)
        return rate / capacitance, (current + u[1] + leak * self.resting) / capacitance

    def _synapses(self, v: Float[Array, " sources"], prefix: str) -> tuple[Array, Array]:
        """Return for each neuron the conductance and the current at potential zero."""
        weight, steepness, midpoint, reversal, mask = (
            getattr(self, prefix + name)
            for name in ("weight", "steepness", "midpoint", "reversal", "mask")
        )
        weight = self._positive(weight) if mask is None else self._positive(weight) * mask
        opening = sigmoid(steepness * (v[:, None] - midpoint))
        # Not as the sum over the rows of a product, for which XLA has no fast loop on a CPU.
        total = partial(jnp.einsum, "ji,ji->i", precision="highest")
        return total(weight, opening), total(weight * reversal, opening)

    def _positive(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.nn.softplus(value) if self.implicit else value


MODES = ("default", "no_gate", "pure")


def _by_layer(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Glorot's rule for the layer that reads input and state."""
    fans = field.input_size + field.hidden_size + field.backbone_size
    return uniform(key, shape, math.sqrt(6 / fans))


def _by_head(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Glorot's rule for each head by itself."""
    return uniform(key, shape, math.sqrt(6 / (shape[0] + field.hidden_size)))


def _by_row(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Glorot's rule for a vector that the authors keep as a matrix of one row."""
    return uniform(key, shape, math.sqrt(6 / (1 + field.hidden_size)))


def _layer_bias(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    return uniform(key, shape, (field.input_size + field.hidden_size) ** -0.5)


def _head_bias(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    return uniform(key, shape, field.backbone_size**-0.5)


class ClosedForm(AbstractAffineField, AbstractSplitField):
    """A formula for the state after the time dt: the closed form of liquid time constants.

    Of ``z = phi(V x + W h + b)`` heads f, g, p, q are affine forms::

        default   h+ = (1 - s).tanh(f) + s.tanh(g),  s = sigma(p dt + q)
        no_gate   h+ = tanh(f) + s.tanh(g)
        pure      h+ = a - a.exp(-dt (|tau| + |f|)).f

    It is no ODE step: at dt = 0 it does not return h, and half a step twice is no whole one. It is
    given as the flow of the only part, "closed", so that Lie and Trotter's splitting takes it once
    over the time since the last input; as a rate it stands for ``h' = h+ - h``, with dt = 1. Order
    1, depth 2, of "pure" 3. The time may be irregular: dt is scaled by the interval.

    **Arguments**: ``input_size``, ``hidden_size``; ``mode``, "default", "no_gate" or "pure";
    ``backbone_size``, of z; ``activation`` phi; ``init``; ``key``. **Parameters**:
    ``weight`` W (hidden, backbone) and ``input_weight`` V (input, backbone), as one matrix by
    Glorot's rule; ``bias`` b (backbone,) from U(-k, k) with k = 1/sqrt(input + hidden);
    ``head_weight`` (backbone, 4 hidden) and ``head_bias`` (4 hidden,) in the order f, g, p, q,
    Glorot's rule for each and U(-1/sqrt(backbone), 1/sqrt(backbone)); of "pure" only f, and
    ``tau`` and ``limit`` a (hidden,), both from U(-k, k) with k = sqrt(6/(1 + hidden)), by which
    ncps replaces their 0 and 1.

    Reference: Hasani, Lechner, Amini, et al., "Closed-form continuous-time neural networks",
    Nature Machine Intelligence 4 (2022), arXiv:2106.13898.
    """

    mode: str = eqx.field(static=True)
    backbone_size: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    weight: Float[Array, "hidden backbone"]
    input_weight: Float[Array, "input backbone"]
    bias: Float[Array, " backbone"]
    head_weight: Float[Array, "backbone heads"]
    head_bias: Float[Array, " heads"]
    tau: Float[Array, " hidden"] | None
    limit: Float[Array, " hidden"] | None

    parts: ClassVar[tuple[str, ...]] = ("closed",)
    irreversible: ClassVar[tuple[str, ...]] = ("closed",)
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": _by_layer,
        "input_weight": _by_layer,
        "bias": _layer_bias,
        "head_weight": _by_head,
        "head_bias": _head_bias,
        "tau": _by_row,
        "limit": _by_row,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        mode: str = "default",
        backbone_size: int = 128,
        activation: str = "lecun_tanh",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        if mode not in MODES:
            raise unknown_name("mode", mode, MODES)
        check_sizes(backbone_size=backbone_size)
        self.mode, self.backbone_size, self.activation = mode, backbone_size, activation
        absent = () if mode == "pure" else ("tau", "limit")
        self._draw(input_size, hidden_size, init, key, absent=absent)

    def __check_init__(self):
        activation(self.activation)

    @property
    def heads_size(self) -> int:
        """Width of all heads together."""
        return self.hidden_size * (1 if self.mode == "pure" else 4)

    @property
    def depth(self) -> int:
        """Nested nonlinearities: of z and of what follows, for "pure" the modulus and exp."""
        return 3 if self.mode == "pure" else 2

    @property
    def part_depths(self) -> Mapping[str, int]:
        """Nested nonlinearities of the only part."""
        return {"closed": self.depth}

    def __call__(self, time: Scalar, y: State, u: Float[Array, " backbone"]) -> State:
        return self.flow("closed", time, y, u, 1.0) - y

    def part(self, name: str, time: Scalar, y: State, u: Float[Array, " backbone"]) -> State:
        return self(time, y, u)

    def flow(
        self, name: str, time: Scalar, y: State, u: Float[Array, " backbone"], dt: Scalar
    ) -> State:
        inner = activation(self.activation)(y @ self.weight + u)
        heads = inner @ self.head_weight + self.head_bias
        if self.tau is not None and self.limit is not None:
            decay = jnp.exp(-dt * (jnp.abs(self.tau) + jnp.abs(heads)))
            return self.limit - self.limit * decay * heads
        first, second, slope, shift = self.split(heads)
        both = jnp.concatenate([first, second, slope * dt + shift])
        first, second, mix = gates(both, "tts")
        return first + mix * second if self.mode == "no_gate" else first + mix * (second - first)
