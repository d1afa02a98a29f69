"""Methods that update the blocks of a partitioned state one after the other."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._field import AbstractField, AbstractPartitionedField
from .._interpolation import drive_at, within
from .._results import InputError
from .._stability import GrowthStability
from .._typing import Array, Drive, Scalar, State
from ._base import AbstractInvertible, AbstractOneStep, AbstractSymmetric, add_scaled
from ._solve import AbstractSolving, Solution, depends, summary


class _Blocks(eqx.Module):
    """The blocks in the order of their updates; ``None`` takes the field's own order."""

    update_order: tuple[str, ...] | None = eqx.field(
        static=True, default=None, converter=lambda order: None if order is None else tuple(order)
    )

    def check(self, field: AbstractField) -> None:
        """Raise ``InputError`` if the field has no blocks, or other ones."""
        name = type(self).__name__
        if not isinstance(field, AbstractPartitionedField):
            raise InputError(
                f"{name} does not fit {type(field).__name__}: it updates named blocks of "
                "the state one after the other and this field has a single one; take a Runge-Kutta "
                "method (Euler, Midpoint, Heun, RK4), or a partitioned field (Oscillator, LSTM)."
            )
        if self.update_order is not None and sorted(self.update_order) != sorted(field.blocks):
            raise InputError(
                f"update_order = {self.update_order} does not fit {type(field).__name__}, whose "
                f"blocks are {field.blocks}: name each of them once."
            )

    def sequence(self, field: AbstractPartitionedField) -> tuple[str, ...]:
        """Return the names of the blocks in the order of their updates."""
        return self.update_order or field.update_order


class GaussSeidelEuler(_Blocks, AbstractInvertible, AbstractOneStep):
    """Euler steps for one block after the other, each seeing the blocks already updated.

    For ``y = (z, h)`` updated in that order::

        z+ = z + dt F_z(s, z, h, x),    h+ = h + dt F_h(s, z+, h, x)

    Order 1, one stage; memory: none; cost: one evaluation of each block's rate. What the field
    freezes (the gates of an LSTM) is taken at the start of the step. On ``h'' = f(h, h')``,
    velocity first, it is the IMEX Euler method of the coRNN; on the LSTM the Lie-Trotter
    composition of two Euler flows. A step can be undone where no block's rate depends on the block
    itself.

    **Arguments**: ``update_order``, the names of the blocks in the order of their updates; ``None``
    takes the field's own. Raises ``InputError`` when a cell is built on a field that has no blocks,
    or other ones. Reference: Hairer, Lubich, Wanner, *Geometric Numerical Integration*, I.1, VI.3.
    """

    stages: ClassVar[int] = 1
    order: ClassVar[int] = 1
    explicit: ClassVar[bool] = True
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = True

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(_symplectic_euler_growth)

    def nesting(self, field: Any) -> int:
        return sum(field.depths[block] for block in field.blocks)

    def step(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        y = state
        frozen = field.freeze(time, y, drive_at(u, 0.0))
        for block in self.sequence(field):
            rate = field.rate(block, time, y, frozen)
            y = {**y, block: add_scaled(y[block], (dt, rate))}
        return y

    def check_inverse(self, field: Any) -> None:
        frozen_by_state = _freezes_state(field)
        own = [block for block in field.blocks if _reads_itself(field, block)]
        if frozen_by_state or own:
            reason = f"the rate of {own[0]!r} reads {own[0]!r}" if own else "it freezes gates"
            raise InputError(
                f"a GaussSeidelEuler step of {type(field).__name__} has no explicit inverse: "
                f"{reason}; take AlgebraicallyReversible(RK4()) or StormerVerlet(), or another "
                "unroll than Reversible()."
            )

    def inverse(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        y = state
        frozen = field.freeze(time, y, drive_at(u, 0.0))
        for block in reversed(self.sequence(field)):
            rate = field.rate(block, time, y, frozen)
            y = {**y, block: add_scaled(y[block], (-dt, rate))}
        return y


class _Symplectic(_Blocks, AbstractSolving):
    """Sub-steps of the symplectic Euler method and its adjoint, solved where need be."""

    explicit: ClassVar[bool] = False
    symplectic: ClassVar[bool] = True

    def step(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        return self.require(self.attempt(field, time, state, u, dt))

    def nesting(self, field: Any) -> int:
        return self.stages * sum(field.depths[block] for block in field.blocks)

    def forward(
        self, field: Any, time: Any, y: State, u: Any, dt: Any, solved: list[Solution]
    ) -> State:
        """Symplectic Euler: the first block implicitly, then the others explicitly."""
        first, *rest = self.sequence(field)
        y = self._implicitly(field, first, time, y, u, dt, solved)
        for block in rest:
            y = self._explicitly(field, block, time, y, u, dt)
        return y

    def backward(
        self, field: Any, time: Any, y: State, u: Any, dt: Any, solved: list[Solution]
    ) -> State:
        """The adjoint of ``forward``: what it does with -dt, undone."""
        first, *rest = self.sequence(field)
        for block in reversed(rest):
            y = self._implicitly(field, block, time, y, u, dt, solved)
        return self._explicitly(field, first, time, y, u, dt)

    def verlet(
        self, field: Any, time: Any, y: State, u: Drive, dt: Any, solved: list[Solution]
    ) -> State:
        """Half a step of ``forward``, then half a step of ``backward``."""
        half = self.forward(field, time, y, drive_at(u, 0.0), 0.5 * dt, solved)
        return self.backward(field, time + dt, half, drive_at(u, 1.0), 0.5 * dt, solved)

    def _explicitly(self, field: Any, block: str, time: Any, y: State, u: Any, dt: Any) -> State:
        rate = field.rate(block, time, y, field.freeze(time, y, u))
        return {**y, block: add_scaled(y[block], (dt, rate))}

    def _implicitly(
        self, field: Any, block: str, time: Any, y: State, u: Any, dt: Any, solved: list[Solution]
    ) -> State:
        def rate(value: Array) -> Array:
            new = {**y, block: value}
            return field.rate(block, time, new, field.freeze(time, new, u))

        if not depends(rate, y[block]):
            return self._explicitly(field, block, time, y, u, dt)

        def residual(value):
            return value - add_scaled(y[block], (dt, rate(value)))

        value, solution = self.solve(residual, y[block], y)
        solved.append(solution)
        return {**y, block: value}


class SymplecticEuler(_Symplectic, AbstractInvertible, AbstractOneStep):
    """Symplectic Euler: the block updated first is implicit in itself, the others are explicit.

    For ``q' = F_q(q, p)``, ``p' = F_p(q, p)`` with p first::

        p+ = p + dt F_p(q, p+),    q+ = q + dt F_q(q, p+)

    Order 1, one stage; memory: none; cost: one evaluation of each rate and, where it is implicit,
    the solution for one block. Symplectic for every Hamiltonian system, separable or not; explicit
    where the rate of the first block does not depend on that block, which is found out from its
    program. Both variants are had by ``update_order``. A step is undone by the same equations.

    **Arguments**: ``update_order`` (None: the field's own); by name ``tolerance``, ``max_steps``,
    ``throw`` (see ``AbstractSolving``). Reference: de Vogelaere (1956); Hairer, Lubich, Wanner,
    *Geometric Numerical Integration*, VI.3.
    """

    stages: ClassVar[int] = 1
    order: ClassVar[int] = 1
    reversible: ClassVar[bool] = True

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(_symplectic_euler_growth)

    def attempt(
        self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> tuple[State, Solution]:
        solved: list[Solution] = []
        y = self.forward(field, time, state, drive_at(u, 0.0), dt, solved)
        return y, summary(solved)

    def check_inverse(self, field: Any) -> None:
        """Accept every field."""

    def inverse(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        solved: list[Solution] = []
        y = self.backward(field, time, state, drive_at(u, 0.0), -dt, solved)
        return self.require((y, summary(solved)))


class StormerVerlet(_Symplectic, AbstractSymmetric):
    """Stormer-Verlet: half a step of symplectic Euler, then half a step of its adjoint. Order 2.

    For a Hamiltonian system, p first::

        p' = p + dt/2 F_p(q, p'),  q+ = q + dt/2 (F_q(q, p') + F_q(q+, p')),
        p+ = p' + dt/2 F_p(q+, p')

    Symplectic and symmetric, non-separable systems included; explicit where no rate depends on its
    own block. Two stages; memory: none; cost: two evaluations of each rate, as of
    ``SymplecticEuler``.

    **Arguments**: as of ``SymplecticEuler``. Reference: Stormer (1907), Verlet, Phys. Rev. 159
    (1967); Hairer, Lubich, Wanner, *Geometric Numerical Integration*, II.3 and VI.3.
    """

    stages: ClassVar[int] = 2
    order: ClassVar[int] = 2

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(_verlet_growth)

    def attempt(
        self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> tuple[State, Solution]:
        solved: list[Solution] = []
        y = self.verlet(field, time, state, u, dt, solved)
        return y, summary(solved)


_OUTER = 1 / (2 - 2 ** (1 / 3))


class Yoshida4(_Symplectic, AbstractSymmetric):
    """Yoshida's triple jump: three Stormer-Verlet steps of 1.35, -1.70 and 1.35 dt. Order 4.

    Symplectic and symmetric, as Stormer-Verlet is. Six stages; memory: none; cost: six evaluations
    of each rate.

    **Arguments**: as of ``SymplecticEuler``. Reference: Yoshida, Phys. Lett. A 150 (1990); Suzuki
    (1990); Forest, Ruth (1990).
    """

    stages: ClassVar[int] = 6
    order: ClassVar[int] = 4

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(_yoshida_growth)

    def attempt(
        self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> tuple[State, Solution]:
        y, done, solved = state, 0.0, []
        for part in (_OUTER, 1 - 2 * _OUTER, _OUTER):
            y = self.verlet(field, time + done * dt, y, within(u, done, part), part * dt, solved)
            done = done + part
        return y, summary(solved)


def _freezes_state(field: Any) -> bool:
    """Whether what the field freezes depends on the state."""
    y, u = _examples(field)
    return bool(y) and depends(lambda y, u: field.freeze(0.0, y, u), y, u)


def _reads_itself(field: Any, block: str) -> bool:
    """Whether the rate of a block depends on that block."""
    y, u = _examples(field)

    def rate(own, y, u):
        y = {**y, block: own}
        return field.rate(block, 0.0, y, field.freeze(0.0, y, u))

    return depends(rate, y[block], y, u)


def _examples(field: Any) -> tuple[State, Drive]:
    u = field.drive(jnp.zeros(field.input_size, field.dtype))
    return field.initial_state(), u if field.samples == 1 else (u,) * field.samples


def _symplectic_euler_growth(z: Array) -> Array:
    """The step on q' = z p, p' = z q, p first."""
    one = jnp.ones_like(z)
    return _matrix([[one + z * z, z], [z, one]])


def _verlet_growth(z: Array) -> Array:
    half = z / 2
    one, zero = jnp.ones_like(z), jnp.zeros_like(z)
    kick, drift = _matrix([[one, zero], [half, one]]), _matrix([[one, z], [zero, one]])
    return kick @ drift @ kick


def _yoshida_growth(z: Array) -> Array:
    outer, inner = _verlet_growth(_OUTER * z), _verlet_growth((1 - 2 * _OUTER) * z)
    return outer @ inner @ outer


def _matrix(rows: list[list[Array]]) -> Array:
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
