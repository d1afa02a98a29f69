"""Units whose gates read the input only (n = 0), and one that reads a delayed state."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractRelaxationField
from .._initial import Rule, by_inputs, check_sizes, uniform
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import activation, gates, sigmoid
from ._base import AbstractDeclaredField, AbstractGatedField, affine


def _by_input(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Draw a bias as the weights of an affine map of the input."""
    return uniform(key, shape, field.input_size**-0.5)


class AbstractInputGatedField(AbstractDeclaredField, AbstractRelaxationField):
    """Rates of the input only: ``h' = b(x) - a(x).h``, linear in the state.

    ``drive(x)`` returns a and b, outside the loop over time. Order 1, depth 0.
    """

    depth: ClassVar[int] = 0

    @abc.abstractmethod
    def drive(self, x: Float[Array, " input"]) -> tuple[Array, Array]:
        """Return the rates a and the drives b."""

    def relaxation(self, time: Scalar, y: State, u: tuple[Array, Array]) -> tuple[State, State]:
        return u

    def __call__(self, time: Scalar, y: State, u: tuple[Array, Array]) -> State:
        rate, drive = u
        return drive - rate * y


class InputGated(AbstractInputGatedField):
    """A gate of the input only: ``h' = z.(g - h)``, ``z = sigma(V_z x + b_z)``, ``g = V x + b``.

    Order 1, depth 0. With Euler and dt = 1 it is the minGRU, and the strongly-typed T-RNN with
    ``1 - f`` for z.

    **Arguments**: ``input_size``, ``hidden_size``; ``activation`` of g; ``init``; ``key``.
    **Parameters**, packed in the order z, g: ``input_weight`` (input, 2 hidden), ``bias``
    (2 hidden,), from U(-1/sqrt(input), 1/sqrt(input)), as in the authors' code.

    The minGRU's code, which computes in the logarithms, takes
    ``g = a + 1/2 where a >= 0, else sigma(a)`` of ``a = V x + b``.

    Reference: Feng et al., arXiv:2410.01201; Balduzzi, Ghifary, arXiv:1602.02218.
    """

    activation: str = eqx.field(static=True)
    input_weight: Float[Array, "input 2*hidden"]
    bias: Float[Array, "2*hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {"input_weight": by_inputs(), "bias": _by_input}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "identity",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.activation = activation
        self._draw(input_size, hidden_size, init, key)

    def __check_init__(self):
        activation(self.activation)

    def drive(self, x: Float[Array, " input"]) -> tuple[Array, Array]:
        form, candidate = self.split(affine(x, self.input_weight, self.bias))
        rate = sigmoid(form)
        return rate, rate * activation(self.activation)(candidate)


class MinLSTM(AbstractInputGatedField):
    """Two gates of the input only, scaled to sum to one: ``h' = i/(f + i).(g - h)``.

    ``f, i = sigma(V x + b)``, ``g = V_g x + b_g``. Order 1, depth 0.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**, packed in
    the order f, i, g: ``input_weight`` (input, 3 hidden), ``bias`` (3 hidden,), from
    U(-1/sqrt(input), 1/sqrt(input)), as in the authors' code.

    Reference: Feng et al., arXiv:2410.01201.
    """

    input_weight: Float[Array, "input 3*hidden"]
    bias: Float[Array, "3*hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {"input_weight": by_inputs(), "bias": _by_input}

    def drive(self, x: Float[Array, " input"]) -> tuple[Array, Array]:
        forget, enter, candidate = self.split(affine(x, self.input_weight, self.bias))
        # The quotient itself would be 0/0 where both gates are closed.
        rate = sigmoid(jax.nn.log_sigmoid(enter) - jax.nn.log_sigmoid(forget))
        return rate, rate * candidate


class TGRU(AbstractGatedField):
    """Gates of the last two inputs: ``h' = p.tanh(o) - (1 - sigma(f)).h``.

    ``p, f, o = V x_k + W x_{k-1} + b``. Order 1, depth 0. The authors begin with an input of zeros
    before the first (``past`` of a layer); without it the first stands for it.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**:
    ``input_weight`` (input, 6 hidden) in the order p, f, o of the present, then of the previous
    input, ``bias`` (3 hidden,); all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Balduzzi, Ghifary, arXiv:1602.02218.
    """

    input_weight: Float[Array, "input 6*hidden"]
    bias: Float[Array, "3*hidden"]

    depth: ClassVar[int] = 0
    samples: ClassVar[int] = 2
    input_biases: ClassVar[tuple[str, ...]] = ()

    def relaxation(self, time: Scalar, y: State, u: tuple[Array, Array]) -> tuple[State, State]:
        before, now = u
        size, split = self.hidden_size, 3 * self.hidden_size
        forms = now[:split] + before[split:] + self.bias
        keep, out = gates(forms[size:], "st")
        return 1 - keep, forms[:size] * out


class MinimalRNN(AbstractDeclaredField, AbstractRelaxationField):
    """A content of the input that also moves the gate: ``h' = (1 - k).(z - h)``.

    ``z = tanh(V x + b)``, ``k = sigma(W h + U z + d)``. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``init``; ``key``. **Parameters**: ``weight`` W
    and ``content_weight`` U (hidden, hidden), ``input_weight`` (input, hidden), ``bias`` b and
    ``gate_bias`` d (hidden,); all from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Reference: Chen, arXiv:1711.06788.
    """

    weight: Float[Array, "hidden hidden"]
    content_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]
    gate_bias: Float[Array, " hidden"]

    def drive(self, x: Float[Array, " input"]) -> tuple[Array, Array]:
        content = jnp.tanh(affine(x, self.input_weight, self.bias))
        return content, affine(content, self.content_weight, self.gate_bias)

    def relaxation(self, time: Scalar, y: State, u: tuple[Array, Array]) -> tuple[State, State]:
        content, form = u
        rate = 1 - sigmoid(y @ self.weight + form)
        return rate, rate * content

    def __call__(self, time: Scalar, y: State, u: tuple[Array, Array]) -> State:
        rate, drive = self.relaxation(time, y, u)
        return drive - rate * y


class TauGRU(AbstractGatedField):
    """Weighted delayed feedback: ``h' = g.(p + a.q - h)``, where q sees the state of ``delay`` ago.

    ``p = tanh(W_p h + V_p x + b_p)``, ``q = tanh(W_q h(s - delay) + V_q x + b_q)``,
    ``g, a = sigma(W h + V x + b)``. The state is (1 + delay, hidden), the past behind the present:
    ``h_j' = h_{j-1} - h_j``, which Euler with dt = 1 makes a shift, so that it is a delay of
    ``delay`` steps; in continuous time it is a chain of lags. Order 1 + delay, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``delay``, at least 1; ``init``; ``key``.
    **Parameters**: ``weight`` (hidden, 3 hidden) in the order p, g, a, ``delayed_weight`` W_q
    (hidden, hidden), ``input_weight`` (input, 4 hidden) and ``bias`` (4 hidden,) in the order p, g,
    a, q; all from U(-1/sqrt(hidden), 1/sqrt(hidden)), as in the authors' code.

    An early code of the authors delays the state and the input in a, and the input in q, too.

    Reference: Erichson, Lim, Mahoney, arXiv:2212.00228.
    """

    delay: int = eqx.field(static=True)
    weight: Float[Array, "hidden 3*hidden"]
    delayed_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input 4*hidden"]
    bias: Float[Array, "4*hidden"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        delay: int = 1,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        check_sizes(delay=delay)
        self.delay = delay
        self._draw(input_size, hidden_size, init, key)

    @property
    def order(self) -> int:
        return 1 + self.delay

    def initial_state(self) -> State:
        return jnp.zeros((1 + self.delay, self.hidden_size), self.dtype)

    def output(self, y: State) -> Float[Array, " hidden"]:
        return y[0]

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> tuple[State, State]:
        forms = jnp.concatenate([y[0] @ self.weight, y[-1] @ self.delayed_weight]) + u
        now, rate, weight, past = gates(forms, "tsst")
        rates = jnp.concatenate([rate[None], jnp.ones_like(y[1:])])
        return rates, jnp.concatenate([(rate * (now + weight * past))[None], y[:-1]])
