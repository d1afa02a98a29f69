"""Implicit Runge-Kutta methods: one stepper over tableaux, and those with a name."""

from fractions import Fraction
from functools import cache, partial
from math import isqrt
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._field import AbstractField
from .._results import InputError
from .._tableau import ButcherTableau
from .._typing import Drive, Scalar, State
from ._base import AbstractInvertible, add_scaled, evaluate
from ._runge_kutta import AbstractRungeKutta
from ._solve import AbstractSolving, Solution, summary


class AbstractImplicitRungeKutta(AbstractRungeKutta, AbstractSolving):
    """The step that all implicit Runge-Kutta methods share; subclasses bring a ``tableau``.

    The unknowns are the increments ``D_i = dt F(s + c_i dt, y + sum_j a_ij D_j)``: of the size of
    the state however stiff the field; ``y+ = y + sum_i b_i D_i``. A diagonally implicit tableau is
    solved stage after stage, any other as one system, from D = 0. Arguments: ``AbstractSolving``.
    """

    def nesting(self, field: AbstractField) -> int:
        return self.stages * field.depth

    def step(self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        return self.require(self.attempt(field, time, state, u, dt))

    def attempt(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> tuple[State, Solution]:
        return self._solve(field, time, state, u, dt, undo=False)

    def _solve(
        self, field: AbstractField, time: Scalar, y: State, u: Drive, dt: Scalar, *, undo: bool
    ) -> tuple[State, Solution]:
        """Take the step, or go from its end to its beginning by the same method with -dt."""
        tableau = self.tableau
        known: list[State] = []
        solutions: list[Solution] = []

        def residuals(group: list[int], increments: list[State]) -> list[State]:
            """What the equations ``D_i - dt F(...) = 0`` of a group of stages leave."""
            left = []
            for i, own in zip(group, increments, strict=True):
                inner = _add(y, tableau.a[i], [*known, *increments])
                node = float(1 - tableau.c[i] if undo else tableau.c[i])
                slope = evaluate(field, time, inner, u, dt, node)
                left.append(add_scaled(own, (dt if undo else -dt, slope)))
            return left

        for group in _groups(tableau):
            guess = [jax.tree.map(jnp.zeros_like, y)] * len(group)
            if len(group) == 1 and tableau.a[group[0]][group[0]] == 0:
                found = jax.tree.map(jnp.negative, residuals(group, guess))
            else:
                equations = partial(residuals, group)
                found, solution = self.solve(equations, guess, y)
                solutions.append(solution)
            known += found
        return _add(y, tableau.b, known), summary(solutions)


class AbstractSymmetricRungeKutta(AbstractImplicitRungeKutta, AbstractInvertible):
    """An implicit method whose step with -dt undoes the step with dt, if its tableau is symmetric.

    The inverse is as exact as the tolerance of the solver.
    """

    def check_inverse(self, field: AbstractField) -> None:
        if not self.tableau.symmetric:
            raise InputError(
                f"a step of this {type(self).__name__} has no inverse: its tableau is not "
                "symmetric; take ImplicitMidpoint(), Trapezoid() or Gauss()."
            )

    def inverse(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> State:
        return self.require(self._solve(field, time, state, u, dt, undo=True))


class ImplicitRungeKutta(AbstractSymmetricRungeKutta):
    """The Runge-Kutta method of any implicit Butcher tableau.

    ``K_i = F(s + c_i dt, y + dt sum_j a_ij K_j)``, ``y+ = y + dt sum_i b_i K_i``. Stages, order,
    and whether it is symplectic or symmetric are those of the tableau. Memory: none from step to
    step, the slopes and one Jacobian within one; cost: an iteration of Newton's method needs a
    Jacobian of the field for each stage and a solve of the size of the state (diagonally implicit:
    for each stage) or of stages times that.

    **Arguments**: ``tableau``; by name ``tolerance``, ``max_steps``, ``throw`` (see
    ``AbstractSolving``).

    >>> from odernn import ButcherTableau
    >>> lobatto = ImplicitRungeKutta(ButcherTableau([[], ["1/2", "1/2"]], ["1/2", "1/2"]))
    >>> lobatto.order, lobatto.reversible
    (2, True)

    Raises ``InputError`` if the tableau is explicit; at run time, an error if a step was not
    solved. Reference: Hairer, Wanner, *Solving Ordinary Differential Equations II*, IV.5 to IV.8.
    """

    tableau: ButcherTableau = eqx.field(static=True)

    def __check_init__(self):
        if not isinstance(self.tableau, ButcherTableau):
            raise InputError(
                f"tableau = {self.tableau!r}: ImplicitRungeKutta takes a ButcherTableau."
            )
        if self.tableau.explicit:
            raise InputError("the tableau is explicit: take RungeKutta, which solves no equation.")


class BackwardEuler(AbstractImplicitRungeKutta):
    """Backward Euler: ``y+ = y + dt F(s + dt, y+)``. Order 1, one stage, L-stable, B-stable.

    Arguments, memory, cost, errors: ``ImplicitRungeKutta``.
    Reference: Curtiss, Hirschfelder, Proc. Natl. Acad. Sci. 38 (1952).
    """

    tableau: ClassVar[ButcherTableau] = ButcherTableau([[1]], [1])


class ImplicitMidpoint(AbstractSymmetricRungeKutta):
    """The implicit midpoint rule: ``y+ = y + dt F(s + dt/2, (y + y+)/2)``. Order 2, one stage.

    A-stable, B-stable, symmetric, symplectic: it keeps every quadratic invariant, and a linear
    field turns into its Cayley transform. Arguments, memory, cost, errors: ``ImplicitRungeKutta``.
    Reference: Hairer, Lubich, Wanner, *Geometric Numerical Integration*, II.1, VI.4.
    """

    tableau: ClassVar[ButcherTableau] = ButcherTableau([["1/2"]], [1])


class Trapezoid(AbstractSymmetricRungeKutta):
    """The trapezoidal rule: ``y+ = y + dt (F(s, y) + F(s + dt, y+)) / 2``. Order 2, two stages.

    A-stable and symmetric, neither B-stable nor symplectic. The first stage is explicit. Arguments,
    memory, cost and errors: ``ImplicitRungeKutta``.
    Reference: Dahlquist, BIT 3 (1963).
    """

    tableau: ClassVar[ButcherTableau] = ButcherTableau([[], ["1/2", "1/2"]], ["1/2", "1/2"])


_DIGITS = 10**50
_GAMMA = 1 - Fraction(isqrt(2 * _DIGITS**2), 2 * _DIGITS)


class SDIRK2(AbstractImplicitRungeKutta):
    """Two diagonally implicit stages with ``gamma = 1 - sqrt(2)/2``. Order 2, L-stable.

    ``D_1 = dt F(s + gamma dt, y + gamma D_1)``, ``D_2 = dt F(s + dt, y + (1 - gamma) D_1 + gamma
    D_2)``, ``y+ = y + (1 - gamma) D_1 + gamma D_2``. The tableau has gamma to 50 digits. Arguments,
    memory, cost, errors: ``ImplicitRungeKutta``. Reference: Alexander, SIAM J. Numer. Anal. 14
    (1977).
    """

    tableau: ClassVar[ButcherTableau] = ButcherTableau(
        [[_GAMMA], [1 - _GAMMA, _GAMMA]], [1 - _GAMMA, _GAMMA]
    )


class Gauss(AbstractSymmetricRungeKutta):
    """Collocation at the Gauss-Legendre nodes. Order ``2 stages``, A-stable, B-stable.

    Symmetric and symplectic, the highest order for its stages; one stage is the implicit midpoint
    rule. The tableau has its coefficients to 50 digits.

    **Arguments**: ``stages``, 1 to 4; the others, memory, cost and errors:
    ``ImplicitRungeKutta``.

    >>> Gauss(2).order, Gauss(2).symplectic
    (4, True)

    Raises ``InputError`` for other numbers of stages. Reference: Butcher, Math. Comp. 18 (1964).
    """

    stages: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        _check_stages(self.stages)

    @property
    def tableau(self) -> ButcherTableau:
        """The coefficients, to 50 digits."""
        return _gauss(self.stages)


class RadauIIA(AbstractImplicitRungeKutta):
    """Collocation at the right Radau nodes. Order ``2 stages - 1``, L-stable, B-stable.

    The last node is the end of the step: errors of stiff components vanish. One stage is backward
    Euler. The tableau has its coefficients to 50 digits.

    **Arguments**: ``stages``, 1 to 4; the others, memory, cost and errors:
    ``ImplicitRungeKutta``.

    >>> RadauIIA(3).order
    5

    Raises ``InputError`` for other numbers of stages. Reference: Ehle, University of Waterloo,
    CSRR 2010 (1969); Hairer, Wanner, *Solving Ordinary Differential Equations II*, IV.5.
    """

    stages: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        _check_stages(self.stages)

    @property
    def tableau(self) -> ButcherTableau:
        """The coefficients, to 50 digits."""
        return _radau(self.stages)


def _groups(tableau: ButcherTableau) -> list[list[int]]:
    """Stages that are solved together: each alone, if none needs a later one."""
    stages = range(tableau.stages)
    if all(tableau.a[i][j] == 0 for i in stages for j in stages if j > i):
        return [[i] for i in stages]
    return [list(stages)]


def _add(y: State, coefficients: tuple[Fraction, ...], increments: list[State]) -> State:
    pairs = zip(coefficients, increments, strict=False)
    return add_scaled(y, *[(float(a), d) for a, d in pairs if a != 0])


def _check_stages(stages: int) -> None:
    # The order conditions of a tableau are checked up to 8.
    if isinstance(stages, bool) or not isinstance(stages, int) or not 1 <= stages <= 4:
        raise InputError(f"stages = {stages!r}: give a whole number from 1 to 4.")


@cache
def _gauss(stages: int) -> ButcherTableau:
    return _collocation(_roots(_legendre(stages)))


@cache
def _radau(stages: int) -> ButcherTableau:
    higher, lower = _legendre(stages), [*_legendre(stages - 1), Fraction(0)]
    return _collocation(_roots([p - q for p, q in zip(higher, lower, strict=True)]))


def _legendre(degree: int) -> list[Fraction]:
    """Coefficients of Legendre's polynomial on [0, 1], the constant first."""
    before, now = [Fraction(0)], [Fraction(1)]
    for k in range(degree):
        # (k + 1) P_{k+1} = (2k + 1) (2x - 1) P_k - k P_{k-1}
        raised, kept, old = [Fraction(0), *now], [*now, Fraction(0)], [*before, *[Fraction(0)] * 2]
        before, now = (
            now,
            [
                ((2 * k + 1) * (2 * r - p) - k * q) / (k + 1)
                for r, p, q in zip(raised, kept, old, strict=False)
            ],
        )
    return now


def _roots(polynomial: list[Fraction]) -> list[Fraction]:
    """Real simple roots in increasing order, to 50 digits by Newton's method."""
    slopes = [k * c for k, c in enumerate(polynomial)][1:]
    roots = []
    for guess in sorted(np.roots([float(c) for c in reversed(polynomial)]).real):
        root = Fraction(float(guess))
        for _ in range(5):
            root = _rounded(root - _value(polynomial, root) / _value(slopes, root), _DIGITS**2)
        roots.append(_rounded(root))
    return roots


def _collocation(nodes: list[Fraction]) -> ButcherTableau:
    """The tableau whose stages integrate every polynomial through the nodes exactly."""
    rows = []
    for end in (*nodes, Fraction(1)):
        row = []
        for node in nodes:
            # The integral from 0 to `end` of Lagrange's polynomial that is one at `node`.
            lagrange = [Fraction(1)]
            for other in nodes:
                if other != node:
                    scaled = [
                        (r - other * p) / (node - other)
                        for r, p in zip([0, *lagrange], [*lagrange, 0], strict=True)
                    ]
                    lagrange = scaled
            integral = [Fraction(0), *[c / k for k, c in enumerate(lagrange, start=1)]]
            row.append(_rounded(_value(integral, end)))
        rows.append(row)
    return ButcherTableau(rows[:-1], rows[-1], nodes)


def _value(polynomial: list[Fraction], x: Fraction) -> Fraction:
    return sum((c * x**k for k, c in enumerate(polynomial)), Fraction(0))


def _rounded(value: Fraction, scale: int = _DIGITS) -> Fraction:
    return Fraction(round(value * scale), scale)
