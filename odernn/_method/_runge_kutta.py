"""Explicit Runge-Kutta methods: one stepper over validated tableaux."""

from typing import ClassVar

import equinox as eqx

from .._field import AbstractField
from .._results import InputError
from .._tableau import ButcherTableau
from .._typing import Drive, Scalar, State
from ._base import AbstractMethod, add_scaled


class AbstractRungeKutta(AbstractMethod):
    """The step that all explicit Runge-Kutta methods share; subclasses bring a ``tableau``."""

    tableau: eqx.AbstractVar[ButcherTableau]

    @property
    def stages(self) -> int:
        return self.tableau.stages

    @property
    def order(self) -> int:
        return self.tableau.order

    def check(self, field: AbstractField) -> None:
        """Accept every field."""

    def nesting(self, field: AbstractField) -> int:
        return _longest_chain(self.tableau) * field.depth

    def step(self, field: AbstractField, time: Scalar, y: State, u: Drive, dt: Scalar) -> State:
        tableau = self.tableau
        slopes: list[State] = []
        for row, node in zip(tableau.a, tableau.c, strict=True):
            at = time if node == 0 else time + float(node) * dt
            slopes.append(field(at, _advance(y, row, slopes, dt), u))
        return _advance(y, tableau.b, slopes, dt)


class RungeKutta(AbstractRungeKutta):
    """The explicit Runge-Kutta method of any Butcher tableau.

    ``K_i = F(s + c_i dt, y + dt sum_{j<i} a_ij K_j)``, ``y+ = y + dt sum_i b_i K_i``. Stages and
    order are those of the tableau; memory: the slopes of one step; cost: one evaluation of the
    field a stage.

    >>> kutta3 = RungeKutta(ButcherTableau([[], ["1/2"], [-1, 2]], ["1/6", "2/3", "1/6"]))
    >>> kutta3.stages, kutta3.order
    (3, 3)

    Raises ``InputError`` if the tableau is not explicit.
    """

    tableau: ButcherTableau = eqx.field(static=True)

    def __check_init__(self):
        if not isinstance(self.tableau, ButcherTableau):
            raise InputError(f"tableau = {self.tableau!r}: RungeKutta takes a ButcherTableau.")
        if not self.tableau.explicit:
            raise InputError(
                "the tableau is implicit: its a has entries on or above the diagonal; "
                "RungeKutta steps explicit tableaux only."
            )


_EULER = ButcherTableau([[]], [1])
_MIDPOINT = ButcherTableau([[], ["1/2"]], [0, 1])
_HEUN = ButcherTableau([[], [1]], ["1/2", "1/2"])
_RK4 = ButcherTableau([[], ["1/2"], [0, "1/2"], [0, 0, 1]], ["1/6", "1/3", "1/3", "1/6"])


class Euler(AbstractRungeKutta):
    """Forward Euler: ``y+ = y + dt F(s, y)``. Order 1, one stage.

    With dt = 1 it turns ``h' = -h + tanh(W h + V x + b)`` into the Elman network.
    Reference: Euler, *Institutionum calculi integralis* (1768).
    """

    tableau: ClassVar[ButcherTableau] = _EULER


class Midpoint(AbstractRungeKutta):
    """The explicit midpoint rule: ``y+ = y + dt F(s + dt/2, y + dt/2 F(s, y))``. Order 2, 2 stages.

    Reference: Runge, Math. Ann. 46 (1895).
    """

    tableau: ClassVar[ButcherTableau] = _MIDPOINT


class Heun(AbstractRungeKutta):
    """Heun's method: the mean of the slopes at both ends of the step. Order 2, 2 stages.

    ``K1 = F(s, y)``, ``K2 = F(s + dt, y + dt K1)``, ``y+ = y + dt (K1 + K2) / 2``.
    Reference: Heun, Z. Math. Phys. 45 (1900).
    """

    tableau: ClassVar[ButcherTableau] = _HEUN


class RK4(AbstractRungeKutta):
    """The classical Runge-Kutta method. Order 4, 4 stages.

    ``y+ = y + dt (K1 + 2 K2 + 2 K3 + K4) / 6`` with slopes at s, s + dt/2 (twice) and s + dt.
    Reference: Kutta, Z. Math. Phys. 46 (1901).
    """

    tableau: ClassVar[ButcherTableau] = _RK4


def _advance(y: State, coefficients, slopes: list[State], dt: Scalar) -> State:
    used = [(float(a), k) for a, k in zip(coefficients, slopes, strict=False) if a != 0]
    return add_scaled(y, *[(dt if a == 1 else a * dt, k) for a, k in used])


def _longest_chain(tableau: ButcherTableau) -> int:
    """Stages that are evaluated one after the other on the deepest path to the result."""
    chains: list[int] = []
    for row in tableau.a:
        before = [chains[j] for j, a in enumerate(row) if a != 0]
        chains.append(1 + max(before, default=0))
    return max(chain for chain, b in zip(chains, tableau.b, strict=True) if b != 0)
