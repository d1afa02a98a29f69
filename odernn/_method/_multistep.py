"""Linear multistep methods: past slopes or states are carried along."""

import abc
from fractions import Fraction
from functools import cache
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractField
from .._results import InputError
from .._stability import AbstractStability, MultistepStability, RungeKuttaStability
from .._tableau import ButcherTableau
from .._typing import Array, Drive, Inexact, Scalar, State
from ._base import AbstractInvertible, AbstractMethod, AbstractOneStep, add_scaled, evaluate
from ._explicit import RK4, DormandPrince5, Heun, Kutta3
from ._implicit import RadauIIA
from ._solve import AbstractSolving, Solution, end_slope, summary


class Past(eqx.Module):
    """What a multistep method carries: the present state and what it needs of the past.

    ``values`` are past slopes or states and ``lengths`` those of past steps, the latest first;
    ``count`` is the number of steps taken.
    """

    y: State
    values: tuple[State, ...]
    lengths: tuple[Inexact[Array, ""], ...]
    count: Inexact[Array, ""]


class AbstractMultistep(AbstractMethod):
    """What all multistep methods share.

    The first ``starting_steps`` are steps of a Runge-Kutta method of sufficient order. The
    coefficients follow from the lengths of the past steps, so that the order is kept where they
    vary; ``later_step`` with a number as dt takes the steps before for equal ones.
    """

    steps: eqx.AbstractVar[int]
    keeps_slopes: eqx.AbstractClassVar[bool]

    symplectic: ClassVar[bool] = False

    @abc.abstractmethod
    def weights(self, nodes: list) -> tuple[list, list]:
        """Return (alpha, beta) for past times ``nodes`` in units of the step, the present at 0.

        ``y_{n+1} = sum_j alpha_j y_{n-j} + dt sum_j beta_j f_{n+1-j}``: alpha begins with the
        present state, beta with the slope at the end of the step.
        """

    @abc.abstractmethod
    def starter(self) -> AbstractOneStep:
        """Return the method of the first steps."""

    @abc.abstractmethod
    def close(
        self, field: AbstractField, time: Scalar, base: State, u: Drive, dt: Scalar, weight: Any
    ) -> tuple[State, Solution]:
        """Return ``base + weight f_{n+1}`` and how it was found."""

    @abc.abstractmethod
    def finish(self, attempted: tuple[Past, Solution]) -> Past:
        """Return the result of an attempt, if it succeeded."""

    @property
    def order(self) -> int:
        alpha, beta = self.characteristic
        order = 0
        while order < 12 and _condition(alpha, beta, order + 1) == 0:
            order += 1
        return order

    @property
    def stages(self) -> int:
        """Slopes of a step that are not carried: at its beginning, at its end, or at both."""
        return sum(b != 0 for b in _exact(self)[1][:2])

    @property
    def memory(self) -> int:
        return self.steps - 1

    @property
    def starting_steps(self) -> int:
        return self.steps - 1

    @property
    def stability(self) -> AbstractStability:
        alpha, beta = self.characteristic
        if self.memory == 0:
            # A one-step method has a tableau, and all that follows from it.
            return RungeKuttaStability(ButcherTableau([[], beta], beta))
        return MultistepStability(alpha, beta)

    def check(self, field: AbstractField) -> None:
        """Accept every field."""

    def nesting(self, field: AbstractField) -> int:
        return self.stages * field.depth

    def start(self, field: AbstractField, y: State) -> Past:
        real = jnp.finfo(jax.tree.leaves(y)[0].dtype).dtype
        # A past that the formula may be tried on without harm: slopes of zero, or rest.
        past = jax.tree.map(jnp.zeros_like, y) if self.keeps_slopes else y
        one = jnp.ones((), real)
        return Past(y, (past,) * self.memory, (one,) * self.memory, jnp.zeros((), real))

    def current(self, state: Past) -> State:
        return state.y

    def first_step(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> Past:
        return self.finish(self._started(field, time, state, u, dt))

    def later_step(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> Past:
        number = isinstance(dt, int | float)
        weights = _even(self) if number else self._weights(state, dt)
        return self.finish(self._continued(field, time, state, u, dt, weights))

    def step(self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar) -> Past:
        return self.finish(self.attempt(field, time, state, u, dt))

    def attempt(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> tuple[Past, Solution]:
        """Return what is carried one step later and how it was found, if it was."""
        if self.starting_steps == 0:
            return self._continued(field, time, state, u, dt, _even(self))
        # Both, and no `lax.cond`: in a batch it would run the transpose of the branch that is not
        # taken on residuals of zero, of which a linear solve makes NaN.
        first = self._started(field, time, state, u, dt)
        later = self._continued(field, time, state, u, dt, self._weights(state, dt))
        starting = state.count < self.starting_steps
        return jax.tree.map(lambda a, b: jnp.where(starting, a, b), first, later)

    def _started(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> tuple[Past, Solution]:
        """Take a step by the method of the first steps."""
        starter = self.starter()
        if isinstance(starter, AbstractSolving):
            after, solution = starter.attempt(field, time, state.y, u, dt)
        else:
            after, solution = starter.step(field, time, state.y, u, dt), summary([])
        kept = evaluate(field, time, state.y, u, dt, 0.0) if self.keeps_slopes else state.y
        return _push(state, after, kept, dt), solution

    def _continued(
        self,
        field: AbstractField,
        time: Scalar,
        state: Past,
        u: Drive,
        dt: Scalar,
        weights: tuple[list, list],
    ) -> tuple[Past, Solution]:
        """Take a step by the formula with these weights."""
        alpha, (end, *beta) = weights
        slopes = [evaluate(field, time, state.y, u, dt, 0.0)] if beta else []
        if self.keeps_slopes:
            kept, states, slopes = slopes[0], [state.y], [*slopes, *state.values]
        else:
            kept, states = state.y, [state.y, *state.values]
        terms = [
            *zip(alpha, states, strict=True),
            *((dt * b, f) for b, f in zip(beta, slopes, strict=True)),
        ]
        after, solution = self.close(field, time, _sum_of(terms), u, dt, dt * end)
        return _push(state, after, kept, dt), solution

    def _weights(self, state: Past, dt: Scalar) -> tuple[list, list]:
        """Return the weights that follow from the lengths of the past steps."""
        nodes: list[Any] = [0.0]
        for length in state.lengths:
            nodes.append(nodes[-1] - length / jnp.asarray(dt, length.dtype))
        return self.weights(nodes)

    @property
    def characteristic(self) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """Coefficients of ``sum_j alpha_j y_{n+j} = dt sum_j beta_j f_{n+j}`` for equal steps."""
        alpha, beta = _exact(self)
        size = max(len(alpha), len(beta) - 1)
        alpha = [*alpha, *[Fraction(0)] * (size - len(alpha))]
        beta = [*beta, *[Fraction(0)] * (size + 1 - len(beta))]
        return (*(-a for a in reversed(alpha)), Fraction(1)), tuple(reversed(beta))


class AbstractExplicitMultistep(AbstractMultistep):
    """What the explicit ones share: the slope at the end of a step has no weight."""

    explicit: ClassVar[bool] = True

    def close(
        self, field: AbstractField, time: Scalar, base: State, u: Drive, dt: Scalar, weight: Any
    ) -> tuple[State, Solution]:
        return base, summary([])

    def finish(self, attempted: tuple[Past, Solution]) -> Past:
        return attempted[0]


class AbstractImplicitMultistep(AbstractMultistep, AbstractSolving):
    """What the implicit ones share: the slope at the end of a step is solved for."""

    explicit: ClassVar[bool] = False
    reversible: ClassVar[bool] = False

    def close(
        self, field: AbstractField, time: Scalar, base: State, u: Drive, dt: Scalar, weight: Any
    ) -> tuple[State, Solution]:
        none = jax.tree.map(jnp.zeros_like, base)
        increment, solution = self.solve(end_slope(field, time, base, u, dt, weight), none, base)
        return add_scaled(base, (1, increment)), solution

    def finish(self, attempted: tuple[Past, Solution]) -> Past:
        return self.require(attempted)

    def radau(self, stages: int) -> RadauIIA:
        """Return a method for the first steps, solved as this one is."""
        return RadauIIA(
            stages, tolerance=self.tolerance, max_steps=self.max_steps, throw=self.throw
        )


class AdamsBashforth(AbstractExplicitMultistep):
    """Adams-Bashforth: integrates the polynomial through the last k slopes. Explicit, order k.

    ``y+ = y + dt sum_{j<k} beta_j f_{n-j}``; cost: one evaluation a step, whatever k; carries k - 1
    past slopes. Its first k - 1 steps are of an explicit Runge-Kutta method of order k.

    **Arguments**: ``steps`` k, 2 to 5. Raises ``InputError`` for others. Reference: Bashforth,
    Adams (1883); Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*, III.1 and
    III.5.
    """

    steps: int = eqx.field(static=True)
    reversible: ClassVar[bool] = False
    keeps_slopes: ClassVar[bool] = True

    def __check_init__(self):
        _check_steps(self.steps, 2, 5)

    def weights(self, nodes: list) -> tuple[list, list]:
        return [1], [0, *(_integral(p) for p in _basis(nodes))]

    def starter(self) -> AbstractOneStep:
        return {2: Heun(), 3: Kutta3(), 4: RK4(), 5: DormandPrince5()}[self.steps]


class AdamsMoulton(AbstractImplicitMultistep):
    """Adams-Moulton: as Adams-Bashforth, with the slope at the end of the step. Order k + 1.

    ``y+ = y + dt (beta_0 f_{n+1} + ... + beta_k f_{n+1-k})``; implicit; two stages: it evaluates
    the slopes at both ends, the later one by solving for it; carries k - 1 past slopes. Cost: as of
    ``BackwardEuler``, and one evaluation. Its first k - 1 steps are of Radau IIA.

    **Arguments**: ``steps`` k, 1 to 4; by name ``tolerance``, ``max_steps``, ``throw`` (see
    ``AbstractSolving``). Reference: Moulton (1926); Hairer, Norsett, Wanner, *Solving Ordinary
    Differential Equations I*, III.1.
    """

    steps: int = eqx.field(static=True)
    keeps_slopes: ClassVar[bool] = True

    def __check_init__(self):
        _check_steps(self.steps, 1, 4)

    def weights(self, nodes: list) -> tuple[list, list]:
        return [1], [_integral(p) for p in _basis([1, *nodes])]

    def starter(self) -> AbstractOneStep:
        return self.radau(2 if self.steps == 2 else 3)


class BDF(AbstractImplicitMultistep):
    """Backward differentiation: the slope of the polynomial through the last states. Order k.

    ``sum_j d_j y_{n+1-j} = dt f_{n+1}``; implicit, one stage, for stiff fields; carries k - 1
    past states; cost: as of ``BackwardEuler``. Its first k - 1 steps are of Radau IIA.

    **Arguments**: ``steps`` k, 1 to 4; by name ``tolerance``, ``max_steps``, ``throw`` (see
    ``AbstractSolving``). Reference: Curtiss, Hirschfelder, PNAS 38 (1952); Gear (1971).
    """

    steps: int = eqx.field(static=True)
    keeps_slopes: ClassVar[bool] = False

    def __check_init__(self):
        _check_steps(self.steps, 1, 4)

    def weights(self, nodes: list) -> tuple[list, list]:
        first, *rest = (_slope_at_one(p) for p in _basis([1, *nodes]))
        return [-d / first for d in rest], [1 / first]

    def starter(self) -> AbstractOneStep:
        return self.radau(2 if self.steps <= 3 else 3)


class Leapfrog(AbstractExplicitMultistep, AbstractInvertible):
    """Leapfrog, the explicit midpoint rule in two steps: ``y_{n+1} = y_{n-1} + 2 dt f_n``. Order 2.

    Cost: one evaluation a step; carries one past state; its first step is Heun's. Keeps
    oscillations without damping (imaginary interval 1) and is undone to rounding, for a dt that is
    a number; damped fields make it unstable (real interval 0).

    Reference: Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*, III.9.
    """

    steps: ClassVar[int] = 2
    reversible: ClassVar[bool] = True
    keeps_slopes: ClassVar[bool] = False

    def weights(self, nodes: list) -> tuple[list, list]:
        ratio = -1 / nodes[1]
        return [1 - ratio**2, ratio**2], [0, 1 + ratio]

    def starter(self) -> AbstractOneStep:
        return Heun()

    def check_inverse(self, field: AbstractField) -> None:
        """Accept every field."""

    def inverse(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> Past:
        if not isinstance(dt, int | float):
            raise InputError(
                "a leapfrog step is undone for equal steps of a given size only: give dt as a "
                "number and no times, or take StormerVerlet()."
            )
        (before,) = state.values
        slope = evaluate(field, time, before, u, dt, 0.0)
        oldest = add_scaled(state.y, (-2 * dt, slope))
        # Before the first step there is no past.
        start = self.start(field, before)
        past = Past(before, (oldest,), state.lengths, state.count - 1)
        return jax.tree.map(lambda a, b: jnp.where(state.count > 1, a, b), past, start)


def _push(state: Past, after: State, kept: State, dt: Scalar) -> Past:
    """Return what is carried after a step: the oldest entry goes, ``kept`` comes."""
    if not state.values:
        return Past(after, (), (), state.count)
    length = jnp.asarray(dt, state.count.dtype)
    values = (kept, *state.values[:-1])
    return Past(after, values, (length, *state.lengths[:-1]), state.count + 1)


def _sum_of(terms: list[tuple[Any, State]]) -> State:
    (weight, first), *rest = [term for term in terms if not _is_zero(term[0])]
    if _is_zero(weight - 1):
        return add_scaled(first, *rest)
    return add_scaled(jax.tree.map(jnp.zeros_like, first), (weight, first), *rest)


def _is_zero(weight: Any) -> bool:
    return isinstance(weight, int | float) and weight == 0


def _check_steps(steps: Any, least: int, most: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or not least <= steps <= most:
        raise InputError(f"steps = {steps!r}: give a whole number from {least} to {most}.")


def _basis(nodes: list) -> list[list]:
    """Return Lagrange's basis polynomials of the nodes, constant coefficient first."""
    basis = []
    for j, own in enumerate(nodes):
        polynomial: list[Any] = [1]
        for i, other in enumerate(nodes):
            if i != j:
                raised, kept = [0, *polynomial], [*polynomial, 0]
                pairs = zip(raised, kept, strict=True)
                polynomial = [(r - other * k) / (own - other) for r, k in pairs]
        basis.append(polynomial)
    return basis


def _integral(polynomial: list) -> Any:
    """Integral over the step, from 0 to 1."""
    return sum(c / (k + 1) for k, c in enumerate(polynomial))


def _slope_at_one(polynomial: list) -> Any:
    return sum(k * c for k, c in enumerate(polynomial))


@cache
def _exact(method: AbstractMultistep) -> tuple[list[Fraction], list[Fraction]]:
    """Return the weights for equal steps."""
    alpha, beta = method.weights([Fraction(-j) for j in range(method.steps)])
    return [Fraction(a) for a in alpha], [Fraction(b) for b in beta]


def _even(method: AbstractMultistep) -> tuple[list[float], list[float]]:
    """Return the weights for equal steps as numbers."""
    alpha, beta = _exact(method)
    return [float(a) for a in alpha], [float(b) for b in beta]


def _condition(alpha: tuple[Fraction, ...], beta: tuple[Fraction, ...], order: int) -> Fraction:
    """What is left of the order condition, zero where it holds."""
    terms = [
        a * Fraction(j) ** order - order * b * Fraction(j) ** (order - 1)
        for j, (a, b) in enumerate(zip(alpha, beta, strict=True))
    ]
    return sum(terms, Fraction(0))
