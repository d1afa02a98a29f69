"""Lie-group methods: products of exponentials, which keep the state on its group."""

from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax

from .._field import AbstractField, AbstractLieField, example_drive
from .._interpolation import drive_at
from .._results import InputError
from .._stability import GrowthStability, exact_growth
from .._tableau import ButcherTableau
from .._typing import Drive, PyTree, Scalar, State
from ._base import AbstractInvertible, AbstractOneStep
from ._solve import depends


class _Products(NamedTuple):
    """Coefficients: for each stage and for the step, the exponentials that act on y in turn.

    A row holds the weights of the generators A_1, A_2, ... in one exponent.
    """

    stages: tuple[tuple[tuple[float, ...], ...], ...]
    step: tuple[tuple[float, ...], ...]


class AbstractLieGroup(AbstractInvertible, AbstractOneStep):
    """The step that all Lie-group methods share.

    ``A_i = A(s + c_i dt, Y_i)`` with ``Y_i`` a product of exponentials of ``dt sum_j a_j A_j``
    acting on y, and so is the step itself.
    """

    order: eqx.AbstractVar[int]

    explicit: ClassVar[bool] = True
    symplectic: ClassVar[bool] = False
    reversible: ClassVar[bool] = True

    @property
    def products(self) -> _Products:
        """Coefficients."""
        raise NotImplementedError

    def __check_init__(self):
        if isinstance(self.order, bool) or self.order not in (1, 2, 3, 4):
            raise InputError(f"order = {self.order!r}: it is 1, 2, 3 or 4.")

    @property
    def stages(self) -> int:
        return len(self.products.stages)

    @property
    def tableau(self) -> ButcherTableau:
        """The Runge-Kutta method that this one is where all generators commute."""
        rows = [_total(rows, self.stages) for rows in (*self.products.stages, self.products.step)]
        return ButcherTableau([[Fraction(v) for v in row] for row in rows[:-1]], rows[-1])

    @property
    def stability(self) -> GrowthStability:
        return GrowthStability(exact_growth)

    def check(self, field: AbstractField) -> None:
        if not isinstance(field, AbstractLieField):
            raise InputError(
                f"{type(self).__name__} does not fit {type(field).__name__}: it needs a field "
                "y' = A(s, y) y (an AbstractLieField); take a Runge-Kutta method."
            )

    def nesting(self, field: Any) -> int:
        return field.exponential_nesting(self.stages)

    def step(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        generators = self._generators(field, time, state, u, dt)
        return _act(field, self.products.step, generators, state, dt)

    def check_inverse(self, field: Any) -> None:
        y = field.initial_state()
        u = example_drive(field)
        if depends(lambda y, u: field.generator(0.0, y, u), y, u):
            raise InputError(
                f"a {type(self).__name__} step of {type(field).__name__} has no explicit inverse: "
                "its generator depends on the state; take another unroll than Reversible()."
            )

    def inverse(self, field: Any, time: Scalar, state: State, u: Drive, dt: Scalar) -> State:
        # The generators do not depend on the state: they are those of the step itself.
        generators = self._generators(field, time, state, u, dt)
        return _act(field, self.products.step[::-1], generators, state, -dt)

    def _generators(self, field: Any, time: Scalar, y: State, u: Drive, dt: Scalar) -> list[PyTree]:
        generators: list[PyTree] = []
        for rows in self.products.stages:
            node = float(sum(map(sum, rows)))
            inner = _act(field, rows, generators, y, dt)
            at = time if node == 0 else time + node * dt
            generators.append(field.generator(at, inner, drive_at(u, node)))
        return generators


def _act(
    field: Any, rows: tuple[tuple[float, ...], ...], generators: list[PyTree], y: State, dt: Scalar
) -> State:
    for row in rows:
        used = [(a * dt, g) for a, g in zip(row, generators, strict=False) if a != 0]
        y = field.exponential(_combine(used), y)
    return y


def _combine(terms: list[tuple[Any, PyTree]]) -> PyTree:
    def add(*leaves):
        return sum(_factor(w, leaf) * leaf for (w, _), leaf in zip(terms, leaves, strict=True))

    return jax.tree.map(add, *[element for _, element in terms])


def _factor(weight: Any, like: Any) -> Any:
    return weight if isinstance(weight, int | float) else weight.astype(like.dtype)


def _total(rows: tuple[tuple[float, ...], ...], size: int) -> list[Fraction]:
    total = [Fraction(0)] * size
    for row in rows:
        for j, a in enumerate(row):
            total[j] += Fraction(a).limit_denominator(10**6) if _is_short(a) else Fraction(a)
    return total


def _is_short(a: float) -> bool:
    return float(Fraction(a).limit_denominator(10**6)) == a


def _one_by_one(*weights: float) -> tuple[tuple[float, ...], ...]:
    """One exponential for each generator, in their order: what Crouch and Grossman have."""
    return tuple((0.0,) * j + (w,) for j, w in enumerate(weights) if w != 0)


_EULER = _Products(((),), ((1.0,),))
_MIDPOINT = _Products(((), ((0.5,),)), ((0.0, 1.0),))
_CROUCH_GROSSMAN = {
    1: _EULER,
    2: _MIDPOINT,
    3: _Products(
        ((), _one_by_one(3 / 4), _one_by_one(119 / 216, 17 / 108)),
        _one_by_one(13 / 51, -2 / 3, 24 / 17),
    ),
    4: _Products(
        (
            (),
            _one_by_one(0.8177227988124852),
            _one_by_one(0.3199876375476427, 0.0659864263556022),
            _one_by_one(0.9214417194464946, 0.4997857776773573, -1.0969984448371582),
            _one_by_one(
                0.3552358559023322, 0.2390958372307326, 1.3918565724203246, -1.1092979392113565
            ),
        ),
        _one_by_one(
            0.1370831520630755,
            -0.0183698531564020,
            0.7397813985370780,
            -0.1907142565505889,
            0.3322195591068374,
        ),
    ),
}
_COMMUTATOR_FREE = {
    1: _EULER,
    2: _MIDPOINT,
    3: _Products(
        ((), ((1 / 3,),), ((0.0, 2 / 3),)),
        ((1 / 3,), (-1 / 12, 0.0, 3 / 4)),
    ),
    4: _Products(
        ((), ((1 / 2,),), ((0.0, 1 / 2),), ((1 / 2,), (-1 / 2, 0.0, 1.0))),
        ((1 / 4, 1 / 6, 1 / 6, -1 / 12), (-1 / 12, 1 / 6, 1 / 6, 1 / 4)),
    ),
}


class CrouchGrossman(AbstractLieGroup):
    """Crouch and Grossman's methods: one generator in each exponential. Order 1 to 4.

    ``y+ = exp(dt b_s A_s) ... exp(dt b_1 A_1) y``. Stages 1, 2, 3, 5; exponentials in all 1, 2, 6,
    15. Norms that the group keeps are kept to rounding, for any dt. Memory: none from step to step,
    the generators within one; cost: a generator a stage, and the exponentials. A step can be undone
    where the generator depends on input and time only.

    **Arguments**: ``order``. Raises ``InputError`` for others, and when a cell is built on a field
    that is no ``AbstractLieField``. Reference: Crouch, Grossman, J. Nonlinear Sci. 3 (1993); Owren,
    Marthinsen, BIT 39 (1999) for order 4.
    """

    order: int = eqx.field(static=True, default=3)

    @property
    def products(self) -> _Products:
        """Coefficients."""
        return _CROUCH_GROSSMAN[self.order]


class CommutatorFree(AbstractLieGroup):
    """Commutator-free methods: sums of generators in an exponential. Order 1 to 4.

    Stages 1, 2, 3, 4; exponentials in all 1, 2, 4, 6. Memory, cost and the rest: as of
    ``CrouchGrossman``.

    **Arguments** and errors: as of ``CrouchGrossman``. Reference: Celledoni, Marthinsen, Owren,
    Future Gener. Comput. Syst. 19 (2003).
    """

    order: int = eqx.field(static=True, default=4)

    @property
    def products(self) -> _Products:
        """Coefficients."""
        return _COMMUTATOR_FREE[self.order]
