"""Linear operators on a state, and the matrix functions that integrators need of them."""

import abc
from collections.abc import Callable
from math import factorial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import expm

from ._results import InputError
from ._typing import Array, Inexact, Scalar, State


class AbstractOperator(eqx.Module):
    """A constant linear operator L on a state, of parameters only.

    ``phi_0(z) = e^z`` and ``phi_{k+1}(z) = (phi_k(z) - 1/k!) / z`` are the functions of exponential
    integrators.
    """

    @abc.abstractmethod
    def apply(self, y: State) -> State:
        """Return ``L y``."""

    @abc.abstractmethod
    def phi(self, k: int, dt: Scalar) -> "AbstractOperator":
        """Return ``phi_k(dt L)``, accurate for small ``dt L`` too."""

    @abc.abstractmethod
    def resolvent(self, dt: Scalar) -> "AbstractOperator":
        """Return ``(I - dt L)^-1``."""

    def exponential(self, dt: Scalar) -> "AbstractOperator":
        """Return ``exp(dt L)``."""
        return self.phi(0, dt)


class Diagonal(AbstractOperator):
    """``(L y)_i = values_i y_i``; on a state in blocks, the same for each block.

    **Arguments**: ``values``, a number or an array of shape (hidden,), real or complex (for a
    complex state).

    >>> Diagonal(-2.0).apply(jnp.ones(2)).tolist()
    [-2.0, -2.0]
    """

    # A complex number becomes an array: a bare one may not meet a real step length.
    values: Any = eqx.field(converter=lambda v: jnp.asarray(v) if isinstance(v, complex) else v)

    def apply(self, y: State) -> State:
        return jax.tree.map(lambda a: _cast(self.values, a) * a, y)

    def phi(self, k: int, dt: Scalar) -> "Diagonal":
        return Diagonal(_scalar_phi(k, jnp.asarray(_scaled(self.values, dt))))

    def resolvent(self, dt: Scalar) -> "Diagonal":
        return Diagonal(1 / (1 - _scaled(self.values, dt)))


class Dense(AbstractOperator):
    """``L y = y @ matrix``: a full matrix, stored input-major as all weights are.

    **Arguments**: ``matrix`` of shape (hidden, hidden). Raises ``InputError`` if it is not square.
    """

    matrix: Inexact[Array, "hidden hidden"]

    def __check_init__(self):
        _check_square(self)

    def apply(self, y: State) -> State:
        return y @ _cast(self.matrix, y)

    def phi(self, k: int, dt: Scalar) -> "Dense":
        return Dense(_matrix_phi(k, _scaled(self.matrix, dt)))

    def resolvent(self, dt: Scalar) -> "Dense":
        return Dense(_matrix_resolvent(_scaled(self.matrix, dt)))


class Skew(AbstractOperator):
    """``L y = y @ (matrix - matrix^H)``: skew-symmetric by construction, its flow a rotation.

    Of a complex matrix it is skew-Hermitian and the flow unitary. A step with ``exponential(dt)``
    keeps the norm of the state to rounding; n steps add up to n roundings at most.

    **Arguments**: ``matrix`` of shape (hidden, hidden), any. Raises ``InputError`` if it is not
    square.
    """

    matrix: Inexact[Array, "hidden hidden"]

    def __check_init__(self):
        _check_square(self)

    def apply(self, y: State) -> State:
        return self._dense().apply(y)

    def phi(self, k: int, dt: Scalar) -> Dense:
        value = self._dense().phi(k, dt)
        return value if k else Dense(_nearest_unitary(value.matrix))

    def resolvent(self, dt: Scalar) -> Dense:
        return self._dense().resolvent(dt)

    def _dense(self) -> Dense:
        return Dense(self.matrix - self.matrix.conj().T)


class Blocks(AbstractOperator):
    """A small matrix that acts across the named blocks of a state, the same way on every unit.

    ``(L y)_i = sum_j matrix_ij y_j`` for blocks i, j: the oscillator is [[0, 1], [-gamma, -eps]].

    **Arguments**: ``matrix``, of shape (blocks, blocks), or (blocks, blocks, hidden) where units
    differ; ``names`` of the blocks, in its order. Raises ``InputError`` if they do not match.
    """

    matrix: Inexact[Array, "blocks blocks *hidden"]
    names: tuple[str, ...] = eqx.field(static=True, converter=tuple)

    def __check_init__(self):
        shape, count = jnp.shape(self.matrix), len(self.names)
        if len(shape) not in (2, 3) or shape[:2] != (count, count):
            raise InputError(
                f"matrix has the shape {shape} for the blocks {self.names}: give ({count}, {count})"
                f", or ({count}, {count}, hidden) where units differ."
            )

    def apply(self, y: State) -> State:
        matrix = _cast(self.matrix, y[self.names[0]])
        return {
            name: sum((matrix[i, j] * y[other] for j, other in enumerate(self.names)), start=0.0)
            for i, name in enumerate(self.names)
        }

    def phi(self, k: int, dt: Scalar) -> "Blocks":
        return self._each(lambda m: _matrix_phi(k, m), dt)

    def resolvent(self, dt: Scalar) -> "Blocks":
        return self._each(_matrix_resolvent, dt)

    def _each(self, function: Callable[[Array], Array], dt: Scalar) -> "Blocks":
        """A function of ``dt matrix``, of each unit's where they differ."""
        if self.matrix.ndim == 3:
            function = jax.vmap(function, in_axes=-1, out_axes=-1)
        return Blocks(function(_scaled(self.matrix, dt)), self.names)


def _check_square(operator: Any) -> None:
    shape = jnp.shape(operator.matrix)
    if len(shape) != 2 or shape[0] != shape[1]:
        name = type(operator).__name__
        raise InputError(f"matrix has the shape {shape}: {name} takes a square one.")


def _cast(value: Any, like: Array) -> Any:
    """Bring a coefficient to the precision of an array, and to complex where that is complex."""
    if isinstance(value, int | float):
        return value
    if jnp.iscomplexobj(value) and not jnp.iscomplexobj(like):
        return value
    return value.astype(like.dtype)


def _scaled(value: Any, dt: Scalar) -> Any:
    return value * (dt if isinstance(value, int | float) else _cast(dt, value))


def _scalar_phi(k: int, z: Array) -> Array:
    """``phi_k`` elementwise: by its series where |z| < 1, by its recurrence elsewhere."""
    if k == 0:
        return jnp.exp(z)
    small = jnp.abs(z) < 1
    inner = jnp.where(small, z, jnp.zeros_like(z))
    series = jnp.zeros_like(z)
    for j in reversed(range(20)):
        series = series * inner + 1 / factorial(j + k)
    outer = jnp.where(small, jnp.ones_like(z), z)
    value = jnp.exp(outer)
    for j in range(k):
        value = (value - 1 / factorial(j)) / outer
    return jnp.where(small, series, value)


def _matrix_phi(k: int, matrix: Array) -> Array:
    """``phi_k`` of a matrix: a corner of the exponential of a larger one (Sidje, 1998)."""
    if k == 0:
        return _matrix_exponential(matrix)
    size = matrix.shape[0]
    one = jnp.eye(size, dtype=matrix.dtype)
    zero = jnp.zeros_like(matrix)
    rows = [[matrix, one, *[zero] * (k - 1)]]
    for i in range(k):
        rows.append([zero] * (k + 1))
        if i + 2 <= k:
            rows[-1][i + 2] = one
    return _matrix_exponential(jnp.block(rows))[:size, k * size :]


_SQUARINGS = 24


def _matrix_exponential(matrix: Array) -> Array:
    """``exp`` by scaling and squaring (Higham, 2005); NaN where the norm is beyond 5e7.

    JAX's ``expm`` alone will not do: it rounds the number of squarings down, so that the rational
    approximation is used at up to twice its radius, with errors of 1e-7, and 1e-2 in float32.
    """
    radius = 3.5
    norm = lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(matrix), axis=0)))
    needed = jnp.maximum(jnp.ceil(jnp.log2(jnp.maximum(norm, radius) / radius)), 0)
    scale = jnp.exp2(-jnp.minimum(needed, _SQUARINGS))
    start = expm(matrix * scale.astype(matrix.dtype), max_squarings=1)

    def square(value, i):
        return lax.cond(i < needed, lambda v: _product(v, v), lambda v: v, value), None

    return lax.scan(square, start, jnp.arange(_SQUARINGS, dtype=needed.dtype))[0]


def _matrix_resolvent(matrix: Array) -> Array:
    return jnp.linalg.inv(jnp.eye(matrix.shape[0], dtype=matrix.dtype) - matrix)


def _nearest_unitary(matrix: Array) -> Array:
    """One step of Newton and Schulz: rounding, squared many times, has left a defect of 1e-12."""
    defect = jnp.eye(matrix.shape[0], dtype=matrix.dtype) - _product(matrix.conj().T, matrix)
    return matrix + 0.5 * _product(matrix, defect)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
