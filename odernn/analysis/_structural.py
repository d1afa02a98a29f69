"""Rates that hold for all parameter values: of fields that are stable by construction."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell
from .._enclosure import Norm
from .._field import AbstractCertifiedField, StructuralBounds
from .._method import (
    ETD1,
    AbstractMethod,
    Euler,
    FusedEuler,
    GaussSeidelEuler,
    IMEXEuler,
    ImplicitMidpoint,
    Lawson4,
    LieTrotter,
    Splitting,
    Strang,
)
from .._method._lie import AbstractLieGroup
from ..fields import Conservative, ContractingLeaky, ContractingOscillator
from ._certificate import Rates
from ._conditions import rates_of_field
from ._region import Region


@dataclasses.dataclass(frozen=True)
class _Bounded:
    """The Jacobians ``a I + b G`` of which only a field's structural bounds are known."""

    bounds: StructuralBounds
    own: Norm
    a: float = 0.0
    b: float = 1.0

    exact = False

    @property
    def center(self) -> np.ndarray:
        """There is no single Jacobian."""
        raise AttributeError("center")

    def shifted(self, a: float, b: float) -> "_Bounded":
        """Return the set of all ``a I + b J``."""
        return dataclasses.replace(self, a=a + b * self.a, b=b * self.b)

    def norm(self, norm: Norm) -> float:
        """A bound of ``||a I + b G||``."""
        if norm is not self.own:
            return math.inf
        known, a, b = self.bounds, self.a, self.b
        size = math.inf if known.size is None else known.size
        found = [abs(a) + abs(b) * size if b else abs(a)]
        if a <= 0 or b < 0 or not b:
            return found[0]
        step = b / a  # a (I + step G)
        if known.circle is not None and step * known.circle <= 1:
            found.append(a)
        if known.euler is not None and known.growth is not None and step <= known.euler:
            found.append(a * (1 + step * known.growth))
        if norm.kind == "2" and known.growth is not None and math.isfinite(size):
            found.append(a * math.sqrt(1 + 2 * step * known.growth + (step * size) ** 2))
        return min(found)

    def growth(self, norm: Norm) -> float:
        """A bound of the logarithmic norm."""
        if norm is not self.own:
            return math.inf
        known = self.bounds
        if self.b >= 0 and known.growth is not None:
            return self.a + self.b * known.growth
        return self.a + abs(self.b) * (math.inf if known.size is None else known.size)

    def lowest(self, norm: Norm) -> float:
        """A bound from below: that of the triangle inequality."""
        if norm is not self.own or self.bounds.size is None:
            return 0.0
        return max(abs(self.a) - abs(self.b) * self.bounds.size, 0.0)


def structural_rates(cell: Cell, region: Region, dt: float) -> list[Rates]:
    """Return what holds of the cell's steps for all values of its parameters.

    These are the theorems of ``rates_of_field`` on the bounds that the field has by construction
    (``AbstractCertifiedField``), and those for its linear part and the rest under IMEX Euler, ETD1
    and the sequential Euler method of the oscillator. Empty for other fields, for those that read
    past states, and where the region goes beyond the states for which the bounds hold.
    """
    field, method = cell.field, cell.method
    if not isinstance(field, AbstractCertifiedField) or field.delays:
        return []
    known = field.certified
    size = len(region.state_lower)
    if known.state is not None:
        reach = max(abs(region.state_lower).max(), abs(region.state_upper).max())
        if not reach <= known.state:
            return []
    scale = None
    if known.scale is not None:
        small = np.array(known.scale)
        scale = np.kron(small, np.eye(size // len(small)))
    norm = Norm(known.norm, scale)
    assumptions = (known.source,)
    if known.state is not None:
        assumptions += (f"states in [-{known.state:g}, {known.state:g}], which are not left",)
    found = []
    if known.isometry and _keeps_norms(field, method):
        theorem = "isometry: the step is a rotation (Hairer, Lubich and Wanner 2006)"
        found.append(Rates(norm, theorem, 1.0, 1.0, dt_max=math.inf))
    # Stages may leave a box of states that steps do not leave, but not those of a method whose
    # steps are convex combinations of Euler's.
    inside = known.state is None or isinstance(method, Euler) or bool(method.ssp_coefficient)
    if not method.memory and inside:
        rates = rates_of_field(_Bounded(known, norm), method, dt, norm)
        found += [r for r in rates if known.state is None or r.upper <= 1]
    found += _of_parts(known, method, dt, norm)
    if isinstance(field, ContractingOscillator) and isinstance(method, GaussSeidelEuler):
        upper = field.sequential_rate(dt)
        found.append(Rates(norm, "sequential Euler of a damped oscillator", 0.0, upper))
    if isinstance(field, ContractingLeaky) and isinstance(method, FusedEuler):
        upper = (1 + dt * (1 - field.margin)) / (1 + dt)
        found.append(Rates(norm, "linearly implicit Euler of leaky units", 0.0, upper))
    return [
        rates._replace(structural=True, assumptions=(*assumptions, *rates.assumptions))
        for rates in found
    ]


def _keeps_norms(field: AbstractCertifiedField, method: AbstractMethod) -> bool:
    """Whether the step of a method is a rotation where the field's flow is one."""
    if isinstance(method, LieTrotter | Strang | Splitting):
        return not method.methods
    if isinstance(method, AbstractLieGroup):
        return True
    if isinstance(method, ImplicitMidpoint):  # Cayley's transform of a skew matrix
        return True
    return isinstance(field, Conservative) and isinstance(method, ETD1 | Lawson4)


def unproven(cell: Cell) -> str | None:
    """Return why nothing holds for all parameters; None where something does, or a region may help.

    It is about fields of which nothing else can be said: their structure gives no bound, or their
    state is complex, which interval arithmetic does not take.
    """
    field = cell.field
    if not isinstance(field, AbstractCertifiedField):
        return None
    known = field.certified
    if not known.isometry:
        bounds = (known.growth, known.size, known.circle, known.linear)
        return known.source if bounds == (None,) * len(bounds) else None
    state = jax.tree.leaves(eqx.filter_eval_shape(field.initial_state))
    if _keeps_norms(field, cell.method) or not any(map(jnp.iscomplexobj, state)):
        return None
    name = type(cell.method).__name__
    return (
        f"the exact flow keeps norms ({known.source}), but a step of {name} is not known to: take "
        "LieTrotter() or Strang()"
    )


def _of_parts(
    known: StructuralBounds, method: AbstractMethod, dt: float, norm: Norm
) -> list[Rates]:
    """Steps ``(I - dt L)^-1 (y + dt N)``, ``e^{dt L} y + dt phi_1 N`` and ``e^{dt L} (y + dt N)``.

    With ``||e^{dt L}|| <= e^{dt mu(L)}``.
    """
    if known.linear is None or known.rest is None or norm.kind != "2":
        return []
    contracts = known.linear + known.rest <= 0
    dt_max = math.inf if contracts else None
    if isinstance(method, IMEXEuler) and dt * known.linear < 1:
        upper = (1 + dt * known.rest) / (1 - dt * known.linear)
        return [Rates(norm, "IMEX Euler (Soderlind 2006)", 0.0, upper, dt_max=dt_max)]
    if isinstance(method, ETD1):
        # The norm of phi_1(dt L) is at most the mean of e^{s dt mu} over s in [0, 1].
        z = dt * known.linear
        mean = math.expm1(z) / z if z else 1.0
        upper = math.exp(z) + dt * mean * known.rest
        return [Rates(norm, "exponential Euler (Soderlind 2006)", 0.0, upper, dt_max=dt_max)]
    if isinstance(method, LieTrotter) and _euler_for_the_rest(method):
        upper = math.exp(dt * known.linear) * (1 + dt * known.rest)
        theorem = "composition of a flow and an Euler step (chain rule)"
        return [Rates(norm, theorem, 0.0, upper, dt_max=dt_max)]
    return []


def _euler_for_the_rest(method: LieTrotter) -> bool:
    methods = method.methods or {}
    return set(methods) == {"rest"} and isinstance(methods["rest"], Euler)
