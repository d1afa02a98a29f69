"""What every numerical method is."""

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax

from .._field import AbstractField
from .._interpolation import drive_at, within
from .._results import InputError
from .._stability import AbstractStability, GrowthStability
from .._typing import Array, ArrayLike, Drive, Inexact, Scalar, State


class AbstractMethod(eqx.Module):
    """A numerical method: from the state at one time to the state one step later.

    A method carries a state of its own from step to step: the field's state y and whatever it needs
    of the past (``start``, ``current``). What it knows about itself follows from its coefficients:

    - ``stages``: evaluations of the field in one step.
    - ``order`` of accuracy: the error over a fixed span of time shrinks as ``dt**order``.
    - ``explicit``: a step needs no equation to be solved.
    - ``symplectic``: a step keeps the symplectic form of a Hamiltonian system.
    - ``reversible``: a step can be undone, exactly or to the tolerance of its solver, on the fields
      that ``check_inverse`` accepts.
    - ``memory``: past states or slopes that are carried beside the present state.
    - ``starting_steps``: first steps that ``first_step`` takes, while there is no past.
    - ``stability``: growth on the test equation and radii of contractivity.
    """

    if TYPE_CHECKING:
        # To a type checker an abstract variable is an argument of the constructor.
        @property
        def stages(self) -> int: ...

        @property
        def order(self) -> int: ...

        @property
        def explicit(self) -> bool: ...

        @property
        def symplectic(self) -> bool: ...

        @property
        def reversible(self) -> bool: ...

        @property
        def memory(self) -> int: ...

        @property
        def starting_steps(self) -> int: ...

        @property
        def stability(self) -> AbstractStability: ...
    else:
        stages: eqx.AbstractVar[int]
        order: eqx.AbstractVar[int]
        explicit: eqx.AbstractVar[bool]
        symplectic: eqx.AbstractVar[bool]
        reversible: eqx.AbstractVar[bool]
        memory: eqx.AbstractVar[int]
        starting_steps: eqx.AbstractVar[int]
        stability: eqx.AbstractVar[AbstractStability]

    @abc.abstractmethod
    def check(self, field: AbstractField) -> None:
        """Raise ``InputError`` if the method cannot integrate the field."""

    def fits(self, field: AbstractField) -> bool:
        """Return whether the method can integrate the field."""
        try:
            self.check(field)
        except InputError:
            return False
        return True

    @abc.abstractmethod
    def nesting(self, field: AbstractField) -> int:
        """Return n: the nonlinearities nested in one step on this field."""

    @abc.abstractmethod
    def start(self, field: AbstractField, y: State) -> State:
        """Return what is carried before the first step, of the field's state ``y``."""

    @abc.abstractmethod
    def current(self, state: State) -> State:
        """Return the field's state, of what is carried."""

    @abc.abstractmethod
    def first_step(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> State:
        """Take one of the first ``starting_steps`` steps."""

    @abc.abstractmethod
    def later_step(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> State:
        """Take a step after the first ``starting_steps``."""

    @abc.abstractmethod
    def step(self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        """Return what is carried one step of length ``dt`` later, whichever step it is.

        ``u`` is the drive within the step: a value that is held, or a polynomial in time (see
        ``odernn.LinearInput``).
        """

    @property
    def algebraically_stable(self) -> bool:
        """Whether a step contracts on every dissipative field: b and BA + A^T B - bb^T >= 0."""
        return self.stability.algebraically_stable

    def stability_function(self, z: ArrayLike) -> Inexact[Array, "..."]:
        """Return the growth of a step on ``y' = lambda y``, ``z = dt lambda`` complex."""
        return self.stability.function(z)

    @property
    def ssp_coefficient(self) -> float | None:
        """Radius of absolute monotonicity; None where the notion does not apply."""
        return self.stability.ssp_coefficient

    @property
    def circle_radius(self) -> float | None:
        """Radius of circle contractivity; None where the notion does not apply."""
        return self.stability.circle_radius

    @property
    def real_interval(self) -> float:
        """Largest r for which a step does not grow for any z in [-r, 0]."""
        return self.stability.real_interval

    @property
    def imaginary_interval(self) -> float:
        """Largest r for which a step does not grow for any z in [-ir, ir]."""
        return self.stability.imaginary_interval


class AbstractUniform(AbstractMethod):
    """A method whose first steps are as all others."""

    starting_steps: ClassVar[int] = 0

    def first_step(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> State:
        return self.step(field, time, state, u, dt)

    def later_step(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> State:
        return self.step(field, time, state, u, dt)


class AbstractOneStep(AbstractUniform):
    """A method that carries nothing but the field's state."""

    memory: ClassVar[int] = 0

    def start(self, field: AbstractField, y: State) -> State:
        return y

    def current(self, state: State) -> State:
        return state


class AbstractTwoPart(AbstractOneStep):
    """A one-step method that treats two parts of a field in two ways."""

    @abc.abstractmethod
    def split_stability(self, z: ArrayLike, w: ArrayLike) -> Inexact[Array, "..."]:
        """Return the growth on ``y' = (lambda + mu) y``, ``z = dt lambda``, ``w = dt mu``."""

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(self._growth)

    def _growth(self, z: Array) -> Array:
        return self.split_stability(z, 0.0 * z)[..., None, None]


class AbstractInvertible(AbstractMethod):
    """A method whose step can be undone; ``odernn.Reversible()`` needs one."""

    @abc.abstractmethod
    def check_inverse(self, field: AbstractField) -> None:
        """Raise ``InputError`` if a step on this field has no inverse."""

    @abc.abstractmethod
    def inverse(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> State:
        """Return what was carried before the step that ended in ``state``.

        ``time``, ``u`` and ``dt`` are those of the step itself: ``time`` is its beginning.
        """


class AbstractSymmetric(AbstractInvertible, AbstractOneStep):
    """A method whose step with -dt undoes the step with dt."""

    reversible: ClassVar[bool] = True

    def check_inverse(self, field: AbstractField) -> None:
        """Accept every field."""

    def inverse(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> State:
        return self.step(field, time + dt, state, within(u, 1.0, -1.0), -dt)


def evaluate(
    field: AbstractField, time: Scalar, y: State, u: Drive, dt: Scalar, node: float
) -> State:
    """Return the field at the time ``time + node dt``, with the drive of that time."""
    at = time if node == 0 else time + node * dt
    return field(at, y, drive_at(u, node))


def add_scaled(y: State, *terms: tuple[Any, State]) -> State:
    """Return ``y + sum of factor * increment`` in the dtype of ``y``."""

    def add(leaf, *increments):
        for (factor, _), increment in zip(terms, increments, strict=True):
            # A factor of exactly one is common (dt = 1): leave no multiplication behind.
            one = isinstance(factor, int | float) and factor == 1
            leaf = leaf + (increment if one else _cast(factor, leaf.dtype) * increment)
        return leaf

    return jax.tree.map(add, y, *[increment for _, increment in terms])


def _cast(factor: Any, dtype: Any) -> Any:
    return factor if isinstance(factor, int | float) else factor.astype(dtype)
