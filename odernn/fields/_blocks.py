"""Networks of two blocks side by side: contexts, momenta, oscillators, two outputs."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractPartitionedField
from .._initial import Rule, between, by_block, by_inputs, check_sizes, glorot, normal, zeros
from .._results import InputError
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import gates, sigmoid
from ._base import AbstractAffineField, AbstractDeclaredField, affine


class SCRN(AbstractDeclaredField, AbstractPartitionedField):
    """A slow context beside a hidden state: ``s' = (1 - alpha).(B x - s)``, ``h' = -h + sigma(z)``.

    ``z = P s + A x + R h``, with the context as it is then, and ``U h + S s`` is what the next
    layer sees. Order 2, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``context_size``, as many units by default;
    ``alpha`` in [0, 1), fixed; ``init``; ``key``. **Parameters**: ``weight`` R (hidden, hidden),
    ``input_weight`` A (input, hidden); ``context_weight`` P (context, hidden),
    ``context_input_weight`` B (input, context); ``output_weight`` U (hidden, hidden),
    ``context_output_weight`` S (context, hidden). All from N(0, 0.05^2), as in the authors' code,
    where U and S begin at zero and z reads the context before it is updated: ``method=Euler()``.
    torchrecurrent feeds back the outputs in place of h.

    Reference: Mikolov, Joulin, Chopra, Mathieu, Ranzato, arXiv:1412.7753.
    """

    context_size: int = eqx.field(static=True)
    alpha: float = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    context_weight: Float[Array, "context hidden"]
    context_input_weight: Float[Array, "input context"]
    output_weight: Float[Array, "hidden hidden"]
    context_output_weight: Float[Array, "context hidden"]

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "s")
    update_order: ClassVar[tuple[str, ...]] = ("s", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 1, "s": 0}
    rules: ClassVar[Mapping[str, Rule]] = dict.fromkeys(
        (
            *("weight", "input_weight", "context_weight", "context_input_weight"),
            *("output_weight", "context_output_weight"),
        ),
        normal(0.05),
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        context_size: int | None = None,
        alpha: float = 0.95,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.context_size = hidden_size if context_size is None else context_size
        check_sizes(context_size=self.context_size)
        if not 0 <= alpha < 1:
            raise InputError(f"alpha = {alpha!r}: give the share of the context that is kept.")
        self.alpha = float(alpha)
        self._draw(input_size, hidden_size, init, key)

    def initial_state(self) -> State:
        sizes = {"h": self.hidden_size, "s": self.context_size}
        return {block: jnp.zeros(size, self.dtype) for block, size in sizes.items()}

    def output(self, y: State) -> Float[Array, " hidden"]:
        return y["h"] @ self.output_weight + y["s"] @ self.context_output_weight

    def drive(self, x: Float[Array, " input"]) -> tuple[Array, Array]:
        return x @ self.input_weight, x @ self.context_input_weight

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, "..."]:
        form, context = frozen
        if block == "s":
            return (1 - self.alpha) * (context - y["s"])
        return sigmoid(affine(y["h"], self.weight, form, y["s"] @ self.context_weight)) - y["h"]


class IntersectionRNN(AbstractDeclaredField, AbstractPartitionedField):
    """Gates through time and depth: ``h' = (1 - p).(g - h)``, ``y' = -y + q.x + (1 - q).d``.

    ``p, q = sigma(W h + V x + b)``, ``g = tanh(W_g h + V_g x + b_g)``, ``d = relu(W_d h + V_d x +
    b_d)``, frozen at the start of a step. The next layer sees y, which the step itself never
    reads. Where ``input_size`` is not ``hidden_size``, x is an affine map of the input, as the
    authors have it in front of their first layer. Order 2, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight``
    and ``input_weight`` (hidden, 4 hidden) in the order d, g, q, p, Glorot uniform, and ``bias``
    (4 hidden,), zero and 1 for q, p; ``encoder`` (input, hidden), Glorot uniform, and
    ``encoder_bias`` (hidden,), zero, or both None.

    Reference: Collins, Sohl-Dickstein, Sussillo, arXiv:1611.09913.
    """

    weight: Float[Array, "hidden 4*hidden"]
    input_weight: Float[Array, "hidden 4*hidden"]
    bias: Float[Array, "4*hidden"]
    encoder: Float[Array, "input hidden"] | None
    encoder_bias: Float[Array, " hidden"] | None

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("y", "h")
    update_order: ClassVar[tuple[str, ...]] = ("h", "y")
    depths: ClassVar[Mapping[str, int]] = {"y": 1, "h": 1}
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": glorot,
        "input_weight": glorot,
        "bias": by_block(0.0, 0.0, 1.0, 1.0),
        "encoder": glorot,
        "encoder_bias": zeros,
    }

    def __init__(
        self, input_size: int, hidden_size: int, *, init: str = "official", key: PRNGKeyArray
    ):
        absent = ("encoder", "encoder_bias") if input_size == hidden_size else ()
        self._draw(input_size, hidden_size, init, key, absent=absent)

    def drive(self, x: Float[Array, " input"]) -> tuple[Array, Array]:
        x = x if self.encoder is None else affine(x, self.encoder, self.encoder_bias)
        return x, affine(x, self.input_weight, self.bias)

    def freeze(self, time: Scalar, y: State, u: tuple[Array, Array]) -> Any:
        x, form = u
        deep, candidate, through, keep = self.split(y["h"] @ self.weight + form)
        through, keep = gates(jnp.concatenate([through, keep]), "ss")
        shown = through * x + (1 - through) * jax.nn.relu(deep)
        return shown, 1 - keep, jnp.tanh(candidate)

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, " hidden"]:
        shown, rate, candidate = frozen
        return shown - y["y"] if block == "y" else rate * (candidate - y["h"])


def _orthonormal(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Draw a matrix with orthonormal rows, or columns if these are fewer."""
    rows, columns = shape
    square = jax.random.orthogonal(key, max(shape), dtype=jnp.result_type(float))
    return square[:rows, :columns]


def _identity(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    return jnp.eye(*shape, dtype=jnp.result_type(float))


class MomentumRNN(AbstractAffineField, AbstractPartitionedField):
    """Inputs with momentum: ``v' = -(1 - mu) v + s V x``, then ``h' = -h + tanh(W h + v + b)``.

    Heavy-ball momentum, as in gradient descent; s is ``scale``. Order 2, depth 1. With ``mu = 0``
    and ``scale = 1`` it is the Elman network.

    **Arguments**: ``input_size``, ``hidden_size``; ``mu`` in [0, 1) and ``scale``, both fixed;
    ``init``; ``key``. **Parameters**: ``weight`` W (hidden, hidden), the identity at first,
    ``input_weight`` V (input, hidden), orthonormal, ``bias`` (hidden,), zero, as in the authors'
    code of the momentum LSTM.

    Reference: Nguyen, Baraniuk, Bertozzi, Osher, Wang, "MomentumRNN", arXiv:2006.06919.
    """

    mu: float = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "v")
    update_order: ClassVar[tuple[str, ...]] = ("v", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 1, "v": 0}
    input_biases: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": _identity,
        "input_weight": _orthonormal,
        "bias": zeros,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        mu: float = 0.9,
        scale: float = 0.1,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        if not 0 <= mu < 1:
            raise InputError(f"mu = {mu!r}: give the share of the momentum that is kept.")
        self.mu, self.scale = float(mu), float(scale)
        self._draw(input_size, hidden_size, init, key)

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, " hidden"]:
        if block == "v":
            return self.scale * frozen - (1 - self.mu) * y["v"]
        return jnp.tanh(affine(y["h"], self.weight, y["v"], self.bias)) - y["h"]


class UnICORNN(AbstractAffineField, AbstractPartitionedField):
    """Undamped oscillators: ``h' = s.v``, ``v' = -s.(tanh(w.h + V x + b) + alpha h)``.

    The units are not connected, and each has a time scale ``s = sigma(c)`` of its own; a sequential
    method updates v first. Order 2, depth 1; Hamiltonian while the input is held. With Gauss-Seidel
    (symplectic) Euler it is one layer of the authors' network, whose steps can be undone:
    ``unroll=Reversible()``.

    **Arguments**: ``input_size``, ``hidden_size``; ``alpha`` >= 0, the part of the squared
    frequency that is fixed (default: the authors' for permuted MNIST, with dt = 0.19); ``init``;
    ``key``. **Parameters**: ``weight`` w (hidden,) from U(0, 1), ``time_scale`` c (hidden,) from
    U(-0.1, 0.1), ``input_weight`` (input, hidden) from U(-k, k) with k = sqrt(6/(65 input)),
    ``bias`` (hidden,), zero, as in the authors' code.

    Reference: Rusch, Mishra, "UnICORNN", arXiv:2103.05487.
    """

    alpha: float = eqx.field(static=True)
    weight: Float[Array, " hidden"]
    time_scale: Float[Array, " hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "v")
    update_order: ClassVar[tuple[str, ...]] = ("v", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 0, "v": 1}
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": between(0.0, 1.0),
        "time_scale": between(-0.1, 0.1),
        "input_weight": by_inputs((6 / 65) ** 0.5),
        "bias": zeros,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        alpha: float = 30.65,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        if not alpha >= 0:
            raise InputError(f"alpha = {alpha!r}: a squared frequency is not negative.")
        self.alpha = float(alpha)
        self._draw(input_size, hidden_size, init, key)

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, " hidden"]:
        speed = sigmoid(self.time_scale)
        if block == "h":
            return speed * y["v"]
        return -speed * (jnp.tanh(self.weight * y["h"] + frozen) + self.alpha * y["h"])
