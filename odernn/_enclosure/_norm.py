"""Norms of states, and of the matrices that act on them."""

from typing import Any, Literal, NamedTuple

import numpy as np


class Norm(NamedTuple):
    """The norm ``||T v||`` of a state v, as one vector: ``kind`` "1", "2" or "inf".

    The leaves of the state follow one another as in ``jax.tree.leaves``. ``scale`` is T: None for
    the identity, a vector for a diagonal matrix, or a matrix.
    """

    kind: Literal["1", "2", "inf"]
    scale: np.ndarray | None = None

    def __str__(self) -> str:
        if self.scale is None:
            return {"1": "1-norm", "2": "2-norm", "inf": "maximum norm"}[self.kind]
        if self.scale.ndim == 2:
            return f"{self.kind}-norm of T y with a matrix T (condition {self.condition:.3g})"
        name = {"1": "1-norm", "2": "2-norm", "inf": "maximum norm"}[self.kind]
        return f"weighted {name} (weights {self.scale.min():.3g} to {self.scale.max():.3g})"

    def same(self, other: "Norm") -> bool:
        """Return whether the other is this norm."""
        own, others = (np.ones(()) if norm.scale is None else norm.scale for norm in (self, other))
        return self.kind == other.kind and np.array_equal(own, others)

    @property
    def condition(self) -> float:
        """Largest factor that a change to the norm without T and back can cost."""
        if self.scale is None:
            return 1.0
        if self.scale.ndim == 1:
            return float(self.scale.max() / self.scale.min())
        order = {"1": 1, "2": 2, "inf": np.inf}[self.kind]
        return float(np.linalg.cond(self.scale, order))

    def of(self, vectors: np.ndarray) -> np.ndarray:
        """Return the norms of vectors along the last axis."""
        if self.scale is not None:
            one = self.scale.ndim == 1
            vectors = vectors * self.scale if one else vectors @ self.scale.T
        order = {"1": 1, "2": 2, "inf": np.inf}[self.kind]
        return np.linalg.norm(vectors, ord=order, axis=-1)

    def of_matrices(self, matrices: np.ndarray) -> np.ndarray:
        """Return the operator norms of square matrices (..., m, m)."""
        if self.scale is not None and self.scale.ndim == 1:
            matrices = matrices * self.scale[:, None] / self.scale
        elif self.scale is not None:
            matrices = self.scale @ matrices @ np.linalg.inv(self.scale)
        order = {"1": 1, "2": 2, "inf": np.inf}[self.kind]
        return np.linalg.norm(matrices, ord=order, axis=(-2, -1))


def two_norm(matrix: Any) -> float:
    """Return the 2-norm, from the smaller product with the transpose: cheap."""
    wide = matrix.shape[1] > matrix.shape[0]
    square = matrix @ matrix.T if wide else matrix.T @ matrix
    return float(np.sqrt(max(np.linalg.eigvalsh(square)[-1], 0.0)))


def sum_bound(squares: list[Any]) -> float:
    """Return a bound of ``||A_1 + A_2 + ...||`` with ``A_k^T A_k <= squares_k``.

    ``||sum_k A_k||^2 <= lambda_max(sum_k squares_k / w_k)`` for positive weights of sum one; these
    are improved while it helps, from those of the triangle inequality.
    """
    sizes = np.array([np.sqrt(max(np.linalg.eigvalsh(s)[-1], 0.0)) for s in squares])
    used = [(s, size) for s, size in zip(squares, sizes, strict=True) if size > 0]
    if not used:
        return 0.0
    best, weights = float(sizes.sum()), np.array([size for _, size in used])
    for turn in range(8):
        weights = np.maximum(weights / weights.sum(), 1e-12)
        weights = weights / weights.sum()
        total = sum(s / w for (s, _), w in zip(used, weights, strict=True))
        values, vectors = np.linalg.eigh(total)
        before, best = best, min(best, float(np.sqrt(values[-1])))
        if len(used) == 1 or (turn and before - best < 1e-5 * best):
            break
        # The worst direction of all: how much each contributes to it.
        shares = np.array([np.sqrt(max(vectors[:, -1] @ s @ vectors[:, -1], 0.0)) for s, _ in used])
        weights = 0.5 * weights + 0.5 * shares / max(shares.sum(), 1e-300)
    return best
