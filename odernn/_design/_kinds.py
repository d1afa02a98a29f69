"""The networks and methods that are looked through, sized to a budget: what is known of shapes."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell
from .._field import AbstractRelaxationField
from .._method import METHODS, Euler, GaussSeidelEuler, LieTrotter, Strang
from .._model import parameter_count
from .._results import InputError, unknown_name
from ..analysis._certificate import TOLERANCE, Rates
from ..analysis._cost import Cost, cost
from ..analysis._region import everywhere
from ..analysis._special import special_rates
from ..analysis._structural import structural_rates
from ..fields._unitary import AbstractUnitaryField
from ..zoo import CELLS, Network
from ..zoo._network import size_for, size_name
from ._requirements import Requirements

MOST_UNITS, MOST_QUBITS = 256, 10
_GIVING: dict[str, tuple[str, ...]] = {
    "reversible": ("stormerverlet", "reversiblerk4"),
    "certified": ("implicitmidpoint", "backwardeuler"),
    "contracting": ("backwardeuler",),
    "unitary": ("implicitmidpoint",),
    "n": ("heun", "kutta3", "rk4"),
    "irregular": ("fusedeuler",),
}
"""Methods that a network is tried with where its own one does not give a property."""
_SMALL = 8
_BUDGETS = ("parameters", "operations", "state")


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """A network with its own method or another one, in the largest size that a budget allows.

    Arguments:
        name: of the network, as the command line knows it.
        method: by its name; None: the network's own.
        size: units, or qubits.
        parameters: trained numbers of cell and read-out.
        required: what it is sized for.
    """

    name: str
    method: str | None
    size: int
    parameters: int
    required: Requirements

    @property
    def network(self) -> Network:
        """The network of the zoo."""
        return CELLS[self.name]

    @property
    def title(self) -> str:
        """Name, and method if it is not the network's own."""
        return self.network.name + (f" + {self.method}" if self.method else "")

    @cached_property
    def shape(self) -> Cell:
        """The cell without numbers in its arrays."""
        return eqx.filter_eval_shape(
            partial(make, self.network, self.method, self.required.input_size, self.size)
        )

    @cached_property
    def small(self) -> Cell:
        """A small cell of the kind, for what does not depend on the size."""
        return make(self.network, self.method, 2, size_for(self.network.field, _SMALL))

    @cached_property
    def cost(self) -> Cost:
        """What a step costs."""
        return cost(self.shape)

    @cached_property
    def rates(self) -> Rates | None:
        """What holds of a step for all parameter values, the best of it."""
        cell, region = self.small, everywhere(self.small)
        found = structural_rates(cell, region, float(cell.step_size))
        found += [rates for rates in special_rates(cell, region) if rates.structural]
        bounded = [r for r in found if r.upper <= 1 + TOLERANCE]
        return max(bounded, key=lambda r: (r.lower, -r.upper), default=None)

    @property
    def unitary(self) -> bool:
        """Whether a rotation carries the state: the step is one, or its linear part."""
        if isinstance(self.small.field, AbstractUnitaryField):
            return isinstance(self.small.method, LieTrotter | Strang)
        return self.rates is not None and self.rates.lower >= 1 - TOLERANCE

    @cached_property
    def reversible(self) -> bool:
        """Whether a step can be undone."""
        try:
            self.small.check_inverse()
        except InputError:
            return False
        return True

    @cached_property
    def steady(self) -> bool:
        """Whether the longest step between two inputs lets what relaxes go to its rest.

        The relaxation y' = -y of a gate that is open must not grow: Euler's step does from two
        time units on, and so does that of every gated network, which is one unit long as it comes.
        Of fields that do not relax this says nothing.
        """
        small = self.small
        if not isinstance(small.field, AbstractRelaxationField):
            return True
        # Each block of a gated memory takes Euler's step.
        method = Euler() if isinstance(small.method, GaussSeidelEuler) else small.method
        relaxing = Cell(_Relaxing(), method, float(small.step_size))
        interval = jnp.asarray(self.required.longest_interval)
        after = relaxing.step(jnp.ones(1), jnp.zeros(1), interval=interval)
        return bool(jnp.abs(after)[0] < 1)

    def has(self, condition: str) -> bool:
        """Whether it has what is asked for, as far as no measurement is needed."""
        wanted = self.required
        match condition:
            case "parameters":
                return self.parameters <= wanted.parameters
            case "operations":
                return self.cost.multiply_adds <= (wanted.operations or 0)
            case "state":
                return self.cost.state <= (wanted.state or 0)
            case "n" | "t":
                return getattr(self.shape, condition) == getattr(wanted, condition)
            case "parallel":
                return self.shape.n == 0
            case "reversible":
                return self.reversible
            case "certified":
                return self.rates is not None
            case "contracting":
                return self.rates is not None and self.rates.upper < 1 - TOLERANCE
            case "unitary":
                return self.unitary
            case "irregular":
                return self.steady
        return True  # streaming, and what is measured


class _Relaxing(AbstractRelaxationField):
    """y' = -y."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=1)

    def relaxation(self, time: Any, y: Any, u: Any) -> tuple[Any, Any]:
        return jnp.ones_like(y), jnp.zeros_like(y)

    def __call__(self, time: Any, y: Any, u: Any) -> Any:
        return -y


def make(network: Network, method: str | None, input_size: int, size: int, key: Any = None) -> Cell:
    """A cell of a network, with another method if one is named."""
    key = jax.random.key(0) if key is None else key
    options: dict[str, Any] = {size_name(network.field): size}
    chosen = None if method is None else METHODS[method]
    return network(input_size, method=chosen, key=key, **options)


def kinds(required: Requirements, names: Iterable[str] | None = None) -> Iterator[Kind]:
    """Every network, with its own method and those that add what is asked for, in its size.

    The size is the largest within the budgets; a network that is too large for them in its
    smallest size comes in that size, which shows by how much.

    Raises:
        InputError: a name that is no cell.
    """
    for name in CELLS if names is None else names:
        if name.lower() not in CELLS:
            raise unknown_name("cell", name, CELLS)
        fitted = _fitted(name.lower(), required)
        if fitted is None:
            continue
        yield fitted
        for method in _methods(fitted):
            again = _fitted(name.lower(), required, method)
            if again is not None:
                yield again


def _methods(own: Kind) -> Iterator[str]:
    """Other methods, where they have what the network's own one lacks."""
    tried = set()
    for lacking in (name for name in own.required.conditions() if not own.has(name)):
        for name in _GIVING.get(lacking, ()):
            if name not in tried and METHODS[name].fits(own.small.field):
                tried.add(name)
                if dataclasses.replace(own, method=name).has(lacking):
                    yield name
                    break


def _fitted(name: str, required: Requirements, method: str | None = None) -> Kind | None:
    """The largest size within the budgets; None for a network that trains nothing."""
    network = CELLS[name]

    @cache
    def kind(size: int) -> Kind | None:
        """The network in this size; None where its field refuses it (odd numbers, say)."""
        try:
            cell = eqx.filter_eval_shape(partial(make, network, method, required.input_size, size))
        except InputError:
            return None
        count = parameter_count(cell)
        return Kind(
            *(name, method, size),
            count and count + (cell.hidden_size + 1) * required.output_size,
            required,
        )

    def below(size: int) -> Kind | None:
        """The network in this size or the nearest smaller one."""
        while size and kind(size) is None:
            size -= 1
        return kind(size) if size else None

    qubits = size_name(network.field) == "qubits"
    low, most = (2, MOST_QUBITS) if qubits else (1, MOST_UNITS)
    while low < most and kind(low) is None:
        low += 1
    least = kind(low)
    if least is None or not least.parameters:
        return None
    asked = [b for b in _BUDGETS if getattr(required, b) is not None]
    high = min(most + 1, _guess(below, required.parameters, low) if not qubits else most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        here = below(middle)
        fits = here is not None and all(here.has(budget) for budget in asked)
        low, high = (middle, high) if fits else (low, middle)
    return below(low) or least


def _guess(below: Callable[[int], Kind | None], budget: int, least: int) -> int:
    """A size just above the one whose parameters a budget allows: they are its square, about."""
    sizes = [kind for size in (8, 16, 32) if (kind := below(max(size, least))) is not None]
    law = np.polyfit([k.size for k in sizes], [k.parameters for k in sizes], len(sizes) - 1)
    law[-1] -= budget
    roots = [r.real for r in np.roots(law) if abs(r.imag) < 1e-6 and r.real > 0]
    return math.floor(max(roots, default=MOST_UNITS)) + 2


def conflict(found: list[Kind], required: Requirements) -> InputError:
    """An error that says which requirements exclude each other, and what is near them."""
    asked = required.conditions()
    has: Mapping[str, set[int]] = {
        name: {index for index, kind in enumerate(found) if kind.has(name)} for name in asked
    }
    names = list(asked)
    for name in names:
        if not has[name]:
            return InputError(f"no network has {asked[name]}: {_nearest(found, name, has)}.")
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if not has[a] & has[b]]
    if pairs:
        # Of several the one with a budget, which can be raised, comes last.
        a, b = pairs[0]
        first, second = (a, b) if b in _BUDGETS else (b, a)
        return InputError(
            f"{asked[a]} conflicts with {asked[b]}: no network has both; "
            f"{_nearest(found, second, {first: has[first]})}."
        )
    without = {
        name: set.intersection(*(has[other] for other in names if other != name)) for name in names
    }
    drop = max(names, key=lambda name: len(without[name]))
    return InputError(
        f"no network has all of {', '.join(asked.values())}: without {asked[drop]!r} "
        f"{len(without[drop])} have the rest, {_some(found, without[drop])}."
    )


def _nearest(found: list[Kind], name: str, has: Mapping[str, set[int]]) -> str:
    """What would do instead of a requirement, by the networks that have the others."""
    others = [members for other, members in has.items() if other != name]
    left = set.intersection(*others) if others else set(range(len(found)))
    left = left or set(range(len(found)))
    kinds_left = [found[index] for index in sorted(left)]
    if name in _BUDGETS:
        values = {
            "parameters": lambda kind: kind.parameters,
            "operations": lambda kind: kind.cost.multiply_adds,
            "state": lambda kind: kind.cost.state,
        }
        best = min(kinds_left, key=values[name])
        return f"the fewest have {values[name](best):,} ({best.title}, {best.size} units)"
    if name in ("n", "t"):
        values_there = sorted({getattr(kind.shape, name) for kind in kinds_left})
        return f"there is {name} = {', '.join(map(str, values_there))}"
    return f"without it there are {len(kinds_left)}, {_some(found, left)}"


def _some(found: list[Kind], members: set[int]) -> str:
    titles = list(dict.fromkeys(found[index].title for index in sorted(members)))
    return ", ".join(titles[:3]) + (" and others" if len(titles) > 3 else "")
