"""What every method knows about itself: order, growth, intervals, radii of contractivity."""

import itertools
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from jax.flatten_util import ravel_pytree
from nodepy import linear_multistep_method as nodepy_multistep
from nodepy import runge_kutta_method as nodepy_runge_kutta

import odernn
from odernn import GaussSeidelEuler, InputError, SymplecticEuler
from odernn._method._base import AbstractInvertible, AbstractSymmetric
from odernn._method._splitting import AbstractSplitting
from odernn._stability import MultistepStability, RungeKuttaStability

from . import cases

METHODS = cases.METHODS
INF = float("inf")
RUNGE_KUTTA = [n for n, m in METHODS.items() if isinstance(m.stability, RungeKuttaStability)]
MULTISTEP = [n for n, m in METHODS.items() if isinstance(m.stability, MultistepStability)]


# The test equation y' = (lambda + mu) y for every family. Complex numbers are pairs of real ones
# (methods step real states), so a product with one is a row times a matrix.
def _turn(number):
    re, im = number
    return jnp.stack([jnp.stack([re, im]), jnp.stack([-im, re])])


class Growing(odernn.AbstractField):
    """Parameters lambda and mu."""

    growth: jax.Array
    linear_growth: jax.Array
    calls: list = eqx.field(static=True, default_factory=list)
    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=2)


class Linear(Growing, odernn.AbstractSemilinearField, odernn.AbstractLieField):
    """mu by the operator, lambda as the rest; the group is that of turns and scalings."""

    def __call__(self, time, y, u):
        return self.linear().apply(y) + self.rest(time, y, u)

    def linear(self):
        return odernn.Dense(_turn(self.linear_growth))

    def rest(self, time, y, u):
        self.calls.append("rest")
        return y @ _turn(self.growth)

    def generator(self, time, y, u):
        self.calls.append("generator")
        return _turn(self.growth + self.linear_growth)

    def exponential(self, element, y):
        (re, im), _ = element
        return jnp.exp(re) * (y @ _turn((jnp.cos(im), jnp.sin(im))))

    def product(self, element, y):
        return y @ element


class Coupled(Growing, odernn.AbstractPartitionedField):
    """q' = lambda p, p' = lambda q."""

    blocks = ("q", "p")
    update_order = ("p", "q")
    depths = {"q": 0, "p": 0}

    def rate(self, block, time, y, frozen):
        return y["p" if block == "q" else "q"] @ _turn(self.growth)


class Relaxing(Growing, odernn.AbstractRelaxationField):
    """Elementwise rates, -lambda: on a complex state, as a matrix would not be elementwise."""

    dtype = jnp.dtype("complex128")

    def __call__(self, time, y, u):
        return -self.relaxation(time, y, u)[0] * y

    def relaxation(self, time, y, u):
        return -jax.lax.complex(*self.growth) * jnp.ones_like(y), jnp.zeros_like(y)


def _kind(method):
    zero = jnp.zeros(2)
    for kind in (Linear, Coupled, Relaxing):
        if cases.fits(kind(zero, zero), method):
            return kind
    pytest.fail(f"{method} fits no field of this module: give it a test equation here.")


def _step_matrices(method, z, w=None):
    """A step as a complex matrix on y and its past, for every z = dt lambda and w = dt mu."""
    kind = _kind(method)

    def matrix(z, w):
        field = kind(z, w)
        state = method.start(field, field.initial_state())
        # The lengths and the count of the steps are scalars.
        numbers, clock = eqx.partition(state, lambda a: a.ndim > 0)
        flat, unravel = ravel_pytree(numbers)

        def step(flat):
            state = eqx.combine(unravel(flat), clock)
            after = method.later_step(field, 0.0, state, None, 1.0)
            return ravel_pytree(eqx.filter(after, lambda a: a.ndim > 0))[0]

        return jax.vmap(step)(jnp.eye(flat.size, dtype=flat.dtype)).T

    pairs = [np.stack([np.real(v), np.imag(v)], -1) for v in (z, 0 * z if w is None else w)]
    found = np.asarray(jax.jit(jax.vmap(matrix))(*pairs))
    return found if kind is Relaxing else found[:, ::2, ::2] + 1j * found[:, 1::2, ::2]


@cache
def _growth(name):
    return jax.jit(METHODS[name].stability_function)


def _disk(rng, count, radius):
    """Complex numbers of either sign of both parts."""
    return radius * np.sqrt(rng.uniform(size=count)) * np.exp(2j * np.pi * rng.uniform(size=count))


# What methods know of themselves, by what is true of them alone.
KNOWN = {
    "symplectic": "implicitmidpoint gauss2 gauss3 symplecticeuler stormerverlet yoshida4",
    "algebraically_stable": "backwardeuler bdf1 implicitmidpoint gauss2 gauss3 radauiia2 radauiia3",
    "reversible": "implicitmidpoint trapezoid gauss2 gauss3 leapfrog gaussseideleuler lietrotter "
    "symplecticeuler stormerverlet yoshida4 strang reversiblerk4 "
    + " ".join(f"{kind}{k}" for kind in ("crouchgrossman", "commutatorfree") for k in range(1, 5)),
}
# real interval, imaginary interval, circle radius, SSP coefficient: the same for all of a row.
# SDIRK2 is Alexander's: b_1 (2 gamma - b_1) < 0, so it is not algebraically stable. (NodePy's
# SDIRK23, with the weights 1/2, is.)
RADII = {
    (2, 0, 1, 1): "euler heun ssprk22",
    (2, 0, 0, 0): "midpoint",
    (2.5127, 1.7321, 0.5, 0): "kutta3",
    (2.5127, 1.7321, 1, 1): "ssprk33",
    (2.7853, 2.8284, 1, 0): "rk4",
    (2.7853, 2.8284, 0.4641, 0): "rk38",
    (5.1495, 2.1562, 2, 2): "ssprk43",
    (13.9170, 4.9215, 6, 6): "ssprk104",
    (3.3066, 0.9972, 0, 0): "dormandprince5",
    (INF, INF, INF, INF): "backwardeuler bdf1",
    (INF, INF, INF, 2): "implicitmidpoint",
    (INF, INF, 2, 2): "trapezoid adamsmoulton1",
    (INF, INF, 8.2426, 2.4142): "sdirk2",
    (INF, INF, INF, 0): "gauss2 gauss3 radauiia2 radauiia3",
    (0, 2, None, None): "gaussseideleuler symplecticeuler stormerverlet",
    (0, 1.5734, None, None): "yoshida4",
    (6 / 11, 0.7236, None, 0): "adamsbashforth3",
}


@pytest.mark.parametrize("fact", KNOWN)
def test_known_facts(fact):
    found = {name: getattr(method, fact) for name, method in METHODS.items()}
    assert set(map(type, found.values())) == {bool}
    assert {name for name, value in found.items() if value} == set(KNOWN[fact].split())


def test_substeps_know_what_their_method_knows():
    several = odernn.Substeps(odernn.ImplicitMidpoint(), 2)
    assert several.symplectic and several.reversible and several.algebraically_stable
    assert not odernn.Substeps(odernn.SDIRK2(), 2).symplectic
    assert odernn.Substeps(odernn.Euler(), 3).ssp_coefficient == pytest.approx(3)
    assert odernn.Substeps(odernn.RK4(), 2).real_interval == pytest.approx(2 * 2.785293563, 1e-8)


@pytest.mark.parametrize(
    ("name", "radii"), [(name, row) for row, names in RADII.items() for name in names.split()]
)
def test_known_intervals_and_radii(name, radii):
    m = METHODS[name]
    found = (m.real_interval, m.imaginary_interval, m.circle_radius, m.ssp_coefficient)
    # None, where a notion does not apply, becomes NaN, which equals NaN here.
    np.testing.assert_allclose(*np.array((found, radii), float), rtol=1e-4, atol=1e-6)


# NodePy: an independent library, by the author of SSPRK104, for the same questions.
def _rational(value):
    return sympy.Rational(value.numerator, value.denominator)


def _nodepy(name):
    tableau, kinds = METHODS[name].stability.tableau.reduced, nodepy_runge_kutta
    a = np.array([[_rational(v) for v in row] for row in tableau.a])
    kind = kinds.ExplicitRungeKuttaMethod if tableau.explicit else kinds.RungeKuttaMethod
    return kind(a, np.array([_rational(v) for v in tableau.b]))


@pytest.mark.parametrize("name", RUNGE_KUTTA)
def test_nodepy_agrees(name, rng):
    method, other = METHODS[name], _nodepy(name)
    # Tsitouras' 16 digits leave 1e-14 in the order conditions.
    assert method.order == other.order(tol=1e-12)
    assert (method.stages, method.explicit) == (len(other), other.is_explicit())
    assert method.algebraically_stable == bool(other.is_algebraically_stable())
    # NodePy looks no further than 1000; near 0 its rounding counts for 1e-7.
    circle, ssp = other.circle_contractivity_radius(), other.absolute_monotonicity_radius()
    found = (method.circle_radius, method.ssp_coefficient)
    np.testing.assert_allclose(found, (INF if circle > 999 else circle, ssp), 1e-6, 1e-7)
    p, q = (np.poly1d(np.array(c.coeffs, float)) for c in other.stability_function())
    z = _disk(rng, 50, 4.0)
    np.testing.assert_allclose(_growth(name)(z), p(z) / q(z), rtol=1e-9, atol=1e-12)
    if method.explicit:  # NodePy has no intervals of others
        np.testing.assert_allclose(method.real_interval, other.real_stability_interval(), 1e-8)
    if method.explicit and name != "tsit5":
        wanted = other.imaginary_stability_interval()
        np.testing.assert_allclose(method.imaginary_interval, wanted, rtol=1e-8, atol=1e-9)


def test_imaginary_interval_of_tsit5_in_exact_arithmetic():
    """NodePy says 0, for what 16 digits leave at |z| < 1e-7; beyond that a step does not grow."""
    c = [sympy.Rational(v) for v in _nodepy("tsit5").stability_function()[0].coeffs[::-1]]

    def excess(y):
        terms = [v * (-1) ** (k // 2) * y**k for k, v in enumerate(c)]
        return sum(terms[::2]) ** 2 + sum(terms[1::2]) ** 2 - 1

    end = sympy.Rational(METHODS["tsit5"].imaginary_interval)
    assert all(excess(end * sympy.Rational(k, 200)) < 0 for k in range(4, 200))
    assert excess(end * sympy.Rational(1000001, 1000000)) > 0


@pytest.mark.parametrize("name", MULTISTEP)
def test_nodepy_agrees_on_multistep_methods(name):
    method = METHODS[name]
    rows = (np.array([_rational(v) for v in row]) for row in method.characteristic)
    other = nodepy_multistep.LinearMultistepMethod(*rows)
    assert method.order == other.order()
    # NodePy takes the least of no ratios where backward Euler has no bound.
    wanted = INF if name == "bdf1" else float(other.ssp_coefficient())
    np.testing.assert_allclose(method.ssp_coefficient, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_stability_function_is_the_growth_of_a_step(name, rng):
    """Of a method that carries a past: the dominant eigenvalue of its step, as many steps grow."""
    z = np.concatenate([_disk(rng, 12, 2.0), [-3.0, 2.5j, 0.0]])
    values = np.linalg.eigvals(_step_matrices(METHODS[name], z))
    growth = np.asarray(_growth(name)(z))
    tolerance = 1e-5 if name == "adaptive" else 1e-8
    assert np.abs(values - growth[:, None]).min(axis=1).max() < tolerance
    np.testing.assert_allclose(np.abs(growth), np.abs(values).max(axis=1), atol=tolerance)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if hasattr(m, "split_stability")])
def test_growth_of_two_parts_is_that_of_a_step(name, rng):
    z, w = _disk(rng, 12, 2.0), _disk(rng, 12, 3.0) - 2.0
    steps = _step_matrices(METHODS[name], z, w)[:, 0, 0]
    np.testing.assert_allclose(METHODS[name].split_stability(z, w), steps, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", METHODS)
def test_growth_has_the_order_of_the_method(name):
    """R(z) - e^z is of order p + 1; Re z > 0, where the principal root is the dominant one."""
    z = 0.2 * np.exp(1j * np.linspace(-1.2, 1.2, 5)) / 2.0 ** np.arange(2)[:, None]
    growth = METHODS[name].stability_function(z)
    assert growth.shape == z.shape
    errors = np.abs(growth - np.exp(z)).max(axis=1)
    if errors[0] < 1e-14:
        return  # exact
    slope, order = np.log2(errors[0] / errors[1]) - 1, METHODS[name].order
    assert slope > order - 0.2
    # Splitting has no error where the parts commute: what is left is that of RK4 on one of them.
    # Symplectic Euler has the eigenvalues of Stormer-Verlet.
    better = isinstance(METHODS[name], AbstractSplitting | SymplecticEuler | GaussSeidelEuler)
    assert better or slope < order + 0.8


def _undoable(method):
    """Splitting as it can be undone: by default RK4 follows the rest, which has no inverse."""
    splits = isinstance(method, AbstractSplitting)
    return type(method)({"rest": odernn.ImplicitMidpoint()}) if splits else method


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].reversible])
def test_growth_of_a_step_back_is_the_inverse(name, rng):
    """R(z) R(-z) = 1; where the growth is a matrix, its eigenvalues for z and -z are inverse.

    Not so for McCallum and Foster's: steps with dt and -dt have the determinant c < 1 both.
    """
    method, z = _undoable(METHODS[name]), _disk(rng, 12, 1.0)
    ahead, back = (_step_matrices(method, v) for v in (z, -z))
    if name.startswith("reversible"):
        np.testing.assert_allclose(np.linalg.det([ahead, back]), method.coupling, rtol=1e-9)
        return
    one = np.eye(ahead.shape[1])
    if isinstance(method, AbstractSymmetric | AbstractSplitting) or len(one) == 1:
        np.testing.assert_allclose(back @ ahead, one + 0 * ahead, atol=1e-10)
    # Of equal characteristic polynomials: eigenvalues have no order to compare them in.
    found, wanted = ([np.poly(m) for m in ms] for ms in (back, np.linalg.inv(ahead)))
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in METHODS if isinstance(METHODS[n], AbstractInvertible)])
def test_what_is_reversible_is_undone(name, rng):
    method, numbers = METHODS[name], jnp.asarray(rng.normal(size=(2, 2)))
    field = _kind(method)(*numbers)
    if isinstance(method, AbstractSplitting):
        with pytest.raises(InputError, match="has no inverse"):
            method.check_inverse(field)
        method = _undoable(method)
    assert method.reversible and method.check_inverse(field) is None
    flat, unravel = ravel_pytree(field.initial_state())
    start = method.start(field, unravel(jnp.asarray(rng.normal(size=flat.shape))))
    end = jax.jit(lambda s: method.step(field, 0.2, s, None, 0.3))(start)
    again = jax.jit(lambda s: method.inverse(field, 0.2, s, None, 0.3))(end)
    np.testing.assert_allclose(ravel_pytree(again)[0], ravel_pytree(start)[0], rtol=0, atol=1e-11)
    assert np.abs(ravel_pytree(end)[0] - ravel_pytree(start)[0]).max() > 0.01


def _counted(method):
    """Iterations, inner steps and sub-flows are no evaluations of a step."""
    others = isinstance(method, AbstractSplitting | odernn.Adaptive)
    return method.explicit and not others and _kind(method) is Linear


@pytest.mark.parametrize("name", [name for name in METHODS if _counted(METHODS[name])])
def test_stages_are_the_evaluations_of_a_step(name):
    """Of the field, or of what a method evaluates of it: its rest, its generator."""
    method, zero = METHODS[name], jnp.zeros(2)
    field = Linear(zero, zero)
    state = method.start(field, field.initial_state())
    field.calls.clear()
    method.later_step(field, 0.0, state, None, 0.1)
    assert len(field.calls) == method.stages


@pytest.mark.parametrize("name", METHODS)
def test_arrays_of_any_shape_and_precision(name, rng):
    z = _disk(rng, (2, 3), 1.0)
    function = METHODS[name].stability_function

    @jax.jit
    def everything(z):
        single = z.astype(jnp.complex64)
        return function(z), jax.vmap(function)(z), function(z[0, 0]), function(single)

    whole, mapped, one, single = everything(z)
    assert whole.shape == z.shape and one.shape == ()
    assert whole.dtype == z.dtype and single.dtype == jnp.complex64
    np.testing.assert_allclose(mapped, whole, rtol=1e-12)
    np.testing.assert_allclose(one, whole[0, 0], rtol=1e-12)
    np.testing.assert_allclose(single, whole, rtol=1e-4, atol=1e-5)
    assert function(np.float32(-0.5)).dtype == jnp.complex64


def test_intervals_are_numbers_also_while_jax_traces():
    for method in (odernn.Substeps(odernn.Euler(), 3), odernn.RungeKuttaChebyshev(21)):  # not kept
        end = jax.jit(lambda x, method=method: x * method.real_interval)(1.0)
        assert end == method.real_interval


@pytest.mark.parametrize("name", METHODS)
def test_growth_inside_and_just_outside_the_intervals(name):
    method = METHODS[name]
    grid = np.linspace(0, 1, 4001)[1:]
    for end, direction in ((method.real_interval, -1), (method.imaginary_interval, 1j)):
        inside = np.geomspace(1e-3, 1e6, len(grid)) if end == INF else end * (1 - 1e-7) * grid
        growth = np.abs(_growth(name)(direction * inside.astype(complex)))
        assert growth.max() <= 1 + 1e-9, (direction, end)
        if end < INF:
            # An interval shorter than 0.05 counts as none.
            outside = end + (1e-3 * end if end else 0.06) * grid
            growth = np.abs(_growth(name)(direction * outside.astype(complex)))
            assert growth.max() > 1 + 1e-12, (direction, end)


class Staged(odernn.AbstractField):
    """y' = G_i y, as the difference of two solutions of a nonlinear field: a matrix for each stage.

    Told by the time or, if times repeat, by the turn.
    """

    matrices: jax.Array
    times: tuple = eqx.field(static=True)
    turn: itertools.count = eqx.field(static=True, default_factory=itertools.count)
    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=2)

    def __call__(self, time, y, u):
        if len(set(self.times)) < len(self.times):
            return self.matrices[next(self.turn)] @ y
        return self.matrices[jnp.argmin(jnp.abs(jnp.asarray(self.times) - time))] @ y


def _ends(method, matrices, starts, dt):
    """A step of every start, with the matrices (starts, stages, n, n)."""
    times = tuple(float(c) * dt for c in method.stability.tableau.reduced.c)

    def step(matrices, y):
        field = Staged(matrices, times)
        return method.current(method.step(field, 0.0, method.start(field, y), None, dt))

    return np.asarray(jax.jit(jax.vmap(step))(jnp.asarray(matrices), jnp.asarray(starts)))


def _same_for_half(matrices):
    """Let half of the fields be linear ones: the same in every stage."""
    matrices[: len(matrices) // 2] = matrices[: len(matrices) // 2, :1]
    return matrices


def _names_where(test):
    return [name for name in RUNGE_KUTTA if test(METHODS[name])]


@pytest.mark.parametrize("name", _names_where(lambda m: 0 < m.circle_radius < INF))
def test_no_step_expands_inside_the_circle(name, rng):
    """|G + r I| <= r and dt = circle_radius / r."""
    method, r, size = METHODS[name], 1.7, 3
    inner = rng.normal(size=(400, method.stages, size, size))
    inner /= np.linalg.norm(inner, 2, axis=(-2, -1))[..., None, None]
    # Near the identity steps are long and the bound is close.
    inner[::2] = np.linalg.qr(np.eye(size) + 0.3 * inner[::2])[0]
    matrices = r * (_same_for_half(inner) - np.eye(size))
    starts = rng.normal(size=(len(inner), size))
    ends = _ends(method, matrices, starts, method.circle_radius / r)
    ratio = np.linalg.norm(ends, axis=1) / np.linalg.norm(starts, axis=1)
    assert ratio.max() <= 1 + 1e-12


@pytest.mark.parametrize("name", _names_where(lambda m: m.circle_radius < INF))
def test_some_step_expands_just_outside_the_circle(name):
    """Turns by small angles x, dt = z / r: |y+|^2 = |y|^2 - z^2 x^T (M + B / z) x + O(|x|^3)."""
    method, r = METHODS[name], 1.7
    tableau = method.stability.tableau.reduced
    a, b = np.array(tableau.a, float), np.array(tableau.b, float)
    radius = method.circle_radius or 0.05
    defect = b[:, None] * a + (b[:, None] * a).T - np.outer(b, b) + np.diag(b) / (1.01 * radius)
    angles = 0.02 * np.linalg.eigh(defect)[1][:, 0]
    turns = [[[np.cos(x), -np.sin(x)], [np.sin(x), np.cos(x)]] for x in angles]
    matrices = r * (np.array(turns) - np.eye(2))[None]
    for share, expands in ((0.99, False), (1.01, True)):
        if expands or method.circle_radius:
            end = _ends(method, matrices, np.array([[1.0, 0.0]]), share * radius / r)
            assert (np.linalg.norm(end) > 1 + 1e-12) == expands


@pytest.mark.parametrize("name", _names_where(lambda m: m.algebraically_stable))
def test_algebraically_stable_steps_never_expand(name, rng):
    """G + G^T <= 0, of any size and far from normal."""
    method = METHODS[name]
    assert method.circle_radius == INF
    skew, root = rng.normal(size=(2, 200, method.stages, 3, 3))
    matrices = 10 ** rng.uniform(-2, 2, size=(200, 1, 1, 1)) * (
        skew - np.swapaxes(skew, -1, -2) - 0.1 * root @ np.swapaxes(root, -1, -2)
    )
    starts = rng.normal(size=(200, 3))
    ends = _ends(method, _same_for_half(matrices), starts, 1.0)
    assert (np.linalg.norm(ends, axis=1) <= (1 + 1e-9) * np.linalg.norm(starts, axis=1)).all()


@pytest.mark.parametrize("name", _names_where(lambda m: 0 < m.ssp_coefficient < INF))
def test_no_step_leaves_the_range_inside_the_ssp_radius(name, rng):
    """Where a Euler step of length 1 / r does not grow in the maximum norm, dt = C / r does not."""
    method, r, size = METHODS[name], 1.7, 4
    inner = rng.normal(size=(400, method.stages, size, size))
    inner[::2] **= 7  # one entry rules in most rows
    inner /= np.abs(inner).sum(axis=-1, keepdims=True)
    matrices = r * (_same_for_half(inner) - np.eye(size))
    starts = rng.choice([-1.0, 1.0], size=(400, size))
    largest = np.abs(_ends(method, matrices, starts, method.ssp_coefficient / r)).max(axis=1)
    assert largest.max() <= 1 + 1e-11
    # The bound is close: some fields reach it, and some leave it a bit further on.
    beyond = np.abs(_ends(method, matrices, starts, 2 * method.ssp_coefficient / r)).max(axis=1)
    assert beyond.max() > 1 + 1e-3


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("stages", range(2, 21))
def test_chebyshev_methods_reach_as_far_as_the_theory_says(stages, order):
    """R(z) = a + b T_s(w0 + w1 z); Verwer, Hundsdorfer, Sommeijer, Numer. Math. 57 (1990)."""
    method = odernn.RungeKuttaChebyshev(stages, order)
    assert method.tableau.order == order and method.tableau.stages == stages
    chebyshev = np.polynomial.chebyshev.Chebyshev.basis(stages)
    w0 = 1 + {1: 0.05, 2: 2 / 13}[order] / stages**2
    value, slope, bend = chebyshev(w0), chebyshev.deriv()(w0), chebyshev.deriv(2)(w0)
    w1, b = (value / slope, 1 / value) if order == 1 else (slope / bend, bend / slope**2)

    def growth(z):
        return 1 - b * value + b * chebyshev(w0 + w1 * z)

    end = method.real_interval
    z = -np.linspace(0, end, 301)
    np.testing.assert_allclose(method.stability_function(z), growth(z), rtol=0, atol=1e-9)
    assert np.abs(growth(z * (1 - 1e-9))).max() <= 1 + 1e-10
    assert abs(growth(-end * (1 + 1e-9))) > 1
    # Published; beyond the damped part one of odd degree takes a little longer to reach -1.
    published = 1.93 * stages**2 if order == 1 else 0.653 * (stages**2 - 1)
    assert 0.99 * published < end < 1.01 * published + 1
