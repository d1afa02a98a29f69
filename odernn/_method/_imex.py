"""Methods that treat the linear part of a field implicitly and the rest explicitly."""

from fractions import Fraction
from math import isqrt
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._field import AbstractField, AbstractSemilinearField
from .._interpolation import drive_at
from .._results import InputError
from .._tableau import ButcherTableau
from .._typing import Array, ArrayLike, Drive, Inexact, Scalar, State
from ._base import AbstractTwoPart
from ._runge_kutta import advance


class AbstractIMEX(AbstractTwoPart):
    """The step of an additive Runge-Kutta method: a pair of tableaux with common nodes and weights.

    ``Y_i = y + dt sum_j (a_ij N(Y_j) + A_ij L Y_j)``: the explicit ``tableau`` for the rest N, the
    diagonally implicit ``linear_tableau`` for the linear part L, whose equations are linear.
    """

    tableau: eqx.AbstractClassVar[ButcherTableau]
    linear_tableau: eqx.AbstractClassVar[ButcherTableau]

    explicit: ClassVar[bool] = False
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = False

    @property
    def stages(self) -> int:
        return sum(map(self._reads_rest, range(self.tableau.stages)))

    def split_stability(self, z: ArrayLike, w: ArrayLike) -> Inexact[Array, "..."]:
        """Return the growth on y' = (lambda + mu) y; ``z = dt lambda``, ``w = dt mu`` implicit."""
        z, w = jnp.asarray(z), jnp.asarray(w)
        stages: list[Any] = []
        for i in range(self.tableau.stages):
            value = 1 + 0 * (z + w)
            for j, inner in enumerate(stages):
                explicit, implicit = self.tableau.a[i][j], self.linear_tableau.a[i][j]
                value = value + (float(explicit) * z + float(implicit) * w) * inner
            stages.append(value / (1 - float(self.linear_tableau.a[i][i]) * w))
        value = 1 + 0 * (z + w)
        for b, inner_b, inner in zip(self.tableau.b, self.linear_tableau.b, stages, strict=True):
            value = value + (float(b) * z + float(inner_b) * w) * inner
        return value

    def check(self, field: AbstractField) -> None:
        check_semilinear(self, field)

    def nesting(self, field: AbstractField) -> int:
        return self.stages * field.depth

    def _reads_rest(self, stage: int) -> bool:
        """Whether the rest is evaluated at this stage: a later stage or the result uses it."""
        later = any(row[stage] != 0 for row in self.tableau.a)
        return later or self.tableau.b[stage] != 0

    def step(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        linear = field.linear()
        slopes: list[State] = []
        linear_slopes: list[State] = []
        resolvents: dict[Fraction, Any] = {}
        pairs = zip(self.tableau.a, self.linear_tableau.a, self.tableau.c, strict=True)
        for i, (row, linear_row, node) in enumerate(pairs):
            inner = advance(state, row, slopes, dt)
            inner = advance(inner, linear_row[:i], linear_slopes, dt)
            if (diagonal := linear_row[i]) != 0:
                if diagonal not in resolvents:
                    resolvents[diagonal] = linear.resolvent(float(diagonal) * dt)
                inner = resolvents[diagonal].apply(inner)
            at = time + float(node) * dt
            slopes.append(field.rest(at, inner, drive_at(u, float(node))))
            linear_slopes.append(linear.apply(inner))
        after = advance(state, self.tableau.b, slopes, dt)
        return advance(after, self.linear_tableau.b, linear_slopes, dt)


def check_semilinear(method: Any, field: AbstractField) -> None:
    """Raise ``InputError`` unless the field has a constant linear part."""
    if not isinstance(field, AbstractSemilinearField):
        raise InputError(
            f"{type(method).__name__} does not fit {type(field).__name__}: it needs a field with a "
            "constant linear part (an AbstractSemilinearField: Leaky, Oscillator); take a "
            "Runge-Kutta method, or LinearlyImplicitEuler for a stiff field."
        )


class IMEXEuler(AbstractIMEX):
    """IMEX Euler: ``y+ = (I - dt L)^-1 (y + dt N(s, y))``. Order 1, one evaluation of N.

    Memory: none from step to step. Cost: one linear solve and one evaluation of N.

    Raises ``InputError`` when a cell is built on a field without a constant linear part. Reference:
    Ascher, Ruuth, Wetton, SIAM J. Numer. Anal. 32 (1995).
    """

    order: ClassVar[int] = 1
    tableau: ClassVar[ButcherTableau] = ButcherTableau([[], [1]], [1, 0])
    linear_tableau: ClassVar[ButcherTableau] = ButcherTableau([[0], [0, 1]], [0, 1])


_GAMMA = 1 - Fraction(isqrt(2 * 10**100), 2 * 10**50)
_DELTA = 1 - 1 / (2 * _GAMMA)


class ARS222(AbstractIMEX):
    """The method (2,2,2) of Ascher, Ruuth and Spiteri. Order 2, L-stable in the linear part.

    Memory: none from step to step. Cost: two linear solves and two evaluations of N. Raises
    ``InputError`` as ``IMEXEuler``. Reference: Ascher, Ruuth, Spiteri, Appl. Numer. Math. 25
    (1997).
    """

    order: ClassVar[int] = 2
    tableau: ClassVar[ButcherTableau] = ButcherTableau(
        [[], [_GAMMA], [_DELTA, 1 - _DELTA]], [_DELTA, 1 - _DELTA, 0]
    )
    linear_tableau: ClassVar[ButcherTableau] = ButcherTableau(
        [[0], [0, _GAMMA], [0, 1 - _GAMMA, _GAMMA]], [0, 1 - _GAMMA, _GAMMA]
    )


_ARK3_WEIGHTS = [
    "1471266399579/7840856788654",
    "-4482444167858/7529755066697",
    "11266239266428/11593286722821",
    "1767732205903/4055673282236",
]
_ARK3_DIAGONAL = "1767732205903/4055673282236"


class ARK3(AbstractIMEX):
    """The additive Runge-Kutta method ARK3(2)4L[2]SA. Order 3, four stages, L-stable linear part.

    Memory: none from step to step. Cost: three linear solves and four evaluations of N. Raises
    ``InputError`` as ``IMEXEuler``. Reference: Kennedy, Carpenter, Appl. Numer. Math. 44 (2003).
    """

    order: ClassVar[int] = 3
    tableau: ClassVar[ButcherTableau] = ButcherTableau(
        [
            [],
            ["1767732205903/2027836641118"],
            ["5535828885825/10492691773637", "788022342437/10882634858940"],
            [
                "6485989280629/16251701735622",
                "-4246266847089/9704473918619",
                "10755448449292/10357097424841",
            ],
        ],
        _ARK3_WEIGHTS,
    )
    linear_tableau: ClassVar[ButcherTableau] = ButcherTableau(
        [
            [0],
            [_ARK3_DIAGONAL, _ARK3_DIAGONAL],
            ["2746238789719/10658868560708", "-640167445237/6845629431997", _ARK3_DIAGONAL],
            _ARK3_WEIGHTS,
        ],
        _ARK3_WEIGHTS,
    )
