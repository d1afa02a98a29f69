"""What a field sees of the inputs between two of them."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ._results import InputError
from ._typing import Array, Drive, Float, Scalar


class Polynomial(eqx.Module):
    """A drive that changes within a step: ``sum_k coefficients[k] c^k`` for c from 0 to 1."""

    coefficients: tuple[Drive, ...]

    def __call__(self, node: Scalar) -> Drive:
        """Return the drive at the part ``node`` of the step."""
        *rest, value = self.coefficients
        for lower in reversed(rest):
            value = jax.tree.map(lambda a, b: _factor(node, a) * a + b, value, lower)
        return value


def drive_at(u: Drive, node: Scalar) -> Drive:
    """Return the drive at the part ``node`` of a step, 0 its beginning and 1 its end."""
    return u(node) if isinstance(u, Polynomial) else u


def within(u: Drive, start: float, length: float) -> Drive:
    """Return the drive of a part of the step, from ``start`` over ``length`` of it.

    The step backwards is the part from 1 over -1.
    """
    if not isinstance(u, Polynomial):
        return u
    # Horner's scheme with the polynomial start + length c in place of c.
    *rest, top = u.coefficients
    coefficients = [top]
    for lower in reversed(rest):
        kept = [jax.tree.map(lambda a: start * a, c) for c in coefficients]
        raised = [jax.tree.map(lambda a: length * a, c) for c in coefficients]
        zero = jax.tree.map(jnp.zeros_like, top)
        pairs = zip([*kept, zero], [lower, *raised], strict=True)
        coefficients = [jax.tree.map(jnp.add, a, b) for a, b in pairs]
    return Polynomial(tuple(coefficients))


class AbstractInterpolation(eqx.Module):
    """How the input is continued between its samples.

    A step with the input x_k spans the time from t_{k-1} to t_k, so that an output uses present and
    past inputs only. ``samples`` is the number of inputs that a step reads, the present one among
    them; ``order`` bounds the order of accuracy for a smooth input, whatever the method.
    """

    if TYPE_CHECKING:
        # To a type checker an abstract variable is an argument of the constructor.
        @property
        def samples(self) -> int: ...
    else:
        samples: eqx.AbstractVar[int]

    @property
    @abc.abstractmethod
    def order(self) -> int:
        """Order of accuracy that a smooth input allows."""

    @abc.abstractmethod
    def __call__(self, drives: Sequence[Drive], intervals: Float[Array, " steps"] | None) -> Drive:
        """Return the drive within a step of the drives of the last ``samples`` inputs.

        They are in the order of time, as are the lengths of the last ``samples - 1`` intervals (at
        least one; None if all are equal).
        """


class HeldInput(AbstractInterpolation):
    """The present input is held within the step: exact for inputs that are piecewise constant.

    Order 1 for a smooth input.
    """

    @property
    def samples(self) -> int:
        return 1

    @property
    def order(self) -> int:
        return 1

    def __call__(self, drives: Sequence[Drive], intervals: Float[Array, " steps"] | None) -> Drive:
        return drives[-1]


class LinearInput(AbstractInterpolation):
    """A straight line from the input before to the present one; order 2."""

    @property
    def samples(self) -> int:
        return 2

    @property
    def order(self) -> int:
        return 2

    def __call__(self, drives: Sequence[Drive], intervals: Float[Array, " steps"] | None) -> Drive:
        before, now = drives
        return Polynomial((before, jax.tree.map(jnp.subtract, now, before)))


class CubicInput(AbstractInterpolation):
    """The cubic polynomial through the last four inputs, at their times; order 4.

    Causal and continuous. At the beginning of a sequence the first input stands for those before
    it, unless the layer is given them (``past``).
    """

    @property
    def samples(self) -> int:
        return 4

    @property
    def order(self) -> int:
        return 4

    def __call__(self, drives: Sequence[Drive], intervals: Float[Array, " steps"] | None) -> Drive:
        if intervals is None:
            nodes: list[Any] = [-2.0, -1.0, 0.0, 1.0]
        else:
            second, first = intervals[1] / intervals[2], intervals[0] / intervals[2]
            nodes = [-(first + second), -second, 0.0, 1.0]
        # Newton's divided differences, then multiplied out from the innermost factor.
        table = list(drives)
        for width in range(1, 4):
            for i in range(3, width - 1, -1):
                table[i] = _divide(table[i], table[i - 1], nodes[i] - nodes[i - width])
        coefficients = [table[3]]
        for i in (2, 1, 0):
            shifted = [None, *coefficients]
            scaled = [*coefficients, None]
            coefficients = [_combine(a, b, nodes[i]) for a, b in zip(shifted, scaled, strict=True)]
            coefficients[0] = jax.tree.map(jnp.add, coefficients[0], table[i])
        return Polynomial(tuple(coefficients))


class StackedInput(AbstractInterpolation):
    """The last inputs as they are: the field sees the tuple of their drives, the oldest first.

    For fields that are made for it: the strongly-typed networks read the present and the previous
    input. Held within the step: order 1 for a smooth input. **Arguments**: ``samples``, the number
    of inputs. Raises ``InputError`` unless it is a whole number of at least 2.
    """

    samples: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 2:
            raise InputError(f"samples = {self.samples!r}: give a whole number of at least 2.")

    @property
    def order(self) -> int:
        return 1

    def __call__(self, drives: Sequence[Drive], intervals: Float[Array, " steps"] | None) -> Drive:
        return tuple(drives)


def _divide(a: Drive, b: Drive, width: Any) -> Drive:
    return jax.tree.map(lambda p, q: (p - q) / _factor(width, p), a, b)


def _combine(raised: Drive | None, kept: Drive | None, node: Any) -> Drive:
    """Return ``raised - node kept``, None standing for zero."""
    if kept is None:
        return raised
    scaled = jax.tree.map(lambda a: -_factor(node, a) * a, kept)
    return scaled if raised is None else jax.tree.map(jnp.add, raised, scaled)


def _factor(value: Any, like: Any) -> Any:
    return value if isinstance(value, int | float) else jnp.asarray(value, like.dtype)
