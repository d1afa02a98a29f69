"""Gated fields."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractPartitionedField, AbstractRelaxationField
from .._initial import check_sizes, uniform
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import gates


class Gated(AbstractRelaxationField):
    """Gated relaxation: ``h' = (1 - z).(g - h)``, the field of the GRU.

    ``r, z = sigma(V x + b + W h)``, ``g = tanh(V_g x + b_g + r.(W_g h + d))``. Order 1, depth 2.
    Euler with dt = 1 gives the GRU as PyTorch has it (reset after the product).

    **Arguments**: ``input_size``, ``hidden_size``; ``key``. **Parameters**, packed in the order
    r, z, g: ``weight`` (hidden, 3 hidden), ``input_weight`` (input, 3 hidden), ``bias``
    (3 hidden,), and ``candidate_bias`` d (hidden,); all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Cho et al., arXiv:1406.1078.
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    weight: Float[Array, "hidden gates"]
    input_weight: Float[Array, "input gates"]
    bias: Float[Array, " gates"]
    candidate_bias: Float[Array, " hidden"]

    depth: ClassVar[int] = 2

    def __init__(self, input_size: int, hidden_size: int, *, key: PRNGKeyArray):
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        keys = jax.random.split(key, 4)
        bound = hidden_size**-0.5
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight = uniform(keys[0], (hidden_size, 3 * hidden_size), bound)
        self.input_weight = uniform(keys[1], (input_size, 3 * hidden_size), bound)
        self.bias = uniform(keys[2], (3 * hidden_size,), bound)
        self.candidate_bias = uniform(keys[3], (hidden_size,), bound)

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " gates"]:
        return x @ self.input_weight + self.bias

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " gates"]) -> tuple[State, State]:
        rate, candidate = self._rate_and_candidate(y, u)
        return rate, rate * candidate

    def __call__(
        self, time: Scalar, y: Float[Array, " hidden"], u: Float[Array, " gates"]
    ) -> Float[Array, " hidden"]:
        rate, candidate = self._rate_and_candidate(y, u)
        return rate * (candidate - y)

    def _rate_and_candidate(self, y: Array, u: Array) -> tuple[Array, Array]:
        from_state = y @ self.weight
        split = 2 * self.hidden_size
        reset, keep = gates(from_state[:split] + u[:split], "ss")
        candidate = jnp.tanh(u[split:] + reset * (from_state[split:] + self.candidate_bias))
        return 1 - keep, candidate


class LSTM(AbstractPartitionedField, AbstractRelaxationField):
    """Long short-term memory: ``c' = -(1 - f).c + i.g``, then ``h' = -h + o.tanh(c)``.

    ``i, f, o = sigma(V x + b + W h)``, ``g = tanh(V_g x + b_g + W_g h)``. State blocks ``h``,
    ``c``; a sequential method updates c first, with the gates frozen at the start of the step.
    Order 2, depth 1. Gauss-Seidel Euler with dt = 1 gives the LSTM as PyTorch has it.

    **Arguments**: ``input_size``, ``hidden_size``; ``key``. **Parameters**, packed in the order
    i, f, g, o: ``weight`` (hidden, 4 hidden), ``input_weight`` (input, 4 hidden), ``bias``
    (4 hidden,); all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Hochreiter and Schmidhuber, Neural Computation 9 (1997); Gers et al. (2000).
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    weight: Float[Array, "hidden gates"]
    input_weight: Float[Array, "input gates"]
    bias: Float[Array, " gates"]

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "c")
    update_order: ClassVar[tuple[str, ...]] = ("c", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 1, "c": 1}

    def __init__(self, input_size: int, hidden_size: int, *, key: PRNGKeyArray):
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        keys = jax.random.split(key, 3)
        bound = hidden_size**-0.5
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight = uniform(keys[0], (hidden_size, 4 * hidden_size), bound)
        self.input_weight = uniform(keys[1], (input_size, 4 * hidden_size), bound)
        self.bias = uniform(keys[2], (4 * hidden_size,), bound)

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " gates"]:
        return x @ self.input_weight + self.bias

    def freeze(self, time: Scalar, y: State, u: Float[Array, " gates"]) -> Any:
        return gates(y["h"] @ self.weight + u, "ssts")

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, " hidden"]:
        enter, forget, candidate, leave = frozen
        if block == "c":
            return enter * candidate - (1 - forget) * y["c"]
        return leave * jnp.tanh(y["c"]) - y["h"]

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " gates"]) -> tuple[State, State]:
        enter, forget, candidate, leave = self.freeze(time, y, u)
        rates = {"h": jnp.ones_like(forget), "c": 1 - forget}
        return rates, {"h": leave * jnp.tanh(y["c"]), "c": enter * candidate}


class LEM(AbstractPartitionedField, AbstractRelaxationField):
    """Long expressive memory: two blocks, each relaxing on time scales of its own.

    ``z' = a.(tanh(W h + V x + b) - z)``, then ``h' = e.(tanh(T z + V' x + b') - h)``, with the
    inverse time scales ``a, e = sigma(W'' h + V'' x + b'')`` frozen at the start of the step.
    Order 2, depth 1; z is updated first.

    **Arguments**: ``input_size``, ``hidden_size``; ``key``. **Parameters**: ``weight``
    (hidden, 3 hidden) in the order e, a, z; ``slow_weight`` T (hidden, hidden);
    ``input_weight`` (input, 4 hidden) and ``bias`` (4 hidden,) in the order e, a, z, h; all from
    U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Rusch, Mishra, Erichson, Mahoney, "Long Expressive Memory", arXiv:2110.04744.
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    weight: Float[Array, "hidden gates"]
    slow_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input all"]
    bias: Float[Array, " all"]

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "z")
    update_order: ClassVar[tuple[str, ...]] = ("z", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 1, "z": 1}

    def __init__(self, input_size: int, hidden_size: int, *, key: PRNGKeyArray):
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        keys = jax.random.split(key, 4)
        bound = hidden_size**-0.5
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight = uniform(keys[0], (hidden_size, 3 * hidden_size), bound)
        self.slow_weight = uniform(keys[1], (hidden_size, hidden_size), bound)
        self.input_weight = uniform(keys[2], (input_size, 4 * hidden_size), bound)
        self.bias = uniform(keys[3], (4 * hidden_size,), bound)

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " all"]:
        return x @ self.input_weight + self.bias

    def freeze(self, time: Scalar, y: State, u: Float[Array, " all"]) -> Any:
        split = 3 * self.hidden_size
        fast, slow, candidate = gates(y["h"] @ self.weight + u[:split], "sst")
        return fast, slow, candidate, u[split:]

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, " hidden"]:
        fast, slow, candidate, u = frozen
        if block == "z":
            return slow * (candidate - y["z"])
        return fast * (jnp.tanh(y["z"] @ self.slow_weight + u) - y["h"])

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " all"]) -> tuple[State, State]:
        fast, slow, candidate, u = self.freeze(time, y, u)
        target = jnp.tanh(y["z"] @ self.slow_weight + u)
        return {"h": fast, "z": slow}, {"h": fast * target, "z": slow * candidate}
