"""Splitting methods: the flow of one part of a field after the other."""

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from math import factorial
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._field import AbstractField, AbstractSplitField, example_drive
from .._interpolation import drive_at, within
from .._results import InputError
from .._tableau import as_fraction
from .._typing import Array, ArrayLike, Drive, Inexact, Scalar, State
from ._base import AbstractInvertible, AbstractOneStep, AbstractTwoPart
from ._explicit import RK4

Composition = tuple[tuple[int | str, Fraction], ...]


class _Part(AbstractField):
    """One part of a split field as a field of its own, for the method that integrates it."""

    whole: AbstractSplitField
    name: str = eqx.field(static=True)

    @property
    def input_size(self) -> int:
        return self.whole.input_size

    @property
    def hidden_size(self) -> int:
        return self.whole.hidden_size

    @property
    def depth(self) -> int:
        return self.whole.part_depths[self.name]

    def initial_state(self) -> State:
        return self.whole.initial_state()

    def __call__(self, time: Scalar, y: State, u: Drive) -> State:
        return self.whole.part(self.name, time, y, u)


class AbstractSplitting(AbstractInvertible, AbstractTwoPart):
    """The step that all splitting methods share: sub-flows in the order of a composition.

    A part is followed by its exact flow where the field knows it, else by a step of a one-step
    method on that part alone: ``methods`` names it by the part, RK4 where nothing is named.
    """

    methods: eqx.AbstractVar[dict[str, AbstractOneStep] | None]

    explicit: ClassVar[bool] = True
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = True

    def __check_init__(self):
        if not isinstance(self.methods, dict | None):
            raise InputError(
                f"methods = {self.methods!r}: give a method for each part by its name, "
                "{'rest': Heun()} say, or None."
            )
        for name, method in (self.methods or {}).items():
            if not isinstance(method, AbstractOneStep):
                raise InputError(
                    f"methods has {method!r} for {name!r}: give a one-step method, RK4() say."
                )

    def composition(self, parts: Sequence[str]) -> Composition:
        """Return the sub-flows for a field of these parts: (part, share of the step) in order."""
        raise NotImplementedError

    @property
    def stages(self) -> int:
        return len(self.composition(("A", "B")))

    @property
    def order(self) -> int:
        inner = [method.order for method in (self.methods or {}).values()]
        return min([_order(self.composition(("A", "B"))), *inner])

    def split_stability(self, z: ArrayLike, w: ArrayLike) -> Inexact[Array, "..."]:
        """Return the growth on y' = (lambda + mu) y; ``z = dt lambda`` by a method, w exactly.

        ``w = dt mu`` is the linear part of a semilinear field; where parts have other names, all of
        them but the last.
        """
        z, w = jnp.asarray(z), jnp.asarray(w)
        flows = self.composition(("linear", "rest"))
        names = list(dict.fromkeys(part for part, _ in flows))
        rest = "rest" if "rest" in names else names[-1]
        value = 1 + 0 * (z + w)
        for part, share in flows:
            inner = self._method(part).stability_function
            value = value * (inner(float(share) * z) if part == rest else jnp.exp(float(share) * w))
        return value

    def check(self, field: AbstractField) -> None:
        name = type(self).__name__
        if not isinstance(field, AbstractSplitField):
            raise InputError(
                f"{name} does not fit {type(field).__name__}: it needs a field that is a sum of "
                "parts (an AbstractSplitField: Leaky, Oscillator); take a Runge-Kutta method."
            )
        taken = {part for part, _ in self.composition(field.parts)}
        unknown = (taken | set(self.methods or {})) - set(field.parts)
        if unknown:
            raise InputError(
                f"{name} does not fit {type(field).__name__}: it has no part "
                f"{', '.join(sorted(map(str, unknown)))}; take its parts {', '.join(field.parts)}."
            )
        if left := set(field.parts) - taken:
            raise InputError(
                f"{name} does not fit {type(field).__name__}: its flows leave out the part "
                f"{', '.join(sorted(left))}; take all parts."
            )
        for part in field.parts:
            if not _has_flow(field, part):
                self._check_method(field, part)

    def nesting(self, field: Any) -> int:
        total = 0
        for part, _ in self.composition(field.parts):
            exact = _has_flow(field, part)
            inner = _part(field, part)
            total += inner.depth if exact else self._method(part).nesting(inner)
        return total

    def step(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        y = state
        for part, start, share in _clock(self.composition(field.parts)):
            at, length = time + start * dt, share * dt
            flow = field.flow(part, at, y, drive_at(u, start + share / 2), length)
            if flow is None:
                drive = within(u, start, share)
                flow = self._method(part).step(_part(field, part), at, y, drive, length)
            y = flow
        return y

    def check_inverse(self, field: Any) -> None:
        for part in field.parts:
            method = self._method(part)
            if part in field.irreversible:
                raise InputError(
                    f"a {type(self).__name__} step of {type(field).__name__} has no inverse: the "
                    f"flow of {part!r} cannot be undone; take another unroll than Reversible()."
                )
            if _has_flow(field, part):
                continue
            if not isinstance(method, AbstractInvertible):
                raise InputError(
                    f"a {type(self).__name__} step of {type(field).__name__} has no inverse: the "
                    f"flow of {part!r} is by {type(method).__name__}, which has none; name a "
                    "reversible method for it (methods), ImplicitMidpoint() say."
                )
            method.check_inverse(_part(field, part))

    def inverse(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        y = state
        for part, start, share in reversed(_clock(self.composition(field.parts))):
            at, length = time + start * dt, share * dt
            flow = field.flow(part, at + length, y, drive_at(u, start + share / 2), -length)
            if flow is None:
                method: Any = self._method(part)
                flow = method.inverse(_part(field, part), at, y, within(u, start, share), length)
            y = flow
        return y

    def _check_method(self, field: AbstractSplitField, part: str) -> None:
        method = self._method(part)
        try:
            method.check(_part(field, part))
        except InputError:
            raise InputError(
                f"{type(self).__name__} does not fit {type(field).__name__}: its part {part!r} is "
                f"no field for {type(method).__name__}; take a method that fits every field, RK4() "
                "or ImplicitMidpoint() say."
            ) from None

    def _method(self, part: Any) -> AbstractOneStep:
        return (self.methods or {}).get(part, RK4())


class LieTrotter(AbstractSplitting):
    """Lie and Trotter's splitting: each part once, for the whole step. Order 1.

    ``y+ = flow_m(dt) ... flow_2(dt) flow_1(dt) y``. Stages: one flow of each part; memory: none;
    cost: that of the flows. **Arguments**: ``methods``, a one-step method
    for each part without an exact flow, by its name (RK4 where none is named). Raises
    ``InputError`` when a cell is built on a field that has no parts. Reference: Trotter, Proc.
    Amer. Math. Soc. 10 (1959).
    """

    methods: dict[str, AbstractOneStep] | None = None

    def composition(self, parts: Sequence[str]) -> Composition:
        """Each part once."""
        return tuple((part, Fraction(1)) for part in parts)


class Strang(AbstractSplitting):
    """Strang's splitting: half a step of all parts but the last, the last, and back. Order 2.

    Symmetric. Stages: two flows of each part but the last, and one of that; memory, cost,
    **arguments** and errors: as of ``LieTrotter``. Reference: Strang, SIAM J. Numer.
    Anal. 5 (1968).
    """

    methods: dict[str, AbstractOneStep] | None = None

    def composition(self, parts: Sequence[str]) -> Composition:
        """Halves around the last part."""
        *outer, last = parts
        halves = [(part, Fraction(1, 2)) for part in outer]
        return (*halves, (last, Fraction(1)), *reversed(halves))


class Splitting(AbstractSplitting):
    """Any composition of sub-flows.

    **Arguments**: ``flows``, pairs (part, share of the step) in the order they are taken, parts by
    name or number, shares as fractions or numbers; ``methods`` as of ``LieTrotter``. The order
    follows from the series of the product of exponentials.

    >>> Splitting([(0, "1/2"), (1, 1), (0, "1/2")]).order
    2

    Raises ``InputError`` if the shares of a part do not sum to one, and when a cell is built on a
    field whose parts are others. Reference: McLachlan, Quispel,
    Acta Numerica 11 (2002).
    """

    flows: tuple[tuple[int | str, Fraction], ...] = eqx.field(static=True)
    methods: dict[str, AbstractOneStep] | None

    def __init__(
        self,
        flows: Sequence[tuple[int | str, Any]],
        methods: Mapping[str, AbstractOneStep] | None = None,
    ):
        pairs: list[Any] = [pair if isinstance(pair, tuple | list) else () for pair in flows]
        if not pairs or any(len(pair) != 2 for pair in pairs):
            raise InputError(
                f"flows = {flows!r}: give pairs (part, share of the step), [(0, '1/2'), (1, 1), "
                "(0, '1/2')] say."
            )
        self.flows = tuple((part, as_fraction(share, "flows")) for part, share in pairs)
        self.methods = dict(methods) if isinstance(methods, Mapping) else methods
        for part in {part for part, _ in self.flows}:
            total = sum((s for p, s in self.flows if p == part), Fraction(0))
            if abs(total - 1) > Fraction(1, 10**13):
                raise InputError(f"flows: the shares of {part!r} sum to {float(total):g}, not 1.")

    def composition(self, parts: Sequence[str]) -> Composition:
        """The given flows, by the names of the parts."""
        numbered: dict[Any, str] = dict(enumerate(parts))
        return tuple((numbered.get(part, part), share) for part, share in self.flows)


def _part(field: AbstractSplitField, name: Any) -> _Part:
    return _Part(whole=field, name=name)  # pyright: ignore[reportCallIssue]


def _clock(composition: Composition) -> list[tuple[str, float, float]]:
    """Each part has a clock of its own: (part, time of its beginning, share of the step)."""
    at: dict[Any, Fraction] = {}
    clock = []
    for part, share in composition:
        clock.append((part, float(at.get(part, 0)), float(share)))
        at[part] = at.get(part, Fraction(0)) + share
    return clock


def _has_flow(field: Any, part: Any) -> bool:
    def flow(field):
        return field.flow(part, 0.0, field.initial_state(), example_drive(field), 0.1)

    return eqx.filter_eval_shape(flow, field) is not None


@cache
def _order(composition: Composition) -> int:
    """Compare the series of the product of exponentials with that of exp(A + B + ...)."""
    letters = sorted({part for part, _ in composition}, key=str)
    highest = 6
    product: dict[tuple, Fraction] = {(): Fraction(1)}
    for part, share in composition:
        grown: dict[tuple, Fraction] = {}
        for word, weight in product.items():
            for k in range(highest - len(word) + 1):
                # The first sub-flow acts first: it stands to the right of those that follow.
                longer = (part,) * k + word
                term = weight * share**k / factorial(k)
                grown[longer] = grown.get(longer, Fraction(0)) + term
        product = grown
    for degree in range(1, highest + 1):
        wanted = Fraction(1, factorial(degree))
        for word in itertools.product(letters, repeat=degree):
            if abs(product.get(word, Fraction(0)) - wanted) > Fraction(1, 10**13):
                return degree - 1
    return highest
