"""What every numerical method is."""

import abc
from typing import Any

import equinox as eqx
import jax

from .._field import AbstractField
from .._typing import Drive, Scalar, State


class AbstractMethod(eqx.Module):
    """A numerical method: from the state at one time to the state one step later.

    ``stages`` is the number of evaluations of the field in a step, ``order`` the order of accuracy:
    the error over a fixed span of time shrinks as ``dt**order``.
    """

    @property
    @abc.abstractmethod
    def stages(self) -> int:
        """Evaluations of the field in one step."""

    @property
    @abc.abstractmethod
    def order(self) -> int:
        """Order of accuracy."""

    @abc.abstractmethod
    def check(self, field: AbstractField) -> None:
        """Raise ``InputError`` if the method cannot integrate the field."""

    @abc.abstractmethod
    def nesting(self, field: AbstractField) -> int:
        """Return n: the nonlinearities nested in one step on this field."""

    @abc.abstractmethod
    def step(self, field: AbstractField, time: Scalar, y: State, u: Drive, dt: Scalar) -> State:
        """Return the state one step of length ``dt`` after ``y``; the drive is held within it."""


def add_scaled(y: State, *terms: tuple[Any, State]) -> State:
    """Return ``y + sum of factor * increment`` in the dtype of ``y``."""

    def add(leaf, *increments):
        for (factor, _), increment in zip(terms, increments, strict=True):
            # A factor of exactly one is common (dt = 1): leave no multiplication behind.
            one = isinstance(factor, int | float) and factor == 1
            leaf = leaf + (increment if one else _cast(factor, leaf.dtype) * increment)
        return leaf

    return jax.tree.map(add, y, *[increment for _, increment in terms])


def _cast(factor: Any, dtype: Any) -> Any:
    return factor if isinstance(factor, int | float) else factor.astype(dtype)
