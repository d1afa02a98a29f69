"""Butcher tableaux: the coefficients of Runge-Kutta methods, as exact fractions."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

from ._results import InputError

_MAX_ORDER = 8

# Conditions are evaluated exactly; this forgives coefficients rounded to double precision.
_TOLERANCE = Fraction(1, 10**13)

# A rooted tree is the tuple of its root's subtrees, in sorted order; () is the single vertex.
_Tree = tuple[Any, ...]


@dataclass(frozen=True)
class ButcherTableau:
    """Coefficients ``a``, ``b``, ``c`` of a Runge-Kutta method with ``len(b)`` stages.

    Stage i is ``K_i = F(s + c_i dt, y + dt sum_j a_ij K_j)`` and the step is
    ``y + dt sum_i b_i K_i``. Entries are fractions, or anything ``Fraction`` reads exactly
    (``"1/3"``, ``2``, ``0.5``). Rows of ``a`` may be short: missing entries are zero. ``c`` may be
    left out, as consistency fixes it: ``c_i = sum_j a_ij``. Irrational coefficients are given as
    floats or longer fractions: conditions count as met when they are to 1e-13.

    >>> heun = ButcherTableau(a=[[], [1]], b=["1/2", "1/2"])
    >>> heun.stages, heun.order, heun.explicit
    (2, 2, True)

    Raises ``InputError`` for entries that are no numbers, rows that are too long, weights that do
    not sum to one and nodes that contradict ``a``. Reference: Hairer, Norsett, Wanner, *Solving
    Ordinary Differential Equations I*, II.1 and II.2.
    """

    a: tuple[tuple[Fraction, ...], ...]
    b: tuple[Fraction, ...]
    c: tuple[Fraction, ...]

    def __init__(self, a: Sequence[Sequence], b: Sequence, c: Sequence | None = None):
        weights = tuple(as_fraction(v, "b") for v in b)
        stages = len(weights)
        if stages == 0:
            raise InputError("b is empty: a Runge-Kutta method needs at least one stage.")
        if len(a) != stages:
            raise InputError(f"a has {len(a)} rows but b has {stages} entries: give one row each.")
        rows = []
        for i, row in enumerate(a):
            if len(row) > stages:
                raise InputError(f"row {i} of a has {len(row)} entries, more than {stages} stages.")
            entries = tuple(as_fraction(v, "a") for v in row)
            rows.append(entries + (Fraction(0),) * (stages - len(entries)))
        sums = tuple(sum(row, Fraction(0)) for row in rows)
        nodes = sums if c is None else tuple(as_fraction(v, "c") for v in c)
        if len(nodes) != stages or not all(map(_close, nodes, sums)):
            raise InputError(f"c = {_show(nodes)} contradicts the row sums of a, {_show(sums)}.")
        if not _close(sum(weights, Fraction(0)), Fraction(1)):
            total = _short(sum(weights, Fraction(0)))
            raise InputError(f"b sums to {total}, not to 1: the method is not consistent.")
        object.__setattr__(self, "a", tuple(rows))
        object.__setattr__(self, "b", weights)
        object.__setattr__(self, "c", nodes)

    @property
    def stages(self) -> int:
        """Number of evaluations of the field in one step."""
        return len(self.b)

    @property
    def explicit(self) -> bool:
        """Whether each stage uses earlier stages only."""
        return all(v == 0 for i, row in enumerate(self.a) for v in row[i:])

    @cached_property
    def symplectic(self) -> bool:
        """Whether ``b_i a_ij + b_j a_ji = b_i b_j``: quadratic invariants are kept."""
        pairs = [(i, j) for i in range(self.stages) for j in range(self.stages)]
        a, b = self.a, self.b
        return all(_close(b[i] * a[i][j] + b[j] * a[j][i], b[i] * b[j]) for i, j in pairs)

    @cached_property
    def symmetric(self) -> bool:
        """Whether ``a_{s+1-i,s+1-j} + a_ij = b_j``: the step with -dt undoes the step with dt."""
        pairs = [(i, j) for i in range(self.stages) for j in range(self.stages)]
        return all(_close(self.a[-1 - i][-1 - j] + self.a[i][j], self.b[j]) for i, j in pairs)

    @cached_property
    def reduced(self) -> "ButcherTableau":
        """The tableau without the stages that the result does not depend on."""
        used = {i for i, weight in enumerate(self.b) if weight != 0}
        while more := {j for i in used for j, v in enumerate(self.a[i]) if v != 0} - used:
            used |= more
        kept = sorted(used)
        if len(kept) == self.stages:
            return self
        a = [[self.a[i][j] for j in kept] for i in kept]
        return ButcherTableau(a, [self.b[i] for i in kept], [self.c[i] for i in kept])

    def repeated(self, times: int) -> "ButcherTableau":
        """The method that takes ``times`` steps of this one, each of that part of the step."""
        share = Fraction(1, times)
        once = [share * weight for weight in self.b]
        a = [[*once * k, *(share * v for v in row)] for k in range(times) for row in self.a]
        return ButcherTableau(a, once * times)

    @cached_property
    def order(self) -> int:
        """Order of accuracy, from the order conditions of all rooted trees (checked up to 8)."""
        order = 0
        while order < _MAX_ORDER and all(self._satisfies(t) for t in _trees(order + 1)):
            order += 1
        return order

    def _satisfies(self, tree: _Tree) -> bool:
        weights = self._elementary_weights(tree)
        left = sum((b * w for b, w in zip(self.b, weights, strict=True)), Fraction(0))
        return _close(left, Fraction(1, _gamma(tree)))

    def _elementary_weights(self, tree: _Tree) -> list[Fraction]:
        weights = [Fraction(1)] * self.stages
        for subtree in tree:
            inner = self._elementary_weights(subtree)
            for i, row in enumerate(self.a):
                weights[i] *= sum((a * w for a, w in zip(row, inner, strict=True)), Fraction(0))
        return weights


def as_fraction(value: Any, name: str) -> Fraction:
    """Return a coefficient exactly; raise ``InputError``, naming it, for what is no number."""
    try:
        return Fraction(value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise InputError(
            f"{name} has the entry {value!r}: give a number or a fraction like '1/3'."
        ) from None


def _close(a: Fraction, b: Fraction) -> bool:
    return abs(a - b) <= _TOLERANCE


def _short(value: Fraction) -> str:
    return str(value) if value.denominator < 10**6 else f"{float(value):.17g}"


def _show(values: Sequence[Fraction]) -> str:
    return "(" + ", ".join(map(_short, values)) + ")"


def _size(tree: _Tree) -> int:
    return 1 + sum(map(_size, tree))


def _gamma(tree: _Tree) -> int:
    """Density of a tree: its size times the densities of its subtrees."""
    density = _size(tree)
    for subtree in tree:
        density *= _gamma(subtree)
    return density


@cache
def _trees(size: int) -> frozenset[_Tree]:
    """All rooted trees with `size` vertices."""
    if size == 1:
        return frozenset({()})
    # Every tree of this size is a smaller one with a leaf grafted on at some vertex.
    return frozenset(grown for tree in _trees(size - 1) for grown in _graft(tree))


def _graft(tree: _Tree) -> set[_Tree]:
    grown = {tuple(sorted((*tree, ())))}
    for i, subtree in enumerate(tree):
        rest = tree[:i] + tree[i + 1 :]
        grown |= {tuple(sorted((*rest, bigger))) for bigger in _graft(subtree)}
    return grown
