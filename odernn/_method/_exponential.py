"""Exponential integrators: the linear part of a field exactly, the rest by a Runge-Kutta method."""

import abc
from typing import Any, ClassVar

import jax.numpy as jnp

from .._field import AbstractField
from .._interpolation import drive_at
from .._operator import AbstractOperator, Diagonal
from .._typing import Array, ArrayLike, Drive, Inexact, Scalar, State
from ._base import AbstractTwoPart, add_scaled
from ._imex import check_semilinear


class AbstractExponential(AbstractTwoPart):
    """What the exponential methods share: ``y' = L y + N(s, y, u)`` with a constant operator L.

    The functions phi_k of ``dt L`` depend on parameters and step only.
    """

    explicit: ClassVar[bool] = True
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = False

    @abc.abstractmethod
    def advance(self, linear: AbstractOperator, rest: Any, y: State, dt: Scalar) -> State:
        """Take a step; ``rest(node, y)`` is N at that part of the step."""

    def split_stability(self, z: ArrayLike, w: ArrayLike) -> Inexact[Array, "..."]:
        """Return the growth on ``y' = lambda y + mu y``, ``z = dt lambda``, ``w = dt mu`` exact."""
        z, w = jnp.asarray(z), jnp.asarray(w)
        return self.advance(Diagonal(w), lambda node, y: z * y, 1 + 0 * (z + w), 1.0)

    def check(self, field: AbstractField) -> None:
        check_semilinear(self, field)

    def nesting(self, field: AbstractField) -> int:
        return self.stages * field.depth

    def step(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        def rest(node: float, y: State) -> State:
            return field.rest(time + node * dt, y, drive_at(u, node))

        return self.advance(field.linear(), rest, state, dt)


class ETD1(AbstractExponential):
    """Exponential Euler: ``y+ = e^{dt L} y + dt phi_1(dt L) N(s, y)``. Order 1, one evaluation.

    Exact where N is constant. Memory: none from step to step, the functions phi_k within one; cost:
    products with them, and the evaluations of N. Raises ``InputError`` when a cell is built on a
    field without a constant linear part. Reference: Hochbruck, Ostermann, Acta Numerica 19 (2010).
    """

    stages: ClassVar[int] = 1
    order: ClassVar[int] = 1

    def advance(self, linear: AbstractOperator, rest: Any, y: State, dt: Scalar) -> State:
        start = rest(0.0, y)
        return add_scaled(linear.exponential(dt).apply(y), (dt, linear.phi(1, dt).apply(start)))


class ETDRK2(AbstractExponential):
    """Exponential time differencing, Runge-Kutta of order 2: two evaluations.

    ``a = e^{dt L} y + dt phi_1 N(s, y)``, ``y+ = a + dt phi_2 (N(s + dt, a) - N(s, y))``.
    Memory, cost and errors: ``ETD1``. Reference: Cox, Matthews, J. Comput. Phys. 176 (2002).
    """

    stages: ClassVar[int] = 2
    order: ClassVar[int] = 2

    def advance(self, linear: AbstractOperator, rest: Any, y: State, dt: Scalar) -> State:
        start = rest(0.0, y)
        a = add_scaled(linear.exponential(dt).apply(y), (dt, linear.phi(1, dt).apply(start)))
        change = add_scaled(rest(1.0, a), (-1.0, start))
        return add_scaled(a, (dt, linear.phi(2, dt).apply(change)))


class ETDRK4(AbstractExponential):
    """Krogstad's exponential method of order 4: four evaluations.

    Stages at s, s + dt/2 (twice) and s + dt with phi_1, phi_2 of ``dt L / 2`` and ``dt L``; the
    weights are ``phi_1 - 3 phi_2 + 4 phi_3``, ``2 phi_2 - 4 phi_3`` (twice), ``4 phi_3 - phi_2``.
    Memory, cost and errors: ``ETD1``. Reference: Krogstad, J. Comput. Phys. 203 (2005); Cox,
    Matthews (2002) have the same weights.
    """

    stages: ClassVar[int] = 4
    order: ClassVar[int] = 4

    def advance(self, linear: AbstractOperator, rest: Any, y: State, dt: Scalar) -> State:
        half = 0.5 * dt
        whole, middle = linear.exponential(dt).apply(y), linear.exponential(half).apply(y)
        half1, half2 = linear.phi(1, half), linear.phi(2, half)
        phi1, phi2, phi3 = (linear.phi(k, dt) for k in (1, 2, 3))
        k1 = rest(0.0, y)
        first = add_scaled(middle, (half, half1.apply(k1)))
        k2 = rest(0.5, first)
        change = half2.apply(add_scaled(k2, (-1.0, k1)))
        k3 = rest(0.5, add_scaled(first, (dt, change)))
        last = add_scaled(whole, (dt, phi1.apply(k1)))
        change = phi2.apply(add_scaled(k3, (-1.0, k1)))
        k4 = rest(1.0, add_scaled(last, (2 * dt, change)))
        # The weights, sorted by phi: phi_1 k1, phi_2 (-3 k1 + 2 k2 + 2 k3 - k4), phi_3 (...).
        second = add_scaled(k1, (-4.0, k1), (2.0, k2), (2.0, k3), (-1.0, k4))
        third = add_scaled(k1, (3.0, k1), (-4.0, k2), (-4.0, k3), (4.0, k4))
        return add_scaled(last, (dt, phi2.apply(second)), (dt, phi3.apply(third)))


class Lawson4(AbstractExponential):
    """Lawson's method of order 4: the classical Runge-Kutta method in rotating coordinates.

    ``v = e^{-sL} y`` obeys ``v' = e^{-sL} N(s, e^{sL} v)``, which RK4 integrates. Four evaluations.
    Memory, cost and errors: ``ETD1``. Reference: Lawson, SIAM J. Numer. Anal. 4 (1967).
    """

    stages: ClassVar[int] = 4
    order: ClassVar[int] = 4

    def advance(self, linear: AbstractOperator, rest: Any, y: State, dt: Scalar) -> State:
        half = linear.exponential(0.5 * dt)
        middle = half.apply(y)
        k1 = rest(0.0, y)
        k2 = rest(0.5, half.apply(add_scaled(y, (0.5 * dt, k1))))
        k3 = rest(0.5, add_scaled(middle, (0.5 * dt, k2)))
        k4 = rest(1.0, half.apply(add_scaled(middle, (dt, k3))))
        start = half.apply(add_scaled(y, (dt / 6, k1)))
        return add_scaled(half.apply(add_scaled(start, (dt / 3, k2), (dt / 3, k3))), (dt / 6, k4))
