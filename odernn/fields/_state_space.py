"""State-space fields: linear in a complex state and in the input, with a real output."""

import abc
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from .._field import AbstractPartitionedField, AbstractSemilinearField
from .._initial import (
    Rule,
    between,
    by_input_size,
    by_inputs,
    by_variance,
    check_sizes,
    constant,
    normal,
    zeros,
)
from .._operator import Blocks, Diagonal
from .._results import InputError
from .._typing import Array, Float, Inexact, PRNGKeyArray, Scalar, State
from ._activation import sigmoid
from ._base import AbstractDeclaredField, affine


class AbstractStateSpaceField(AbstractDeclaredField, AbstractSemilinearField):
    """A field that is linear in its state and in ``u = E x + e``, of which the next layer sees D.u.

    The affine ``encoder`` E, e is the authors' own, in front of their layers. It is there where
    ``input_size`` is not ``hidden_size``; else it is None and u is the input.
    """

    state_size: int = eqx.field(static=True)
    encoder: Float[Array, "input hidden"] | None
    encoder_bias: Float[Array, " hidden"] | None
    feedthrough_weight: Float[Array, " hidden"]

    depth: ClassVar[int] = 0

    def _draw_all(
        self, input_size: int, hidden_size: int, state_size: int, init: str, key: PRNGKeyArray
    ) -> None:
        check_sizes(hidden_size=hidden_size, state_size=state_size)
        self.state_size = state_size
        absent = ("encoder", "encoder_bias") if input_size == hidden_size else ()
        self._draw(input_size, hidden_size, init, key, absent=absent)

    def encode(self, x: Float[Array, " input"]) -> Float[Array, " hidden"]:
        """Return u."""
        return x if self.encoder is None else affine(x, self.encoder, self.encoder_bias)

    def feedthrough(self, x: Float[Array, " input"]) -> Float[Array, " hidden"]:
        return self.feedthrough_weight * self.encode(x)


class AbstractMixingField(AbstractStateSpaceField):
    """One state for all channels: it takes in ``r.(B u)`` and puts out ``Re(C h)``.

    B and C are complex, r = ``gain()`` real.
    """

    input_weight: Float[Array, "hidden 2*state"]
    output_weight: Float[Array, "2*state hidden"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int | None = None,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        size = hidden_size if state_size is None else state_size
        self._draw_all(input_size, hidden_size, size, init, key)

    @abc.abstractmethod
    def gain(self) -> Float[Array, " state"]:
        """Return r."""

    def drive(self, x: Float[Array, " input"]) -> Inexact[Array, " state"]:
        parts = jnp.split(self.encode(x) @ self.input_weight, 2)
        return lax.complex(*(self.gain() * part for part in parts))

    def read(self, h: Inexact[Array, " state"]) -> Float[Array, " hidden"]:
        """Return ``Re(C h)``."""
        return jnp.concatenate([h.real, -h.imag]) @ self.output_weight


class AbstractDiagonalField(AbstractSemilinearField):
    """A field ``h' = lambda.h + N`` with complex ``lambda = eigenvalues()``."""

    @abc.abstractmethod
    def eigenvalues(self) -> Inexact[Array, "..."]:
        """Return lambda, in the shape of the state."""

    def linear(self) -> Diagonal:
        return Diagonal(self.eigenvalues())

    def __call__(self, time: Scalar, y: State, u: Array) -> State:
        return self.eigenvalues() * y + self.rest(time, y, u)

    def initial_state(self) -> State:
        return jnp.zeros_like(self.eigenvalues())


def _scaled_variance(scale: float) -> Rule:
    """Draw from N(0, scale/rows)."""
    return lambda key, shape, field: normal(math.sqrt(scale / shape[0]))(key, shape, field)


_LINEAR: dict[str, Rule] = {
    "encoder": by_inputs(),
    "encoder_bias": by_input_size,
    "feedthrough_weight": normal(1.0),
}
_DENSE: dict[str, Rule] = {**_LINEAR, "encoder": by_variance, "encoder_bias": zeros}
_LOG_STEP = between(math.log(0.001), math.log(0.1))


class LinOSS(AbstractMixingField, AbstractPartitionedField):
    """Forced harmonic oscillators: ``h' = delta.v``, ``v' = delta.(-A.h + B u)``, a complex state.

    ``A = relu(a)``, time scales ``delta = sigma(s)``, output ``Re(C h) + D.u``. State blocks ``h``
    and ``v``; a sequential method updates v first. Order 2, depth 0. Gauss-Seidel Euler (n = 0,
    determinant 1) is LinOSS-IMEX, IMEX Euler (contracting) LinOSS-IM, both with dt = 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``state_size``, the number of oscillators, by
    default the hidden size; ``init``; ``key``. **Parameters**: ``stiffness`` a and ``step_logit`` s
    (state,) from U(0, 1); ``input_weight`` B (hidden, 2 state), real parts, then imaginary ones,
    from U(-1/sqrt(hidden), 1/sqrt(hidden)); ``output_weight`` C (2 state, hidden) likewise from
    U(-1/sqrt(state), 1/sqrt(state)); ``feedthrough_weight`` D (hidden,) from N(0, 1). ``u = x``
    where input and hidden size are equal; else ``encoder`` (input, hidden) and ``encoder_bias``
    (hidden,), from U(-1/sqrt(input), 1/sqrt(input)). All as in the authors' code.

    Reference: Rusch, Rus, "Oscillatory State-Space Models", arXiv:2410.03943.
    """

    stiffness: Float[Array, " state"]
    step_logit: Float[Array, " state"]

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "v")
    update_order: ClassVar[tuple[str, ...]] = ("v", "h")
    depths: ClassVar[Mapping[str, int]] = {"h": 0, "v": 0}
    rules: ClassVar[Mapping[str, Rule]] = {
        **_LINEAR,
        "input_weight": by_inputs(),
        "output_weight": by_inputs(math.sqrt(2.0)),
        "stiffness": between(0.0, 1.0),
        "step_logit": between(0.0, 1.0),
    }

    def gain(self) -> Float[Array, " state"]:
        return sigmoid(self.step_logit)

    def initial_state(self) -> State:
        zero = jnp.zeros(self.state_size, self.dtype)
        return {"h": lax.complex(zero, zero), "v": lax.complex(zero, zero)}

    def output(self, y: State) -> Float[Array, " hidden"]:
        return self.read(y["h"])

    def rate(
        self, block: str, time: Scalar, y: State, frozen: Inexact[Array, " state"]
    ) -> Inexact[Array, " state"]:
        if block == "h":
            return self.gain().astype(y["v"].dtype) * y["v"]
        return frozen - self._restoring().astype(y["h"].dtype) * y["h"]

    def linear(self) -> Blocks:
        zero = jnp.zeros_like(self.stiffness)
        matrix = [[zero, self.gain()], [-self._restoring(), zero]]
        return Blocks(jnp.asarray(matrix), self.blocks)

    def rest(self, time: Scalar, y: State, u: Inexact[Array, " state"]) -> State:
        return {"h": jnp.zeros_like(y["h"]), "v": u}

    def _restoring(self) -> Float[Array, " state"]:
        return self.gain() * jax.nn.relu(self.stiffness)


def _nu(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Moduli exp(-exp(nu)) that are uniform on the ring between the radii."""
    squares = between(field.r_min**2, field.r_max**2)(key, shape, field)
    # At 0 and 1 a logarithm would be infinite.
    limits = jnp.finfo(squares.dtype)
    return jnp.log(-0.5 * jnp.log(jnp.clip(squares, float(limits.tiny), 1 - float(limits.eps))))


def _theta(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    phases = between(0.0, field.max_phase)(key, shape, field)
    return jnp.log(jnp.maximum(phases, float(jnp.finfo(phases.dtype).tiny)))


def _log_gamma(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """The gain sqrt(1 - |lambda|^2): white noise makes a state of variance one."""
    return 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(field.nu)))


class LRU(AbstractMixingField, AbstractDiagonalField):
    """Linear recurrent units: ``h' = log(lambda).h + gamma.(B u)``, a complex state.

    ``log(lambda) = -exp(nu) + i exp(theta)``, ``gamma = exp(log_gamma)``, output
    ``Re(C h) + D.u``. The input is a kick once a step: Lie-Trotter, the exact flow of the linear
    part and then an Euler step for the input, with dt = 1 is the paper's
    ``h+ = lambda.h + gamma.(B u)``, inside the unit circle by construction. Order 1, depth 0.

    **Arguments**: ``input_size``, ``hidden_size``; ``state_size``, by default the hidden size;
    ``r_min``, ``r_max`` and ``max_phase``: the eigenvalues lambda start uniformly distributed on
    that ring; ``init``; ``key``. **Parameters**: ``nu``, ``theta`` and ``log_gamma`` (state,), at
    first gamma = sqrt(1 - |lambda|^2); ``input_weight`` B (hidden, 2 state), real parts, then
    imaginary ones, from N(0, 1/(2 hidden)); ``output_weight`` C (2 state, hidden) likewise from
    N(0, 1/state); ``feedthrough_weight`` D (hidden,) from N(0, 1). ``u = x`` where input and
    hidden size are equal; else ``encoder`` (input, hidden) from N(0, 1/input) and
    ``encoder_bias`` (hidden,), zero. Raises ``InputError`` unless
    0 <= r_min < r_max <= 1 and max_phase > 0.

    Reference: Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De, "Resurrecting Recurrent Neural
    Networks for Long Sequences", arXiv:2303.06349.
    """

    r_min: float = eqx.field(static=True)
    r_max: float = eqx.field(static=True)
    max_phase: float = eqx.field(static=True)
    nu: Float[Array, " state"]
    theta: Float[Array, " state"]
    log_gamma: Float[Array, " state"]

    rules: ClassVar[Mapping[str, Rule]] = {
        **_DENSE,
        "input_weight": _scaled_variance(0.5),
        "output_weight": _scaled_variance(2.0),
        "nu": _nu,
        "theta": _theta,
        "log_gamma": _log_gamma,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int | None = None,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 6.28,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        if not 0 <= r_min < r_max <= 1:
            raise InputError(f"r_min = {r_min!r}, r_max = {r_max!r}: give 0 <= r_min < r_max <= 1.")
        if not max_phase > 0:
            raise InputError(f"max_phase = {max_phase!r}: give a positive angle, in radians.")
        self.r_min, self.r_max, self.max_phase = float(r_min), float(r_max), float(max_phase)
        size = hidden_size if state_size is None else state_size
        self._draw_all(input_size, hidden_size, size, init, key)

    def gain(self) -> Float[Array, " state"]:
        return jnp.exp(self.log_gamma)

    def eigenvalues(self) -> Inexact[Array, " state"]:
        return lax.complex(-jnp.exp(self.nu), jnp.exp(self.theta))

    def rest(self, time: Scalar, y: State, u: Inexact[Array, " state"]) -> State:
        return u

    def output(self, y: State) -> Float[Array, " hidden"]:
        return self.read(y)


def _hippo_frequencies(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Imaginary parts of the eigenvalues of HiPPO-LegS made normal, one of each conjugate pair."""
    root = jnp.sqrt(2 * jnp.arange(2 * shape[0], dtype=jnp.result_type(float)) + 1)
    lower = jnp.tril(jnp.outer(root, root), -1) / 2
    # The normal matrix is -1/2 - (lower - lower^T), so that i times it less the -1/2 is Hermitian.
    hermitian = lax.complex(jnp.zeros_like(lower), lower - lower.T)
    return jnp.linalg.eigvalsh(hermitian)[: shape[0]]


class S5(AbstractMixingField, AbstractDiagonalField):
    """Simplified state space: ``h' = e^{log_step}.(Lambda.h + B u)``, a complex state.

    ``Lambda = real + i imaginary``; each component stands for a conjugate pair, so that the
    output is ``2 Re(C h) + D.u``. Order 1, depth 0. With dt = 1 exponential Euler is the authors'
    zero-order hold and the implicit midpoint rule their bilinear discretisation.

    **Arguments**: ``input_size``, ``hidden_size``; ``state_size``, the number of pairs (half of
    the authors' state size), by default the hidden size; ``init``; ``key``. **Parameters**:
    ``real`` (state,), -1/2, and ``imaginary`` (state,), at first the eigenvalues of the normal
    part of HiPPO-LegS; neither is constrained, as in the authors' code; ``log_step`` (state,),
    uniform between log 0.001 and log 0.1; ``input_weight`` B (hidden, 2 state), real parts, then
    imaginary ones, from N(0, 1/(4 state)), and ``output_weight`` C (2 state, hidden) likewise from
    N(0, 1/(2 state)): the distributions of the authors' ``V^-1 B`` and ``C V``, V being unitary;
    ``feedthrough_weight`` D (hidden,) from N(0, 1). ``u = x`` where input and hidden size are
    equal; else ``encoder`` (input, hidden) from N(0, 1/input), ``encoder_bias`` (hidden,), zero.

    Reference: Smith, Warrington, Linderman, "Simplified State Space Layers for Sequence Modeling",
    arXiv:2208.04933.
    """

    real: Float[Array, " state"]
    imaginary: Float[Array, " state"]
    log_step: Float[Array, " state"]

    rules: ClassVar[Mapping[str, Rule]] = {
        **_DENSE,
        "input_weight": lambda key, shape, field: normal((2 * shape[1]) ** -0.5)(key, shape, field),
        "output_weight": by_variance,
        "real": constant(-0.5),
        "imaginary": _hippo_frequencies,
        "log_step": _LOG_STEP,
    }

    def gain(self) -> Float[Array, " state"]:
        return jnp.exp(self.log_step)

    def eigenvalues(self) -> Inexact[Array, " state"]:
        return lax.complex(self.gain() * self.real, self.gain() * self.imaginary)

    def rest(self, time: Scalar, y: State, u: Inexact[Array, " state"]) -> State:
        return u

    def output(self, y: State) -> Float[Array, " hidden"]:
        return 2 * self.read(y)


def _linear_poles(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    decay = jnp.full(shape[1:], math.log(0.5), jnp.result_type(float))
    frequency = math.pi * jnp.arange(shape[2], dtype=decay.dtype)
    return jnp.stack([decay, jnp.broadcast_to(frequency, shape[1:])])


class S4D(AbstractStateSpaceField, AbstractDiagonalField):
    """Diagonal state space: ``h_c' = e^{log_step_c} (A_c.h_c + u_c)`` for each channel c by itself.

    ``A = -e^{poles[0]} + i poles[1]``; each of the N/2 complex components of a channel stands for a
    conjugate pair, so that the output is ``2 Re(sum_n C_cn h_cn) + D_c u_c``. State (hidden, N/2):
    order N/2, depth 0. Exponential Euler with dt = 1 is the authors' zero-order hold.

    **Arguments**: ``input_size``, ``hidden_size``; ``state_size``, the even number N; ``init``;
    ``key``. **Parameters**: ``poles`` (2, hidden, N/2), at first A = -1/2 + i pi n (S4D-Lin);
    ``output_weight`` C (2, hidden, N/2), real parts, then imaginary ones, from N(0, 1/2), which
    contains B; ``log_step`` (hidden,), uniform between log 0.001 and log 0.1;
    ``feedthrough_weight`` D (hidden,) from N(0, 1). ``u = x`` where input and hidden size are
    equal; else ``encoder`` (input, hidden) and ``encoder_bias`` (hidden,), from
    U(-1/sqrt(input), 1/sqrt(input)). Raises ``InputError`` if ``state_size`` is odd.

    Reference: Gu, Gupta, Goel, Re, "On the Parameterization and Initialization of Diagonal State
    Space Models", arXiv:2206.11893.
    """

    poles: Float[Array, "2 hidden pairs"]
    output_weight: Float[Array, "2 hidden pairs"]
    log_step: Float[Array, " hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {
        **_LINEAR,
        "poles": _linear_poles,
        "output_weight": normal(math.sqrt(0.5)),
        "log_step": _LOG_STEP,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int = 64,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        check_sizes(state_size=state_size)
        if state_size % 2:
            raise InputError(f"state_size = {state_size}: give an even number, of conjugate pairs.")
        self._draw_all(input_size, hidden_size, state_size, init, key)

    @property
    def pairs_size(self) -> int:
        """Number of conjugate pairs of a channel."""
        return self.state_size // 2

    @property
    def order(self) -> int:
        return self.pairs_size

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " hidden"]:
        return jnp.exp(self.log_step) * self.encode(x)

    def eigenvalues(self) -> Inexact[Array, "hidden pairs"]:
        step = jnp.exp(self.log_step)[:, None]
        return lax.complex(-step * jnp.exp(self.poles[0]), step * self.poles[1])

    def rest(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return jnp.broadcast_to(u.astype(y.dtype)[:, None], y.shape)

    def output(self, y: State) -> Float[Array, " hidden"]:
        real, imaginary = self.output_weight
        return 2 * jnp.sum(y.real * real - y.imag * imaginary, axis=-1)
