"""Memories of history: Legendre polynomials that approximate the past of an input."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._field import AbstractPartitionedField, AbstractSplitField
from .._initial import Rule, by_inputs, check_sizes, normal, ones, zeros
from .._operator import Dense
from .._results import InputError
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._base import AbstractDeclaredField


def _glorot_normal(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    return normal((2 / sum(shape)) ** 0.5)(key, shape, field)


class LMU(AbstractDeclaredField, AbstractPartitionedField, AbstractSplitField):
    """Legendre memory unit: a delay line ``m' = (A m + B u) / theta`` behind a hidden state.

    ``u = e_x.x + e_h.h + e_m.m`` is a number, ``h' = -h + tanh(W_x x + W_h h + W_m m)``; A and B
    are fixed: m holds the Legendre coefficients of u over the last ``theta`` input steps. Parts
    "memory" and "hidden": Lie-Trotter with dt = 1, an Euler step for the hidden part, is the
    paper's network. The flow of the memory is exact for a u that is held as it is at the beginning
    of the step (zero-order hold, as the authors have it), so that feedback by ``e_m`` is of first
    order. State blocks ``h`` and ``m``; a sequential method updates m first: Gauss-Seidel Euler is
    the authors' "euler" discretisation. Order 2, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``memory_size``, of m, by default the hidden
    size; ``theta`` > 0, the length of the window in input steps; ``init``; ``key``.
    **Parameters**: ``input_encoder`` e_x (input,) and ``hidden_encoder`` e_h (hidden,) from
    U(-b, b) with b = sqrt(3/size), ``memory_encoder`` e_m (memory,), zero; ``input_weight`` W_x
    (input, hidden), ``weight`` W_h (hidden, hidden) and ``memory_weight`` W_m (memory, hidden)
    from N(0, 2/(rows + columns)), as in the authors' code.

    Reference: Voelker, Kajic, Eliasmith, "Legendre Memory Units", NeurIPS (2019).
    """

    memory_size: int = eqx.field(static=True)
    theta: float = eqx.field(static=True)
    input_encoder: Float[Array, " input"]
    hidden_encoder: Float[Array, " hidden"]
    memory_encoder: Float[Array, " memory"]
    input_weight: Float[Array, "input hidden"]
    weight: Float[Array, "hidden hidden"]
    memory_weight: Float[Array, "memory hidden"]

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "m")
    update_order: ClassVar[tuple[str, ...]] = ("m", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 1, "m": 0}
    parts: ClassVar[tuple[str, ...]] = ("memory", "hidden")
    part_depths: ClassVar[Mapping[str, int]] = {"memory": 0, "hidden": 1}
    irreversible: ClassVar[tuple[str, ...]] = ("memory",)
    rules: ClassVar[Mapping[str, Rule]] = {
        "input_encoder": by_inputs(3**0.5),
        "hidden_encoder": by_inputs(3**0.5),
        "memory_encoder": zeros,
        "input_weight": _glorot_normal,
        "weight": _glorot_normal,
        "memory_weight": _glorot_normal,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        memory_size: int | None = None,
        theta: float = 64.0,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.memory_size = hidden_size if memory_size is None else memory_size
        check_sizes(hidden_size=hidden_size, memory_size=self.memory_size)
        if not theta > 0:
            raise InputError(f"theta = {theta!r}: give a positive length, in input steps.")
        self.theta = float(theta)
        self._draw(input_size, hidden_size, init, key)

    def drive(self, x: Float[Array, " input"]) -> tuple[Array, Array]:
        return x @ self.input_encoder, x @ self.input_weight

    def initial_state(self) -> State:
        sizes = {"h": self.hidden_size, "m": self.memory_size}
        return {block: jnp.zeros(size, self.dtype) for block, size in sizes.items()}

    def rate(
        self, block: str, time: Scalar, y: State, frozen: tuple[Array, Array]
    ) -> Float[Array, " block"]:
        if block == "m":
            return (self._with_input(y, frozen[0]) @ self._delay())[:-1]
        inner = y["h"] @ self.weight + y["m"] @ self.memory_weight
        return jnp.tanh(inner + frozen[1]) - y["h"]

    def part(self, name: str, time: Scalar, y: State, u: tuple[Array, Array]) -> State:
        own, other = ("m", "h") if name == "memory" else ("h", "m")
        return {own: self.rate(own, time, y, u), other: jnp.zeros_like(y[other])}

    def flow(
        self, name: str, time: Scalar, y: State, u: tuple[Array, Array], dt: Scalar
    ) -> State | None:
        if name != "memory":
            return None
        return {
            **y,
            "m": Dense(self._delay()).exponential(dt).apply(self._with_input(y, u[0]))[:-1],
        }

    def _with_input(self, y: State, from_input: Float[Array, ""]) -> Float[Array, " memory+1"]:
        """The memory and, in one more component, u."""
        fed = from_input + y["h"] @ self.hidden_encoder + y["m"] @ self.memory_encoder
        return jnp.append(y["m"], fed)

    def _delay(self) -> Float[Array, "memory+1 memory+1"]:
        """A and B over theta as one matrix (input-major), under which u stays as it is."""
        i = jnp.arange(self.memory_size)
        sign, scale = 1 - 2 * (i % 2), 2 * i + 1
        below = jnp.where(i[:, None] > i, 1, jnp.outer(sign, sign))
        columns = jnp.vstack([-below, sign]) * scale
        return jnp.pad(columns, ((0, 0), (0, 1))).astype(self.dtype) / self.theta


class HiPPOLegS(AbstractDeclaredField):
    """Scaled Legendre memory: ``c' = (B f - A c) / (s + 1/2)`` for one signal ``f = w.x``.

    A and B are fixed: c holds the coefficients of the whole past of f in the Legendre polynomials
    ``sqrt(2n + 1) P_n`` stretched over it, so that nothing is to be tuned to its length. With the
    implicit midpoint rule and dt = 1, s + 1/2 is in the k-th step the number k, and the step is the
    authors' bilinear update ``(1 + A/2k) c+ = (1 - A/2k) c + B f/k``. Order 1, depth 0.

    **Arguments**: ``input_size``; ``hidden_size``, the number of coefficients; ``init``; ``key``.
    **Parameters**: ``input_weight`` w (input,), ones; None for one channel, which is f itself.

    Reference: Gu, Dao, Ermon, Rudra, Re, "HiPPO: Recurrent Memory with Optimal Polynomial
    Projections", arXiv:2008.07669.
    """

    input_weight: Float[Array, " input"] | None

    depth: ClassVar[int] = 0
    rules: ClassVar[Mapping[str, Rule]] = {"input_weight": ones}

    def __init__(
        self, input_size: int, hidden_size: int, *, init: str = "official", key: PRNGKeyArray
    ):
        absent = ("input_weight",) if input_size == 1 else ()
        self._draw(input_size, hidden_size, init, key, absent=absent)

    def drive(self, x: Float[Array, " input"]) -> Float[Array, ""]:
        return x[0] if self.input_weight is None else x @ self.input_weight

    def __call__(
        self, time: Scalar, y: Float[Array, " hidden"], u: Float[Array, ""]
    ) -> Float[Array, " hidden"]:
        n = jnp.arange(self.hidden_size, dtype=y.dtype)
        root = jnp.sqrt(2 * n + 1)
        matrix = jnp.triu(jnp.outer(root, root)) - jnp.diag(n)
        return (u * root - y @ matrix) / jnp.asarray(time + 0.5, y.dtype)
