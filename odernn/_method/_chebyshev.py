"""Stabilised explicit Runge-Kutta methods for mildly stiff fields."""

from fractions import Fraction
from functools import cache
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax

from .._field import AbstractField
from .._results import InputError
from .._stability import RungeKuttaStability
from .._tableau import ButcherTableau
from .._typing import Drive, Scalar, State
from ._base import AbstractOneStep, add_scaled, evaluate

_DAMPING = {1: Fraction(1, 20), 2: Fraction(2, 13)}


class RungeKuttaChebyshev(AbstractOneStep):
    """The Runge-Kutta-Chebyshev method: stable far along the negative real axis, yet explicit.

    ``Y_1 = y + m_1 dt F_0``, ``Y_j = (1 - mu_j - nu_j) y + mu_j Y_{j-1} + nu_j Y_{j-2} + m_j dt
    F_{j-1} + g_j dt F_0``, ``y+ = Y_s``: the recurrence of Chebyshev's polynomials, damped a bit.
    The real stability interval grows as the square of the number of stages: about 1.93 s^2 for
    order 1 and 0.65 s^2 for order 2. Stable is not damped: a step may leave 95 % of a fast
    component. Memory: three states, whatever s; cost: s evaluations.

    **Arguments**: ``stages`` s, from 2 on; ``order``, 1 or 2.

    >>> method = RungeKuttaChebyshev(10)
    >>> method.order, round(method.real_interval)
    (2, 65)

    Raises ``InputError`` for other values. Reference: van der Houwen, Sommeijer, ZAMM 60 (1980);
    Sommeijer, Shampine, Verwer, J. Comput. Appl. Math. 88 (1998).
    """

    stages: int = eqx.field(static=True)
    order: int = eqx.field(static=True, default=2)

    explicit: ClassVar[bool] = True
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = False

    def __check_init__(self):
        if isinstance(self.stages, bool) or not isinstance(self.stages, int) or self.stages < 2:
            raise InputError(f"stages = {self.stages!r}: give a whole number of at least 2.")
        if self.order not in _DAMPING:
            raise InputError(f"order = {self.order!r}: it is 1 or 2.")

    @property
    def tableau(self) -> ButcherTableau:
        """The same method as a Butcher tableau."""
        return _tableau(self.stages, self.order)

    @property
    def stability(self) -> RungeKuttaStability:
        return RungeKuttaStability(self.tableau)

    def check(self, field: AbstractField) -> None:
        """Accept every field."""

    def nesting(self, field: AbstractField) -> int:
        return self.stages * field.depth

    def step(self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        first, rows = _coefficients(self.stages, self.order)
        nodes = self.tableau.c
        start = evaluate(field, time, state, u, dt, 0.0)
        before, now = state, add_scaled(state, (float(first) * dt, start))
        for row, node in zip(rows, nodes[1:], strict=True):
            mu, nu, m, g = map(float, row)
            slope = evaluate(field, time, now, u, dt, float(node))
            rest = _combine(1 - mu - nu, state, mu, now, nu, before)
            before, now = now, add_scaled(rest, (m * dt, slope), (g * dt, start))
        return now


def _combine(a: float, x: State, b: float, y: State, c: float, z: State) -> State:
    return jax.tree.map(lambda p, q, r: a * p + b * q + c * r, x, y, z)


class _Row(NamedTuple):
    mu: Fraction
    nu: Fraction
    slope: Fraction
    start: Fraction


@cache
def _coefficients(stages: int, order: int) -> tuple[Fraction, list[_Row]]:
    """Coefficients of the recurrence, exactly but for a last rounding."""
    w = 1 + _DAMPING[order] / stages**2
    # Chebyshev's polynomials and their first two derivatives at w.
    t = [(Fraction(1), Fraction(0), Fraction(0)), (w, Fraction(1), Fraction(0))]
    for _ in range(2, stages + 1):
        (a, da, dda), (b, db, ddb) = t[-2:]
        t.append((2 * w * b - a, 2 * b + 2 * w * db - da, 4 * db + 2 * w * ddb - dda))
    value, slope, bend = t[stages]
    if order == 1:
        w1 = value / slope
        scale = [1 / v for v, _, _ in t]
        shift = [Fraction(0)] * len(t)
        first = w1 / w
    else:
        w1 = slope / bend
        scale = [dd / d**2 if j >= 2 else Fraction(0) for j, (_, d, dd) in enumerate(t)]
        scale[0] = scale[1] = scale[2]
        shift = [1 - b * v for b, (v, _, _) in zip(scale, t, strict=True)]
        first = scale[1] * w1
    rows = []
    for j in range(2, stages + 1):
        ratio = scale[j] / scale[j - 1]
        m = 2 * w1 * ratio
        row = (2 * w * ratio, -scale[j] / scale[j - 2], m, -shift[j - 1] * m)
        rows.append(_Row(*(Fraction(float(v)) for v in row)))
    return Fraction(float(first)), rows


@cache
def _tableau(stages: int, order: int) -> ButcherTableau:
    first, rows = _coefficients(stages, order)
    # Each Y_j as its weights of the slopes.
    before, now = [Fraction(0)] * stages, [first] + [Fraction(0)] * (stages - 1)
    a = [before, now]
    for j, (mu, nu, m, g) in enumerate(rows, start=1):
        following = [mu * p + nu * q for p, q in zip(now, before, strict=True)]
        following[j] += m
        following[0] += g
        before, now = now, [Fraction(float(v)) for v in following]
        a.append(now)
    return ButcherTableau(a[:-1], a[-1])
