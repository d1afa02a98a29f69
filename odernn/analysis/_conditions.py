"""Theorems that turn bounds of the field's Jacobian into rates of a method's step."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np

from .._enclosure import Norm
from .._method import AbstractMethod, Substeps, Trapezoid
from .._results import InputError
from .._stability import RungeKuttaStability
from .._tableau import ButcherTableau
from ._affine import (
    ROUNDING,
    coefficients,
    constant_jacobian,
    eigenbasis_stability,
    largest_step,
    linear_stability,
    stated,
    tableau_of,
    transfer_of,
)
from ._certificate import Rates

_STAGES = "the bounds of the field's Jacobian hold at every stage of a step"
_SOLVED = "the equations of a step are solved"


class JacobianSet(Protocol):
    """A set of matrices that holds the field's Jacobian G at every state and input of a region.

    ``norm`` is a bound of ``||G||`` from above, ``growth`` one of the logarithmic norm, and
    ``lowest`` one of ``||G v|| / ||v||`` from below. ``shifted(a, b)`` is the set of all
    ``a I + b G``. ``exact``: the set is the one matrix ``center``.
    """

    @property
    def exact(self) -> bool: ...

    @property
    def center(self) -> np.ndarray: ...

    def norm(self, norm: Norm) -> float: ...

    def growth(self, norm: Norm) -> float: ...

    def lowest(self, norm: Norm) -> float: ...

    def shifted(self, a: float, b: float) -> "JacobianSet": ...


def rates_of_field(
    bounds: JacobianSet, method: AbstractMethod, dt: float, norm: Norm, *, linear: bool = False
) -> list[Rates]:
    """Return what each theorem says of the steps of a method.

    ``lower <= ||J v|| / ||v|| <= upper`` for the Jacobian J of a step with respect to the state.
    At each stage the Jacobian of the field may be another member of the set.

    **Arguments**: ``bounds``, a set that holds the field's Jacobian; ``method``; ``dt`` in input
    steps; ``norm``; ``linear``: the field is its constant linear part and inputs, which exponential
    and IMEX methods treat exactly or implicitly. Returns a list, empty where no theorem applies:
    methods that carry a past, that treat parts of the field in different ways, or step by a
    tolerance. Raises ``InputError`` if ``dt`` is not positive and finite.
    """
    if not 0 < dt < math.inf:
        raise InputError(f"dt = {dt!r}: give a step size that is positive and finite.")
    bounds = _Remembered(bounds)
    if isinstance(method, Substeps):
        inner = rates_of_field(bounds, method.method, dt / method.steps, norm, linear=linear)
        return [_repeated(rates, method.steps) for rates in inner]
    size = bounds.norm(norm)
    if not math.isfinite(size):
        return []
    found: list[Rates | None] = []
    transfer = transfer_of(method, linear=linear)
    if transfer is not None and bounds.exact:
        normal = linear_stability(bounds.center, transfer, dt, norm)
        found += [normal, constant_jacobian(bounds.center, transfer, dt, norm)]
        if normal is None and norm.kind == "2" and norm.scale is None:
            found.append(eigenbasis_stability(bounds.center, transfer, dt))
    tableau = tableau_of(method)
    if tableau is not None:
        found += _runge_kutta(bounds, tableau, dt, norm)
    return [rates for rates in found if rates is not None]


def contracting_step(bounds: JacobianSet, norm: Norm, wanted: Sequence[float] = ()) -> float:
    """Return the largest delta with ``||I + delta G|| <= 1`` on the set, 0 if there is none.

    ``||I + delta G||`` is convex in delta, so it holds for all smaller ones, too. It is
    searched for from below, as a rule to six digits, and not below a ``wanted`` one that holds.
    """
    size = bounds.norm(norm)
    if not math.isfinite(size):
        return 0.0
    if size == 0:
        return math.inf

    def excess(delta: float) -> float:
        return bounds.shifted(1.0, delta).norm(norm) - 1

    high = 2 / size
    if (above := excess(high)) <= ROUNDING:
        return high
    found = [(delta, excess(delta)) for delta in wanted if delta < high]
    low, below = max((pair for pair in found if pair[1] <= ROUNDING), default=(0.0, 0.0))
    while low == 0 and high * size > 1e-4:
        there = excess(high / 4)
        low, below = (high / 4, there) if there <= ROUNDING else (0.0, 0.0)
        high, above = (high, above) if low else (high / 4, there)
    halve = below > -1e-9
    for _ in range(20 if low else 0):
        # A chord of a convex function lies above it, so its zero is inside. By halves where the
        # function is flat, or a chord gains little.
        width = high - low
        middle = (low + high) / 2 if halve else low + width * below / (below - above)
        if (there := excess(middle)) > ROUNDING:
            high, above = middle, there
        else:
            low, below = middle, there
        if width <= 1e-6 * high or (not halve and below > -1e-9):
            break
        halve = below > -1e-9 or (not halve and high - low > width / 2)
    return low


def contractivity(
    delta: float, coefficient: float | None, dt: float, norm: Norm, *, explicit: bool = True
) -> Rates | None:
    """Return a rate of one, in any norm: ``dt <= C delta`` where ``||I + delta G|| <= 1``.

    ``coefficient`` is C, the radius of absolute monotonicity (``method.ssp_coefficient``); None if
    the condition does not hold. Source: Kraaijevanger, BIT 31 (1991).
    """
    limit = _product(delta, coefficient)
    if not dt <= limit:
        return None
    theorem = "contractivity (Kraaijevanger 1991)"
    assumptions = (f"||I + delta G|| <= 1 up to delta = {delta:.6g}", *_of_stages(explicit))
    return stated(norm, theorem, 0.0, 1.0, assumptions, limit)


def circle_contractivity(
    delta: float, radius: float | None, dt: float, norm: Norm, *, explicit: bool = True
) -> Rates | None:
    """Return a rate of one, in 2-norms: ``dt r <= rho`` where ``||G + r I|| <= r``.

    ``delta`` is the largest 1/r, as ``||I + delta G|| <= 1`` says the same; ``radius`` is rho
    (``method.circle_radius``). None for other norms, or if the condition does not hold. Source:
    Dahlquist and Jeltsch, "Generalized disks of contractivity" (1979).
    """
    limit = _product(delta, radius)
    if norm.kind != "2" or not dt <= limit:
        return None
    theorem = "circle contractivity (Dahlquist and Jeltsch 1979)"
    assumptions = (f"||G + r I|| <= r for r = {1 / delta:.6g}", *_of_stages(explicit))
    return stated(norm, theorem, 0.0, 1.0, assumptions, limit)


def b_stability(bounds: JacobianSet, tableau: ButcherTableau, norm: Norm) -> Rates | None:
    """Return a rate of one at every step size, in 2-norms: ``mu(G) <= 0`` and B-stability.

    The method is algebraically stable. Where its tableau is symmetric, too, a step backwards is
    one of the same method, so ``mu(-G) <= 0`` makes ``lower = 1``. None where neither holds.
    Source: Burrage, Butcher, SIAM J. Numer. Anal. 16 (1979).
    """
    if norm.kind != "2" or not RungeKuttaStability(tableau).algebraically_stable:
        return None
    # Tight, as it holds for every step size.
    slack = 0.01 * ROUNDING * bounds.norm(norm)
    shrinks = bounds.growth(norm) <= slack
    grows = tableau.symmetric and bounds.shifted(0.0, -1.0).growth(norm) <= slack
    lower, upper = 1.0 if grows else 0.0, 1.0 if shrinks else math.inf
    signs = [text for text, holds in (("mu(G) <= 0", shrinks), ("mu(-G) <= 0", grows)) if holds]
    assumptions = (*signs, *_of_stages(explicit=False))
    theorem = "B-stability (Burrage and Butcher 1979)"
    return stated(norm, theorem, lower, upper, assumptions, math.inf if shrinks else None)


def lipschitz_bound(
    bounds: JacobianSet, tableau: ButcherTableau, dt: float, norm: Norm
) -> Rates | None:
    """Return ``2 - P <= ||J v|| / ||v|| <= P`` with ``P(z) = 1 + z |b|^T (I - z |A|)^-1 1``.

    ``z = dt L`` and ``||G|| <= L``; an implicit method needs z times the spectral radius of |A|
    below 1, else None. Source: the triangle inequality.
    """
    size = bounds.norm(norm)
    upper = _bound(*coefficients(tableau), 0.0, dt * size)
    assumptions = (f"||G|| <= {size:.6g}", *_of_stages(tableau.explicit))
    return stated(norm, "Lipschitz bound (triangle inequality)", 2 - upper, upper, assumptions)


def shu_osher_rates(
    bounds: JacobianSet, tableau: ButcherTableau, dt: float, norm: Norm
) -> Rates | None:
    """Return the rates that a Runge-Kutta method's Shu-Osher forms give, in any norm.

    With a radius r, ``delta = dt / r`` and ``(I + r A)^-1`` a step is::

        Y = v y + P (I + delta G) Y,       v = (I + r A)^-1 1,     P = r A (I + r A)^-1
        y+ = w_0 y + w (I + delta G) Y,    w = r b (I + r A)^-1,   w_0 = 1 - w 1

    so ``||I + delta G|| <= q`` gives ``||J|| <= |w_0| + q |w| (I - q |P|)^-1 |v|``; the best of
    some radii is taken. Up to the radius of absolute monotonicity C all weights are positive:
    q = 1 is contractivity, and q < 1 a rate below one. ``lower`` is one over the same bound for the
    step backwards, of the tableau ``1 b^T - A`` and -G. None if there is no bound. ``dt_max`` is
    searched for at the same delta. Source: Kraaijevanger, BIT 31 (1991); Ferracina, Spijker, Math.
    Comp. 74 (2005).
    """
    a, b = coefficients(tableau)
    size, coefficient = bounds.norm(norm), RungeKuttaStability(tableau).ssp_coefficient
    if not math.isfinite(size):
        return None
    top = max(10.0, 2.0 * len(b)) if tableau.explicit else 100.0
    extra = [0.0] + ([coefficient] if 0 < coefficient < math.inf else [])
    # Few, as a norm over a set can take long.
    radii = np.array([*extra, *np.geomspace(0.3, top, 5)])

    def best(a: np.ndarray, sign: float, radii: np.ndarray) -> tuple[float, float, float]:
        found = []
        for r in radii:
            gain = r * bounds.shifted(1.0, sign * dt / r).norm(norm) if r > 0 else dt * size
            found.append((_bound(a, b, r, gain), float(r), gain))
        return min(found)

    upper, radius, gain = best(a, 1.0, radii)
    if radius > 0:
        near = best(a, 1.0, radius * np.array([0.7, 0.85, 1.3]))
        upper, radius, gain = min(near, (upper, radius, gain))
    backward = best(b - a, -1.0, np.array([0.0, 0.3, 1.0, 4.0, 20.0]))[0]
    limit = None
    if upper <= 1 + ROUNDING and radius > 0:
        ratios = np.concatenate([np.linspace(0, 1, 101)[1:], np.geomspace(1, 100, 101)[1:]])
        rate = np.vectorize(lambda r: _bound(a, b, r, r * gain / radius))
        limit = largest_step(rate, radius, radius * ratios)
        limit = None if limit is None else limit * dt / radius
    known = f"||G|| <= {size:.6g}"
    if radius > 0:
        known = f"||I + delta G|| <= {gain / radius:.6g} for delta = {dt / radius:.6g}"
    assumptions = (known, *_of_stages(tableau.explicit))
    theorem = "rates of a Shu-Osher form (Kraaijevanger 1991)"
    # A bound near zero is only rounding.
    lower = 1 / backward if backward > 1e-6 else 0.0
    return stated(norm, theorem, lower, upper, assumptions, limit)


def single_stage(
    bounds: JacobianSet, weight: float, dt: float, norm: Norm, delta: float = 0.0
) -> Rates | None:
    """Return the rates of a method with one stage, ``J = (I - w dt G)^-1 (I + (1 - w) dt G)``.

    Both factors with the same G; ``weight`` w is 0 for Euler, 1/2 for the implicit midpoint rule, 1
    for backward Euler: for the first and the last what is known of ``I + dt G`` and ``I - dt G`` is
    all there is to know. ``delta``: that of ``contracting_step``, for ``dt_max`` of Euler.
    """
    ahead, behind = bounds.shifted(1.0, (1 - weight) * dt), bounds.shifted(1.0, -weight * dt)
    upper = ahead.norm(norm) * _inverse(behind.lowest(norm))
    lower = ahead.lowest(norm) * _inverse(behind.norm(norm))
    limit = None
    if upper <= 1 + ROUNDING and weight == 0:
        limit = max(dt, delta)
    elif weight == 1 and bounds.growth(norm) <= 0:
        limit = math.inf
    assumptions = () if weight == 0 else _of_stages(explicit=False)
    return stated(norm, "one stage, norms of its factors", lower, upper, assumptions, limit)


def one_sided_euler(bounds: JacobianSet, dt: float, norm: Norm) -> Rates | None:
    """Return ``lower = 1 - dt mu(-G)`` of Euler's method; in the 2-norm by Cauchy and Schwarz."""
    growth = bounds.shifted(0.0, -1.0).growth(norm)
    assumptions = (f"mu(-G) <= {growth:.6g}",)
    return stated(norm, "one-sided Euler bound", 1 - dt * growth, math.inf, assumptions)


def dissipative_euler(bounds: JacobianSet, dt: float, norm: Norm) -> Rates | None:
    """Return ``upper^2 = 1 - 2 dt c + dt^2 l^2`` of Euler's method, in 2-norms.

    ``mu(G) <= -c`` and ``||G|| <= l``; at most one for ``dt <= 2 c / l^2``. ``lower`` in the same
    way from ``mu(-G)`` and the smallest ``||G v|| / ||v||``. None for other norms.
    """
    if norm.kind != "2":
        return None
    growth, size = bounds.growth(norm), bounds.norm(norm)
    smallest, backward = bounds.lowest(norm), bounds.shifted(0.0, -1.0).growth(norm)
    upper = _root(1 + 2 * dt * growth + (dt * size) ** 2)
    lower = _root(1 - 2 * dt * backward + (dt * smallest) ** 2)
    limit = None
    if upper <= 1:
        limit = -2 * growth / size**2 if size > 0 else math.inf
    assumptions = (
        f"mu(G) <= {growth:.6g}, mu(-G) <= {backward:.6g}",
        f"{smallest:.6g} <= ||G v|| / ||v|| <= {size:.6g}",
    )
    return stated(norm, "dissipative Euler bound", lower, upper, assumptions, limit)


def backward_euler(bounds: JacobianSet, dt: float, norm: Norm) -> Rates | None:
    """Return ``upper = 1 / (1 - dt m)`` of backward Euler where ``mu(G) <= m``, in any norm.

    None unless ``dt m < 1``. Source: Soderlind, BIT 46 (2006).
    """
    growth = bounds.growth(norm)
    if not dt * growth < 1:
        return None
    limit = math.inf if growth <= 0 else None
    assumptions = (f"mu(G) <= {growth:.6g}", *_of_stages(explicit=False))
    theorem = "backward Euler in any norm (Soderlind 2006)"
    return stated(norm, theorem, 0.0, 1 / (1 - dt * growth), assumptions, limit)


def composition(rates: Sequence[Rates]) -> Rates:
    """Return the rates of steps taken one after the other: the products.

    ``rates`` are those of sub-steps in one norm, each on the region that it starts from. ``dt_max``
    is the least where every one is known. Raises ``InputError`` without rates, or if the norms
    differ. Source: the chain rule.

    >>> halves = [Rates(Norm("2"), "a", 0.5, 1.0), Rates(Norm("2"), "b", 0.5, 0.9)]
    >>> composition(halves)[1:4]
    ('composition of a; b', 0.25, 0.9)
    """
    if not rates:
        raise InputError("rates is empty: give the rates of at least one step.")
    first = rates[0].norm
    for other in rates[1:]:
        if not first.same(other.norm):
            raise InputError(f"rates are in two norms, {first} and {other.norm}: give one norm.")
    limits = [r.dt_max for r in rates if r.dt_max is not None]
    theorems = "; ".join(dict.fromkeys(r.theorem for r in rates))
    return Rates(
        first,
        f"composition of {theorems}",
        math.prod(r.lower for r in rates),
        math.inf if any(r.upper == math.inf for r in rates) else math.prod(r.upper for r in rates),
        tuple(dict.fromkeys(text for r in rates for text in r.assumptions)),
        all(r.structural for r in rates),
        min(limits) if len(limits) == len(rates) else None,
    )


def comparison_matrix(entries: np.ndarray, kind: Literal["1", "2", "inf"] = "inf") -> Rates | None:
    """Return the norm of a matrix N with ``|J| <= N`` entry by entry, with Perron's weights.

    With right and left Perron vectors p and u the weights are 1/p in the maximum norm, u in the
    1-norm and ``sqrt(u / p)`` in the 2-norm: the norm is the spectral radius of N, or as near to
    it as weights that differ by at most 1e6 come. ``upper`` is the norm itself, not the eigenvalue.

    **Arguments**: ``entries`` (m, m), not negative; ``kind`` of the norm. Returns None if entries
    are infinite or no numbers; raises ``InputError`` for negative ones or other shapes. Source:
    Perron and Frobenius; Schur's test for the 2-norm.

    >>> rates = comparison_matrix(np.array([[0.5, 4.0], [0.01, 0.5]]))
    >>> round(rates.upper, 3)
    0.7
    """
    entries = np.asarray(entries, np.float64)
    if entries.ndim != 2 or entries.shape[0] != entries.shape[1]:
        raise InputError(f"entries has the shape {entries.shape}: give a square matrix.")
    if (entries < 0).any():
        raise InputError("entries has a negative one: give bounds of absolute values.")
    if not np.isfinite(entries).all():
        return None
    found = [Rates(Norm(kind), "", upper=float(Norm(kind).of_matrices(entries)))]
    mean = max(float(entries.mean()), np.finfo(np.float64).tiny)
    for part in (1e-12, 1e-8, 1e-6, 1e-4, 1e-2):
        # A positive matrix nearby: Perron's vectors are positive, and well defined.
        near = entries + part * mean
        right, left = _perron(near), _perron(near.T)
        weights = {"inf": 1 / right, "1": left, "2": np.sqrt(left / right)}[kind]
        norm = Norm(kind, weights / weights.max())
        if np.isfinite(weights).all() and norm.condition <= 1e6:
            found.append(Rates(norm, "", upper=float(norm.of_matrices(entries))))
    best = min(found, key=lambda rates: rates.upper)
    theorem = "comparison matrix (Perron and Frobenius)"
    return best._replace(theorem=theorem, assumptions=("|J| <= N entry by entry on the region",))


class _Remembered:
    """A set of which each bound is computed once: that can take long."""

    def __init__(self, bounds: JacobianSet):
        self._bounds, self._known = bounds, {}

    @property
    def exact(self) -> bool:
        return self._bounds.exact

    @property
    def center(self) -> np.ndarray:
        return self._bounds.center

    def norm(self, norm: Norm) -> float:
        return self._once("norm", norm, self._bounds.norm)

    def growth(self, norm: Norm) -> float:
        return self._once("growth", norm, self._bounds.growth)

    def lowest(self, norm: Norm) -> float:
        return self._once("lowest", norm, self._bounds.lowest)

    def shifted(self, a: float, b: float) -> "_Remembered":
        if (a, b) not in self._known:
            self._known[a, b] = _Remembered(self._bounds.shifted(a, b))
        return self._known[a, b]

    def _once(self, name: str, norm: Norm, compute: Callable[[Norm], float]) -> float:
        key = (name, norm.kind, None if norm.scale is None else norm.scale.tobytes())
        if key not in self._known:
            self._known[key] = compute(norm)
        return self._known[key]


def _runge_kutta(
    bounds: JacobianSet, tableau: ButcherTableau, dt: float, norm: Norm
) -> list[Rates | None]:
    """What the theorems for Runge-Kutta methods say, and those for some of them."""
    known, explicit = RungeKuttaStability(tableau), tableau.explicit
    limits = [known.ssp_coefficient, known.circle_radius if norm.kind == "2" else 0.0]
    delta = contracting_step(bounds, norm, [dt / limit for limit in limits if limit])
    found = [
        contractivity(delta, known.ssp_coefficient, dt, norm, explicit=explicit),
        circle_contractivity(delta, known.circle_radius, dt, norm, explicit=explicit),
        b_stability(bounds, tableau, norm),
        lipschitz_bound(bounds, tableau, dt, norm),
        shu_osher_rates(bounds, tableau, dt, norm),
    ]
    if tableau.stages == 1:
        weight = float(tableau.a[0][0])
        found.append(single_stage(bounds, weight, dt, norm, delta))
        if weight == 0:
            found += [one_sided_euler(bounds, dt, norm), dissipative_euler(bounds, dt, norm)]
        elif weight == 1:
            found.append(backward_euler(bounds, dt, norm))
    elif tableau == Trapezoid().tableau:
        # Half a step of Euler, then half a step of backward Euler.
        halves = [single_stage(bounds, weight, dt / 2, norm, delta) for weight in (0.0, 1.0)]
        if all(halves):
            both = composition([r for r in halves if r])
            found.append(both._replace(dt_max=None if both.dt_max is None else 2 * both.dt_max))
    # One theorem is enough for steps up to its limit not to grow.
    longest = max((r.dt_max for r in found if r and r.upper <= 1 and r.dt_max), default=None)
    return [r._replace(dt_max=longest) if r and r.upper <= 1 else r for r in found]


def _bound(a: np.ndarray, b: np.ndarray, radius: float, gain: float) -> float:
    """The bound of a Shu-Osher form: ``gain`` is ``r ||I + delta G||``; for r = 0, ``dt ||G||``."""
    stages = len(b)
    try:
        inverse = np.linalg.inv(np.eye(stages) + radius * a)
        weights, inner = b @ inverse, np.abs(a @ inverse)
        both = np.stack([np.abs(inverse.sum(axis=1)), np.ones(stages)], axis=1)
        found, positive = np.linalg.solve(np.eye(stages) - gain * inner, both).T
    except np.linalg.LinAlgError:
        return math.inf
    # The spectral radius of a matrix M >= 0 is below 1 if (I - M) x = 1 has a positive solution; a
    # huge one is that of a singular matrix but for rounding.
    if not ((positive > 0) & (positive < 1e9)).all():
        return math.inf
    return float(abs(1 - radius * weights.sum()) + gain * (np.abs(weights) @ found))


def _perron(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eig(matrix)
    return np.abs(vectors[:, np.argmax(np.real(values))])


def _repeated(rates: Rates, steps: int) -> Rates:
    """The rates of so many equal sub-steps."""
    together = composition([rates] * steps)
    limit = None if rates.dt_max is None else rates.dt_max * steps
    return together._replace(theorem=f"{rates.theorem}, {steps} sub-steps", dt_max=limit)


def _of_stages(explicit: bool) -> tuple[str, ...]:
    return (_STAGES,) if explicit else (_STAGES, _SOLVED)


def _product(delta: float, radius: float | None) -> float:
    """The limit of dt; 0 where one of the two is."""
    return 0.0 if not radius or not delta > 0 else delta * radius


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf


def _root(square: float) -> float:
    return math.sqrt(max(square, 0.0)) if not math.isnan(square) else math.nan
