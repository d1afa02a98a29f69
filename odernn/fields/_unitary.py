"""Fields whose linear part is a rotation: the exponential, Cayley and factored unitary networks."""

import abc
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._field import AbstractSplitField
from .._initial import Rule, between, glorot, normal, uniform, zeros
from .._operator import Dense, Skew
from .._results import InputError, unknown_name
from .._typing import Array, Float, Inexact, PRNGKeyArray, Scalar, State
from ._activation import modrelu
from ._base import AbstractDeclaredField, times

_small = between(-0.01, 0.01)


def _kaiming(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw from N(0, 2/rows)."""
    return normal((2 / shape[0]) ** 0.5)(key, shape, field)


def _start(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw from U(-b, b) with b = sqrt(3/hidden): a state of norm about one."""
    return uniform(key, shape, math.sqrt(3 / field.hidden_size))


def _henaff(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    return uniform(key, shape, math.pi)


def _cayley(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    turn = jax.random.uniform(key, shape, jnp.result_type(float), 0.0, math.pi / 2)
    return -jnp.sqrt((1 - jnp.cos(turn)) / (1 + jnp.cos(turn)))


ANGLES = {"henaff": _henaff, "cayley": _cayley}
"""Rates at which pairs of units turn at first, by name."""


def _pairs(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw a matrix that turns the units 1 and 2, 3 and 4, ...: every other superdiagonal entry."""
    pairs = shape[0] // 2
    first = 2 * np.arange(pairs)
    angles = ANGLES[field.angles](key, (pairs,))
    return jnp.zeros(shape, angles.dtype).at[first, first + 1].set(angles)


def _logarithm(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw M with exp(M - M^H) uniform among the unitary matrices."""
    matrix = lax.complex(*jax.random.normal(key, shape, jnp.result_type(float)))
    left, _, right = jnp.linalg.svd(matrix)
    unitary = left @ right
    # Its eigenvectors are those of its Hermitian part.
    _, vectors = jnp.linalg.eigh(0.5 * (unitary + unitary.conj().T))
    angles = jnp.angle(jnp.sum(vectors.conj() * (unitary @ vectors), axis=0))
    half = (vectors * lax.complex(jnp.zeros_like(angles), 0.5 * angles)) @ vectors.conj().T
    return jnp.stack([half.real, half.imag])


def _direction(z: Inexact[Array, " units"]) -> Inexact[Array, " units"]:
    """Return ``z/|z|``, zero where z is."""
    zero = z == 0
    safe = jnp.where(zero, jnp.ones_like(z), z)
    return jnp.where(zero, jnp.zeros_like(z), safe / jnp.abs(safe).astype(z.dtype))


class AbstractUnitaryField(AbstractDeclaredField, AbstractSplitField):
    """A rotation, an input, a threshold: ``h' = A h + V x + b.h/|h|`` with A skew-Hermitian.

    Three parts: "rotation", "input" and "shrink", which moves each unit's modulus at the speed b
    (at the origin it stays there). Each is followed by its exact flow, so that Lie and Trotter's
    splitting with dt = 1 is ``h+ = modReLU(W h + V x)`` with W = exp(A) and ``modReLU(z) = z
    relu(|z| + b)/|z|``. A subclass says how the rotation depends on its parameters: by
    ``rotation`` (the rate) and ``rotate`` (the flow). Order 1, depth 1.
    """

    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " units"]

    epsilon: eqx.AbstractVar[float]

    parts: ClassVar[tuple[str, ...]] = ("rotation", "input", "shrink")
    part_depths: ClassVar[Mapping[str, int]] = {"rotation": 0, "input": 0, "shrink": 1}
    irreversible: ClassVar[tuple[str, ...]] = ("shrink",)

    @property
    @abc.abstractmethod
    def units_size(self) -> int:
        """Number of units, real or complex."""

    @abc.abstractmethod
    def rotation(self, y: Inexact[Array, " units"]) -> Inexact[Array, " units"]:
        """Return ``A y``."""

    @abc.abstractmethod
    def rotate(self, y: Inexact[Array, " units"], dt: Scalar) -> Inexact[Array, " units"]:
        """Return ``exp(dt A) y``."""

    def __call__(self, time: Scalar, y: State, u: Inexact[Array, " units"]) -> State:
        return self.rotation(y) + u + self.bias.astype(y.dtype) * _direction(y)

    def part(self, name: str, time: Scalar, y: State, u: Inexact[Array, " units"]) -> State:
        if name == "rotation":
            return self.rotation(y)
        return u if name == "input" else self.bias.astype(y.dtype) * _direction(y)

    def flow(
        self, name: str, time: Scalar, y: State, u: Inexact[Array, " units"], dt: Scalar
    ) -> State:
        if name == "rotation":
            return self.rotate(y, dt)
        if name == "input":
            return y + times(dt, u)
        return modrelu(y, times(dt, self.bias), self.epsilon)


class AbstractOrthogonalField(AbstractUnitaryField):
    """A real state, turned by a skew matrix: the upper triangle of ``weight`` minus its transpose.

    It turns pairs of units at first, by ``angles``: "henaff", rates from U(-pi, pi), or "cayley",
    ``-sqrt((1 - cos t)/(1 + cos t))`` with t from U(0, pi/2).
    """

    weight: Float[Array, "hidden hidden"]

    angles: eqx.AbstractVar[str]

    epsilon: ClassVar[float] = 0.0

    @property
    def units_size(self) -> int:
        return self.hidden_size

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " hidden"]:
        return x @ self.input_weight


class Orthogonal(AbstractOrthogonalField):
    """Real rotation by an exponential: ``h' = h (S - S^T) + V x + b.h/|h|``, S upper triangular.

    Lie and Trotter's splitting with dt = 1 is the expRNN. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``angles``, how fast pairs of units turn at
    first: "henaff" or "cayley"; ``init``; ``key``. **Parameters**: ``weight`` (hidden, hidden), of
    which the strict upper triangle is S, with ``angles`` on every other superdiagonal entry;
    ``input_weight`` (input, hidden) from N(0, 2/input); ``bias`` (hidden,), the thresholds, from
    U(-0.01, 0.01). There is no bias of the input.

    Reference: Lezcano-Casado and Martinez-Rubio, "Cheap Orthogonal Constraints in Neural Networks",
    arXiv:1901.08428.
    """

    angles: str = eqx.field(static=True)

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": _pairs,
        "input_weight": _kaiming,
        "bias": _small,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        angles: str = "henaff",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.angles = _known(angles)
        self._draw(input_size, hidden_size, init, key)

    def rotation(self, y: Float[Array, " hidden"]) -> Float[Array, " hidden"]:
        return Skew(jnp.triu(self.weight, 1)).apply(y)

    def rotate(self, y: Float[Array, " hidden"], dt: Scalar) -> Float[Array, " hidden"]:
        return Skew(jnp.triu(self.weight, 1)).exponential(dt).apply(y)


class CayleyOrthogonal(AbstractOrthogonalField):
    """Real rotation by a Cayley map: ``h' = -2 h (S - S^T) + V x + b.h/|h|``, S upper triangular.

    The rotation is followed by the implicit midpoint rule, ``h+ = h (I + dt A)^-1 (I - dt A)`` with
    A = S - S^T, and then multiplied by D, a fixed diagonal of +-1. D is a jump, whatever dt; it
    brings in what no Cayley map reaches (eigenvalues near -1). Lie and Trotter's splitting with
    dt = 1 is the scoRNN. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``negative``, how many entries of D are -1, the
    last ones; ``angles``, "cayley" or "henaff"; ``init``; ``key``. **Parameters**: ``weight``
    (hidden, hidden), of which the strict upper triangle is S, with ``angles`` on every other
    superdiagonal entry; ``input_weight`` (input, hidden) from U(-0.01, 0.01); ``bias`` (hidden,),
    the thresholds, zero. There is no bias of the input.

    Reference: Helfrich, Willmott, Ye, "Orthogonal Recurrent Neural Networks with Scaled Cayley
    Transform", arXiv:1707.09520.
    """

    negative: int = eqx.field(static=True)
    angles: str = eqx.field(static=True)

    rules: ClassVar[Mapping[str, Rule]] = {"weight": _pairs, "input_weight": _small, "bias": zeros}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        negative: int = 0,
        angles: str = "cayley",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.negative, self.angles = negative, _known(angles)
        self._draw(input_size, hidden_size, init, key)
        whole = isinstance(negative, int) and not isinstance(negative, bool)
        if not (whole and 0 <= negative <= hidden_size):
            raise InputError(
                f"negative = {negative!r}: give how many of the {hidden_size} entries of D are -1."
            )

    def rotation(self, y: Float[Array, " hidden"]) -> Float[Array, " hidden"]:
        return -2 * Skew(jnp.triu(self.weight, 1)).apply(y)

    def rotate(self, y: Float[Array, " hidden"], dt: Scalar) -> Float[Array, " hidden"]:
        upper = times(dt, jnp.triu(self.weight, 1))
        skew, one = upper - upper.T, jnp.eye(self.hidden_size, dtype=upper.dtype)
        signs = np.where(np.arange(self.hidden_size) < self.hidden_size - self.negative, 1, -1)
        matrix = jnp.linalg.solve(one + skew, one - skew) * signs.astype(upper.dtype)
        return Dense(matrix).apply(y)


class AbstractComplexUnitaryField(AbstractUnitaryField):
    """A complex state of hidden_size/2 units, of which the next layer sees real and imaginary part.

    It starts from a vector that is trained. ``input_weight`` and ``start`` have the real parts
    first, then the imaginary ones.
    """

    start: Float[Array, " hidden"]

    @property
    def units_size(self) -> int:
        if self.hidden_size % 2:
            raise InputError(
                f"hidden_size = {self.hidden_size}: give an even number, the next layer sees real "
                "and imaginary part of every unit."
            )
        return self.hidden_size // 2

    def drive(self, x: Float[Array, " input"]) -> Inexact[Array, " units"]:
        return lax.complex(*jnp.split(x @ self.input_weight, 2))

    def initial_state(self) -> Inexact[Array, " units"]:
        return lax.complex(*jnp.split(self.start, 2))

    def output(self, y: State) -> Float[Array, " hidden"]:
        return jnp.concatenate([y.real, y.imag])


class Unitary(AbstractComplexUnitaryField):
    """Complex rotation by any unitary matrix: ``h' = h (M - M^H) + V x + b.h/|h|``, h complex.

    The exponentials of skew-Hermitian matrices are all unitary matrices: W = exp(M - M^H) has full
    capacity. Lie and Trotter's splitting with dt = 1 is the full-capacity uRNN. Order 1, depth 1.
    The authors train W itself, by steps that keep it unitary: their W is had by a logarithm,
    ``M = log(W)/2``. Their code also rounds the modulus off, |z| as sqrt(|z|^2 + 1e-5) and 1e-5 in
    the denominator; this is the equation of the paper.

    **Arguments**: ``input_size``; ``hidden_size``, twice the number of complex units; ``init``;
    ``key``. **Parameters**, with real parts first: ``weight`` M (2, units, units), such that W is
    uniform among the unitary matrices (as far as the eigenvalues of its Hermitian part differ);
    ``input_weight`` (input, hidden), Glorot's uniform; ``bias`` (units,), the thresholds, from
    U(-0.01, 0.01); ``start`` (hidden,), the state before the first step, from
    U(-sqrt(3/hidden), sqrt(3/hidden)).

    Reference: Wisdom, Powers, Hershey, Le Roux, Atlas, "Full-Capacity Unitary Recurrent Neural
    Networks", arXiv:1611.00035.
    """

    weight: Float[Array, "2 units units"]

    epsilon: ClassVar[float] = 0.0
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": _logarithm,
        "input_weight": glorot,
        "bias": _small,
        "start": _start,
    }

    def rotation(self, y: Inexact[Array, " units"]) -> Inexact[Array, " units"]:
        return Skew(lax.complex(*self.weight)).apply(y)

    def rotate(self, y: Inexact[Array, " units"], dt: Scalar) -> Inexact[Array, " units"]:
        return Skew(lax.complex(*self.weight)).exponential(dt).apply(y)


class FactoredUnitary(AbstractComplexUnitaryField):
    """Complex rotation by cheap factors: ``W = D_3 R_2 F^-1 D_2 P R_1 F D_1``, of O(units) numbers.

    D_k are phases exp(i dt theta_k), R_k reflections ``h + (exp(i pi dt) - 1) conj(v) (v^T h)/
    |v|^2``: flows, at dt = 1 the authors' factors. The Fourier transform F and the permutation P
    are jumps, whatever dt. No rate has this flow: as a rate the rotation is its step ``W h - h``.
    The modReLU is the authors', ``z relu(|z| + b)/(|z| + epsilon)``. Lie and Trotter's splitting
    with dt = 1 is the uRNN. Order 1, depth 1. A step costs O(units log units).

    **Arguments**: ``input_size``; ``hidden_size``, twice the number of complex units; ``epsilon``;
    ``seed`` of the permutation, which is not stored; ``init``; ``key``. **Parameters**, with real
    parts first: ``phases`` theta (3 units,) from U(-pi, pi); ``reflections`` v (2, 2 units) and
    ``input_weight`` (input, hidden), Glorot's uniform; ``bias`` (units,), the thresholds, from
    U(-0.01, 0.01); ``start`` (hidden,), the state before the first step, from
    U(-sqrt(3/hidden), sqrt(3/hidden)).

    Reference: Arjovsky, Shah, Bengio, "Unitary Evolution Recurrent Neural Networks",
    arXiv:1511.06464.
    """

    epsilon: float = eqx.field(static=True)
    seed: int = eqx.field(static=True)
    phases: Float[Array, "3*units"]
    reflections: Float[Array, "2 2*units"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "phases": between(-math.pi, math.pi),
        "reflections": glorot,
        "input_weight": glorot,
        "bias": _small,
        "start": _start,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        epsilon: float = 1e-5,
        seed: int = 0,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        if not epsilon >= 0:
            raise InputError(f"epsilon = {epsilon!r}: give a number of at least 0.")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise InputError(f"seed = {seed!r}: give a whole number of at least 0.")
        self.epsilon, self.seed = float(epsilon), seed
        self._draw(input_size, hidden_size, init, key)

    def rotation(self, y: Inexact[Array, " units"]) -> Inexact[Array, " units"]:
        return self.rotate(y, 1.0) - y

    def rotate(self, y: Inexact[Array, " units"], dt: Scalar) -> Inexact[Array, " units"]:
        angles = times(dt, self.phases)
        first, second, third = jnp.split(lax.complex(jnp.cos(angles), jnp.sin(angles)), 3)
        order = np.random.default_rng(self.seed).permutation(self.units_size)
        y = self._reflect(0, jnp.fft.fft(y * first, norm="ortho"), dt)[order]
        return self._reflect(1, jnp.fft.ifft(y * second, norm="ortho"), dt) * third

    def _reflect(
        self, which: int, y: Inexact[Array, " units"], dt: Scalar
    ) -> Inexact[Array, " units"]:
        v = self.reflections[which]
        angle = jnp.asarray(math.pi * dt, v.dtype)
        factor = lax.complex(jnp.cos(angle) - 1, jnp.sin(angle)) / jnp.sum(v**2).astype(y.dtype)
        vector = lax.complex(*jnp.split(v, 2))
        return y + factor * (y @ vector) * vector.conj()


def _known(angles: str) -> str:
    """Return the name if it is one, before anything is drawn by it."""
    if angles not in ANGLES:
        raise unknown_name("angles", angles, ANGLES)
    return angles
