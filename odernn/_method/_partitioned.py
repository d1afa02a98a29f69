"""Methods that update the blocks of a partitioned state one after the other."""

from typing import Any

import equinox as eqx

from .._field import AbstractField, AbstractPartitionedField
from .._results import InputError
from .._typing import Drive, Scalar, State
from ._base import AbstractMethod, add_scaled


class GaussSeidelEuler(AbstractMethod):
    """Euler steps for one block after the other, each seeing the blocks already updated.

    For ``y = (z, h)`` updated in that order::

        z+ = z + dt F_z(s, z, h, x),    h+ = h + dt F_h(s, z+, h, x)

    Order 1; one evaluation of each block's rate. On ``h'' = f(h, h')``, velocity first, it is the
    symplectic (semi-implicit, IMEX) Euler method of the coRNN; on the LSTM, with the gates frozen
    at the start of the step, it is the Lie-Trotter composition of two Euler flows.

    **Arguments**: ``update_order``, the names of the blocks in the order of their updates; ``None``
    takes the field's own. Raises ``InputError`` when a cell is built on a field that has no blocks,
    or other ones. Reference: Hairer, Lubich, Wanner, *Geometric Numerical Integration*, I.1, VI.3.
    """

    update_order: tuple[str, ...] | None = eqx.field(static=True)

    def __init__(self, update_order: tuple[str, ...] | None = None):
        self.update_order = None if update_order is None else tuple(update_order)

    @property
    def stages(self) -> int:
        return 1

    @property
    def order(self) -> int:
        return 1

    def check(self, field: AbstractField) -> None:
        if not isinstance(field, AbstractPartitionedField):
            raise InputError(
                f"GaussSeidelEuler does not fit {type(field).__name__}: it updates named blocks of "
                "the state one after the other and this field has a single one; take a Runge-Kutta "
                "method (Euler, Midpoint, Heun, RK4), or a partitioned field (Oscillator, LSTM)."
            )
        if self.update_order is not None and set(self.update_order) != set(field.blocks):
            raise InputError(
                f"update_order = {self.update_order} does not fit {type(field).__name__}, whose "
                f"blocks are {field.blocks}: name each of them once."
            )

    def nesting(self, field: Any) -> int:
        return sum(field.depths[block] for block in field.blocks)

    def step(self, field: Any, time: Scalar, y: State, u: Drive, dt: Scalar) -> State:
        frozen = field.freeze(time, y, u)
        for block in self.update_order or field.update_order:
            rate = field.rate(block, time, y, frozen)
            y = {**y, block: add_scaled(y[block], (dt, rate))}
        return y
