"""How a cell is certified while it is trained, and what the rules for known cells share."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell, TrainedStep
from .._enclosure import Norm


class Box(NamedTuple):
    """Bounds of a cell's inputs, one number a channel."""

    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def around(cls, bound: float, size: int) -> "Box":
        """Return the box [-bound, bound] in every channel."""
        return cls(np.full(size, -bound), np.full(size, bound))

    @property
    def bounded(self) -> bool:
        """Whether no channel is unbounded."""
        return bool(np.isfinite(self.lower).all() and np.isfinite(self.upper).all())

    def __str__(self) -> str:
        if not self.bounded:
            return "all inputs"
        return f"inputs in [{self.lower.min():.4g}, {self.upper.max():.4g}]"


class Rule(NamedTuple):
    """How one cell is certified: ``||J v|| <= upper(cell) ||v||`` for every step Jacobian J.

    ``upper`` and ``project`` can be traced; ``project`` brings a cell to the bound by changing only
    what offends. ``states``: bounds of the blocks of the state (a state that is in stays in), None
    for all states. ``seen``: bound of what the next layer sees.
    ``general``: ``project`` does nothing, all weights are scaled.
    """

    upper: Callable[[Cell], Any]
    project: Callable[[Cell], Cell]
    norm: Norm
    theorem: str
    assumptions: tuple[str, ...] = ()
    states: Callable[[Cell], Any] | None = None
    seen: float = math.inf
    general: bool = False


def spectral_norm(matrix: Any) -> Any:
    """Return the largest singular value."""
    return jnp.sqrt(jnp.maximum(_gram(matrix)[0][-1], 0.0))


def clipped(matrix: Any, limit: Any) -> Any:
    """Return the matrix with its singular values clipped: the nearest one of norm ``limit``."""
    margin = margin_of(matrix.dtype)

    def above(carry: tuple[Any, ...]) -> Any:
        count, _, values, _ = carry
        return (count < 4) & (jnp.sqrt(jnp.maximum(values[-1], 0.0)) > limit * (1 - margin / 2))

    def clip(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        count, matrix, values, vectors = carry
        sizes = jnp.sqrt(jnp.maximum(values, 0.0))
        large = sizes > limit * (1 - margin)
        ratio = limit * (1 - margin) / jnp.where(large, sizes, jnp.ones_like(sizes))
        excess = jnp.where(large, 1 - ratio, jnp.zeros_like(sizes))
        matrix = matrix - product(product(matrix, vectors * excess), vectors.T)
        return count + 1, matrix, *_gram(matrix)

    # Squares lose the digits of values far below the largest: once that is gone, look again.
    return jax.lax.while_loop(above, clip, (0, matrix, *_gram(matrix)))[1]


def _gram(matrix: Any) -> tuple[Any, Any]:
    """Squared singular values and right singular vectors; large ones are as exact as by an SVD."""
    return jnp.linalg.eigh(product(matrix.T, matrix))


def product(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision="highest")


def margin_of(dtype: Any) -> float:
    """Share by which a projection stays below its bound, so that rounding does not undo it."""
    return 64 * float(jnp.finfo(dtype).eps)


def shrink_above(value: Any, limit: Any, scale: Any) -> Any:
    """``scale`` where a value is above its limit, else exactly one."""
    offends = value > limit * (1 - margin_of(value.dtype) / 2)
    return jnp.where(offends, jnp.minimum(scale, 1.0), jnp.ones_like(value))


def row_sums(weight: Any) -> Any:
    """Sums of the absolute weights of each unit."""
    return jnp.sum(jnp.abs(weight), axis=0)


def largest_drive(field: Any, box: Box, *, absolute: bool = False) -> list[Any]:
    """The largest (absolute) drive of each form in the box, in parts of hidden size."""
    dtype = field.dtype
    middle = jnp.asarray((box.lower + box.upper) / 2, dtype)
    radius = jnp.asarray((box.upper - box.lower) / 2, dtype)
    centre = field.drive(middle)
    return field.split((jnp.abs(centre) if absolute else centre) + radius @ abs(field.input_weight))


def field_of(cell: Cell) -> Any:
    return cell.field


def step_size(cell: Cell) -> Any:
    if isinstance(cell.dt, TrainedStep):
        return cell.dt.value.astype(cell.field.dtype)
    return cell.dt


def initial_dt(cell: Cell) -> float:
    """Return the step size before training."""
    return cell.dt.initial if isinstance(cell.dt, TrainedStep) else cell.dt


def at_most(cell: Cell, limit: float) -> Cell:
    """The cell with a trained step size of at most ``limit``."""
    if not isinstance(cell.dt, TrainedStep):
        return cell
    return eqx.tree_at(lambda c: c.dt.log_dt, cell, jnp.minimum(cell.dt.log_dt, math.log(limit)))


def with_arrays(cell: Cell, **arrays: Any) -> Cell:
    names = list(arrays)
    return eqx.tree_at(
        lambda c: [getattr(c.field, name) for name in names], cell, [arrays[n] for n in names]
    )
