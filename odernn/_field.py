"""The right-hand side of the ODE that a recurrent network is."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ._operator import AbstractOperator
from ._typing import Array, Drive, Inexact, PyTree, Scalar, State


class AbstractField(eqx.Module):
    """A vector field ``y'(s) = F(s, y(s), x(s))`` with trained parameters.

    Subclass it, give it ``input_size`` and ``hidden_size``, write ``__call__``, and every method of
    the library can integrate it:

    - ``__call__(time, y, u)`` is dy/ds. The argument order is Diffrax's.
    - ``drive(x)`` is the part of the work that depends on the input only (the input's projection).
      It is computed for many steps at once, outside the loop over time; its result is the ``u``
      of ``__call__``. Without it, ``u`` is the input itself.
    - ``output(y)`` is what the next layer sees; without it, the state. ``feedthrough(x)`` is added
      to it, if the next layer sees the input directly, too.
    - ``order`` is the order t of the ODE: the number of blocks of hidden size in the state.
    - ``depth`` is the number of nonlinearities nested in one evaluation.
    - ``samples`` is the number of inputs that a step reads, the present one and those before it;
      where it is above 1, ``u`` is the tuple of their drives (see ``odernn.StackedInput``).
    - ``fixed`` names the arrays that are drawn once and never trained (see ``odernn.trained``).
    - ``delays`` is the number of its own past states that a step reads: ``record(y)`` is what is
      kept of them, and where ``delays`` is above 0, ``u`` is a ``DelayedDrive``; ``order`` counts
      them, too.
    - ``check_state(y)`` refuses what cannot be a state to start from.
    """

    input_size: eqx.AbstractVar[int]
    hidden_size: eqx.AbstractVar[int]

    order: ClassVar[int] = 1
    depth: ClassVar[int] = 1
    samples: ClassVar[int] = 1
    fixed: ClassVar[tuple[str, ...]] = ()
    delays: ClassVar[int] = 0

    @abc.abstractmethod
    def __call__(self, time: Scalar, y: State, u: Drive) -> State:
        """Return dy/ds at the time ``time``, for the state ``y`` and the drive ``u``."""

    def drive(self, x: Inexact[Array, " input"]) -> Drive:
        """Return the part of the field that depends on the input only."""
        return x

    def output(self, y: State) -> Inexact[Array, " hidden"]:
        """Return what the next layer sees of the state."""
        return y

    def feedthrough(self, x: Inexact[Array, " input"]) -> Inexact[Array, " hidden"] | None:
        """Return what the next layer sees of the input directly; None: nothing."""
        return None

    def initial_state(self) -> State:
        """Return the state before the first step: zeros."""
        return jnp.zeros(self.hidden_size, self.dtype)

    def check_state(self, y: State) -> State:
        """Return a state to start from; raise ``InputError`` if there is something wrong."""
        return y

    def record(self, y: State) -> Inexact[Array, "..."]:
        """Return what later steps see of this state, one array: the output."""
        return self.output(y)

    @property
    def block_size(self) -> int:
        """Number of entries of one block of the state: the hidden size."""
        return self.hidden_size

    @property
    def dtype(self) -> Any:
        """Floating-point type of the parameters, and so of the state."""
        arrays = jax.tree.leaves(eqx.filter(self, eqx.is_inexact_array))
        return jnp.result_type(*arrays) if arrays else jnp.result_type(float)


class DelayedDrive(NamedTuple):
    """The drive of a field that reads its own past.

    ``past`` has the records of the last states, (delays, ...), the one a step ago first.
    """

    drive: Drive
    past: Inexact[Array, "delays ..."]


def example_drive(field: AbstractField) -> Drive:
    """Return what a step of the field sees of inputs that are zero."""
    u = field.drive(jnp.zeros(field.input_size, field.dtype))
    if field.samples > 1:
        u = (u,) * field.samples
    if field.delays:
        record = field.record(field.initial_state())
        u = DelayedDrive(u, jnp.broadcast_to(record, (field.delays, *record.shape)))
    return u


class AbstractPartitionedField(AbstractField):
    """A field whose state is a dict of named blocks, each with its own rate.

    Partitioned methods (symplectic and Gauss-Seidel Euler) update the blocks one after the other,
    each seeing those already updated. ``blocks`` names them, first the one that the next layer
    sees; ``update_order`` is the order in which a sequential method goes through them unless
    it is told otherwise; ``depths`` counts the nested nonlinearities of each block's rate.

    ``freeze(time, y, u)`` is work that the rates share and that is done once at the start of a
    step, with the state as it was there: the gates of an LSTM, for one. ``rate(block, time, y,
    frozen)`` is the rate of one block.
    """

    blocks: eqx.AbstractClassVar[tuple[str, ...]]
    update_order: eqx.AbstractClassVar[tuple[str, ...]]
    depths: eqx.AbstractClassVar[Mapping[str, int]]

    def freeze(self, time: Scalar, y: State, u: Drive) -> Any:
        """Return what the rates share, computed at the start of a step."""
        return u

    @abc.abstractmethod
    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Inexact[Array, " hidden"]:
        """Return the rate of one block for the state ``y``."""

    def __call__(self, time: Scalar, y: State, u: Drive) -> State:
        frozen = self.freeze(time, y, u)
        return {block: self.rate(block, time, y, frozen) for block in self.blocks}

    def output(self, y: State) -> Inexact[Array, " hidden"]:
        return y[self.blocks[0]]

    def initial_state(self) -> State:
        return {block: jnp.zeros(self.hidden_size, self.dtype) for block in self.blocks}


class AbstractSplitField(AbstractField):
    """A field that is a sum of named parts: ``F = F_1 + F_2 + ...``.

    Splitting methods follow the flow of one part after the other, IMEX methods treat one part
    implicitly. ``parts`` names them; ``part(name, time, y, u)`` is one of them and
    ``part_depths`` counts its nested nonlinearities. ``flow(name, time, y, u, dt)`` is the state
    after the time ``dt`` under that part alone, exactly, or None if that is not known; whether it
    is known depends on the name only. ``irreversible`` names the parts whose flow over ``-dt`` does
    not undo the one over ``dt``.
    """

    parts: eqx.AbstractClassVar[tuple[str, ...]]
    part_depths: eqx.AbstractClassVar[Mapping[str, int]]
    irreversible: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def part(self, name: str, time: Scalar, y: State, u: Drive) -> State:
        """Return one part of dy/ds."""

    @abc.abstractmethod
    def flow(self, name: str, time: Scalar, y: State, u: Drive, dt: Scalar) -> State | None:
        """Return the exact flow of one part over the time ``dt``, or None."""


class AbstractSemilinearField(AbstractSplitField):
    """A field with a constant linear part: ``F = L y + N(s, y, u)``.

    ``linear()`` is the operator L, made of parameters only; ``rest(time, y, u)`` is N, with
    ``depth`` nested nonlinearities. Exponential and IMEX methods treat L exactly or implicitly.
    """

    parts: ClassVar[tuple[str, ...]] = ("linear", "rest")

    @property
    def part_depths(self) -> Mapping[str, int]:
        """Nested nonlinearities of the two parts."""
        return {"linear": 0, "rest": self.depth}

    @abc.abstractmethod
    def linear(self) -> AbstractOperator:
        """Return the operator L."""

    @abc.abstractmethod
    def rest(self, time: Scalar, y: State, u: Drive) -> State:
        """Return N, what is left of dy/ds."""

    def part(self, name: str, time: Scalar, y: State, u: Drive) -> State:
        return self.linear().apply(y) if name == "linear" else self.rest(time, y, u)

    def flow(self, name: str, time: Scalar, y: State, u: Drive, dt: Scalar) -> State | None:
        return self.linear().exponential(dt).apply(y) if name == "linear" else None


class AbstractRelaxationField(AbstractField):
    """A field that relaxes elementwise: ``F = b(s, y, u) - a(s, y, u).y`` with rates ``a >= 0``.

    The form of gated networks and of liquid time constants; the fused (linearly implicit) Euler
    method needs it.
    """

    @abc.abstractmethod
    def relaxation(self, time: Scalar, y: State, u: Drive) -> tuple[State, State]:
        """Return the rates a and the drives b."""


class AbstractLieField(AbstractField):
    """A field ``y' = A(s, y) y`` whose A lies in a Lie algebra: the flow stays on its group.

    ``generator(time, y, u)`` is A as an element of the algebra: any pytree of arrays that may be
    scaled and added. ``exponential(element, y)`` is ``exp(A) y``, exact to rounding, and
    ``product(element, y)`` is ``A y``.
    """

    @abc.abstractmethod
    def generator(self, time: Scalar, y: State, u: Drive) -> PyTree:
        """Return A, an element of the algebra."""

    @abc.abstractmethod
    def exponential(self, element: PyTree, y: State) -> State:
        """Return ``exp(A) y``."""

    @abc.abstractmethod
    def product(self, element: PyTree, y: State) -> State:
        """Return ``A y``."""

    def __call__(self, time: Scalar, y: State, u: Drive) -> State:
        return self.product(self.generator(time, y, u), y)

    def exponential_nesting(self, stages: int) -> int:
        """Return the nested nonlinearities of so many exponentials, one of the other's result.

        A generator that depends on the state counts as deep as the field, its exponential is one
        nonlinearity more.
        """
        return stages * (self.depth + 1) if self.depth else 0


class StructuralBounds(NamedTuple):
    """What holds of a field's Jacobian G for all parameters, states and inputs.

    It follows from the arguments of the field alone. All of it is in the norm ``||T y||``:
    ``norm`` "2" or "inf", T = ``scale``, a small matrix that acts across the blocks of the state
    in alphabetical order, on every unit the same way; None is the identity. A bound is None where
    there is none.

    - ``growth``: the logarithmic norm of G is at most this.
    - ``size``: ``||G||`` is at most this.
    - ``circle``: ``||G + r I|| <= r`` with this r.
    - ``euler``: ``||I + d G|| <= 1 + d growth`` for every d from 0 to this.
    - ``linear`` and ``rest``, of a semilinear field L y + N: the logarithmic norm of L and the norm
      of the Jacobian of N are at most these.
    - ``isometry``: the flow is linear in the state and orthogonal, for every input.
    - ``state``: all this holds as far as no component of the state is larger; None: everywhere.
    - ``source``: why, in a few words.
    """

    growth: float | None
    size: float | None
    circle: float | None
    isometry: bool
    source: str
    norm: Literal["2", "inf"] = "2"
    scale: tuple[tuple[float, ...], ...] | None = None
    euler: float | None = None
    linear: float | None = None
    rest: float | None = None
    state: float | None = None


class AbstractCertifiedField(AbstractField):
    """A field that is stable for all values of its parameters; ``certified`` says in what sense."""

    @property
    @abc.abstractmethod
    def certified(self) -> StructuralBounds:
        """Bounds of the Jacobian, for all parameters, states and inputs."""
