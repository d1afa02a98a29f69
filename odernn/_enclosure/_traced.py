"""What is known of a value that depends on the state: its range and its derivative."""

from typing import Any, NamedTuple

import numpy as np

from . import _polynomial as polynomials
from ._polynomial import Polynomial, space


class Term(NamedTuple):
    """A part ``left diag(weights) right`` of a derivative; without ``left`` that is the identity.

    The columns of ``right`` are the elements of the state, or those of an inner value: ``source``
    is then its number, from 1.
    """

    left: Any
    weights: Polynomial
    right: Any
    source: int = 0


class Traced(NamedTuple):
    """A value that depends on state or input.

    ``lower``, ``upper`` (units,) bound it; ``value`` is a polynomial where it is bounded, else
    None. The derivative by the state is the sum of ``terms`` and a matrix between ``rest[0]`` and
    ``rest[1]``, (units, state) each.
    """

    shape: tuple[int, ...]
    lower: Any
    upper: Any
    value: Polynomial | None
    terms: tuple[Term, ...] = ()
    rest: tuple[Any, Any] | None = None

    @property
    def units(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=int))


class Choice(NamedTuple):
    """Truth values that depend on state or input."""

    shape: tuple[int, ...]


def constants_joined(terms: list[Term]) -> tuple[Term, ...]:
    """Terms without symbols as one matrix."""
    fixed = [t for t in terms if t.left is None and t.weights.constant and not t.source]
    if len(fixed) < 2:
        return tuple(terms)
    total: Any = sum(t.weights.coefficients[:, None] * t.right for t in fixed)
    one = fixed[0].weights.coefficients
    joined = Term(None, polynomials.constant(space(one).ones_like(one)), total)
    return (joined, *(t for t in terms if not any(t is f for f in fixed)))


def entries(
    terms: tuple[Term, ...],
    rest: tuple[Any, Any] | None,
    inner: list[tuple[Any, Any]],
    splits: dict[int, Any],
) -> tuple[Any, Any]:
    """Return bounds of every entry of a sum of terms and a rest; ``inner``: of inner values."""
    total: Any = rest
    for term in terms:
        right = (term.right, term.right)
        if term.source:
            right = mixed_bounds(term.right, inner[term.source - 1])
        found = between(right, polynomials.bounds(term.weights, splits))
        if term.left is not None:
            found = mixed_bounds(term.left, found)
        total = found if total is None else interval_sum(total, found)
    return total


def inner_entries(
    inner: list[tuple[Term, ...]], splits: dict[int, Any], known: list[tuple[Any, Any]]
) -> list[tuple[Any, Any]]:
    """Return ``known``, the bounds of every entry of the first inner values, with those missing."""
    for terms in inner[len(known) :]:
        known.append(entries(terms, None, known, splits))
    return known


def mixed_bounds(matrix: Any, bounds: tuple[Any, Any]) -> tuple[Any, Any]:
    """Bounds of the product of a matrix with what is between bounds: a vector or a matrix."""
    positive, negative = matrix.clip(0), matrix.clip(None, 0)
    xp = space(matrix, *bounds)
    with np.errstate(invalid="ignore"):
        lower = positive @ bounds[0] + negative @ bounds[1]
        upper = positive @ bounds[1] + negative @ bounds[0]
    # Zero times infinity: a bound that is given up.
    infinite = xp.full_like(lower, xp.inf)
    return xp.where(xp.isnan(lower), -infinite, lower), xp.where(xp.isnan(upper), infinite, upper)


def zero_times(a: Any, b: Any) -> Any:
    """The product in which zero times infinity is zero."""
    xp = space(a, b)
    with np.errstate(invalid="ignore"):
        product = a * b
    return xp.where((a == 0) | (b == 0), xp.zeros_like(product), product)


def interval_product(u: tuple[Any, Any], v: tuple[Any, Any]) -> tuple[Any, Any]:
    products = [zero_times(a, b) for a in u for b in v]
    xp = space(*products)
    return xp.stack(products).min(axis=0), xp.stack(products).max(axis=0)


def between(matrix: tuple[Any, Any], factor: tuple[Any, Any]) -> tuple[Any, Any]:
    """Bounds of the rows of a matrix, each times a factor between bounds."""
    return interval_product(matrix, (factor[0][:, None], factor[1][:, None]))


def interval_sum(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    return a[0] + b[0], a[1] + b[1]
