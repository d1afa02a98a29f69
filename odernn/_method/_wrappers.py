"""Methods made of another method: several steps in one, reversible, or adaptive ones."""

from typing import Any, ClassVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractField, DelayedDrive
from .._interpolation import Polynomial, drive_at, within
from .._results import InputError
from .._stability import AbstractStability, GrowthStability, RungeKuttaStability, exact_growth
from .._typing import Array, Drive, Scalar, State
from ._base import AbstractInvertible, AbstractOneStep, AbstractUniform
from ._solve import check_max_steps, join_parts, split_parts


class Substeps(AbstractInvertible, AbstractOneStep):
    """Several steps of a method within one input step: m steps of length dt / m.

    Order of the method; stages and n times m. **Arguments**: ``method``, a one-step method;
    ``steps`` m.

    >>> from odernn import RK4
    >>> Substeps(RK4(), 3).stages
    12

    Raises ``InputError`` if the method carries a past, or ``steps`` is no whole number of at
    least 1.
    """

    method: AbstractOneStep
    steps: int = eqx.field(static=True)

    def __check_init__(self):
        if not isinstance(self.method, AbstractOneStep):
            raise InputError(
                f"method = {self.method!r}: Substeps takes a one-step method; one that carries a "
                "past is refined by a smaller dt."
            )
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps = {self.steps!r}: give a whole number of at least 1.")

    @property
    def stages(self) -> int:
        return self.steps * self.method.stages

    @property
    def order(self) -> int:
        return self.method.order

    @property
    def explicit(self) -> bool:
        return self.method.explicit

    @property
    def reversible(self) -> bool:
        return self.method.reversible

    @property
    def symplectic(self) -> bool:
        return self.method.symplectic

    @property
    def stability(self) -> AbstractStability:
        inner = self.method.stability
        if isinstance(inner, RungeKuttaStability):
            return RungeKuttaStability(inner.tableau.repeated(self.steps))
        return GrowthStability(self._growth)

    def _growth(self, z: Array) -> Array:
        return (self.method.stability_function(z / self.steps) ** self.steps)[..., None, None]

    def check(self, field: AbstractField) -> None:
        self.method.check(field)

    def nesting(self, field: AbstractField) -> int:
        return self.steps * self.method.nesting(field)

    def step(self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        for part in self._parts(time, u, dt):
            state = self.method.step(field, part[0], state, *part[1:])
        return state

    def check_inverse(self, field: AbstractField) -> None:
        if not isinstance(self.method, AbstractInvertible):
            raise InputError(
                f"a step of Substeps({type(self.method).__name__}) has no inverse: take a "
                "reversible method inside, StormerVerlet() say."
            )
        self.method.check_inverse(field)

    def inverse(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> State:
        method = cast(AbstractInvertible, self.method)
        for part in reversed(self._parts(time, u, dt)):
            state = method.inverse(field, part[0], state, *part[1:])
        return state

    def _parts(self, time: Scalar, u: Drive, dt: Scalar) -> list[tuple[Scalar, Drive, Scalar]]:
        share = 1 / self.steps
        return [
            (time + i * share * dt, within(u, i * share, share), dt * share)
            for i in range(self.steps)
        ]


class Pair(eqx.Module):
    """The two states that an algebraically reversible method carries."""

    y: State
    z: State


class AlgebraicallyReversible(AbstractInvertible, AbstractUniform):
    """McCallum and Foster's reversible form of an explicit Runge-Kutta method.

    Two states are carried, and with ``P_dt(y)`` the increment of the method::

        y+ = c y + (1 - c) z + P_dt(z),    z+ = z - P_{-dt}(y+)

    which is undone by the same increments. Order of the method; twice its stages and cost; memory:
    one state more (t is doubled). The inverse multiplies errors by 1/c a step. For fields with
    little friction: with c near one the step is unstable on damped ones (``real_interval`` tells),
    with a smaller c it is stable and the inverse needs stored states (``Reversible(anchor=...)``).

    **Arguments**: ``method``, an explicit one-step method; ``coupling`` c in (0, 1).

    >>> from odernn import RK4
    >>> AlgebraicallyReversible(RK4()).order
    4

    Raises ``InputError`` for other methods and values. Reference: McCallum, Foster,
    arXiv:2410.11648.
    """

    method: AbstractOneStep
    coupling: float = eqx.field(static=True, default=0.999)

    explicit: ClassVar[bool] = True
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = True
    memory: ClassVar[int] = 1

    def __check_init__(self):
        if not (isinstance(self.method, AbstractOneStep) and self.method.explicit):
            raise InputError(
                f"method = {self.method!r}: give an explicit one-step method, RK4() say."
            )
        if not 0 < self.coupling < 1:
            raise InputError(f"coupling = {self.coupling!r}: give a number in (0, 1).")

    @property
    def stages(self) -> int:
        return 2 * self.method.stages

    @property
    def order(self) -> int:
        return self.method.order

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(self._growth)

    def _growth(self, z: Array) -> Array:
        ahead = self.method.stability_function(z) - 1
        behind = self.method.stability_function(-z) - 1
        first = [self.coupling + 0 * z, 1 - self.coupling + ahead]
        second = [-behind * first[0], 1 - behind * first[1]]
        rows = [jnp.stack(row, axis=-1) for row in (first, second)]
        return jnp.stack(rows, axis=-2)

    def check(self, field: AbstractField) -> None:
        self.method.check(field)

    def nesting(self, field: AbstractField) -> int:
        return 2 * self.method.nesting(field)

    def start(self, field: AbstractField, y: State) -> Pair:
        return Pair(y, y)

    def current(self, state: Pair) -> State:
        return state.y

    def step(self, field: AbstractField, time: Scalar, state: Pair, u: Drive, dt: Scalar) -> Pair:
        c = self.coupling
        ahead = self._increment(field, time, state.z, u, dt)
        y = jax.tree.map(lambda y, z, p: c * y + (1 - c) * z + p, state.y, state.z, ahead)
        behind = self._increment(field, time + dt, y, within(u, 1.0, -1.0), -dt)
        return Pair(y, jax.tree.map(jnp.subtract, state.z, behind))

    def check_inverse(self, field: AbstractField) -> None:
        """Accept every field."""

    def inverse(
        self, field: AbstractField, time: Scalar, state: Pair, u: Drive, dt: Scalar
    ) -> Pair:
        c = self.coupling
        behind = self._increment(field, time + dt, state.y, within(u, 1.0, -1.0), -dt)
        z = jax.tree.map(jnp.add, state.z, behind)
        ahead = self._increment(field, time, z, u, dt)
        y = jax.tree.map(lambda y, z, p: (y - (1 - c) * z - p) / c, state.y, z, ahead)
        return Pair(y, z)

    def _increment(self, field: AbstractField, time: Any, y: State, u: Drive, dt: Any) -> State:
        return jax.tree.map(jnp.subtract, self.method.step(field, time, y, u, dt), y)


class Adaptive(AbstractOneStep):
    """Diffrax's Tsit5 with as many steps of its own as an error tolerance asks for.

    For fields that are meant in continuous time, and as a reference. Order 5; the number of
    evaluations depends on the state, which ``stages`` (of one inner step) and n do not count.
    Memory: none from step to step; cost: six evaluations an inner step, of which there are as many
    as it takes.

    **Arguments**: ``rtol`` and ``atol``, tolerances relative and absolute; ``max_steps``, inner
    steps allowed in one step. Raises ``InputError`` for values out of range; more inner steps than
    allowed are an error at run time. Reference: Kidger, "On Neural Differential Equations" (2022);
    Tsitouras, Comput. Math. Appl. 62 (2011).
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=256)

    stages: ClassVar[int] = 6
    order: ClassVar[int] = 5
    explicit: ClassVar[bool] = True
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = False

    def __check_init__(self):
        for name in ("rtol", "atol"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise InputError(f"{name} = {value!r}: give a number in (0, 1).")
        check_max_steps(self.max_steps)

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(exact_growth)

    def check(self, field: AbstractField) -> None:
        """Accept every field."""

    def nesting(self, field: AbstractField) -> int:
        return self.stages * field.depth

    def step(self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        import diffrax

        real = jnp.finfo(jax.tree.leaves(state)[0].dtype).dtype
        start, length = jnp.asarray(time, real), jnp.asarray(dt, real)

        # In units of the step, so that the drive's own time needs no conversion.
        # In real numbers: Diffrax makes no promise for complex ones.
        def slope(node: Any, parts: State, args: Any) -> State:
            field, drive, start, length = args
            y, drive = join_parts(parts, state), drive_at(join_parts(drive, u), node)
            rate = field(start + node * length, y, drive)
            return jax.tree.map(lambda r: length * r, split_parts(rate))

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(slope),
            diffrax.Tsit5(),
            jnp.zeros((), real),
            jnp.ones((), real),
            None,
            split_parts(state),
            args=(field, split_parts(u), start, length),
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            max_steps=self.max_steps,
            # Its loop is differentiated as any other program: in both modes, under any unroll.
            adjoint=diffrax.DirectAdjoint(),
            throw=False,
        )
        after = join_parts(jax.tree.map(lambda a: a[-1], cast(Any, solution.ys)), state)
        return eqx.error_if(
            after,
            solution.result != diffrax.RESULTS.successful,
            f"Adaptive did not reach its tolerance in {self.max_steps} inner steps, or a value is "
            "not finite: take a smaller dt, larger tolerances or more max_steps.",
        )


class Delayed(AbstractUniform):
    """A method with a memory of past states, for a field that reads them: ``field.delays`` records.

    The state is a dict: "y", the method's own, and "past", what the field has recorded at the
    beginning of the last steps, the latest first; before the first step that is the record of the
    start. Records are held within a step, however long it is. Order 1 in what depends on the past.
    A cell puts a method into this one where its field has delays. No step can be undone.

    **Arguments**: ``method``, a one-step method. Raises ``InputError`` if the method carries a
    past itself, and when a cell is built on a field without delays.
    """

    method: AbstractOneStep

    reversible: ClassVar[bool] = False
    memory: ClassVar[int] = 0

    def __check_init__(self):
        if not isinstance(self.method, AbstractOneStep):
            raise InputError(
                f"method = {self.method!r}: Delayed takes a one-step method, Euler() say."
            )

    @property
    def stages(self) -> int:
        return self.method.stages

    @property
    def order(self) -> int:
        return self.method.order

    @property
    def explicit(self) -> bool:
        return self.method.explicit

    @property
    def symplectic(self) -> bool:
        return self.method.symplectic

    @property
    def stability(self) -> AbstractStability:
        return self.method.stability

    def check(self, field: AbstractField) -> None:
        if not field.delays:
            raise InputError(
                f"Delayed does not fit {type(field).__name__}, which reads no past state of its "
                "own: take the method inside."
            )
        self.method.check(field)

    def nesting(self, field: AbstractField) -> int:
        return self.method.nesting(field)

    def start(self, field: AbstractField, y: State) -> State:
        record = field.record(y)
        past = jnp.broadcast_to(record, (field.delays, *record.shape))
        return {"y": self.method.start(field, y), "past": past}

    def current(self, state: State) -> State:
        return self.method.current(state["y"])

    def step(self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        y, past = state["y"], state["past"]
        after = self.method.step(field, time, y, _with_past(u, past), dt)
        record = field.record(self.method.current(y))
        return {"y": after, "past": jnp.concatenate([record[None], past[:-1]])}


def _with_past(u: Drive, past: Array) -> Drive:
    """Return the drive with the records, which are held where the input is interpolated."""
    if not isinstance(u, Polynomial):
        return DelayedDrive(u, past)
    value, *slopes = u.coefficients
    zero = jnp.zeros_like(past)
    return Polynomial((DelayedDrive(value, past), *(DelayedDrive(c, zero) for c in slopes)))
