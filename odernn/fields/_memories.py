"""Memories behind a hidden state: relatives of the LSTM."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractPartitionedField
from .._initial import Rule, between, by_block, by_variance, glorot, zeros
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import gates, sigmoid
from ._base import (
    AbstractAffineField,
    AbstractGatedField,
    AbstractMemoryField,
    affine,
    check_biases,
)

_ONE_EACH: Mapping[str, int] = {"h": 1, "c": 1}


class OriginalLSTM(AbstractMemoryField):
    """LSTM without a forget gate: ``c' = i.g``, then ``h' = -h + o.tanh(c)``.

    ``i, o = sigma(W h + V x + b)``, ``g = tanh(W_g h + V_g x + b_g)``, frozen at the start of a
    step. The memory neither decays nor relaxes. Order 2, depth 1. The paper's squashing functions
    are ``2 tanh(z/2)`` for g and ``tanh(c/2)``: the same networks, with twice the weights of g and
    twice the memory.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**, packed in the
    order i, g, o: ``weight`` (hidden, 3 hidden), ``input_weight`` (input, 3 hidden), both from
    U(-0.1, 0.1), as in most of the paper's experiments, and ``bias`` (3 hidden,), zero.

    Reference: Hochreiter and Schmidhuber, Neural Computation 9 (1997).
    """

    weight: Float[Array, "hidden 3*hidden"]
    input_weight: Float[Array, "input 3*hidden"]
    bias: Float[Array, "3*hidden"]

    depths: ClassVar[Mapping[str, int]] = _ONE_EACH
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": between(-0.1, 0.1),
        "input_weight": between(-0.1, 0.1),
        "bias": zeros,
    }

    def remember(self, y: State, u: Float[Array, " gates"]) -> tuple[Array, Array, Any]:
        enter, candidate, leave = gates(y["h"] @ self.weight + u, "sts")
        return jnp.zeros_like(enter), enter * candidate, leave

    def expose(self, c: Float[Array, " hidden"], rest: Any) -> Float[Array, " hidden"]:
        return rest * jnp.tanh(c)


def _peep(
    pre: Float[Array, " gates"], peephole: Float[Array, " gates"], c: Float[Array, " hidden"]
) -> tuple[Array, Array, Any]:
    """Return what ``remember`` does of gates i, f, g, o that see the memory; o is left open."""
    enter, forget, candidate, leave = jnp.split(pre, 4)
    from_memory = jnp.concatenate([c, c]) * peephole[: 2 * c.shape[0]]
    enter, forget = gates(jnp.concatenate([enter, forget]) + from_memory, "ss")
    return 1 - forget, enter * jnp.tanh(candidate), leave


class PeepholeLSTM(AbstractMemoryField):
    """LSTM whose gates see the memory: ``c' = -(1 - f).c + i.g``, then ``h' = -h + o.tanh(c)``.

    ``i, f = sigma(W h + V x + b + p.c)``, frozen at the start of a step; ``o`` likewise, but of the
    memory as it is then; ``g = tanh(W_g h + V_g x + b_g)``. Order 2, depth 1. The first papers
    leave out the tanh of c, later ones have it (Graves; Greff et al.).

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**, packed in the
    order i, f, g, o: ``weight`` (hidden, 4 hidden), ``input_weight`` (input, 4 hidden), ``bias``
    (4 hidden,); ``peephole`` p (3 hidden,) of i, f, o. All from U(-0.1, 0.1) but ``bias``, zero.

    Reference: Gers and Schmidhuber, IJCNN (2000); Gers, Schraudolph, Schmidhuber, JMLR 3 (2002).
    """

    weight: Float[Array, "hidden 4*hidden"]
    input_weight: Float[Array, "input 4*hidden"]
    bias: Float[Array, "4*hidden"]
    peephole: Float[Array, "3*hidden"]

    depths: ClassVar[Mapping[str, int]] = _ONE_EACH
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": between(-0.1, 0.1),
        "input_weight": between(-0.1, 0.1),
        "bias": zeros,
        "peephole": between(-0.1, 0.1),
    }

    def remember(self, y: State, u: Float[Array, " gates"]) -> tuple[Array, Array, Any]:
        return _peep(y["h"] @ self.weight + u, self.peephole, y["c"])

    def expose(self, c: Float[Array, " hidden"], rest: Any) -> Float[Array, " hidden"]:
        return sigmoid(rest + self.peephole[2 * self.hidden_size :] * c) * jnp.tanh(c)


class ResLSTM(AbstractMemoryField):
    """Peephole LSTM with a shortcut for the input: ``h' = -h + o.(P tanh(c) + R x)``.

    The memory c and the gate o are those of ``PeepholeLSTM``. Order 2, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    (hidden, 4 hidden) and ``bias`` (4 hidden,) in the order i, f, g, o; ``input_weight`` (input,
    5 hidden) in the order i, f, g, o, R; ``peephole`` (3 hidden,) of i, f, o; ``projection`` P
    (hidden, hidden). All from U(-1/sqrt(hidden), 1/sqrt(hidden)): the paper names no values. R is
    trained for all sizes; the paper has the identity where they agree.

    Reference: Kim, El-Khamy, Lee, "Residual LSTM", arXiv:1701.03360.
    """

    weight: Float[Array, "hidden 4*hidden"]
    input_weight: Float[Array, "input 5*hidden"]
    bias: Float[Array, "4*hidden"]
    peephole: Float[Array, "3*hidden"]
    projection: Float[Array, "hidden hidden"]

    depths: ClassVar[Mapping[str, int]] = _ONE_EACH
    input_biases: ClassVar[tuple[str, ...]] = ()

    def remember(self, y: State, u: Float[Array, " forms"]) -> tuple[Array, Array, Any]:
        form, shortcut = jnp.split(u, [4 * self.hidden_size])
        pre = affine(y["h"], self.weight, form, self.bias)
        rate, drive, leave = _peep(pre, self.peephole, y["c"])
        return rate, drive, (leave, shortcut)

    def expose(self, c: Float[Array, " hidden"], rest: Any) -> Float[Array, " hidden"]:
        leave, shortcut = rest
        gate = sigmoid(leave + self.peephole[2 * self.hidden_size :] * c)
        return gate * (jnp.tanh(c) @ self.projection + shortcut)


class AbstractTwiceBiased(AbstractMemoryField):
    """A memory that has a second bias vector, inside its gates, with ``biases=2``."""

    biases: int = eqx.field(static=True)

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


class MultiplicativeLSTM(AbstractTwiceBiased):
    """LSTM whose transition depends on the input: gates as of ``LSTM``, of ``m = (M x).(N h)``.

    ``c' = -(1 - f).c + i.g``, then ``h' = -h + o.tanh(c)`` with ``i, f, o = sigma(W m + V x + b)``,
    ``g = tanh(W_g m + V_g x + b_g)``, frozen at the start of a step. Order 2, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``biases`` 1, 0, or 2 for one on both factors of
    m; ``init``; ``key``. **Parameters**: ``weight`` (hidden, 4 hidden) and ``bias`` (4 hidden,) in
    the order i, f, g, o; ``input_weight`` (input, 5 hidden) in the order M, i, f, g, o;
    ``factor_weight`` N (hidden, hidden); ``recurrent_bias`` (2 hidden,) of M, N, or None. Matrices
    from N(0, 1/rows), biases zero but for f, 1, as in the authors' second code; their first one
    squashes behind the output gate.

    Reference: Krause, Lu, Murray, Renals, arXiv:1609.07959.
    """

    weight: Float[Array, "hidden 4*hidden"]
    factor_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input 5*hidden"]
    bias: Float[Array, "4*hidden"] | None
    recurrent_bias: Float[Array, "2*hidden"] | None

    depths: ClassVar[Mapping[str, int]] = _ONE_EACH
    input_biases: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": by_variance,
        "factor_weight": by_variance,
        "input_weight": by_variance,
        "bias": by_block(0.0, 1.0, 0.0, 0.0),
        "recurrent_bias": zeros,
    }

    def remember(self, y: State, u: Float[Array, " forms"]) -> tuple[Array, Array, Any]:
        from_input, form = jnp.split(u, [self.hidden_size])
        from_state = y["h"] @ self.factor_weight
        if self.recurrent_bias is not None:
            of_input, of_state = self.split(self.recurrent_bias)
            from_input, from_state = from_input + of_input, from_state + of_state
        pre = affine(from_input * from_state, self.weight, form, self.bias)
        enter, forget, candidate, leave = gates(pre, "ssts")
        return 1 - forget, enter * candidate, leave

    def expose(self, c: Float[Array, " hidden"], rest: Any) -> Float[Array, " hidden"]:
        return rest * jnp.tanh(c)


class WMCLSTM(AbstractTwiceBiased):
    """LSTM with working memory connections: gates see ``tanh(M c)`` beside state and input.

    ``c' = -(1 - f).c + i.g``, then ``h' = -h + o.tanh(c)`` with ``i, f = sigma(W h + V x + b +
    tanh(M c))``, frozen at the start of a step; ``o`` likewise, but of the memory as it is then;
    ``g = tanh(W_g h + V_g x + b_g)``. Order 2, depth 2.

    **Arguments**: ``input_size``, ``hidden_size``; ``biases`` 1, 0, or 2 for one inside ``tanh``,
    as torchrecurrent has it; ``init``; ``key``. **Parameters**: ``weight`` (hidden, 4 hidden),
    ``input_weight`` (input, 4 hidden), ``bias`` (4 hidden,) in the order i, f, g, o;
    ``memory_weight`` (hidden, 2 hidden) of i, f and ``leave_weight`` (hidden, hidden) of o;
    ``recurrent_bias`` (3 hidden,) of i, f, o, or None. All from U(-1/sqrt(hidden),
    1/sqrt(hidden)), as those of PyTorch's LSTM.

    Reference: Landi, Baraldi, Cornia, Cucchiara, arXiv:2109.00020.
    """

    weight: Float[Array, "hidden 4*hidden"]
    memory_weight: Float[Array, "hidden 2*hidden"]
    leave_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input 4*hidden"]
    bias: Float[Array, "4*hidden"] | None
    recurrent_bias: Float[Array, "3*hidden"] | None

    depth: ClassVar[int] = 2
    depths: ClassVar[Mapping[str, int]] = {"h": 2, "c": 2}

    def remember(self, y: State, u: Float[Array, " gates"]) -> tuple[Array, Array, Any]:
        split = 2 * self.hidden_size
        inner = None if self.recurrent_bias is None else self.recurrent_bias[:split]
        seen = jnp.tanh(affine(y["c"], self.memory_weight, inner))
        pre, candidate, leave = jnp.split(y["h"] @ self.weight + u, [split, split + len(y["c"])])
        enter, forget = gates(pre + seen, "ss")
        return 1 - forget, enter * jnp.tanh(candidate), leave

    def expose(self, c: Float[Array, " hidden"], rest: Any) -> Float[Array, " hidden"]:
        inner = None if self.recurrent_bias is None else self.recurrent_bias[2 * len(c) :]
        return sigmoid(rest + jnp.tanh(affine(c, self.leave_weight, inner))) * jnp.tanh(c)


class MCLSTM(AbstractAffineField, AbstractPartitionedField):
    """LSTM whose gates read a state of their own: ``h' = -h + o.tanh(c)``, ``v' = -v + m.tanh(c)``.

    Before it ``c' = -(1 - f).c + i.g``, with ``i, f, o, m = sigma(W v + V x + b)``,
    ``g = tanh(W_g v + V_g x + b_g)``, frozen at the start of a step. The next layer sees h, which
    the step itself never reads. Order 3, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**, packed in the
    order i, f, g, o, m: ``weight`` (hidden, 5 hidden), ``input_weight`` (input, 5 hidden), ``bias``
    (5 hidden,); all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Ben-Ari and Shwartz-Ziv, "Sequence modeling using a memory controller extension for
    LSTM", NIPS Time Series Workshop (2017).
    """

    weight: Float[Array, "hidden 5*hidden"]
    input_weight: Float[Array, "input 5*hidden"]
    bias: Float[Array, "5*hidden"]

    order: ClassVar[int] = 3
    blocks: ClassVar[tuple[str, ...]] = ("h", "v", "c")
    update_order: ClassVar[tuple[str, ...]] = ("c", "v", "h")
    # h and v stand side by side behind c: their common level is counted once.
    depths: ClassVar[Mapping[str, int]] = {"h": 1, "v": 0, "c": 1}

    def freeze(self, time: Scalar, y: State, u: Float[Array, " gates"]) -> Any:
        enter, forget, candidate, leave, control = gates(y["v"] @ self.weight + u, "sstss")
        return 1 - forget, enter * candidate, {"h": leave, "v": control}

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, " hidden"]:
        rate, drive, gate = frozen
        if block == "c":
            return drive - rate * y["c"]
        return gate[block] * jnp.tanh(y["c"]) - y[block]


class NAS(AbstractMemoryField):
    """What an architecture search found: ``c' = -c + k.tanh(l + c)``, ``h' = -h + tanh(c.o)``.

    ``l = tanh(sigma(z_0).relu(z_1))``, ``k = tanh(sigma(z_2) + relu(z_3))`` and ``o = tanh(tanh(
    tanh(z_4).sigma(z_5)) + sigma(tanh(z_6) + sigma(z_7)))`` of eight sums ``z_j = V_j x + W_j h +
    b_j``, but for the product ``z_3 = (V_3 x).(W_3 h + b_3)``: all frozen at the start of a step,
    as is c in its own rate. Order 2, depth 4.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**, packed in the
    order of z: ``weight`` (hidden, 8 hidden), ``input_weight`` (input, 8 hidden), Glorot uniform;
    ``bias`` (8 hidden,), zero, which in the authors' code is an option. torchrecurrent has a sum
    in place of the product.

    Reference: Zoph and Le, "Neural architecture search with reinforcement learning",
    arXiv:1611.01578; TensorFlow 1, ``contrib.rnn.NASCell``.
    """

    weight: Float[Array, "hidden 8*hidden"]
    input_weight: Float[Array, "input 8*hidden"]
    bias: Float[Array, "8*hidden"]

    depth: ClassVar[int] = 4
    depths: ClassVar[Mapping[str, int]] = {"h": 1, "c": 3}
    input_biases: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[Mapping[str, Rule]] = {"weight": glorot, "input_weight": glorot, "bias": zeros}

    def remember(self, y: State, u: Float[Array, " gates"]) -> tuple[Array, Array, Any]:
        from_state = self.split(y["h"] @ self.weight + self.bias)
        from_input = self.split(u)
        z = [a + b for a, b in zip(from_state, from_input, strict=True)]
        enter = jnp.tanh(sigmoid(z[0]) * jax.nn.relu(z[1]))
        keep = jnp.tanh(sigmoid(z[2]) + jax.nn.relu(from_state[3] * from_input[3]))
        inner = jnp.tanh(jnp.tanh(z[4]) * sigmoid(z[5]))
        leave = jnp.tanh(inner + sigmoid(jnp.tanh(z[6]) + sigmoid(z[7])))
        return jnp.ones_like(keep), keep * jnp.tanh(enter + y["c"]), leave

    def expose(self, c: Float[Array, " hidden"], rest: Any) -> Float[Array, " hidden"]:
        return jnp.tanh(c * rest)


class RAN(AbstractGatedField):
    """Recurrent additive network: ``c' = -(1 - f).c + i.(C x)``, of which all see ``h = tanh(c)``.

    ``i, f = sigma(W h + V x + b)``. The memory is a weighted sum of the inputs. Order 1, as h
    follows from c; depth 2.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    (hidden, 2 hidden) and ``bias`` (2 hidden,) in the order i, f; ``input_weight`` (input,
    3 hidden) in the order i, f, C. Matrices Glorot uniform, biases zero.

    Reference: Lee, Levy, Zettlemoyer, "Recurrent additive networks", arXiv:1705.07393.
    """

    weight: Float[Array, "hidden 2*hidden"]
    input_weight: Float[Array, "input 3*hidden"]
    bias: Float[Array, "2*hidden"]

    depth: ClassVar[int] = 2
    input_biases: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[Mapping[str, Rule]] = {"weight": glorot, "input_weight": glorot, "bias": zeros}

    def output(self, y: State) -> Float[Array, " hidden"]:
        return jnp.tanh(y)

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> tuple[State, State]:
        form, content = jnp.split(u, [2 * self.hidden_size])
        enter, forget = gates(affine(jnp.tanh(y), self.weight, form, self.bias), "ss")
        return 1 - forget, enter * content


class TLSTM(AbstractMemoryField):
    """Strongly-typed LSTM: ``c' = (1 - f).(z - c)``, then ``h' = -h + o.c``.

    ``z = W x + U x_before + b``, ``f = sigma(W_f x + U_f x_before + b_f)``,
    ``o = tanh(W_o x + U_o x_before + b_o)``: gates of the present and the previous input only.
    Linear in the state: order 2, depth 0. Before the first input stands the first one again, or
    what a layer is given as ``past``: zeros are torchrecurrent's choice.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**:
    ``input_weight`` (input, 6 hidden) in the order W, W_f, W_o, U, U_f, U_o, Glorot uniform;
    ``bias`` (3 hidden,) in the order z, f, o, zero. The paper names no initial values.

    Reference: Balduzzi and Ghifary, "Strongly-typed recurrent neural networks", arXiv:1602.02218.
    """

    input_weight: Float[Array, "input 6*hidden"]
    bias: Float[Array, "3*hidden"]

    depth: ClassVar[int] = 0
    depths: ClassVar[Mapping[str, int]] = {"h": 0, "c": 0}
    samples: ClassVar[int] = 2
    input_biases: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[Mapping[str, Rule]] = {"input_weight": glorot, "bias": zeros}

    def remember(self, y: State, u: Any) -> tuple[Array, Array, Any]:
        before, now = u
        split = 3 * self.hidden_size
        candidate, forget, leave = self.split(now[:split] + before[split:] + self.bias)
        rate = 1 - sigmoid(forget)
        return rate, rate * candidate, jnp.tanh(leave)

    def expose(self, c: Float[Array, " hidden"], rest: Any) -> Float[Array, " hidden"]:
        return rest * c
