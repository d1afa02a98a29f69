"""Explicit Runge-Kutta methods: one stepper over validated tableaux."""

from typing import TYPE_CHECKING

import equinox as eqx

from .._field import AbstractField
from .._results import InputError
from .._stability import RungeKuttaStability
from .._tableau import ButcherTableau
from .._typing import Drive, Scalar, State
from ._base import AbstractOneStep, add_scaled, evaluate


class AbstractRungeKutta(AbstractOneStep):
    """What all Runge-Kutta methods know from their ``tableau``; they fit every field."""

    if TYPE_CHECKING:

        @property
        def tableau(self) -> ButcherTableau: ...
    else:
        tableau: eqx.AbstractVar[ButcherTableau]

    @property
    def stages(self) -> int:
        return self.tableau.stages

    @property
    def order(self) -> int:
        return self.tableau.order

    @property
    def explicit(self) -> bool:
        return self.tableau.explicit

    @property
    def symplectic(self) -> bool:
        return self.tableau.symplectic

    @property
    def reversible(self) -> bool:
        return self.tableau.symmetric

    @property
    def stability(self) -> RungeKuttaStability:
        return RungeKuttaStability(self.tableau)

    def check(self, field: AbstractField) -> None:
        """Accept every field."""


class AbstractExplicitRungeKutta(AbstractRungeKutta):
    """The step that all explicit Runge-Kutta methods share; subclasses bring a ``tableau``."""

    def nesting(self, field: AbstractField) -> int:
        return _longest_chain(self.tableau) * field.depth

    def step(self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        tableau = self.tableau
        slopes: list[State] = []
        for row, node in zip(tableau.a, tableau.c, strict=True):
            inner = advance(state, row, slopes, dt)
            slopes.append(evaluate(field, time, inner, u, dt, float(node)))
        return advance(state, tableau.b, slopes, dt)


class RungeKutta(AbstractExplicitRungeKutta):
    """The explicit Runge-Kutta method of any Butcher tableau.

    ``K_i = F(s + c_i dt, y + dt sum_{j<i} a_ij K_j)``, ``y+ = y + dt sum_i b_i K_i``. Stages and
    order are those of the tableau; memory: none from step to step, the slopes within one; cost: one
    evaluation of the field a stage.

    >>> kutta3 = RungeKutta(ButcherTableau([[], ["1/2"], [-1, 2]], ["1/6", "2/3", "1/6"]))
    >>> kutta3.stages, kutta3.order
    (3, 3)

    Raises ``InputError`` if the tableau is not explicit (see ``ImplicitRungeKutta``).
    """

    tableau: ButcherTableau = eqx.field(static=True)

    def __check_init__(self):
        if not isinstance(self.tableau, ButcherTableau):
            raise InputError(f"tableau = {self.tableau!r}: RungeKutta takes a ButcherTableau.")
        if not self.tableau.explicit:
            raise InputError(
                "the tableau is implicit: its a has entries on or above the diagonal; RungeKutta "
                "steps explicit tableaux only, ImplicitRungeKutta the others."
            )


def advance(y: State, coefficients, slopes: list[State], dt: Scalar) -> State:
    """Return ``y + dt sum_j coefficients_j slopes_j``."""
    used = [(float(a), k) for a, k in zip(coefficients, slopes, strict=False) if a != 0]
    return add_scaled(y, *[(dt if a == 1 else a * dt, k) for a, k in used])


def _longest_chain(tableau: ButcherTableau) -> int:
    """Stages that are evaluated one after the other on the deepest path to the result."""
    chains: list[int] = []
    for row in tableau.a:
        before = [chains[j] for j, a in enumerate(row) if a != 0]
        chains.append(1 + max(before, default=0))
    return max(chain for chain, b in zip(chains, tableau.b, strict=True) if b != 0)
