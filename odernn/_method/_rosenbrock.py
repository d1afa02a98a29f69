"""Linearly implicit methods: stable on stiff fields, with one linear solve or none."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .._field import AbstractField, AbstractRelaxationField
from .._interpolation import drive_at
from .._results import InputError
from .._stability import GrowthStability
from .._typing import Array, Drive, Scalar, State
from ._base import AbstractOneStep, add_scaled
from ._solve import end_slope, solve_affine


class LinearlyImplicitEuler(AbstractOneStep):
    """Rosenbrock's Euler method: ``(I - dt J) k = F(s + dt, y)``, ``y+ = y + dt k``.

    J is the Jacobian of the field at ``(s + dt, y)``: one step of Newton's method for backward
    Euler, and equal to it where the field is affine in the state. Order 1, one stage, L-stable
    (growth ``1/(1 - z)``), not B-stable. Memory: the Jacobian within a step. Cost: the field, its
    Jacobian and one linear solve of the size of the state; it cannot fail to converge.

    Reference: Rosenbrock, Computer J. 5 (1963); Hairer, Wanner, *Solving Ordinary Differential
    Equations II*, IV.7.
    """

    stages: ClassVar[int] = 1
    order: ClassVar[int] = 1
    explicit: ClassVar[bool] = False
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = False

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(_decay)

    def check(self, field: AbstractField) -> None:
        """Accept every field."""

    def nesting(self, field: AbstractField) -> int:
        return field.depth

    def step(self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        equation = end_slope(field, time, state, u, dt, dt)
        increment, _ = solve_affine(equation, jax.tree.map(jnp.zeros_like, state))
        return add_scaled(state, (1, increment))


class FusedEuler(AbstractOneStep):
    """The fused Euler method of liquid time constants: ``y+ = (y + dt b) / (1 + dt a)``.

    For fields ``F = b - a.y`` that relax elementwise with rates ``a >= 0``, both taken at the
    beginning of the step: explicit in a and b, implicit in y. Order 1, one stage; the growth is
    ``1/(1 - z)``, and y+ lies between y and b/a whatever dt. Memory: none. Cost: one evaluation of
    the field.

    Raises ``InputError`` when a cell is built on a field that is not a relaxation.
    Reference: Hasani, Lechner, Amini, Rus, Grosu, "Liquid Time-constant Networks", AAAI (2021).
    """

    stages: ClassVar[int] = 1
    order: ClassVar[int] = 1
    explicit: ClassVar[bool] = True
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = False

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(_decay)

    def check(self, field: AbstractField) -> None:
        if not isinstance(field, AbstractRelaxationField):
            raise InputError(
                f"FusedEuler does not fit {type(field).__name__}: it needs a field b - a.y with "
                "elementwise rates a; take LinearlyImplicitEuler(), or a field with rates (Leaky, "
                "LSTM and others, see `odernn list`)."
            )

    def nesting(self, field: AbstractField) -> int:
        return field.depth

    def step(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        rates, drives = field.relaxation(time, state, drive_at(u, 0.0))
        one = jax.tree.map(jnp.ones_like, rates)
        return jax.tree.map(
            jnp.divide, add_scaled(state, (dt, drives)), add_scaled(one, (dt, rates))
        )


def _decay(z: Array) -> Array:
    return (1 / (1 - z))[..., None, None]
