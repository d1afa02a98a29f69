"""The fields of GRU, LSTM and LEM."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._field import AbstractPartitionedField, AbstractRelaxationField
from .._initial import check_sizes
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import gates
from ._base import AbstractAffineField, AbstractGatedField, AbstractMemoryField, check_biases


class Gated(AbstractGatedField):
    """Gated relaxation: ``h' = (1 - z).(g - h)``, the field of the GRU.

    ``r, z = sigma(V x + b + W h)``, ``g = tanh(V_g x + b_g + r.(W_g h + d))``. Order 1, depth 2.
    Euler with dt = 1 gives the GRU as PyTorch has it (reset after the product).

    **Arguments**: ``input_size``, ``hidden_size``; ``biases`` 1, 0, or 2 for a second vector on
    r and z, as PyTorch has it; ``init``; ``key``. **Parameters**, packed in the order r, z, g:
    ``weight`` (hidden, 3 hidden), ``input_weight`` (input, 3 hidden), ``bias`` (3 hidden,),
    ``candidate_bias`` d (hidden,), ``recurrent_bias`` (2 hidden,); all from
    U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Cho et al., arXiv:1406.1078.
    """

    biases: int = eqx.field(static=True)
    weight: Float[Array, "hidden 3*hidden"]
    input_weight: Float[Array, "input 3*hidden"]
    bias: Float[Array, "3*hidden"] | None
    candidate_bias: Float[Array, " hidden"] | None
    recurrent_bias: Float[Array, "2*hidden"] | None

    depth: ClassVar[int] = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        biases: int = 1,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.biases = biases
        self._draw(input_size, hidden_size, init, key, absent=check_biases(biases))

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " gates"]) -> tuple[State, State]:
        from_state = y @ self.weight
        split = 2 * self.hidden_size
        # Both biases of the gates could be added outside the loop, but one has not its shape.
        pre = from_state[:split] + u[:split]
        reset, keep = gates(pre if self.recurrent_bias is None else pre + self.recurrent_bias, "ss")
        inner = from_state[split:]
        if self.candidate_bias is not None:
            inner = inner + self.candidate_bias
        rate = 1 - keep
        return rate, rate * jnp.tanh(u[split:] + reset * inner)


class LSTM(AbstractMemoryField):
    """Long short-term memory: ``c' = -(1 - f).c + i.g``, then ``h' = -h + o.tanh(c)``.

    ``i, f, o = sigma(V x + b + W h)``, ``g = tanh(V_g x + b_g + W_g h)``. State blocks ``h``,
    ``c``; a sequential method updates c first, with the gates frozen at the start of the step.
    Order 2, depth 1. Gauss-Seidel Euler with dt = 1 gives the LSTM as PyTorch has it.

    **Arguments**: ``input_size``, ``hidden_size``; ``biases`` 1, 0 or, as in PyTorch, 2;
    ``init``; ``key``. **Parameters**, packed in the order i, f, g, o: ``weight`` (hidden,
    4 hidden), ``input_weight`` (input, 4 hidden), ``bias`` and ``recurrent_bias`` (4 hidden,) or
    None; all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Hochreiter and Schmidhuber, Neural Computation 9 (1997); Gers et al. (2000).
    """

    biases: int = eqx.field(static=True)
    weight: Float[Array, "hidden 4*hidden"]
    input_weight: Float[Array, "input 4*hidden"]
    bias: Float[Array, "4*hidden"] | None
    recurrent_bias: Float[Array, "4*hidden"] | None

    depths: ClassVar[Mapping[str, int]] = {"h": 1, "c": 1}
    input_biases: ClassVar[tuple[str, ...]] = ("bias", "recurrent_bias")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        biases: int = 1,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.biases = biases
        self._draw(input_size, hidden_size, init, key, absent=check_biases(biases))

    def remember(self, y: State, u: Float[Array, " gates"]) -> tuple[Array, Array, Any]:
        enter, forget, candidate, leave = gates(y["h"] @ self.weight + u, "ssts")
        return 1 - forget, enter * candidate, leave

    def expose(self, c: Float[Array, " hidden"], rest: Any) -> Float[Array, " hidden"]:
        return rest * jnp.tanh(c)


class ProjectedLSTM(AbstractMemoryField):
    """LSTM whose hidden state is a projection: ``h' = -h + (o.tanh(c)) P``, c as in ``LSTM``.

    **Arguments**: ``input_size``; ``hidden_size``, of the projection, which the next layer sees;
    ``cell_size``, of the memory, as many units
    by default; ``biases``; ``init``; ``key``. **Parameters**: as of ``LSTM``,
    with ``weight`` (hidden, 4 cell), ``input_weight`` (input, 4 cell), and ``projection``
    (cell, hidden). PyTorch calls them ``proj_size`` and ``hidden_size``. Order 2, depth 1.

    Reference: Sak, Senior, Beaufays, arXiv:1402.1128.
    """

    cell_size: int = eqx.field(static=True)
    biases: int = eqx.field(static=True)
    weight: Float[Array, "hidden 4*cell"]
    input_weight: Float[Array, "input 4*cell"]
    bias: Float[Array, "4*cell"] | None
    recurrent_bias: Float[Array, "4*cell"] | None
    projection: Float[Array, "cell hidden"]

    depths: ClassVar[Mapping[str, int]] = {"h": 1, "c": 1}
    input_biases: ClassVar[tuple[str, ...]] = ("bias", "recurrent_bias")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        cell_size: int | None = None,
        biases: int = 1,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.cell_size = hidden_size if cell_size is None else cell_size
        check_sizes(cell_size=self.cell_size)
        self.biases = biases
        self._draw(input_size, hidden_size, init, key, absent=check_biases(biases))

    def initial_state(self) -> State:
        return {
            "h": jnp.zeros(self.hidden_size, self.dtype),
            "c": jnp.zeros(self.cell_size, self.dtype),
        }

    def remember(self, y: State, u: Float[Array, " gates"]) -> tuple[Array, Array, Any]:
        enter, forget, candidate, leave = gates(y["h"] @ self.weight + u, "ssts")
        return 1 - forget, enter * candidate, leave

    def expose(self, c: Float[Array, " cell"], rest: Any) -> Float[Array, " hidden"]:
        return (rest * jnp.tanh(c)) @ self.projection


class LEM(AbstractAffineField, AbstractPartitionedField, AbstractRelaxationField):
    """Long expressive memory: two blocks, each relaxing on time scales of its own.

    ``z' = a.(tanh(W h + V x + b) - z)``, then ``h' = e.(tanh(T z + V' x + b') - h)``, with the
    inverse time scales ``a, e = sigma(W'' h + V'' x + b'')`` frozen at the start of the step.
    Order 2, depth 1; z is updated first.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    (hidden, 3 hidden) in the order e, a, z; ``slow_weight`` T (hidden, hidden); ``input_weight``
    (input, 4 hidden), ``bias`` and ``recurrent_bias`` (4 hidden,) in the order e, a, z, h (two
    bias vectors, as the authors have them); all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Rusch, Mishra, Erichson, Mahoney, "Long Expressive Memory", arXiv:2110.04744.
    """

    weight: Float[Array, "hidden 3*hidden"]
    slow_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input 4*hidden"]
    bias: Float[Array, "4*hidden"]
    recurrent_bias: Float[Array, "4*hidden"]

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "z")
    update_order: ClassVar[tuple[str, ...]] = ("z", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 1, "z": 1}
    input_biases: ClassVar[tuple[str, ...]] = ("bias", "recurrent_bias")

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
