"""A cell: a field, a method and a step size."""

import math
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ._field import AbstractField
from ._interpolation import AbstractInterpolation, HeldInput, StackedInput
from ._method import AbstractInvertible, AbstractMethod, AbstractOneStep, Delayed
from ._results import InputError
from ._typing import Array, Bool, Drive, Inexact, Scalar, State


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


class Stream(NamedTuple):
    """A state that holds the last inputs, for a cell that reads several: see ``Cell.stream``."""

    state: State
    past: Inexact[Array, "past input"]
    fresh: Bool[Array, ""]  # nothing has been read so far


class Cell(eqx.Module):
    """One step of a recurrent network: ``y_{k+1} = Phi_dt(F, y_k, x_k)``.

    **Arguments**: ``field``, the right-hand side F; ``method``, the integrator Phi; ``dt``, the
    step size in input steps: a positive number, or a ``TrainedStep``; ``interpolation``, what
    the field sees between two inputs: ``HeldInput()``, ``LinearInput()``, ``CubicInput()``; None is
    the field's own, which holds the input where it says nothing else.
    Raises ``InputError`` if the method cannot integrate the field or ``dt`` is not positive and
    finite.

    ``cell(y, x)`` is the state after the input ``x`` of shape (input,), from the state ``y``;
    start with ``cell.initial_state()``. With an interpolation of s samples, ``x`` has the shape
    (s, input): the last inputs, the present one at the end; from a state of ``cell.stream()`` it is
    the present one alone, the others are held in the state. ``interval`` scales the step (time
    since the last input, in input steps; with ``CubicInput()`` the last three).

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
    interpolation: AbstractInterpolation

    def __init__(
        self,
        field: AbstractField,
        method: AbstractMethod,
        dt: float | TrainedStep = 1.0,
        interpolation: AbstractInterpolation | None = None,
    ):
        if not isinstance(field, AbstractField):
            raise InputError(f"field = {field!r}: a cell takes an AbstractField, fields.Leaky say.")
        if not isinstance(method, AbstractMethod):
            hint = " (call it: RK4(), not RK4)" if isinstance(method, type) else ""
            raise InputError(f"method = {method!r}: a cell takes a method such as RK4(){hint}.")
        interpolation = _interpolation(field, interpolation)
        if field.delays and not isinstance(method, Delayed):
            if not isinstance(method, AbstractOneStep):
                raise InputError(
                    f"{type(method).__name__} does not fit {type(field).__name__}: it carries a "
                    "past, and the field reads past states of its own; take a one-step method, "
                    "RK4() say."
                )
            method = Delayed(method)
        method.check(field)
        self.field = field
        self.method = method
        self.dt = dt if isinstance(dt, TrainedStep) else _positive("dt", dt)
        self.interpolation = interpolation

    @property
    def n(self) -> int:
        """Functional nonlinearity: nonlinearities nested between one state and the next."""
        return self.method.nesting(self.field)

    @property
    def t(self) -> int:
        """Temporal memory: blocks of hidden size in the carried state."""
        return self.field.order * (1 + self.method.memory)

    @property
    def step_size(self) -> Any:
        """The step size as it is now, in input steps: a number, or the array of a trained one."""
        return self.dt.value if isinstance(self.dt, TrainedStep) else self.dt

    @property
    def input_size(self) -> int:
        """Number of input channels."""
        return self.field.input_size

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what one step reads: (input,), or (samples, input) with an interpolation."""
        samples = self.interpolation.samples
        return (self.input_size,) if samples == 1 else (samples, self.input_size)

    @property
    def hidden_size(self) -> int:
        """Number of channels that the next layer sees."""
        return self.field.hidden_size

    def initial_state(self) -> State:
        """Return the state before the first step: zeros, and what the method carries."""
        return self.start(self.field.initial_state())

    def start(self, y: State) -> State:
        """Return the state before the first step, of a state ``y`` of the field."""
        return self.method.start(self.field, y)

    def stream(self, y: State | None = None, past: Inexact[Array, "past input"] | None = None):
        """Return a state from which the cell reads one input at a time, whatever it interpolates.

        It holds the last inputs beside the state ``y``, by default the one before the first step.
        ``past``, of shape (samples - 1, input), are the inputs before the next one; without them
        the first input stands for those before it. Step by step it is what ``Layer`` gives for the
        whole sequence.

        >>> import jax, jax.numpy as jnp, odernn
        >>> cell = odernn.zoo.QUNN(2, 4, memory=3, key=jax.random.key(0))
        >>> state = cell.stream()
        >>> for x in jnp.ones((5, 2)):
        ...     state = cell(state, x)
        >>> cell.output(state).shape
        (11,)
        """
        fresh = past is None
        if past is None:
            past = jnp.zeros((self.interpolation.samples - 1, self.input_size))
        y = self.initial_state() if y is None else y
        return Stream(y, self.check_past(past), jnp.asarray(fresh))

    def check_past(self, past: Any) -> Inexact[Array, "past input"]:
        """Return the inputs before the first; raise ``InputError`` if there are more or fewer."""
        wanted = (self.interpolation.samples - 1, self.input_size)
        if jnp.shape(past) != wanted:
            raise InputError(
                f"past has the shape {jnp.shape(past)}: this cell reads {wanted[0]} inputs before "
                f"the present one, give them as {wanted}."
            )
        return jnp.asarray(past, self.field.dtype)

    def output(
        self, y: State, x: Inexact[Array, " input"] | None = None
    ) -> Inexact[Array, " hidden"]:
        """Return what the next layer sees of the state after a step.

        With the input ``x`` of that step also what it sees of the input directly: some fields feed
        it through (state spaces do), a layer always adds it.
        """
        y = y.state if isinstance(y, Stream) else y
        seen = self.field.output(self.method.current(y))
        direct = None if x is None else self.field.feedthrough(x)
        return seen if direct is None else seen + direct

    def drive(self, x: Inexact[Array, "*samples input"], interval: Any = None) -> Drive:
        """Return what ``step`` takes, of the input or (with an interpolation) of the last ones."""
        if self.interpolation.samples == 1:
            return self.interpolation([self.field.drive(x)], None)
        drives = jax.vmap(self.field.drive)(x)
        each = [
            jax.tree.map(lambda a, i=i: a[i], drives) for i in range(self.interpolation.samples)
        ]
        return self.interpolation(each, None if interval is None else jnp.atleast_1d(interval))

    def __call__(
        self,
        y: State,
        x: Inexact[Array, "*samples input"],
        *,
        elapsed: Scalar = 0.0,
        interval: Any = None,
    ) -> State:
        """Return the state after the input ``x``."""
        if isinstance(y, Stream):
            return self._read(y, x, elapsed=elapsed, interval=interval)
        if jnp.shape(x) != self.input_shape:
            raise InputError(
                f"x has the shape {jnp.shape(x)}: this cell takes an input of shape "
                f"{self.input_shape} at each step; a layer takes whole sequences."
            )
        return self.step(y, self.drive(x, interval), elapsed=elapsed, interval=interval)

    def _read(self, y: Stream, x: Inexact[Array, " input"], **clock: Any) -> Stream:
        if jnp.shape(x) != (self.input_size,):
            raise InputError(
                f"x has the shape {jnp.shape(x)}: from a state of stream() this cell takes one "
                f"input of shape ({self.input_size},) at each step."
            )
        x = jnp.asarray(x, y.past.dtype)[None]
        past = jnp.where(y.fresh, jnp.broadcast_to(x, y.past.shape), y.past)
        window = jnp.concatenate([past, x])
        state = self(y.state, window if len(past) else x[0], **clock)
        return Stream(state, window[1:], jnp.zeros_like(y.fresh))

    def step(
        self,
        y: State,
        u: Drive,
        *,
        elapsed: Scalar = 0.0,
        interval: Any = None,
        phase: Literal["any", "first", "later"] = "any",
    ) -> State:
        """Return the state after a step with the drive ``u`` (of ``drive``).

        ``elapsed`` is the time before the step and ``interval`` its length, in input steps; both
        are scaled by ``dt``. Without ``interval`` the step has the length ``dt``. ``phase``: it is
        known to be one of the method's first ``starting_steps`` steps, or a later one.
        """
        time, dt = self._clock(y, elapsed, interval)
        method = self.method
        take = {"any": method.step, "first": method.first_step, "later": method.later_step}[phase]
        return take(self.field, time, y, u, dt)

    def inverse(self, y: State, u: Drive, *, elapsed: Scalar = 0.0, interval: Any = None) -> State:
        """Return the state before the step that ended in ``y``; arguments are the step's own.

        Raises ``InputError`` if the step has no inverse.
        """
        method = self.check_inverse()
        time, dt = self._clock(y, elapsed, interval)
        return method.inverse(self.field, time, y, u, dt)

    def check_inverse(self) -> AbstractInvertible:
        """Return the method; raise ``InputError`` if a step of this cell has no inverse."""
        if isinstance(self.method, Delayed):
            raise InputError(
                f"a step of {type(self.field).__name__} has no inverse: it forgets the oldest of "
                "the past states that it reads; take another unroll than Reversible()."
            )
        if not isinstance(self.method, AbstractInvertible):
            raise InputError(
                f"a step of {type(self.method).__name__} has no inverse: take a reversible method, "
                "StormerVerlet() or Leapfrog() say, or make an explicit Runge-Kutta method one: "
                "AlgebraicallyReversible(RK4())."
            )
        self.method.check_inverse(self.field)
        return self.method

    def _clock(self, y: State, elapsed: Any, interval: Any) -> tuple[Any, Any]:
        """The time before a step and its length, in units of the ODE."""
        dtype = jnp.finfo(jax.tree.leaves(self.method.current(y))[0].dtype).dtype
        dt: Any = self.dt.value.astype(dtype) if isinstance(self.dt, TrainedStep) else self.dt
        time = elapsed * dt
        if interval is not None:
            dt = dt * (interval if jnp.ndim(interval) == 0 else interval[-1])
        return time, dt


def _interpolation(
    field: AbstractField, interpolation: AbstractInterpolation | None
) -> AbstractInterpolation:
    """The interpolation, or the field's natural one; raise ``InputError`` if it is another kind."""
    stacked = StackedInput(field.samples) if field.samples > 1 else None
    if interpolation is None:
        return stacked or HeldInput()
    if not isinstance(interpolation, AbstractInterpolation):
        raise InputError(
            f"interpolation = {interpolation!r}: give HeldInput(), LinearInput() or CubicInput()."
        )
    if stacked is not None and interpolation != stacked:
        raise InputError(
            f"interpolation = {interpolation!r} does not fit {type(field).__name__}, which reads "
            f"the last {field.samples} inputs as they are: leave it out."
        )
    return interpolation


def _positive(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} = {value!r}: give a positive number or a TrainedStep.") from None
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"{name} = {number}: a step size is positive and finite, 0.1 say.")
    return number
