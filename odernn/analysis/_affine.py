"""Steps on fields with one constant Jacobian: what linear theory says of them."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from .._enclosure import Norm
from .._method import AbstractMethod, AbstractOneStep, BackwardEuler, LinearlyImplicitEuler
from .._method._exponential import AbstractExponential
from .._method._imex import AbstractIMEX
from .._stability import RungeKuttaStability
from .._tableau import ButcherTableau
from ._certificate import Rates

ROUNDING = 1e-12
"""What bounds of one and zero may be missed by, as they are computed in double precision."""

Transfer = Callable[[np.ndarray], np.ndarray]
"""R: from matrices ``dt G`` (..., m, m) to the steps ``R(dt G)`` on ``y' = G y``."""


def transfer_of(method: AbstractMethod, *, linear: bool = False) -> Transfer | None:
    """Return R if a step on ``y' = G y`` with a constant G is ``R(dt G)``, else None.

    ``linear``: G is the constant linear part that exponential and IMEX methods know of.
    """
    if isinstance(method, LinearlyImplicitEuler):
        # On such a field its only iteration of Newton's method is exact.
        return partial(step_matrix, BackwardEuler().tableau)
    if linear and isinstance(method, AbstractIMEX):
        return partial(step_matrix, method.linear_tableau)
    if linear and isinstance(method, AbstractExponential):
        return _exponential
    tableau = tableau_of(method)
    return None if tableau is None else partial(step_matrix, tableau)


def step_matrix(tableau: ButcherTableau, matrices: np.ndarray) -> np.ndarray:
    """Return ``R(Z) = I + (b^T x Z) (I - A x Z)^-1 (1 x I)`` for matrices Z (..., m, m)."""
    a, b = coefficients(tableau)
    size, stages = matrices.shape[-1], len(b)
    identity = np.eye(size)
    if tableau.explicit:
        slopes: list[np.ndarray] = []
        for row in (*a, b):
            inner = sum((w * k for w, k in zip(row, slopes, strict=False) if w), start=identity)
            if len(slopes) == stages:
                return np.broadcast_to(inner, matrices.shape)
            slopes.append(matrices @ inner)
    coupled = np.einsum("ij,...kl->...ikjl", a, matrices)
    coupled = coupled.reshape(*matrices.shape[:-2], stages * size, stages * size)
    try:
        inner = np.linalg.solve(np.eye(stages * size) - coupled, np.tile(identity, (stages, 1)))
    except np.linalg.LinAlgError:
        if matrices.ndim == 2:
            return np.full(matrices.shape, np.inf)
        return np.stack([step_matrix(tableau, each) for each in matrices])
    inner = inner.reshape(*matrices.shape[:-2], stages, size, size)
    return identity + matrices @ np.einsum("i,...ikl->...kl", b, inner)


def linear_stability(matrix: np.ndarray, transfer: Transfer, dt: float, norm: Norm) -> Rates | None:
    """Return the rates of a step on a field with one normal Jacobian.

    ``min |R(dt lambda)| <= ||J v|| / ||v|| <= max |R(dt lambda)|`` over the eigenvalues, in a
    2-norm of T y where ``T G T^-1`` is normal. ``dt_max`` is searched for. None for other norms
    and other matrices. Source: Hairer, Wanner, *Solving Ordinary Differential Equations II*, IV.2.
    """
    import scipy.linalg

    if norm.kind != "2" or not np.isfinite(matrix).all():
        return None
    if norm.scale is not None:
        scale = np.diag(norm.scale) if norm.scale.ndim == 1 else norm.scale
        matrix = scale @ matrix @ np.linalg.inv(scale)
    triangle = scipy.linalg.schur(matrix, output="complex")[0]
    if np.linalg.norm(np.triu(triangle, 1)) > 10 * ROUNDING * np.linalg.norm(triangle):
        return None
    assumptions = ("the field's Jacobian is one constant matrix, normal in this norm",)
    return _of_spectrum(np.diag(triangle), transfer, dt, norm, assumptions)


def eigenbasis_stability(matrix: np.ndarray, transfer: Transfer, dt: float) -> Rates | None:
    """Return the rates of a step on a field with one diagonalisable Jacobian.

    Those of ``linear_stability`` in the 2-norm of T y, where the columns of the inverse of T are
    the eigenvectors, of a complex pair the real and the imaginary part: T is real. None if T has a
    condition number above 1e6.
    """
    if not np.isfinite(matrix).all():
        return None
    values, vectors = np.linalg.eig(matrix)
    columns, form = [], np.zeros_like(matrix, dtype=np.float64)
    for value, vector in zip(values, vectors.T, strict=True):
        k = len(columns)
        if value.imag == 0:
            columns.append(vector.real)
            form[k, k] = value.real
        elif value.imag > 0:
            columns += [vector.real, vector.imag]
            turn = [[value.real, value.imag], [-value.imag, value.real]]
            form[k : k + 2, k : k + 2] = turn
    basis = np.stack(columns, axis=1)
    condition = float(np.linalg.cond(basis))
    if not condition <= 1e6:
        return None
    scale = np.linalg.inv(basis)
    error = np.linalg.norm(scale @ matrix @ basis - form)
    if error > 100 * ROUNDING * max(np.linalg.norm(form), np.linalg.norm(matrix)):
        return None
    assumptions = (
        "the field's Jacobian is one constant matrix; T is the inverse of its matrix of "
        f"eigenvectors, of condition {condition:.3g}",
    )
    return _of_spectrum(values, transfer, dt, Norm("2", scale), assumptions)


def constant_jacobian(
    matrix: np.ndarray, transfer: Transfer, dt: float, norm: Norm
) -> Rates | None:
    """Return the rates of a step on a field with one Jacobian G, in any norm.

    The Jacobian of a step is one matrix, ``R(dt G)``: its norm, and one over that of its inverse.
    ``dt_max`` is searched for.
    """
    if not np.isfinite(matrix).all():
        return None

    def norms(steps: np.ndarray) -> np.ndarray:
        return np.array([norm.of_matrices(transfer(step * matrix)) for step in steps])

    with np.errstate(all="ignore"):
        jacobian = transfer(dt * matrix)
        if not np.isfinite(jacobian).all():
            return None
        upper = float(norm.of_matrices(jacobian))
        try:
            lower = 1 / float(norm.of_matrices(np.linalg.inv(jacobian)))
        except np.linalg.LinAlgError:
            lower = 0.0
        grid = dt * np.concatenate([np.linspace(0, 1, 41)[1:], np.geomspace(1, 1e3, 25)[1:]])
        limit = largest_step(norms, dt, grid) if upper <= 1 + ROUNDING else None
    assumptions = ("the field's Jacobian is one constant matrix",)
    return stated(norm, "affine step (norm of its matrix)", lower, upper, assumptions, limit)


def tableau_of(method: AbstractMethod) -> ButcherTableau | None:
    """Return the tableau of a method that takes the whole field and carries only the state."""
    stability = method.stability if isinstance(method, AbstractOneStep) else None
    return stability.tableau.reduced if isinstance(stability, RungeKuttaStability) else None


def coefficients(tableau: ButcherTableau) -> tuple[np.ndarray, np.ndarray]:
    """Return A and b in double precision."""
    return np.array(tableau.a, np.float64), np.array(tableau.b, np.float64)


def _exponential(matrices: np.ndarray) -> np.ndarray:
    import scipy.linalg

    return np.exp(matrices) if matrices.shape[-1] == 1 else scipy.linalg.expm(matrices)


def _of_spectrum(
    values: np.ndarray, transfer: Transfer, dt: float, norm: Norm, assumptions: tuple[str, ...]
) -> Rates | None:
    """The rates of a step on normal matrices with these eigenvalues."""

    def growth(steps: np.ndarray) -> np.ndarray:
        return np.abs(transfer((steps[:, None] * values)[..., None, None]))[..., 0, 0].max(axis=1)

    with np.errstate(all="ignore"):
        rates = np.abs(transfer(dt * values[:, None, None]))
        upper, lower, largest = float(rates.max()), float(rates.min()), np.abs(values).max()
        if upper > 1 + ROUNDING:
            limit = None
        elif largest == 0:
            limit = math.inf
        else:
            grid = np.concatenate([np.linspace(0, 40, 401)[1:], np.geomspace(40, 1e8, 61)[1:]])
            limit = largest_step(growth, dt, grid / largest)
            limit = math.inf if limit == grid[-1] / largest else limit
    theorem = "linear stability (Hairer and Wanner, Solving ODEs II)"
    return stated(norm, theorem, lower, upper, assumptions, limit)


def largest_step(
    growth: Callable[[np.ndarray], np.ndarray], dt: float, grid: np.ndarray
) -> float | None:
    """Return the largest step on the grid, then by bisection, up to which nothing grows.

    ``growth`` maps steps to the growths of each. None where a step smaller than ``dt`` grows.
    """

    def stable(steps: np.ndarray) -> np.ndarray:
        return growth(steps) <= 1 + 10 * ROUNDING

    inside = stable(grid)
    if inside.all():
        return float(grid[-1])
    first = int(np.argmin(inside))
    low, high = (grid[first - 1] if first else 0.0), grid[first]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(np.array([middle]))[0] else (low, middle)
    # The bisection ends a rounding below a limit that is dt itself.
    return max(float(low), dt) if low >= dt * (1 - ROUNDING) else None


def stated(
    norm: Norm,
    theorem: str,
    lower: float,
    upper: float,
    assumptions: tuple[str, ...],
    dt_max: float | None = None,
) -> Rates | None:
    """Return rates, or None where they say nothing or are no numbers."""
    lower = max(lower, 0.0) if lower < math.inf else math.nan
    if math.isnan(lower) or math.isnan(upper) or (lower <= 0 and upper == math.inf):
        return None
    return Rates(norm, theorem, float(lower), float(upper), assumptions, False, dt_max)
