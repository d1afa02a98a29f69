"""Polynomials in what a gate may be: ranges that keep how values depend on one another.

A symbol is a number e in [0, 1] for each unit: where the value of a gate lies between its smallest
and its largest possible value. Values, slopes and products of gates are polynomials in such
symbols, written as sums of ``c e^i (1 - e)^(d - i)`` in each of them. Divided by binomials the
coefficients c are those of Bernstein's basis, whose smallest and largest bound the polynomial: of
``(1 - a) h + a g`` with a in [0, 1] the bounds are those of h and g, where intervals, which forget
that both a are the same, give their sum.
"""

import itertools
from math import comb
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array

LIMIT = 1024
"""Coefficients that a polynomial of a derivative may have; beyond, dependence is forgotten."""
VALUE_LIMIT = 128
"""Coefficients that a polynomial of a value may have."""


class Symbol(NamedTuple):
    """One symbol for each unit: ``name`` of the array of symbols, and which of it each unit has.

    ``index`` holds int32 as bytes, so that symbols compare; -1 where a unit has none.
    """

    name: int
    index: bytes

    def take(self, index: np.ndarray) -> "Symbol":
        """Return the symbols of other units; an index of -1 has none."""
        own = np.frombuffer(self.index, np.int32)
        return Symbol(self.name, np.where(index < 0, -1, own[index]).astype(np.int32).tobytes())

    @property
    def used(self) -> bool:
        """Whether any unit has one."""
        return bool((np.frombuffer(self.index, np.int32) >= 0).any())


class Polynomial(NamedTuple):
    """A number for each unit: ``coefficients`` of shape (*degrees + 1, units), an axis a symbol."""

    symbols: tuple[Symbol, ...]
    coefficients: Any

    @property
    def units(self) -> int:
        """Number of units."""
        return self.coefficients.shape[-1]

    @property
    def count(self) -> int:
        """Number of coefficients of a unit."""
        return self.coefficients.size // max(self.units, 1)

    @property
    def constant(self) -> bool:
        """Whether it has no symbols."""
        return not self.symbols

    def scaled(self, factor: Any) -> "Polynomial":
        """Return the product with a number, or one for each unit."""
        return Polynomial(self.symbols, self.coefficients * factor)

    def take(self, index: np.ndarray) -> "Polynomial":
        """Return the polynomials of other units; an index of -1 gives zero."""
        missing = index < 0
        coefficients = self.coefficients[..., np.where(missing, 0, index)]
        if missing.any():
            coefficients = coefficients * (~missing).astype(coefficients.dtype)
        symbols, kept = [], []
        for symbol in self.symbols:
            found = symbol.take(index)
            if found.used:
                symbols.append(found)
            kept.append(slice(None) if found.used else 0)
        order = sorted(range(len(symbols)), key=lambda i: symbols[i])
        chosen = coefficients[(*kept, ...)]
        chosen = space(chosen).transpose(chosen, (*order, len(order)))
        return Polynomial(tuple(symbols[i] for i in order), chosen)


def space(*arrays: Any) -> Any:
    """Return the module that works on these arrays: NumPy, or JAX while it traces."""
    return jnp if any(isinstance(a, jax.Array) for a in arrays) else np


def constant(values: Any) -> Polynomial:
    """Return polynomials without symbols."""
    return Polynomial((), values)


def variable(symbol: Symbol, lower: Any, upper: Any) -> Polynomial:
    """Return ``lower (1 - e) + upper e``."""
    return Polynomial((symbol,), space(lower, upper).stack([lower, upper]))


def add(p: Polynomial, q: Polynomial) -> Polynomial:
    """Return the sum."""
    symbols, a, b = _aligned(p, q)
    for axis in range(len(symbols)):
        a, b = _raised(a, axis, b.shape[axis]), _raised(b, axis, a.shape[axis])
    return Polynomial(symbols, a + b)


def multiply(p: Polynomial, q: Polynomial) -> Polynomial:
    """Return the product, elementwise."""
    if p.constant or q.constant:
        one, other = (p, q) if p.constant else (q, p)
        return other.scaled(one.coefficients)
    symbols, a, b = _aligned(p, q)
    if a.size > b.size:
        a, b = b, a
    xp, axes = space(a, b), len(symbols)
    total: Any = 0
    for place in itertools.product(*(range(n) for n in a.shape[:axes])):
        part = a[place] * b
        widths = [(i, n - 1 - i) for i, n in zip(place, a.shape[:axes], strict=True)]
        total = total + xp.pad(part, [*widths, (0, 0)])
    return Polynomial(symbols, total)


def product_count(p: Polynomial, q: Polynomial) -> int:
    """Return how many coefficients the product has for a unit."""
    degrees: dict[Symbol, int] = {}
    for polynomial in (p, q):
        for symbol, n in zip(polynomial.symbols, polynomial.coefficients.shape, strict=False):
            degrees[symbol] = degrees.get(symbol, 0) + n - 1
    return int(np.prod([n + 1 for n in degrees.values()], dtype=np.float64))


def common(polynomials: list[Polynomial]) -> list[Any]:
    """Return the coefficients of several, all with the same symbols and degrees."""
    total = polynomials[0]
    for other in polynomials[1:]:
        total = Polynomial(*_frame(total, other))
    aligned = []
    for polynomial in polynomials:
        _, a, frame = _aligned(polynomial, total)
        for axis in range(len(total.symbols)):
            a = _raised(a, axis, frame.shape[axis])
        aligned.append(a)
    return aligned


def common_count(polynomials: list[Polynomial]) -> int:
    """Return how many coefficients each has after ``common``."""
    degrees: dict[Symbol, int] = {}
    for polynomial in polynomials:
        for symbol, n in zip(polynomial.symbols, polynomial.coefficients.shape, strict=False):
            degrees[symbol] = max(degrees.get(symbol, 0), n)
    return int(np.prod(list(degrees.values()), dtype=np.float64))


def bernstein(symbols: tuple[Symbol, ...], coefficients: Array, splits: dict[int, Any]) -> Any:
    """Return Bernstein's coefficients, of shape (count, units): they bound the polynomial.

    ``splits`` names, for an array of symbols, the value at which the range is cut in two where the
    degree is above one, which makes bounds closer.
    """
    axes = len(symbols)
    for axis, symbol in enumerate(symbols):
        degree = coefficients.shape[axis] - 1
        shape = [1] * coefficients.ndim
        shape[axis] = degree + 1
        binomials = np.array([comb(degree, i) for i in range(degree + 1)], np.float64)
        coefficients = coefficients / binomials.reshape(shape).astype(coefficients.dtype)
        if degree > 1 and symbol.name in splits:
            index = np.frombuffer(symbol.index, np.int32)
            where = splits[symbol.name][np.where(index < 0, 0, index)]
            coefficients = _cut(coefficients, axis, where)
    return coefficients.reshape(-1, coefficients.shape[axes])


def bounds(polynomial: Polynomial, splits: dict[int, Any]) -> tuple[Any, Any]:
    """Return a lower and an upper bound for each unit."""
    values = bernstein(polynomial.symbols, polynomial.coefficients, splits)
    return values.min(axis=0), values.max(axis=0)


def _aligned(p: Polynomial, q: Polynomial) -> tuple[tuple[Symbol, ...], Any, Any]:
    """All symbols of both, and both arrays with an axis for each."""
    symbols = tuple(sorted({*p.symbols, *q.symbols}))

    def spread(polynomial: Polynomial) -> Any:
        lengths = dict(zip(polynomial.symbols, polynomial.coefficients.shape, strict=False))
        shape = [lengths.get(symbol, 1) for symbol in symbols]
        return polynomial.coefficients.reshape(*shape, polynomial.units)

    return symbols, spread(p), spread(q)


def _frame(p: Polynomial, q: Polynomial) -> tuple[tuple[Symbol, ...], Any]:
    """Symbols and shape of both."""
    symbols, a, b = _aligned(p, q)
    shape = [max(m, n) for m, n in zip(a.shape, b.shape, strict=True)]
    return symbols, np.empty(shape, np.bool_)


def _raised(a: Any, axis: int, length: int) -> Any:
    """The same polynomial of a higher degree: times ``(e + (1 - e))``."""
    xp = space(a)
    while a.shape[axis] < length:
        before = [(0, 0)] * a.ndim
        after = [(0, 0)] * a.ndim
        before[axis], after[axis] = (1, 0), (0, 1)
        a = xp.pad(a, before) + xp.pad(a, after)
    return a


def _cut(b: Any, axis: int, where: Any) -> Any:
    """Bernstein's coefficients left and right of a point (de Casteljau)."""
    xp = space(b, where)
    b = xp.moveaxis(b, axis, 0)
    left, right = [b[0]], [b[-1]]
    while b.shape[0] > 1:
        b = (1 - where) * b[:-1] + where * b[1:]
        left.append(b[0])
        right.append(b[-1])
    return xp.moveaxis(xp.stack([*left, *right[-2::-1]]), 0, axis)
