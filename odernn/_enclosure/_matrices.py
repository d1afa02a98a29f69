"""Sets of matrices: all Jacobians of a region, and bounds of their norms."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from . import _polynomial as polynomials
from ._norm import Norm, sum_bound, two_norm
from ._polynomial import space
from ._program import Enclosed
from ._traced import Term, entries, inner_entries

_EXACT = 2**24
"""Numbers for which the rows of all coefficients are formed; beyond, sums of sizes do."""


_Measure = Callable[..., Any]


class _Rows(NamedTuple):
    """Rows of the matrices: a sum of terms, and a rest between two matrices."""

    terms: tuple[Term, ...]
    rest: tuple[Any, Any] | None


class MatrixSet:
    """A set of square matrices that contains all Jacobians of a function on a region.

    ``norm``, ``growth`` and ``lowest`` bound the operator norm, the logarithmic norm and
    ``min ||J v|| / ||v||`` over the set, in any ``Norm``. The bounds hold for every member; they
    are exact for a single matrix, and close to it where the set is ``diag(slopes) W``.
    """

    def __init__(self, rows: list[_Rows], inner: list[tuple[Term, ...]], splits: dict[int, Any]):
        self._rows, self._inner, self._splits = rows, inner, splits

    @staticmethod
    def of(enclosed: Enclosed) -> "MatrixSet":
        """Return the Jacobians of a program's results, one leaf after the other."""
        rows = [_Rows(out.terms, out.rest) for out in enclosed.outputs]
        sizes = [out.units for out in enclosed.outputs]
        total = sum(sizes)
        for place, size in enumerate(sizes):
            if not rows[place].terms and rows[place].rest is None:
                nothing = polynomials.constant(np.ones(size))
                rows[place] = _Rows((Term(None, nothing, np.zeros((size, total))),), None)
        return MatrixSet(rows, enclosed.inner, enclosed.splits)

    @staticmethod
    def single(matrix: np.ndarray) -> "MatrixSet":
        """Return the set of one matrix."""
        matrix = np.asarray(matrix, np.float64)
        one = polynomials.constant(np.ones(len(matrix)))
        return MatrixSet([_Rows((Term(None, one, matrix),), None)], [], {})

    @cached_property
    def size(self) -> int:
        """Number of rows and columns."""
        return sum(_units(row) for row in self._rows)

    @property
    def exact(self) -> bool:
        """Whether the set is a single matrix."""
        return all(
            row.rest is None and all(t.weights.constant and not t.source for t in row.terms)
            for row in self._rows
        )

    @cached_property
    def finite(self) -> bool:
        """Whether all entries are bounded."""
        terms = [t for row in self._rows for t in row.terms]
        terms += [t for inner in self._inner for t in inner]
        arrays = [t.weights.coefficients for t in terms]
        arrays += [side for row in self._rows if row.rest is not None for side in row.rest]
        return all(bool(np.isfinite(array).all()) for array in arrays)

    def shifted(self, a: Any, b: Any) -> "MatrixSet":
        """Return the set of all ``a I + b J``."""
        rows, start = [], 0
        for row in self._rows:
            units = _units(row)
            like = row.terms[0].weights.coefficients if row.terms else row.rest[0]  # type: ignore
            unit = space(like).asarray(np.eye(self.size)[start : start + units], like.dtype)
            one = space(like).ones(units, like.dtype)
            terms = [t._replace(weights=t.weights.scaled(b)) for t in row.terms]
            merged = [i for i, t in enumerate(terms) if _plain(t)]
            if merged:
                place = merged[0]
                fixed = terms[place]
                right: Any = fixed.weights.coefficients[:, None] * fixed.right + a * unit
                terms[place] = Term(None, polynomials.constant(one), right)
            else:
                terms.append(Term(None, polynomials.constant(one), a * unit))
            rest = None if row.rest is None else _ordered(b * row.rest[0], b * row.rest[1])
            rows.append(_Rows(tuple(terms), rest))
            start += units
        return MatrixSet(rows, self._inner, self._splits)

    # --- what the bounds are made of -----------------------------------------------------------

    @cached_property
    def _inner_entries(self) -> list[tuple[Any, Any]]:
        return inner_entries(self._inner, self._splits, [])

    @cached_property
    def _inner_middles(self) -> list[Any]:
        middles: list[Any] = []
        for terms in self._inner:
            middles.append(self._middle(terms, None, middles))
        return middles

    @cached_property
    def entries(self) -> tuple[Any, Any]:
        """Lower and upper bounds of every entry."""
        inner = self._inner_entries
        found = [entries(row.terms, row.rest, inner, self._splits) for row in self._rows]
        xp = space(found[0][0])
        return xp.concatenate([a for a, _ in found]), xp.concatenate([b for _, b in found])

    @cached_property
    def magnitudes(self) -> Any:
        """Bounds N of the absolute values of every entry."""
        lower, upper = self.entries
        return space(lower).maximum(abs(lower), abs(upper))

    @property
    def center(self) -> Any:
        """A matrix in the middle of the set; the only one if ``exact``."""
        xp = space(self._rows[0].terms[0].right) if self._rows[0].terms else np
        middles = self._inner_middles
        return xp.concatenate([self._middle(row.terms, row.rest, middles) for row in self._rows])

    def _middle(
        self, terms: tuple[Term, ...], rest: tuple[Any, Any] | None, middles: list[Any]
    ) -> Any:
        total: Any = 0.0 if rest is None else (rest[0] + rest[1]) / 2
        for term in terms:
            lower, upper = polynomials.bounds(term.weights, self._splits)
            part = ((lower + upper) / 2)[:, None] * _right(term, middles)
            total = total + (part if term.left is None else term.left @ part)
        return total

    # --- maximum norm --------------------------------------------------------------------------

    def _each_row(self, columns: Any, measure: _Measure, diagonal: bool = True) -> Any:
        """The largest value of a measure of each row.

        ``measure(own, others, c)`` is convex: ``own`` is the entry on the diagonal (0 without
        ``diagonal``, it is then among the others), ``others`` the sum of the sizes of the other
        entries times the weights of their columns, c the weight of the row's own column.
        """
        found, start, inner = [], 0, self._inner_bounds(columns)
        for row in self._rows:
            stop = start + _units(row)
            own = np.arange(start, stop) if diagonal else None
            of_rows = partial(measure, c=columns[start:stop])
            found.append(self._rows_bound(row, columns, inner, of_rows, own))
            start = stop
        return space(found[0]).concatenate(found)

    def _inner_bounds(self, columns: Any) -> list[Any]:
        """For each inner value, how large it may be for a state of size one."""
        inner: list[Any] = []
        for terms in self._inner:
            row = _Rows(terms, None)
            inner.append(self._rows_bound(row, columns, inner, lambda own, others: others, None))
        return inner

    def _rows_bound(
        self,
        row: _Rows,
        columns: Any,
        inner: list[Any],
        measure: Callable[..., Any],
        own: np.ndarray | None,
    ) -> Any:
        units = _units(row)
        near, far = _together(row.terms)
        xp = space(columns, *[t.right for t in row.terms])
        loose: Any = xp.zeros(units, columns.dtype)
        low, high = xp.zeros(units, columns.dtype), xp.zeros(units, columns.dtype)
        if far or row.rest is not None:
            # Not in one family with the others: bounds of the entries, which add up.
            lower, upper = entries(tuple(far), row.rest, self._inner_entries, self._splits)
            sizes = xp.maximum(abs(lower), abs(upper))
            if own is not None:
                at = (np.arange(units), own)
                low, high = lower[at], upper[at]
                sizes = xp.where(np.arange(sizes.shape[1]) == own[:, None], 0 * sizes, sizes)
            loose = (sizes * columns).sum(axis=1)
        if not near:
            return xp.maximum(measure(low, loose), measure(high, loose))
        weights = [t.weights for t in near]
        symbols = tuple(sorted({s for w in weights for s in w.symbols}))
        values = [
            polynomials.bernstein(symbols, c, self._splits) for c in polynomials.common(weights)
        ]
        diagonal, others = self._row_values(near, values, columns, inner, own)
        if own is None:
            return measure(diagonal, others + loose).max(axis=0)
        ends = [measure(diagonal + end, others + loose) for end in (low, high)]
        return xp.maximum(*ends).max(axis=0)

    def _row_values(
        self, terms: list[Term], values: list[Any], columns: Any, inner: list[Any], own: Any
    ) -> tuple[Any, Any]:
        """Entries on the diagonal and sums of the others' sizes: (coefficients, units) each."""
        xp = space(columns, *values)
        of_state = [(t, v) for t, v in zip(terms, values, strict=True) if not t.source]
        diagonal, others = 0.0 * values[0], 0.0 * values[0]
        for term, value in zip(terms, values, strict=True):
            if term.source:
                reach = abs(term.right) @ inner[term.source - 1]
                others = others + abs(value) * reach
        if not of_state:
            return diagonal, others
        rights = [t.right for t, _ in of_state]
        units, width = rights[0].shape
        if own is not None:
            at = (np.arange(units), own)
            diagonal = sum(
                (v * r[at] for (_, v), r in zip(of_state, rights, strict=True)), diagonal
            )
            hidden = np.arange(width) == own[:, None]
            rights = [xp.where(hidden, 0 * r, r) for r in rights]
        if len(of_state) * values[0].size * width <= _EXACT:
            rows = sum(v[:, :, None] * r for (_, v), r in zip(of_state, rights, strict=True))
            return diagonal, others + abs(rows) @ columns
        for (_, v), r in zip(of_state, rights, strict=True):
            others = others + abs(v) * (abs(r) @ columns)
        return diagonal, others

    # --- 2-norm --------------------------------------------------------------------------------

    @cached_property
    def _parts(self) -> list[tuple[slice, Any, Any, Any]]:
        """What may vary around the center: ``left diag(d) right`` of some rows, ``|d| <= radius``.

        As (rows, left, radius, right), left None for the identity.
        """
        parts, start = [], 0
        for row in self._rows:
            here = slice(start, start + _units(row))
            for term in row.terms:
                if not term.weights.constant:
                    lower, upper = polynomials.bounds(term.weights, self._splits)
                    right = _right(term, self._inner_middles)
                    parts.append((here, term.left, (upper - lower) / 2, right))
            start = here.stop
        return parts

    def _slack(self, left: Any, right: Any) -> float:
        """A bound of the norm of what else varies: entries by themselves, and inner values."""
        slack, start, radii = 0.0, 0, self._inner_radii(right)
        for row in self._rows:
            here = slice(start, start + _units(row))
            if row.rest is not None:
                spread = (row.rest[1] - row.rest[0]) / 2
                slack += two_norm(abs(left[:, here]) @ spread @ abs(right))
            for term in row.terms:
                if term.source:
                    outer = left[:, here] if term.left is None else left[:, here] @ term.left
                    reach = abs(outer) @ (self._largest(term)[:, None] * abs(term.right))
                    slack += two_norm(reach) * radii[term.source - 1]
            start = here.stop
        return slack

    def _largest(self, term: Term) -> Any:
        lower, upper = polynomials.bounds(term.weights, self._splits)
        return np.maximum(abs(lower), abs(upper))

    def _inner_radii(self, right: Any) -> list[float]:
        """For each inner value the norm of what varies of it."""
        radii: list[float] = []
        for terms in self._inner:
            total = 0.0
            for term in terms:
                lower, upper = polynomials.bounds(term.weights, self._splits)
                radius = (upper - lower)[:, None] / 2
                total += two_norm(radius * (_right(term, self._inner_middles) @ right))
                if term.source:
                    reach = two_norm(self._largest(term)[:, None] * abs(term.right))
                    total += reach * radii[term.source - 1]
            radii.append(total)
        return radii

    def _squares(self, left: Any, right: Any) -> list[Any]:
        """Matrices B with ``U^T U <= B`` for each part U of the variation."""
        squares = []
        for here, inner, radius, matrix in self._parts:
            outer = left[:, here] if inner is None else left[:, here] @ inner
            # Of rows that are not mixed the sizes of the slopes stand beside the matrix.
            alone = inner is None and np.array_equal(left, np.diag(left.diagonal()))
            root = radius * abs(left.diagonal()[here]) if alone else np.sqrt(radius)
            size = 1.0 if alone else two_norm(outer * root) ** 2
            scaled = root[:, None] * (matrix @ right)
            squares.append(size * (scaled.T @ scaled))
        return squares

    def _transforms(self, norm: Norm) -> tuple[Any, Any]:
        """T and its inverse."""
        if norm.scale is None:
            one = np.eye(self.size)
            return one, one
        scale = np.diag(norm.scale) if norm.scale.ndim == 1 else norm.scale
        return scale, np.linalg.inv(scale)

    def _spectral(self, norm: Norm) -> float:
        left, right = self._transforms(norm)
        center, slack = left @ self.center @ right, self._slack(left, right)
        squares = self._squares(left, right)
        bound = sum_bound([center.T @ center, *squares]) + slack
        if bound > 1 and squares and not slack:
            bound = min(bound, self._by_scaling(center, left, right, bound))
        return bound

    def _by_scaling(self, center: Any, left: Any, right: Any, bound: float) -> float:
        """The norm of ``C + L D R`` with |D| <= 1 from the matrix [[C/g, L/(s g)], [s R, 0]].

        It is at most g where that matrix, for some s, has norm one: the S-procedure.
        """
        lefts, rights = [], []
        for here, inner, radius, matrix in self._parts:
            outer = left[:, here] if inner is None else left[:, here] @ inner
            lefts.append(outer * np.sqrt(radius))
            rights.append(np.sqrt(radius)[:, None] * (matrix @ right))
        outer, matrix = np.hstack(lefts), np.vstack(rights)
        if len(center) + len(matrix) > 400:
            return bound
        corner = np.zeros((len(matrix), outer.shape[1]))
        start = np.sqrt(two_norm(outer) / max(two_norm(matrix), 1e-300))

        def holds(g: float) -> bool:
            for s in start * np.array([1.0, 0.7, 1.4, 0.5, 2.0]):
                both = np.block([[center / g, outer / (s * g)], [s * matrix, corner]])
                if two_norm(both) <= 1 + 1e-12:
                    return True
            return False

        low, high = float(two_norm(center)), bound
        if low <= 1 and holds(1.0):
            high = 1.0
        # The rest is for closer figures only, and dear for large matrices.
        for _ in range(8 if len(center) + len(matrix) <= 100 else 0):
            middle = (low + high) / 2
            low, high = (low, middle) if holds(middle) else (middle, high)
        return high

    # --- bounds --------------------------------------------------------------------------------

    def norm(self, norm: Norm) -> float:
        """Return a bound of ``||J||`` for every J of the set."""
        if not self.finite:
            return float("inf")
        if norm.kind == "2":
            return _number(lambda: self._spectral(norm))
        if norm.kind == "1":
            scaled = self._scaled_magnitudes(norm)
            return _number(lambda: scaled.sum(axis=0).max())
        columns = self._columns(norm)
        return _number(lambda: (self.row_sums(columns) / columns).max())

    def growth(self, norm: Norm) -> float:
        """Return a bound of the logarithmic norm of every J of the set."""
        if not self.finite:
            return float("inf")
        if norm.kind == "2":
            return _number(lambda: self._spectral_growth(norm))
        if norm.kind == "1":
            upper = self.entries[1].diagonal()
            scaled = self._scaled_magnitudes(norm)
            off = scaled.sum(axis=0) - scaled.diagonal()
            return _number(lambda: (upper + off).max())
        columns = self._columns(norm)
        return _number(lambda: self._each_row(columns, lambda d, o, c: d + o / c).max())

    def lowest(self, norm: Norm) -> float:
        """Return a lower bound of ``||J v|| / ||v||`` for every J of the set, at least 0."""
        if not self.finite:
            return 0.0
        if norm.kind == "2":
            found = self._lowest_spectral(norm)
        elif norm.kind == "1":
            lower, upper = self.entries
            own = np.maximum(np.maximum(lower.diagonal(), -upper.diagonal()), 0.0)
            scaled = self._scaled_magnitudes(norm)
            found = (own - (scaled.sum(axis=0) - scaled.diagonal())).min()
        else:
            columns = self._columns(norm)
            # ``|J_ii| - others`` for a diagonal of either sign.
            plus = -self._each_row(columns, lambda d, o, c: o / c - d)
            minus = -self._each_row(columns, lambda d, o, c: o / c + d)
            found = np.maximum(plus, minus).min()
        return max(float(found), 0.0) if np.isfinite(found) else 0.0

    def _columns(self, norm: Norm) -> Any:
        if norm.scale is None:
            return np.ones(self.size)
        if norm.scale.ndim != 1:
            raise ValueError("a maximum norm with a matrix is not supported")
        return 1 / norm.scale

    def _scaled_magnitudes(self, norm: Norm) -> Any:
        columns = self._columns(norm)
        return self.magnitudes / columns[:, None] * columns

    def row_sums(self, columns: Any) -> Any:
        """Return a bound of ``sum_j |J_ij| columns_j`` for each row i."""
        return self._each_row(columns, lambda own, others, c: others, diagonal=False)

    def _spectral_growth(self, norm: Norm) -> float:
        left, right = self._transforms(norm)
        center = left @ self.center @ right
        total = (center + center.T) / 2
        for here, inner, radius, matrix in self._parts:
            outer = (left[:, here] if inner is None else left[:, here] @ inner) * np.sqrt(radius)
            scaled = np.sqrt(radius)[:, None] * (matrix @ right)
            sizes = two_norm(outer), two_norm(scaled)
            s = sizes[1] / sizes[0] if min(sizes) > 0 else 1.0
            total = total + (s * (outer @ outer.T) + (scaled.T @ scaled) / s) / 2
        return float(np.linalg.eigvalsh(total)[-1]) + self._slack(left, right)

    def _lowest_spectral(self, norm: Norm) -> float:
        left, right = self._transforms(norm)
        squares = self._squares(left, right)
        smallest = np.linalg.svd(left @ self.center @ right, compute_uv=False)[-1]
        varying = sum_bound(squares) if squares else 0.0
        return float(smallest) - varying - self._slack(left, right)


def _units(row: _Rows) -> int:
    """Number of rows."""
    if row.rest is not None:
        return row.rest[0].shape[0]
    term = row.terms[0]
    return term.left.shape[0] if term.left is not None else term.right.shape[0]


def _together(terms: tuple[Term, ...]) -> tuple[list[Term], list[Term]]:
    """Terms whose weights can be one family of polynomials, and the others."""
    near: list[Term] = []
    for term in terms:
        weights = [t.weights for t in (*near, term)]
        if term.left is None and polynomials.common_count(weights) <= polynomials.LIMIT:
            near.append(term)
    return near, [term for term in terms if not any(term is t for t in near)]


def _right(term: Term, middles: list[Any]) -> Any:
    """The matrix on the right of a term, of inner values the middle one."""
    return term.right @ middles[term.source - 1] if term.source else term.right


def _plain(term: Term) -> bool:
    return term.left is None and term.weights.constant and not term.source


def _ordered(a: Any, b: Any) -> tuple[Any, Any]:
    return space(a).minimum(a, b), space(a).maximum(a, b)


def _number(compute: Callable[[], Any]) -> float:
    """The value, or infinity where it is not a number."""
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            value = float(compute())
    except np.linalg.LinAlgError:
        return float("inf")
    return value if not np.isnan(value) else float("inf")
