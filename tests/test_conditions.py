"""Theorems on the field's Jacobian: no step violates what they say, and just outside one does."""

import dataclasses
import math

import jax
import numpy as np
import pytest

import odernn
from odernn import InputError
from odernn.analysis._affine import eigenbasis_stability, linear_stability, transfer_of
from odernn.analysis._certificate import Norm, Rates
from odernn.analysis._conditions import (
    b_stability,
    backward_euler,
    circle_contractivity,
    comparison_matrix,
    composition,
    contracting_step,
    contractivity,
    dissipative_euler,
    lipschitz_bound,
    one_sided_euler,
    rates_of_field,
    shu_osher_rates,
    single_stage,
)

INF = float("inf")
TWO, MAXIMUM, ONE = Norm("2"), Norm("inf"), Norm("1")
TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])


# --- Sets of Jacobians ---------------------------------------------------------------------------


def growths(norm, matrices):
    """Logarithmic norms, without a limit."""
    if norm.scale is not None:
        scale = np.diag(norm.scale) if norm.scale.ndim == 1 else norm.scale
        matrices = scale @ matrices @ np.linalg.inv(scale)
    if norm.kind == "2":
        return np.linalg.eigvalsh((matrices + np.swapaxes(matrices, -1, -2)) / 2)[..., -1]
    if norm.kind == "1":
        matrices = np.swapaxes(matrices, -1, -2)
    own = np.diagonal(matrices, axis1=-2, axis2=-1)
    return (own - np.abs(own) + np.abs(matrices).sum(axis=-1)).max(axis=-1)


def lowests(norm, matrices):
    singular = np.linalg.svd(matrices, compute_uv=False)[..., -1] < 1e-13
    regular = np.where(singular[..., None, None], np.eye(matrices.shape[-1]), matrices)
    return np.where(singular, 0.0, 1 / norm.of_matrices(np.linalg.inv(regular)))


@dataclasses.dataclass
class Hull:
    """All means of some matrices (n, m, m); of one matrix, this one."""

    vertices: np.ndarray

    @property
    def exact(self):
        return len(self.vertices) == 1

    @property
    def center(self):
        return self.vertices.mean(axis=0)

    def norm(self, norm):
        return float(norm.of_matrices(self.vertices).max())

    def growth(self, norm):
        return float(growths(norm, self.vertices).max())

    def lowest(self, norm):
        around = norm.of_matrices(self.vertices - self.center).max()
        return max(0.0, float(lowests(norm, self.center) - around))

    def shifted(self, a, b):
        return Hull(a * np.eye(self.vertices.shape[-1]) + b * self.vertices)

    def draw(self, rng, shape):
        # Near the corners and in the middle, in turn.
        weights = rng.gamma(
            rng.choice([0.05, 0.5, 2.0], (*shape, 1)), size=(*shape, len(self.vertices))
        )
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.einsum("...n,nij->...ij", weights, self.vertices)


@dataclasses.dataclass
class Disc:
    """All ``c I + E`` with ``||E|| <= r`` in the norm that it is asked for: no bound is loose."""

    c: float
    r: float
    size: int = 1
    exact: bool = False
    center: np.ndarray | None = None

    def norm(self, norm):
        return abs(self.c) + self.r

    def growth(self, norm):
        return self.c + self.r

    def lowest(self, norm):
        return max(0.0, abs(self.c) - self.r)

    def shifted(self, a, b):
        return Disc(a + b * self.c, abs(b) * self.r, self.size)

    def draw(self, rng, shape, norm):
        inner = rng.normal(size=(*shape, self.size, self.size))
        # Some of rank one: these are the worst.
        column, row = rng.normal(size=(2, *shape, self.size))
        inner = np.where(
            rng.random((*shape, 1, 1)) < 0.5, inner, column[..., None] * row[..., None, :]
        )
        inner *= self.r / norm.of_matrices(inner)[..., None, None]
        return self.c * np.eye(self.size) + inner


def leaky(rng, size=3, gain=1.0):
    """The Jacobians ``-L + D W`` of leaky units with slopes D in [0, 1]."""
    leak = np.diag(rng.uniform(0.5, 2.0, size))
    weight = gain * rng.normal(size=(size, size)) / np.sqrt(size)
    corners = np.array(list(np.ndindex(*(2,) * size)), np.float64)
    return Hull(corners[:, :, None] * weight - leak)


def jacobians(tableau, stages, dt):
    """Jacobians of steps whose stages have the Jacobians (n, stages, m, m)."""
    a, b = np.array(tableau.a, np.float64), np.array(tableau.b, np.float64)
    n, s, m, _ = stages.shape
    coupled = np.einsum("ij,njkl->nikjl", a, stages).reshape(n, s * m, s * m)
    inner = np.linalg.solve(np.eye(s * m) - dt * coupled, np.tile(np.eye(m), (s, 1)))
    inner = inner.reshape(n, s, m, m)
    return np.eye(m) + dt * np.einsum("i,nikl,nilp->nkp", b, stages, inner)


def check(rates: Rates, found, slack=1e-9):
    assert rates.norm.of_matrices(found).max() <= rates.upper + slack, rates
    assert lowests(rates.norm, found).min() >= rates.lower - slack, rates


def climb(value, start, rng, steps=250):
    """The best that a random local search finds from many starts: (place, value)."""
    best, height = start, value(start)
    for k in range(steps):
        new = best + 0.5 * 0.98**k * rng.normal(size=best.shape)
        there = value(new)
        better = (there > height).reshape(-1, *[1] * (best.ndim - 1))
        best, height = np.where(better, new, best), np.maximum(there, height)
    return best[height.argmax()], height.max()


# --- All theorems on all methods -----------------------------------------------------------------

METHODS = {
    "euler": odernn.Euler(),
    "heun": odernn.Heun(),
    "midpoint": odernn.Midpoint(),
    "ssprk33": odernn.SSPRK33(),
    "ssprk43": odernn.SSPRK43(),
    "rk4": odernn.RK4(),
    "rk38": odernn.RK38(),
    "dormandprince5": odernn.DormandPrince5(),
    "rkc5": odernn.RungeKuttaChebyshev(5),
    "substeps": odernn.Substeps(odernn.Heun(), 3),
    "backwardeuler": odernn.BackwardEuler(),
    "implicitmidpoint": odernn.ImplicitMidpoint(),
    "trapezoid": odernn.Trapezoid(),
    "sdirk2": odernn.SDIRK2(),
    "gauss2": odernn.Gauss(2),
    "radauiia2": odernn.RadauIIA(2),
}
NORMS = (
    TWO,
    MAXIMUM,
    Norm("1", np.array([1.0, 0.5, 2.0])),
    Norm("2", np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.8]])),
)


def tableau_of(method):
    return method.stability.tableau


@pytest.mark.parametrize("name", METHODS)
def test_no_step_violates_a_rate(name, rng):
    method = METHODS[name]
    tableau = tableau_of(method)
    checked = 0
    for gain in (0.3, 1.0, 3.0):
        hull = leaky(rng, gain=gain)
        stages = hull.draw(rng, (1000, tableau.stages))
        for number, norm in enumerate(NORMS):
            dt = (0.08, 0.4, 1.3)[(number + int(gain)) % 3]
            found = jacobians(tableau, stages, dt)
            for rates in rates_of_field(hull, method, dt, norm):
                check(rates, found)
                checked += 1
                if rates.upper <= 1 and rates.dt_max is not None:
                    largest = min(rates.dt_max, 50.0)
                    assert largest >= dt
                    check(rates._replace(lower=0.0, upper=1.0), jacobians(tableau, stages, largest))
    assert checked >= 15


@pytest.mark.parametrize("name", ["heun", "ssprk33", "rk4", "gauss2", "trapezoid"])
@pytest.mark.parametrize("norm", [TWO, MAXIMUM], ids=str)
def test_no_step_violates_a_rate_on_a_disc(name, norm, rng):
    method, disc = METHODS[name], Disc(-1.0, 0.7, size=3)
    stages = disc.draw(rng, (4000, method.stages), norm)
    for dt in (0.1, 0.5, 1.2):
        for rates in rates_of_field(disc, method, dt, norm):
            check(rates, jacobians(tableau_of(method), stages, dt))


@pytest.mark.parametrize("method", [odernn.RK4(), odernn.Gauss(2), odernn.BackwardEuler()])
def test_the_steps_of_a_cell(method, key):
    cell = odernn.Cell(odernn.fields.Leaky(2, 4, key=key), method, dt=0.5)
    corners = np.array(list(np.ndindex(2, 2, 2, 2)), np.float64)
    hull = Hull(corners[:, :, None] * np.asarray(cell.field.weight).T - np.eye(4))
    states, inputs = np.random.default_rng(0).normal(size=(2, 500, 4)) * 2
    step = jax.jit(jax.vmap(jax.jacfwd(cell)))
    found = np.asarray(step(states, inputs[:, :2]))
    for norm in (TWO, MAXIMUM, ONE):
        rates = rates_of_field(hull, method, 0.5, norm)
        assert rates
        for one in rates:
            check(one, found)


@pytest.mark.parametrize(
    ("name", "theorems"),
    [
        ("euler", "contractivity|circle|Lipschitz|Shu-Osher|one stage|one-sided|dissipative"),
        ("rk4", "circle|Lipschitz|Shu-Osher"),
        ("backwardeuler", "contractivity|circle|B-stab|Lipschitz|Shu-Osher|one stage|backward"),
        ("gauss2", "circle|B-stab|Lipschitz|Shu-Osher"),
        ("trapezoid", "contractivity|circle|Lipschitz|Shu-Osher|composition"),
        ("substeps", "contractivity|circle|Lipschitz|Shu-Osher"),
    ],
)
def test_what_applies_to_a_method(name, theorems):
    found = {r.theorem for r in rates_of_field(Disc(-1.0, 0.9), METHODS[name], 0.1, TWO)}
    wanted = theorems.split("|")
    assert len(found) == len(wanted)
    assert all(any(text in theorem for theorem in found) for text in wanted), found


@pytest.mark.parametrize(
    "method",
    [
        odernn.AdamsBashforth(2),
        odernn.BDF(1),
        odernn.Leapfrog(),
        odernn.AlgebraicallyReversible(odernn.RK4()),
        odernn.SymplecticEuler(),
        odernn.FusedEuler(),
        odernn.LinearlyImplicitEuler(),
        odernn.ETDRK2(),
        odernn.ARS222(),
        odernn.Strang(),
        odernn.Adaptive(),
    ],
)
def test_other_methods_have_no_rates(method):
    assert rates_of_field(Disc(-1.0, 0.5), method, 0.1, TWO) == []


@pytest.mark.parametrize("value", [INF, math.nan])
@pytest.mark.parametrize("name", ["euler", "rk4", "trapezoid", "gauss2", "substeps"])
def test_unbounded_sets_have_no_rates(name, value):
    assert rates_of_field(Disc(-1.0, value), METHODS[name], 0.1, TWO) == []


@pytest.mark.parametrize("dt", [0.0, -1.0, INF, math.nan])
def test_a_step_size_that_is_none(dt):
    with pytest.raises(InputError, match=r"dt = .*: give a step size that is positive"):
        rates_of_field(Disc(-1.0, 0.5), odernn.Euler(), dt, TWO)


def test_a_step_that_does_not_exist():
    # The equation of the step has no solution, or as many as there are.
    for name, value in (("backwardeuler", 1.0), ("implicitmidpoint", 2.0), ("trapezoid", 2.0)):
        bounds = Hull(value * np.eye(2)[None])
        assert all(r.upper == INF for r in rates_of_field(bounds, METHODS[name], 1.0, TWO))


# --- Contractivity -------------------------------------------------------------------------------

# Points -1 + exp(i angle) of the circle, one for each stage, found by `climb` with dt = 1.1 rho.
BEYOND_THE_CIRCLE = {
    "euler": [3.142],
    "heun": [3.142, 3.142],
    "ssprk33": [3.141, 3.142, 6.283],
    "ssprk43": [2.064, 2.061, 2.063, 3.142],
    "rk4": [0.747, 5.501, 0.781, 5.538],
    "rk38": [0.646, 5.9, 0.384, 5.638],
    "trapezoid": [3.142, 6.283],
}


@pytest.mark.parametrize("name", BEYOND_THE_CIRCLE)
def test_the_circle_is_sharp(name, rng):
    method = METHODS[name]
    tableau, rho = tableau_of(method), method.circle_radius

    def growth(angles, dt):
        numbers = np.exp(1j * angles) - 1
        turns = numbers.real[..., None, None] * np.eye(2) + numbers.imag[..., None, None] * TURN
        return TWO.of_matrices(jacobians(tableau, turns, dt))

    delta = contracting_step(Disc(-1.0, 1.0), TWO)
    assert delta == pytest.approx(1.0)
    start = rng.uniform(-np.pi, np.pi, (100, tableau.stages))
    rates = circle_contractivity(delta, rho, rho * (1 - 1e-9), TWO)
    assert (rates.upper, rates.dt_max) == (1.0, pytest.approx(rho))
    assert 1 - 1e-3 <= climb(lambda angles: growth(angles, rho), start, rng)[1] <= 1 + 1e-9
    assert circle_contractivity(delta, rho, 1.1 * rho, TWO) is None
    assert growth(np.array([BEYOND_THE_CIRCLE[name]]), 1.1 * rho)[0] > 1.001


def test_the_circle_is_of_2_norms():
    assert circle_contractivity(1.0, 1.0, 0.5, MAXIMUM) is None
    assert circle_contractivity(1.0, None, 0.5, TWO) is None
    assert circle_contractivity(0.0, INF, 0.5, TWO) is None


@pytest.mark.parametrize("name", ["euler", "heun", "ssprk33", "ssprk43", "rk4", "midpoint"])
def test_the_radius_of_absolute_monotonicity_is_sharp(name, rng):
    method = METHODS[name]
    tableau, coefficient = tableau_of(method), method.ssp_coefficient
    # Corners of the unit ball of the maximum norm, minus the identity.
    size = tableau.stages + 1
    shape = (8000, tableau.stages, size)
    corners = np.zeros((*shape, size))
    signs, places = rng.choice([-1.0, 1.0], shape), rng.integers(0, size, shape)
    np.put_along_axis(corners, places[..., None], signs[..., None], axis=-1)
    stages = corners - np.eye(size)

    def worst(dt):
        return MAXIMUM.of_matrices(jacobians(tableau, stages, dt)).max()

    delta = contracting_step(Disc(-1.0, 1.0), MAXIMUM)
    beyond = coefficient + 0.05
    assert contractivity(delta, coefficient, beyond, MAXIMUM) is None
    assert worst(beyond) > 1 + 1e-5
    if coefficient > 0:
        rates = contractivity(delta, coefficient, coefficient * (1 - 1e-9), MAXIMUM)
        assert (rates.upper, rates.dt_max) == (1.0, pytest.approx(coefficient))
        assert worst(coefficient) <= 1 + 1e-9


def test_the_largest_contracting_step(rng):
    hull = leaky(rng, gain=0.2)
    for norm in NORMS:
        delta = contracting_step(hull, norm)
        assert (delta > 0) == (hull.growth(norm) < 0)
        if delta == 0:
            continue
        assert hull.shifted(1.0, delta).norm(norm) <= 1 + 1e-9
        assert hull.shifted(1.0, 1.001 * delta).norm(norm) > 1 + 1e-6
    # With the norm one up to there: by halves, unless the right step is asked for.
    flat, largest = Hull(np.stack([0 * TURN, 0.9 * TURN - np.eye(2)])), 2 / 1.81
    assert contracting_step(flat, TWO) == pytest.approx(largest, rel=1e-5)
    assert contracting_step(flat, TWO, [largest * (1 - 1e-11)]) >= largest * (1 - 1e-11)
    assert contracting_step(Disc(0.0, 0.0), TWO) == INF
    # Not dissipative, so no step of Euler's contracts.
    assert contracting_step(Disc(-1.0, 1.001), TWO) == 0.0
    assert contracting_step(Hull(TURN[None]), TWO) == 0.0


# --- B-stability ---------------------------------------------------------------------------------

B_STABLE = ["backwardeuler", "implicitmidpoint", "gauss2", "radauiia2"]


def dissipative(rng, shape, size=3, growth=0.0):
    """Matrices of any size with the logarithmic norm ``growth`` in the 2-norm."""
    free = rng.normal(size=(*shape, size, size)) * np.exp(rng.normal(size=(*shape, 1, 1)) * 2)
    skew = free - np.swapaxes(free, -1, -2)
    square = rng.normal(size=(*shape, size, 1)) * rng.integers(0, 2, (*shape, 1, 1))
    return skew - square @ np.swapaxes(square, -1, -2) + growth * np.eye(size)


@pytest.mark.parametrize("name", B_STABLE)
def test_b_stability_at_any_step_size(name, rng):
    tableau = tableau_of(METHODS[name])
    rates = b_stability(Disc(-1.0, 1.0), tableau, TWO)
    assert (rates.lower, rates.upper, rates.dt_max) == (0.0, 1.0, INF)
    stages = dissipative(rng, (3000, tableau.stages))
    for dt in (0.1, 1.0, 100.0):
        worst = TWO.of_matrices(jacobians(tableau, stages, dt)).max()
        assert worst <= 1 + 1e-9
    if tableau.symmetric:
        assert worst > 1 - 1e-9
    stages = dissipative(rng, (3000, tableau.stages), growth=0.01)
    assert b_stability(Disc(-1.0, 1.01), tableau, TWO) is None
    assert TWO.of_matrices(jacobians(tableau, stages, 0.1)).max() > 1 + 1e-5


@pytest.mark.parametrize("name", ["implicitmidpoint", "gauss2"])
def test_isometry_of_skew_jacobians(name, rng):
    tableau = tableau_of(METHODS[name])
    skew = Hull(np.stack([TURN, -3 * TURN]))
    rates = b_stability(skew, tableau, TWO)
    assert (rates.lower, rates.upper) == (1.0, 1.0)
    check(rates, jacobians(tableau, skew.draw(rng, (1000, tableau.stages)), 0.7))
    # Growing everywhere: only the lower rate.
    rates = b_stability(Hull(TURN[None] + 0.2 * np.eye(2)), tableau, TWO)
    assert (rates.lower, rates.upper, rates.dt_max) == (1.0, INF, None)


@pytest.mark.parametrize("name", ["backwardeuler", "radauiia2"])
def test_methods_that_damp_are_no_isometries(name):
    rates = b_stability(Hull(TURN[None]), tableau_of(METHODS[name]), TWO)
    assert (rates.lower, rates.upper) == (0.0, 1.0)


def test_a_stability_is_not_b_stability():
    tableau = tableau_of(METHODS["trapezoid"])
    assert b_stability(Disc(-1.0, 1.0), tableau, TWO) is None
    assert b_stability(Disc(-1.0, 1.0), tableau_of(METHODS["gauss2"]), MAXIMUM) is None
    # A large rotation, then none: each is dissipative.
    stages = np.stack([[3.0 * TURN, 0.0 * TURN]])
    assert TWO.of_matrices(jacobians(tableau, stages, 1.0))[0] > 1.5


# --- Bounds by norms -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["euler", "heun", "rk4", "backwardeuler", "radauiia2"])
def test_the_lipschitz_bound_is_attained(name):
    tableau = tableau_of(METHODS[name])
    rates = lipschitz_bound(Disc(0.0, 0.5), tableau, 0.6, TWO)
    # A field that grows as fast as it may.
    growing = jacobians(tableau, np.full((1, tableau.stages, 1, 1), 0.5), 0.6)
    if (np.array(tableau.a) >= 0).all():
        assert rates.upper == pytest.approx(growing[0, 0, 0], rel=1e-12)
    else:
        assert rates.upper >= growing[0, 0, 0]
    assert rates.lower == pytest.approx(max(0.0, 2 - rates.upper))
    if name == "euler":
        assert rates.lower == pytest.approx(1 - 0.6 * 0.5)


def test_the_lipschitz_bound_of_implicit_methods_ends():
    tableau = tableau_of(METHODS["backwardeuler"])
    assert lipschitz_bound(Disc(0.0, 1.0), tableau, 0.99, TWO).upper == pytest.approx(100.0)
    assert lipschitz_bound(Disc(0.0, 1.0), tableau, 1.01, TWO) is None
    assert lipschitz_bound(Disc(0.0, 1.0), tableau_of(METHODS["gauss2"]), 50.0, TWO) is None


def test_bounds_of_euler_are_attained():
    c, size, dt = 0.3, 1.5, 0.2
    normal = -c * np.eye(2) + np.sqrt(size**2 - c**2) * TURN
    rates = dissipative_euler(Hull(normal[None]), dt, TWO)
    grown = TWO.of_matrices(np.eye(2) + dt * normal)
    assert rates.upper == pytest.approx(grown, rel=1e-12)
    assert rates.lower == pytest.approx(grown, rel=1e-12)
    assert rates.dt_max == pytest.approx(2 * c / size**2)
    beyond = dissipative_euler(Hull(normal[None]), 1.01 * rates.dt_max, TWO)
    assert beyond.upper > 1 and beyond.dt_max is None
    assert TWO.of_matrices(np.eye(2) + 1.01 * rates.dt_max * normal) > 1 + 1e-5
    assert dissipative_euler(Hull(normal[None]), dt, MAXIMUM) is None
    for norm in (TWO, MAXIMUM, ONE):
        one = one_sided_euler(Hull(np.diag([-0.5, 0.2])[None]), dt, norm)
        assert (one.lower, one.upper) == (pytest.approx(1 - 0.5 * dt), INF)
        # Of the set of one matrix all is known.
        exact = single_stage(Hull(np.diag([-0.5, 0.2])[None]), 0.0, dt, norm)
        assert exact.lower == pytest.approx(1 - 0.5 * dt)
        assert exact.upper == pytest.approx(1 + 0.2 * dt)


def test_the_largest_step_of_one_stage():
    assert single_stage(Disc(-1.0, 0.9), 1.0, 0.1, TWO).dt_max == INF
    # A growing field that a long step of backward Euler damps, and a short one does not.
    damped = single_stage(Hull(np.eye(2)[None]), 1.0, 3.0, TWO)
    assert (damped.upper, damped.dt_max) == (pytest.approx(0.5), None)
    assert single_stage(Disc(-1.0, 0.9), 0.5, 0.1, TWO).dt_max is None
    assert single_stage(Disc(-1.0, 0.9), 0.0, 0.1, TWO, 1.05).dt_max == 1.05
    # The trapezoid rule is half a step of Euler, then half a step of backward Euler.
    found = rates_of_field(Disc(-1.0, 1.0), METHODS["trapezoid"], 0.1, MAXIMUM)
    halves = next(rates for rates in found if "composition" in rates.theorem)
    assert (halves.upper, halves.dt_max) == (1.0, pytest.approx(2.0))


@pytest.mark.parametrize("norm", [TWO, MAXIMUM, ONE], ids=str)
def test_backward_euler_in_any_norm(norm, rng):
    hull = leaky(rng, gain=1.5)
    growth = hull.growth(norm)
    for dt in (0.1, 0.9 / growth if growth > 0 else 5.0):
        rates = backward_euler(hull, dt, norm)
        check(rates, np.linalg.inv(np.eye(3) - dt * hull.draw(rng, (2000,))))
    assert backward_euler(Disc(0.5, 0.5), 1.0, norm) is None
    attained = backward_euler(Disc(0.5, 0.0), 1.0, norm)
    assert (attained.upper, attained.dt_max) == (2.0, None)
    assert backward_euler(Disc(-1.0, 0.5), 1.0, norm)[3::3] == (pytest.approx(1 / 1.5), INF)


# --- Rates of Shu-Osher forms --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["euler", "heun", "ssprk33", "ssprk43"])
def test_shu_osher_rates_are_attained(name):
    # The disc is real numbers, too: the fastest growing one is a member.
    method = METHODS[name]
    tableau, dt = tableau_of(method), 0.95 * method.ssp_coefficient
    disc = Disc(-1.0, 0.9)
    rates = shu_osher_rates(disc, tableau, dt, MAXIMUM)
    slowest = jacobians(tableau, np.full((1, tableau.stages, 1, 1), -0.1), dt)[0, 0, 0]
    assert slowest - 1e-12 <= rates.upper < 1
    assert rates.upper <= slowest + 0.03


@pytest.mark.parametrize("name", ["rk4", "midpoint", "rk38"])
def test_methods_without_a_radius_contract_where_the_field_does(name, rng):
    tableau = tableau_of(METHODS[name])
    disc = Disc(-1.0, 0.5, size=4)
    stages = disc.draw(rng, (4000, tableau.stages), MAXIMUM)
    rates = shu_osher_rates(disc, tableau, 0.15, MAXIMUM)
    assert rates.upper < 1 and rates.dt_max >= 0.15
    for part in (0.2, 0.6, 1.0):
        found = jacobians(tableau, stages, part * rates.dt_max)
        check(rates._replace(lower=0.0, upper=1.0), found)
    # Not so for a field that only just contracts.
    assert shu_osher_rates(Disc(-1.0, 0.9999), tableau, 0.15, MAXIMUM).upper > 1


def test_shu_osher_rates_hold_in_the_worst_case(rng):
    tableau, hull, norm = tableau_of(METHODS["rk4"]), leaky(rng, gain=0.6), TWO
    weight = hull.vertices[-1] - hull.vertices[0]

    def stages(slopes):
        return hull.vertices[0] + np.clip(slopes, 0, 1)[..., None] * weight

    rates = shu_osher_rates(hull, tableau, 0.3, norm)
    start = rng.random((60, 4, 3))
    largest = climb(lambda d: norm.of_matrices(jacobians(tableau, stages(d), 0.3)), start, rng)[1]
    smallest = climb(lambda d: -lowests(norm, jacobians(tableau, stages(d), 0.3)), start, rng)[1]
    assert 0.8 * rates.upper <= largest <= rates.upper + 1e-9
    assert rates.lower - 1e-9 <= -smallest


def test_the_lower_rate_is_of_the_step_backwards():
    # 1 / ||I - dt G|| for backward Euler.
    rates = shu_osher_rates(Disc(-1.0, 0.5), tableau_of(METHODS["backwardeuler"]), 0.4, TWO)
    assert rates.lower == pytest.approx(1 / (1 + 0.4 * 1.5), rel=1e-9)
    # And one over 1 + dt mu(-G) at best for Euler.
    rates = shu_osher_rates(Disc(1.0, 0.5), tableau_of(METHODS["euler"]), 0.4, TWO)
    assert 1 < rates.lower <= 1 + 0.4 * 0.5 + 1e-12


def test_the_longest_limit_is_that_of_every_rate_below_one():
    found = [r for r in rates_of_field(Disc(-1.0, 0.9), METHODS["heun"], 0.3, TWO) if r.upper <= 1]
    assert len(found) == 3 and len({r.dt_max for r in found}) == 1
    alone = shu_osher_rates(Disc(-1.0, 0.9), tableau_of(METHODS["heun"]), 0.3, TWO)
    assert found[0].dt_max >= max(alone.dt_max, contracting_step(Disc(-1.0, 0.9), TWO))


# --- One constant Jacobian -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["euler", "rk4", "rkc5", "substeps", "trapezoid", "gauss2"])
def test_normal_jacobians(name, rng):
    method = METHODS[name]
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    block = np.array([[-0.3, 1.0], [-1.0, -0.3]])
    normal = basis @ np.block(
        [[block, np.zeros((2, 2))], [np.zeros((2, 2)), np.diag([-1.0, -0.2])]]
    )
    normal = normal @ basis.T
    dt = 0.3
    # Substeps are taken one by one.
    rates = next(r for r in rates_of_field(Hull(normal[None]), method, dt, TWO) if "linear" in r[1])
    step = jacobians(tableau_of(method), np.tile(normal, (1, method.stages, 1, 1)), dt)
    assert rates.upper == pytest.approx(TWO.of_matrices(step)[0], rel=1e-12)
    assert rates.lower == pytest.approx(lowests(TWO, step)[0], rel=1e-12)
    if rates.dt_max == INF:
        assert name in ("trapezoid", "gauss2")
        return
    for part, grows in ((0.5, False), (0.999, False), (1.001, True)):
        same = np.tile(normal, (1, method.stages, 1, 1))
        step = jacobians(tableau_of(method), same, part * rates.dt_max)
        assert (TWO.of_matrices(step)[0] > 1 + 1e-9) == grows


@pytest.mark.parametrize(
    ("method", "value", "limit"),
    [
        (odernn.Euler(), -1.0, 2.0),
        (odernn.RK4(), -1.0, 2.785294),
        (odernn.RK4(), 1j, 2.828427),
        (odernn.SSPRK33(), 2j, 1.732051 / 2),
        (odernn.Trapezoid(), 1j, INF),
        (odernn.LinearlyImplicitEuler(), -1.0, INF),
    ],
)
def test_the_largest_step_of_linear_stability(method, value, limit):
    matrix = np.real(value) * np.eye(2) + np.imag(value) * TURN
    rates = linear_stability(matrix, transfer_of(method), 0.5, TWO)
    assert rates.dt_max == pytest.approx(limit, rel=1e-6)
    assert linear_stability(0 * matrix, transfer_of(method), 0.5, TWO).dt_max == INF


@pytest.mark.parametrize("method", [odernn.ETD1(), odernn.Lawson4(), odernn.ARS222()])
def test_the_linear_part_by_itself(method, rng):
    matrix = rng.normal(size=(3, 3)) - 2 * np.eye(3)
    assert rates_of_field(Hull(matrix[None]), method, 0.4, TWO) == []
    step = transfer_of(method, linear=True)(0.4 * matrix)
    numbers = np.linalg.eigvals(matrix)
    growth = np.asarray(method.split_stability(0 * numbers, 0.4 * numbers))
    assert np.sort_complex(np.linalg.eigvals(step)) == pytest.approx(np.sort_complex(growth))
    rates = rates_of_field(Hull(matrix[None]), method, 0.4, TWO, linear=True)
    assert len(rates) == 2
    for one in rates:
        check(one, step[None])


def test_jacobians_that_are_not_normal(rng):
    for _ in range(20):
        matrix = rng.normal(size=(5, 5)) - np.eye(5)
        assert linear_stability(matrix, transfer_of(odernn.RK4()), 0.4, TWO) is None
        rates = eigenbasis_stability(matrix, transfer_of(odernn.RK4()), 0.4)
        step = jacobians(odernn.RK4().tableau, np.tile(matrix, (1, 4, 1, 1)), 0.4)[0]
        assert np.isrealobj(rates.norm.scale)
        assert rates.upper == pytest.approx(rates.norm.of_matrices(step), rel=1e-9)
        assert rates.lower == pytest.approx(lowests(rates.norm, step), rel=1e-9)
        condition = np.linalg.cond(rates.norm.scale)
        assert f"condition {condition:.3g}" in rates.assumptions[0]
    jordan = np.array([[-1.0, 1.0], [0.0, -1.0]])
    assert eigenbasis_stability(jordan, transfer_of(odernn.RK4()), 0.4) is None
    near = np.array([[-1.0, 1.0], [0.0, -1.0 - 1e-7]])
    assert eigenbasis_stability(near, transfer_of(odernn.RK4()), 0.4) is None


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_the_norm_of_an_affine_step(norm, rng):
    hull = Hull(leaky(rng, gain=0.5).vertices[-1:])
    for name in ("rk4", "gauss2"):
        rates = [r for r in rates_of_field(hull, METHODS[name], 0.4, norm) if "affine" in r.theorem]
        stages = np.tile(hull.center, (1, METHODS[name].stages, 1, 1))
        step = jacobians(tableau_of(METHODS[name]), stages, 0.4)
        assert rates[0].upper == pytest.approx(norm.of_matrices(step)[0], rel=1e-12)
        assert rates[0].lower == pytest.approx(lowests(norm, step)[0], rel=1e-12)


def test_eigenvalues_do_not_certify():
    # Every eigenvalue of I + G is 1/2, at each step.
    shear = np.array([[-0.5, 4.0], [0.0, -0.5]])
    one, two = Hull(shear[None]), Hull(np.stack([shear, shear.T]))
    euler = odernn.Euler()
    assert np.abs(euler.stability_function(np.linalg.eigvals(shear))).max() < 1
    first, second = np.eye(2) + shear, np.eye(2) + shear.T
    assert TWO.of_matrices(first) > 4
    assert np.abs(np.linalg.eigvals(first @ second)).max() > 10
    for norm in (TWO, MAXIMUM, ONE):
        for bounds in (one, two):
            found = rates_of_field(bounds, euler, 1.0, norm)
            assert found and all(r.upper > 1 for r in found)


# --- Composition and comparison ------------------------------------------------------------------


def test_composition_is_the_product(rng):
    first, second = leaky(rng), leaky(rng)
    dt = 0.2
    halves = [single_stage(first, 0.0, dt, TWO), single_stage(second, 1.0, dt, TWO)]
    rates = composition(halves)
    assert rates.upper == pytest.approx(halves[0].upper * halves[1].upper)
    assert rates.lower == pytest.approx(halves[0].lower * halves[1].lower)
    ahead = np.eye(3) + dt * first.draw(rng, (2000,))
    behind = np.linalg.inv(np.eye(3) - dt * second.draw(rng, (2000,)))
    check(rates, behind @ ahead)
    known = [Rates(TWO, "a", 1.0, 1.0, ("x",), True, limit) for limit in (2.0, INF)]
    assert composition(known) == Rates(TWO, "composition of a", 1.0, 1.0, ("x",), True, 2.0)
    silent = Rates(TWO, "b", 0.0, INF, ())
    assert composition([silent, known[0]])[2:] == (0.0, INF, ("x",), False, None)


def test_composition_needs_one_norm():
    one = Rates(TWO, "a", 1.0, 1.0)
    with pytest.raises(InputError, match=r"rates is empty: give the rates of at least one step\."):
        composition([])
    for other in (MAXIMUM, Norm("2", np.ones(2)), Norm("2", np.eye(2))):
        with pytest.raises(InputError, match=r"rates are in two norms, .*: give one norm\."):
            composition([one, one._replace(norm=other)])


@pytest.mark.parametrize("kind", ["inf", "1", "2"])
def test_comparison_matrices(kind, rng):
    for _ in range(10):
        entries = rng.gamma(0.5, size=(5, 5)) * np.exp(2 * rng.normal(size=(5, 5)))
        entries *= 0.9 / np.abs(np.linalg.eigvals(entries)).max()
        rates = comparison_matrix(entries, kind)
        # No smaller norm of N is possible.
        assert 0.9 - 1e-9 <= rates.upper <= 0.9 + 1e-6
        found = entries * rng.uniform(-1, 1, (1000, 5, 5))
        check(rates, np.concatenate([found, entries[None], -entries[None]]))
        assert rates.norm.of_matrices(entries) == pytest.approx(rates.upper, rel=1e-12)
        assert rates.norm.kind == kind and rates.lower == 0.0


@pytest.mark.parametrize("kind", ["inf", "1", "2"])
def test_comparison_matrices_of_separate_parts(kind):
    chain = np.array([[0.5, 3.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.2]])
    rates = comparison_matrix(chain, kind)
    assert 0.5 <= rates.upper <= 0.51
    assert rates.norm.condition <= 1e6
    check(rates, chain[None])
    assert comparison_matrix(np.zeros((2, 2)), kind).upper == 0.0
    assert comparison_matrix(np.array([[0.1, INF], [0.0, 0.1]]), kind) is None
    assert comparison_matrix(np.array([[0.1, math.nan], [0.0, 0.1]]), kind) is None


def test_comparison_matrices_are_square_and_positive():
    with pytest.raises(InputError, match=r"entries has the shape \(2, 3\): give a square matrix\."):
        comparison_matrix(np.ones((2, 3)))
    with pytest.raises(InputError, match=r"entries has a negative one: give bounds"):
        comparison_matrix(-np.eye(2))
