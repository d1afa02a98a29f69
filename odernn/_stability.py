"""What the coefficients of a method say about its stability."""

import abc
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._tableau import ButcherTableau
from ._typing import Array, ArrayLike, Inexact


class AbstractStability(eqx.Module):
    """Growth of a step on the test equation ``y' = lambda y``, and radii of contractivity.

    Radii are None where the notion does not apply to the kind of method.
    """

    @abc.abstractmethod
    def function(self, z: ArrayLike) -> Inexact[Array, "..."]:
        """Return the growth of one step for complex ``z = dt lambda``, elementwise."""

    @property
    @abc.abstractmethod
    def real_interval(self) -> float:
        """Largest r with growth of at most one for all z in [-r, 0]."""

    @property
    @abc.abstractmethod
    def imaginary_interval(self) -> float:
        """Largest r with growth of at most one for all z in [-ir, ir]."""

    @property
    @abc.abstractmethod
    def ssp_coefficient(self) -> float | None:
        """Radius of absolute monotonicity."""

    @property
    @abc.abstractmethod
    def circle_radius(self) -> float | None:
        """Radius of circle contractivity."""

    @property
    @abc.abstractmethod
    def algebraically_stable(self) -> bool:
        """Whether the method is contractive on every dissipative field."""


class RungeKuttaStability(AbstractStability):
    """Stability of a Runge-Kutta method, from its tableau.

    ``R(z) = det(I - z A + z 1 b^T) / det(I - z A)``. The intervals are roots of the polynomial
    ``|Q|^2 - |P|^2`` on the ray, R = P / Q; of explicit methods with more than 10 stages they are
    searched for. Stages that the result does not depend on do not count. Radii: Kraaijevanger, BIT
    31 (1991); Dahlquist and Jeltsch, "Generalized disks of contractivity" (1979). Algebraic
    stability: Burrage, Butcher, SIAM J. Numer. Anal. 16 (1979).
    """

    tableau: ButcherTableau = eqx.field(static=True)

    def function(self, z: ArrayLike) -> Inexact[Array, "..."]:
        z = _as_complex(z)
        if self.tableau.explicit:
            return _explicit_step(self.tableau, z)
        numerator, denominator = _stability_polynomials(self.tableau)
        # In powers of 1 / z far out, where powers of z overflow.
        degree = max(len(numerator), len(denominator)) - 1
        far = jnp.abs(z) > 1
        inverse = 1 / jnp.where(far, z, 1)

        def value(polynomial: tuple[Fraction, ...]) -> Array:
            padded = polynomial + (Fraction(0),) * (degree + 1 - len(polynomial))
            return jnp.where(far, _horner(padded[::-1], inverse), _horner(padded, z))

        return value(numerator) / value(denominator)

    @property
    def real_interval(self) -> float:
        return _ray(self, -1) if self._long else _interval(self.tableau, imaginary=False)

    @property
    def imaginary_interval(self) -> float:
        return _ray(self, 1j) if self._long else _interval(self.tableau, imaginary=True)

    @property
    def _long(self) -> bool:
        """Whether the coefficients of R are too many for its roots to be found from them."""
        return self.tableau.explicit and self.tableau.stages > 10

    @property
    def ssp_coefficient(self) -> float:
        return _absolute_monotonicity(self.tableau)

    @property
    def circle_radius(self) -> float:
        b, defect = _contractivity(self.tableau)
        if (b <= 0).any():
            return 0.0
        scale = 1 / np.sqrt(b)
        worst = np.linalg.eigvalsh(-defect * scale[:, None] * scale)[-1]
        return float("inf") if worst <= 1e-12 else float(1 / worst)

    @property
    def algebraically_stable(self) -> bool:
        b, defect = _contractivity(self.tableau)
        return bool((b >= 0).all() and np.linalg.eigvalsh(defect)[0] >= -1e-12)


class AbstractSearched(AbstractStability):
    """What is known where only the growth is: intervals by search, and no contractivity."""

    @property
    def real_interval(self) -> float:
        return _ray(self, -1)

    @property
    def imaginary_interval(self) -> float:
        return _ray(self, 1j)

    @property
    def circle_radius(self) -> None:
        return None

    @property
    def algebraically_stable(self) -> bool:
        return False


class MultistepStability(AbstractSearched):
    """Stability of ``sum_j alpha_j y_{n+j} = dt sum_j beta_j f_{n+j}``, j = 0 ... k.

    The growth is the root of largest modulus of ``sum_j (alpha_j - z beta_j) zeta^j``. SSP
    coefficient: Lenferink, Numer. Math. 55 (1989).
    """

    alpha: tuple[Fraction, ...] = eqx.field(static=True)
    beta: tuple[Fraction, ...] = eqx.field(static=True)

    def function(self, z: ArrayLike) -> Inexact[Array, "..."]:
        z = _as_complex(z)[..., None]
        alpha, beta = (jnp.asarray([float(v) for v in c], z.dtype) for c in (self.alpha, self.beta))
        coefficients = alpha - z * beta
        steps = len(self.alpha) - 1
        row = -coefficients[..., :-1] / coefficients[..., -1:]
        shift = jnp.eye(steps, k=1, dtype=z.dtype)[:-1]
        shift = jnp.broadcast_to(shift, (*row.shape[:-1], *shift.shape))
        return _dominant(jnp.concatenate([shift, row[..., None, :]], axis=-2))

    @property
    def ssp_coefficient(self) -> float:
        scale = self.alpha[-1]
        old = [(-a / scale, b / scale) for a, b in zip(self.alpha, self.beta, strict=True)][:-1]
        if any(a < 0 or b < 0 for a, b in old) or self.beta[-1] / scale < 0:
            return 0.0
        return float(min((a / b for a, b in old if b > 0), default=float("inf")))


class GrowthStability(AbstractSearched):
    """Stability of a method whose step on ``y' = lambda y`` is a matrix or a number.

    ``growth(z)`` is that matrix, (..., k, k), for an array of complex z; its eigenvalue of largest
    modulus is the growth of a step. No radius of contractivity follows from it.
    """

    growth: Callable[[Array], Array] = eqx.field(static=True)

    def function(self, z: ArrayLike) -> Inexact[Array, "..."]:
        return _dominant(self.growth(_as_complex(z)))

    @property
    def ssp_coefficient(self) -> None:
        return None


def exact_growth(z: Array) -> Array:
    """The growth of a step that is exact on the test equation."""
    return jnp.exp(z)[..., None, None]


def _as_complex(z: ArrayLike) -> Array:
    z = jnp.asarray(z)
    if jnp.iscomplexobj(z):
        return z
    return z.astype(jnp.complex64 if z.dtype == jnp.float32 else jnp.result_type(complex))


def _horner(coefficients: tuple[Fraction, ...], z: Array) -> Array:
    """Evaluate a polynomial, the constant coefficient first."""
    value = jnp.zeros_like(z)
    for c in reversed(coefficients):
        value = value * z + float(c)
    return value


def _dominant(matrices: Array) -> Array:
    """Return the eigenvalue of largest modulus."""
    if matrices.shape[-1] == 1:
        return matrices[..., 0, 0]
    values = jnp.linalg.eigvals(matrices)
    largest = jnp.argmax(jnp.abs(values), axis=-1, keepdims=True)
    return jnp.take_along_axis(values, largest, axis=-1)[..., 0]


def _explicit_step(tableau: ButcherTableau, z: Array) -> Array:
    """The step itself on ``y' = lambda y``: no powers of z that cancel."""
    rows = jnp.asarray([[float(v) for v in row] for row in (*tableau.a, tableau.b)], z.dtype)

    def inner(i, slopes):
        return 1 + jnp.tensordot(rows[i], slopes, 1, precision="highest")

    slopes = jnp.zeros((tableau.stages, *z.shape), z.dtype)
    slopes = jax.lax.fori_loop(
        0, tableau.stages, lambda i, slopes: slopes.at[i].set(z * inner(i, slopes)), slopes
    )
    return inner(tableau.stages, slopes)


@cache
def _ray(stability: AbstractStability, direction: complex) -> float:
    """Return how far along a ray the growth stays at most one, by search and bisection."""
    # In double precision whatever the settings, and also while JAX traces the caller.
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        function = jax.jit(stability.function)

        def stable(r: np.ndarray) -> np.ndarray:
            growth = np.abs(np.asarray(function(jnp.asarray(r * complex(direction)))))
            return growth <= 1 + 1e-11

        low = 0.0
        near = (np.linspace(start, start + 20, 4001)[1:] for start in range(0, 200, 20))
        for grid in (*near, np.geomspace(200, 1e8, 400)):
            inside = stable(grid)
            if not inside.all():
                first = int(np.argmin(inside))
                low, high = (grid[first - 1] if first else low), grid[first]
                break
            low = grid[-1]
        else:
            return float("inf")
        for _ in range(60):
            middle = np.array([(low + high) / 2])
            low, high = (middle[0], high) if stable(middle)[0] else (low, middle[0])
    # Growth so close to one is hidden by rounding: an interval this short counts as none.
    return 0.0 if low < 0.05 else float(low)


def _determinant(matrix: list[list[Fraction]]) -> tuple[Fraction, ...]:
    """Return the coefficients of ``det(I - z M)``, constant first (Faddeev and LeVerrier)."""
    size = len(matrix)
    power = [[Fraction(int(i == j)) for j in range(size)] for i in range(size)]
    coefficients = [Fraction(1)]
    for k in range(1, size + 1):
        columns = list(zip(*power, strict=True))
        product = [[_dot(row, column) for column in columns] for row in matrix]
        c = -sum((product[i][i] for i in range(size)), Fraction(0)) / k
        coefficients.append(c)
        power = [[v + c * (i == j) for j, v in enumerate(row)] for i, row in enumerate(product)]
    return tuple(coefficients)


@cache
def _stability_polynomials(
    tableau: ButcherTableau,
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    a = [list(row) for row in tableau.a]
    shifted = [[v - w for v, w in zip(row, tableau.b, strict=True)] for row in a]
    return _trim(_determinant(shifted)), _trim(_determinant(a))


def _trim(coefficients: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """Drop what long fractions for irrational numbers leave where zero is meant."""
    kept = [c if abs(c) > Fraction(1, 10**35) else Fraction(0) for c in coefficients]
    while len(kept) > 1 and kept[-1] == 0:
        kept.pop()
    return tuple(kept)


@cache
def _interval(tableau: ButcherTableau, *, imaginary: bool) -> float:
    """First point of a ray beyond which ``|Q|^2 - |P|^2`` is negative."""

    def square(polynomial: tuple[Fraction, ...]) -> list[Fraction]:
        if not imaginary:
            ray = [c * (-1) ** k for k, c in enumerate(polynomial)]
            return _multiply(ray, ray)
        signed = [c * (-1) ** (k // 2) for k, c in enumerate(polynomial)]
        even = [c if k % 2 == 0 else Fraction(0) for k, c in enumerate(signed)]
        odd = [c if k % 2 else Fraction(0) for k, c in enumerate(signed)]
        return _add(_multiply(even, even), _multiply(odd, odd))

    numerator, denominator = _stability_polynomials(tableau)
    margin = _add(square(denominator), [-c for c in square(numerator)])
    # Zero but for the rounding of the coefficients is zero: it must not cut the interval at once.
    sizes = [[abs(c) for c in polynomial] for polynomial in (denominator, numerator)]
    scale = _add(*(_multiply(size, size) for size in sizes))
    rounding = Fraction(1, 10**12)
    margin = _trim(
        tuple(
            c if abs(c) > rounding * v else Fraction(0) for c, v in zip(margin, scale, strict=True)
        )
    )
    if margin == (0,):
        return float("inf")
    lowest = next(k for k, c in enumerate(margin) if c)
    if margin[lowest] < 0:
        return 0.0
    roots = np.roots([float(c) for c in reversed(margin[lowest:])])
    near = np.abs(roots.imag) <= 1e-4 * np.maximum(np.abs(roots), 1)
    crossings = sorted(roots.real[near & (roots.real > 1e-6)])
    # Signs are exact, the roots of a polynomial of high degree are not: they only part the ray.
    inside = Fraction(0)
    for i, here in enumerate(crossings):
        last = i + 1 == len(crossings)
        beyond = Fraction(2 * here if last else (here + crossings[i + 1]) / 2)
        if _value(margin, beyond) < 0:
            for _ in range(60):
                middle = Fraction(float(inside + beyond) / 2)
                outside = _value(margin, middle) < 0
                inside, beyond = (inside, middle) if outside else (middle, beyond)
            return float(inside)
        inside = beyond
    return float("inf")


def _value(polynomial: tuple[Fraction, ...], x: Fraction) -> Fraction:
    return sum((c * x**k for k, c in enumerate(polynomial)), Fraction(0))


def _dot(p: Iterable[Fraction], q: Iterable[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(p, q, strict=True)), Fraction(0))


def _multiply(p: list[Fraction], q: list[Fraction]) -> list[Fraction]:
    product = [Fraction(0)] * (len(p) + len(q) - 1)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            product[i + j] += a * b
    return product


def _add(p: list[Fraction], q: list[Fraction]) -> list[Fraction]:
    size = max(len(p), len(q))
    p, q = (v + [Fraction(0)] * (size - len(v)) for v in (p, q))
    return [a + b for a, b in zip(p, q, strict=True)]


@cache
def _arrays(tableau: ButcherTableau) -> tuple[np.ndarray, np.ndarray]:
    """Return A and b without the stages that the result does not depend on."""
    reduced = tableau.reduced
    return np.array(reduced.a, np.float64), np.array(reduced.b, np.float64)


def _contractivity(tableau: ButcherTableau) -> tuple[np.ndarray, np.ndarray]:
    """Return b and ``B A + A^T B - b b^T``."""
    a, b = _arrays(tableau)
    weighted = b[:, None] * a
    return b, weighted + weighted.T - np.outer(b, b)


@cache
def _absolute_monotonicity(tableau: ButcherTableau) -> float:
    a, b = _arrays(tableau)
    full = np.vstack([a, b])
    tolerance = 1e-14
    # Positive for some radius: no negative entry, and no zero where a product of entries is not.
    if (full < -tolerance).any() or (full @ a > tolerance)[full <= tolerance].any():
        return 0.0

    def holds(r: float) -> bool:
        shifted = np.eye(len(b)) + r * a
        if np.linalg.det(shifted) == 0:
            return False
        weights = full @ np.linalg.inv(shifted)
        rest = 1 - r * weights.sum(axis=1)
        return bool((weights >= -tolerance).all() and (rest >= -tolerance).all())

    low, high = 0.0, 1e6
    if holds(high):
        return float("inf")
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
