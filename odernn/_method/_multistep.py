"""Linear multistep methods: past slopes or states are carried along."""

import abc
from fractions import Fraction
from functools import cache
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from .._field import AbstractField
from .._results import InputError
from .._stability import MultistepStability
from .._typing import Array, Drive, Inexact, Scalar, State
from ._base import AbstractInvertible, AbstractMethod, AbstractOneStep, add_scaled, evaluate
from ._explicit import RK4, DormandPrince5, Heun, Kutta3
from ._implicit import RadauIIA
from ._solve import check_max_steps, require, solve_stage


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

    The first ``starting_steps`` are steps of a Runge-Kutta method of sufficient order. For a dt
    that is a number the coefficients are those for equal steps; for one that is trained or comes
    from time stamps they follow from the lengths of the past steps, so that the order is kept.
    """

    steps: eqx.AbstractVar[int]
    keeps_slopes: eqx.AbstractClassVar[bool]

    symplectic: ClassVar[bool] = False
    stages: ClassVar[int] = 1

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
    def later_step(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> State: ...

    @property
    def order(self) -> int:
        alpha, beta = self._characteristic()
        order = 0
        while order < 12 and _condition(alpha, beta, order + 1) == 0:
            order += 1
        return order

    @property
    def memory(self) -> int:
        return self.steps - 1

    @property
    def starting_steps(self) -> int:
        return self.steps - 1

    @property
    def stability(self) -> MultistepStability:
        return MultistepStability(*self._characteristic())

    def check(self, field: AbstractField) -> None:
        """Accept every field."""

    def nesting(self, field: AbstractField) -> int:
        return field.depth

    def start(self, field: AbstractField, y: State) -> Past:
        real = jnp.finfo(jax.tree.leaves(y)[0].dtype).dtype
        none = jax.tree.map(jnp.zeros_like, y)
        one = jnp.ones((), real)
        return Past(y, (none,) * self.memory, (one,) * self.memory, jnp.zeros((), real))

    def current(self, state: Past) -> State:
        return state.y

    def first_step(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> Past:
        after = self.starter().step(field, time, state.y, u, dt)
        kept = evaluate(field, time, state.y, u, dt, 0.0) if self.keeps_slopes else state.y
        return self.push(state, after, kept, dt)

    def step(self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar) -> Past:
        if self.starting_steps == 0:
            return self.later_step(field, time, state, u, dt)
        return lax.cond(
            state.count < self.starting_steps,
            lambda s: self.first_step(field, time, s, u, dt),
            lambda s: self.later_step(field, time, s, u, dt),
            state,
        )

    def push(self, state: Past, after: State, kept: State, dt: Scalar) -> Past:
        """Return what is carried after a step: the oldest entry goes, ``kept`` comes."""
        if self.memory == 0:
            return Past(after, (), (), state.count)
        length = jnp.asarray(dt, state.count.dtype)
        values = (kept, *state.values[:-1])
        return Past(after, values, (length, *state.lengths[:-1]), state.count + 1)

    def coefficients(self, state: Past, dt: Scalar) -> tuple[list, list]:
        """Return (alpha, beta) for this step."""
        if isinstance(dt, int | float):
            alpha, beta = _even(self)
            return [float(a) for a in alpha], [float(b) for b in beta]
        nodes: list[Any] = [0.0]
        at: Any = 0.0
        for length in state.lengths:
            at = at - length / jnp.asarray(dt, length.dtype)
            nodes.append(at)
        return self.weights(nodes)

    def _characteristic(self) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """Coefficients of ``sum_j alpha_j y_{n+j} = dt sum_j beta_j f_{n+j}``."""
        alpha, beta = _even(self)
        size = max(len(alpha), len(beta) - 1)
        alpha = [*alpha, *[Fraction(0)] * (size - len(alpha))]
        beta = [*beta, *[Fraction(0)] * (size + 1 - len(beta))]
        return (*(-a for a in reversed(alpha)), Fraction(1)), tuple(reversed(beta))


class AdamsBashforth(AbstractMultistep):
    """Adams-Bashforth: integrates the polynomial through the last k slopes. Explicit, order k.

    ``y+ = y + dt sum_{j<k} beta_j f_{n-j}``; one evaluation a step, whatever k; carries k - 1 past
    slopes. Its first k - 1 steps are of an explicit Runge-Kutta method of order k.

    **Arguments**: ``steps`` k, 2 to 5. Raises ``InputError`` for others. Reference: Bashforth,
    Adams (1883); Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*, III.1 and
    III.5.
    """

    steps: int = eqx.field(static=True)
    explicit: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    keeps_slopes: ClassVar[bool] = True

    def __check_init__(self):
        _check_steps(self.steps, 2, 5)

    def weights(self, nodes: list) -> tuple[list, list]:
        return [1], [0, *(_integral(p) for p in _basis(nodes))]

    def starter(self) -> AbstractOneStep:
        return {2: Heun(), 3: Kutta3(), 4: RK4(), 5: DormandPrince5()}[self.steps]

    def later_step(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> Past:
        _, beta = self.coefficients(state, dt)
        slope = evaluate(field, time, state.y, u, dt, 0.0)
        slopes = zip(beta[1:], (slope, *state.values), strict=True)
        after = add_scaled(state.y, *[(dt * b, f) for b, f in slopes])
        return self.push(state, after, slope, dt)


class AdamsMoulton(AbstractMultistep):
    """Adams-Moulton: as Adams-Bashforth, with the slope at the end of the step. Order k + 1.

    ``y+ = y + dt (beta_0 f_{n+1} + ... + beta_k f_{n+1-k})``; implicit; carries k - 1 past slopes.
    Its first k - 1 steps are of Radau IIA.

    **Arguments**: ``steps`` k, 1 to 4; ``max_steps``, ``throw`` as of ``BackwardEuler``. Reference:
    Moulton (1926); Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*, III.1.
    """

    steps: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True, default=30)
    throw: bool = eqx.field(static=True, default=True)
    explicit: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    keeps_slopes: ClassVar[bool] = True

    def __check_init__(self):
        _check_steps(self.steps, 1, 4)
        check_max_steps(self.max_steps)

    def weights(self, nodes: list) -> tuple[list, list]:
        return [1], [_integral(p) for p in _basis([1, *nodes])]

    def starter(self) -> AbstractOneStep:
        return RadauIIA(2 if self.steps == 2 else 3, max_steps=self.max_steps, throw=self.throw)

    def later_step(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> Past:
        _, beta = self.coefficients(state, dt)
        slope = evaluate(field, time, state.y, u, dt, 0.0)
        slopes = zip(beta[1:], (slope, *state.values), strict=True)
        base = add_scaled(state.y, *[(dt * b, f) for b, f in slopes])
        after = _implicit(self, field, time, base, u, dt, beta[0] * dt)
        return self.push(state, after, slope, dt)


class BDF(AbstractMultistep):
    """Backward differentiation: the slope of the polynomial through the last states. Order k.

    ``sum_j d_j y_{n+1-j} = dt f_{n+1}``; implicit, for stiff fields; carries k - 1 past states. Its
    first k - 1 steps are of Radau IIA.

    **Arguments**: ``steps`` k, 1 to 4; ``max_steps``, ``throw`` as of ``BackwardEuler``. Reference:
    Curtiss, Hirschfelder, PNAS 38 (1952); Gear (1971).
    """

    steps: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True, default=30)
    throw: bool = eqx.field(static=True, default=True)
    explicit: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    keeps_slopes: ClassVar[bool] = False

    def __check_init__(self):
        _check_steps(self.steps, 1, 4)
        check_max_steps(self.max_steps)

    def weights(self, nodes: list) -> tuple[list, list]:
        first, *rest = (_slope_at_one(p) for p in _basis([1, *nodes]))
        return [-d / first for d in rest], [1 / first]

    def starter(self) -> AbstractOneStep:
        return RadauIIA(2 if self.steps <= 3 else 3, max_steps=self.max_steps, throw=self.throw)

    def later_step(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> Past:
        alpha, beta = self.coefficients(state, dt)
        base = _sum_of(alpha, (state.y, *state.values))
        after = _implicit(self, field, time, base, u, dt, beta[0] * dt)
        return self.push(state, after, state.y, dt)


class Leapfrog(AbstractMultistep, AbstractInvertible):
    """Leapfrog, the explicit midpoint rule in two steps: ``y_{n+1} = y_{n-1} + 2 dt f_n``. Order 2.

    One evaluation a step; carries one past state; its first step is Heun's. Keeps oscillations
    without damping (imaginary interval 1) and is undone exactly, for a dt that is a number; damped
    fields make it unstable (real interval 0).

    Reference: Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*, III.9.
    """

    steps: ClassVar[int] = 2
    explicit: ClassVar[bool] = True
    reversible: ClassVar[bool] = True
    keeps_slopes: ClassVar[bool] = False

    def weights(self, nodes: list) -> tuple[list, list]:
        ratio = -1 / nodes[1]
        return [1 - ratio**2, ratio**2], [0, 1 + ratio]

    def starter(self) -> AbstractOneStep:
        return Heun()

    def later_step(
        self, field: AbstractField, time: Scalar, state: Past, u: Drive, dt: Scalar
    ) -> Past:
        alpha, beta = self.coefficients(state, dt)
        slope = evaluate(field, time, state.y, u, dt, 0.0)
        base = _sum_of(alpha, (state.y, *state.values))
        return self.push(state, add_scaled(base, (beta[1] * dt, slope)), state.y, dt)

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


def _implicit(
    method: Any, field: AbstractField, time: Scalar, base: State, u: Drive, dt: Scalar, weight: Any
) -> State:
    """Return ``base + weight f_{n+1}``, the slope at the end of the step being solved for."""
    slope, solution = solve_stage(field, time, base, u, dt, 1.0, weight, method.max_steps)
    after = add_scaled(base, (weight, slope))
    return require(after, solution, method) if method.throw else after


def _sum_of(weights: list, states: tuple[State, ...]) -> State:
    zero = jax.tree.map(jnp.zeros_like, states[0])
    used = [(w, s) for w, s in zip(weights, states, strict=True) if not _is_zero(w)]
    return add_scaled(zero, *used)


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
def _even(method: AbstractMultistep) -> tuple[list[Fraction], list[Fraction]]:
    """Return the coefficients for equal steps, exactly."""
    alpha, beta = method.weights([Fraction(-j) for j in range(method.steps)])
    return [Fraction(a) for a in alpha], [Fraction(b) for b in beta]


def _condition(alpha: tuple[Fraction, ...], beta: tuple[Fraction, ...], order: int) -> Fraction:
    """What is left of the order condition, zero where it holds."""
    terms = [
        a * Fraction(j) ** order - order * b * Fraction(j) ** (order - 1)
        for j, (a, b) in enumerate(zip(alpha, beta, strict=True))
    ]
    return sum(terms, Fraction(0))
