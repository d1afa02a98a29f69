"""A cell: a field, a method and a step size."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ._field import AbstractField
from ._method import AbstractMethod
from ._results import InputError
from ._typing import Array, Drive, Inexact, Scalar, State


class TrainedStep(eqx.Module):
    """A step size that is trained, positive by construction: ``dt = exp(log_dt)``.

    ``initial`` is its value before training, in input steps.

    >>> step = TrainedStep(0.5)
    >>> round(float(step.value), 6)
    0.5
    """

    initial: float = eqx.field(static=True)
    log_dt: Inexact[Array, ""]

    def __init__(self, initial: float):
        self.initial = _positive("initial", initial)
        self.log_dt = jnp.log(jnp.asarray(self.initial, jnp.result_type(float)))

    @property
    def value(self) -> Inexact[Array, ""]:
        """The step size as it is now."""
        return jnp.exp(self.log_dt)


class Cell(eqx.Module):
    """One step of a recurrent network: ``y_{k+1} = Phi_dt(F, y_k, x_k)``.

    **Arguments**: ``field``, the right-hand side F; ``method``, the integrator Phi; ``dt``, the
    step size in input steps: a positive number, or a ``TrainedStep``. Raises ``InputError`` if
    the method cannot integrate the field or ``dt`` is not positive and finite.

    ``cell(y, x)`` is the state after the input ``x`` of shape (input,), from the state ``y``;
    start with ``cell.initial_state()``. ``interval`` scales the step (time since the last
    input, in input steps).

    >>> import jax, odernn
    >>> field = odernn.fields.Leaky(input_size=3, hidden_size=8, key=jax.random.key(0))
    >>> cell = odernn.Cell(field, odernn.RK4(), dt=0.5)
    >>> cell.n, cell.t
    (4, 1)
    >>> cell(cell.initial_state(), jax.numpy.ones(3)).shape
    (8,)

    Reference: Niu, Horesh, Chuang, arXiv:1904.12933.
    """

    field: AbstractField
    method: AbstractMethod
    dt: float | TrainedStep

    def __init__(self, field: AbstractField, method: AbstractMethod, dt: float | TrainedStep = 1.0):
        if not isinstance(field, AbstractField):
            raise InputError(f"field = {field!r}: a cell takes an AbstractField, fields.Leaky say.")
        if not isinstance(method, AbstractMethod):
            hint = " (call it: RK4(), not RK4)" if isinstance(method, type) else ""
            raise InputError(f"method = {method!r}: a cell takes a method such as RK4(){hint}.")
        method.check(field)
        self.field = field
        self.method = method
        self.dt = dt if isinstance(dt, TrainedStep) else _positive("dt", dt)

    @property
    def n(self) -> int:
        """Functional nonlinearity: nonlinearities nested between one state and the next."""
        return self.method.nesting(self.field)

    @property
    def t(self) -> int:
        """Temporal memory: blocks of hidden size in the carried state."""
        return self.field.order

    @property
    def input_size(self) -> int:
        """Number of input channels."""
        return self.field.input_size

    @property
    def hidden_size(self) -> int:
        """Number of channels that the next layer sees."""
        return self.field.hidden_size

    def initial_state(self) -> State:
        """Return the state before the first step: zeros."""
        return self.field.initial_state()

    def output(self, y: State) -> Inexact[Array, " hidden"]:
        """Return what the next layer sees of the state."""
        return self.field.output(y)

    def __call__(
        self,
        y: State,
        x: Inexact[Array, " input"],
        *,
        elapsed: Scalar = 0.0,
        interval: Scalar | None = None,
    ) -> State:
        """Return the state after the input ``x``."""
        if jnp.shape(x) != (self.input_size,):
            raise InputError(
                f"x has the shape {jnp.shape(x)}: this cell takes one input of shape "
                f"({self.input_size},); a layer takes whole sequences."
            )
        return self.step(y, self.field.drive(x), elapsed=elapsed, interval=interval)

    def step(
        self, y: State, u: Drive, *, elapsed: Scalar = 0.0, interval: Scalar | None = None
    ) -> State:
        """Return the state after a step with the drive ``u`` (of ``field.drive``).

        ``elapsed`` is the time before the step and ``interval`` its length, in input steps; both
        are scaled by ``dt``. Without ``interval`` the step has the length ``dt``.
        """
        dtype = jnp.finfo(jax.tree.leaves(y)[0].dtype).dtype
        dt: Any = self.dt.value.astype(dtype) if isinstance(self.dt, TrainedStep) else self.dt
        time = elapsed * dt
        if interval is not None:
            dt = dt * interval
        return self.method.step(self.field, time, y, u, dt)


def _positive(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} = {value!r}: give a positive number or a TrainedStep.") from None
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"{name} = {number}: a step size is positive and finite, 0.1 say.")
    return number
