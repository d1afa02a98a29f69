"""Linear multistep methods: coefficients, order, stability, and what they carry of the past."""

from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import odernn
from odernn import BDF, AdamsBashforth, AdamsMoulton, InputError, Leapfrog

from . import cases
from .test_methods import Forced, Logistic

METHODS = {
    **{f"adamsbashforth{k}": AdamsBashforth(k) for k in (2, 3, 4, 5)},
    **{f"adamsmoulton{k}": AdamsMoulton(k) for k in (1, 2, 3, 4)},
    **{f"bdf{k}": BDF(k) for k in (1, 2, 3, 4)},
    "leapfrog": Leapfrog(),
}
IMPLICIT = [name for name in METHODS if name.startswith(("adamsmoulton", "bdf"))]
# One method of each family, with as much past as there is.
SOME = ("adamsbashforth4", "adamsmoulton3", "bdf4", "leapfrog")

# y_{n+1} = sum_j alpha_j y_{n-j} + dt sum_j beta_j f_{n+1-j}, times the common denominator that
# ends each row. Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, III.1.
PUBLISHED = {
    "adamsbashforth2": ([2], [0, 3, -1], 2),
    "adamsbashforth3": ([12], [0, 23, -16, 5], 12),
    "adamsbashforth4": ([24], [0, 55, -59, 37, -9], 24),
    "adamsbashforth5": ([720], [0, 1901, -2774, 2616, -1274, 251], 720),
    "adamsmoulton1": ([2], [1, 1], 2),
    "adamsmoulton2": ([12], [5, 8, -1], 12),
    "adamsmoulton3": ([24], [9, 19, -5, 1], 24),
    "adamsmoulton4": ([720], [251, 646, -264, 106, -19], 720),
    "bdf1": ([1], [1], 1),
    "bdf2": ([4, -1], [2], 3),
    "bdf3": ([18, -9, 2], [6], 11),
    "bdf4": ([48, -36, 16, -3], [12], 25),
    "leapfrog": ([0, 1], [0, 2], 1),
}


def _published(name):
    """(alpha, beta) of ``sum_j alpha_j y_{n+j} = dt sum_j beta_j f_{n+j}``, of the table."""
    alpha, beta, scale = PUBLISHED[name]
    size = max(len(alpha), len(beta) - 1)
    alpha, beta = alpha + [0] * (size - len(alpha)), beta + [0] * (size + 1 - len(beta))
    rho = [*(Fraction(-a, scale) for a in reversed(alpha)), Fraction(1)]
    return rho, [Fraction(b, scale) for b in reversed(beta)]


def _layer(field, method, dt, **options):
    return odernn.Layer(odernn.Cell(field, method, dt), odernn.Scan(), **options)


def _flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


@pytest.mark.parametrize("name", METHODS)
def test_coefficients_are_the_published_ones(name):
    rho, sigma = _published(name)
    assert METHODS[name].characteristic == (tuple(rho), tuple(sigma))


@pytest.mark.parametrize("name", METHODS)
def test_order_is_that_of_the_exact_conditions(name):
    rho, sigma = _published(name)

    def left(q):
        known = sum(a * Fraction(j) ** q for j, a in enumerate(rho))
        return known - q * sum(b * Fraction(j) ** (q - 1) for j, b in enumerate(sigma) if q)

    steps = int(name[-1]) if name[-1].isdigit() else 2
    order = steps + 1 if name.startswith("adamsmoulton") else steps
    assert [left(q) for q in range(order + 1)] == [0] * (order + 1)
    assert left(order + 1) != 0
    assert METHODS[name].order == order


@pytest.mark.parametrize("name", METHODS)
def test_the_registry_has_it(name):
    assert type(odernn.METHODS[name]) is type(METHODS[name])
    assert odernn.METHODS[name] == METHODS[name]


@pytest.mark.parametrize("name", METHODS)
def test_zero_stability(name):
    roots = np.roots(np.array(METHODS[name].characteristic[0][::-1], float))
    size = np.abs(roots)
    assert size.max() < 1 + 1e-12
    on_circle = roots[size > 1 - 1e-6]
    apart = np.abs(on_circle[:, None] - on_circle) + np.eye(len(on_circle))
    assert apart.min() > 0.5


@pytest.mark.parametrize("name", METHODS)
def test_growth_is_the_largest_characteristic_root(name, rng):
    zs = rng.normal(size=20) + 1j * rng.normal(size=20)
    rho, sigma = (np.array(c[::-1], float) for c in _published(name))
    wanted = [np.abs(np.roots(rho - z * sigma)).max() for z in zs]
    np.testing.assert_allclose(np.abs(METHODS[name].stability_function(zs)), wanted, rtol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_grows_as_the_largest_root_says(name):
    z = -0.3
    hs, _ = _layer(Linear(), METHODS[name], -z)(jnp.zeros((200, 1)), initial_state=jnp.ones(1))
    hs = np.abs(np.asarray(hs[:, 0]))
    rho, sigma = (np.array(c[::-1], float) for c in _published(name))
    largest = np.abs(np.roots(rho - z * sigma)).max()
    assert abs((hs[-1] / hs[-101]) ** 0.01 - largest) < 1e-3
    assert abs(float(jnp.abs(METHODS[name].stability_function(z))) - largest) < 1e-9


class Linear(odernn.AbstractField):
    """y' = -y."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=1)

    def __call__(self, time, y, u):
        return -y


@pytest.mark.parametrize(
    ("name", "real"),
    [
        ("adamsbashforth2", 1.0),
        ("adamsbashforth3", 6 / 11),
        ("adamsbashforth4", 3 / 10),
        ("adamsbashforth5", 90 / 551),
        ("adamsmoulton1", np.inf),
        ("adamsmoulton2", 6.0),
        ("adamsmoulton3", 3.0),
        ("adamsmoulton4", 90 / 49),
        ("bdf1", np.inf),
        ("bdf2", np.inf),
        ("bdf3", np.inf),
        ("bdf4", np.inf),
        ("leapfrog", 0.0),
    ],
)
def test_real_intervals(name, real):
    """Hairer, Wanner, Solving Ordinary Differential Equations II, V.1."""
    np.testing.assert_allclose(METHODS[name].real_interval, real, rtol=1e-6)


def test_imaginary_intervals():
    np.testing.assert_allclose(Leapfrog().imaginary_interval, 1, rtol=1e-6)
    assert AdamsMoulton(1).imaginary_interval == BDF(2).imaginary_interval == np.inf
    assert AdamsBashforth(2).imaginary_interval == 0


def test_what_is_carried_and_counted(key):
    leaky, oscillator = cases.FIELDS["Leaky"](key), cases.FIELDS["Oscillator"](key)
    for name, method in METHODS.items():
        past = {"adamsbashforth": -1, "adamsmoulton": -1, "bdf": -1}.get(name[:-1])
        past = 1 if past is None else int(name[-1]) + past
        assert method.memory == method.starting_steps == past
        assert odernn.Cell(leaky, method).t == 1 + past
        assert odernn.Cell(oscillator, method).t == 2 * (1 + past)
        # Adams-Moulton takes the slopes at both ends of the step, as the trapezoidal rule does.
        stages = 2 if name.startswith("adamsmoulton") else 1
        assert method.stages == odernn.Cell(leaky, method).n == stages
        assert method.explicit == (name not in IMPLICIT)
        assert method.reversible == (name == "leapfrog")
    assert odernn.Cell(leaky, odernn.Trapezoid()).n == odernn.Cell(leaky, AdamsMoulton(1)).n


@pytest.mark.parametrize("name", METHODS)
def test_every_field_fits(name):
    made = [field for field in cases.MADE.values() if not field.delays]
    assert all(cases.fits(field, METHODS[name]) for field in made)


# Steps that vary by a factor of two, for which even the four-step BDF is stable.
_PATTERN = np.array([1.0, 1.5, 0.9, 0.75, 1.3])
_START = np.array([0.1, 0.3, 0.6, 0.9, 1.7])


def _error(field, method, repeats, coefficients=None):
    steps = np.tile(_PATTERN, repeats)
    times = np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
    layer = _layer(type(field)(5, 5), method, 1.0)
    xs = jnp.zeros((len(steps), 5))
    hs, _ = layer(xs, times=jnp.asarray(times), initial_state=jnp.asarray(_START))
    return np.sqrt(np.mean((hs - field.exact(times[1:, None], _START)) ** 2))


@pytest.mark.parametrize("field", [Logistic(), Forced()], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("name", METHODS)
def test_order_for_steps_that_vary(name, field):
    method = METHODS[name]
    slope = np.log2(_error(field, method, 40) / _error(field, method, 80))
    assert abs(slope - method.order) < 0.2


@pytest.mark.parametrize("name", SOME)
def test_coefficients_for_equal_steps_lose_the_order_where_steps_vary(name, monkeypatch):
    """What the test above would see if the lengths of the steps were not looked at."""
    alpha, beta, scale = PUBLISHED[name]
    even = [a / scale for a in alpha], [b / scale for b in beta]
    monkeypatch.setattr(type(METHODS[name]), "_weights", lambda *_: even)
    slope = np.log2(_error(Logistic(), METHODS[name], 24) / _error(Logistic(), METHODS[name], 48))
    assert not slope > METHODS[name].order - 0.5


@pytest.mark.parametrize("name", METHODS)
def test_coefficients_for_steps_that_vary(name, rng):
    """Against linear systems: exact for all polynomials up to the order."""
    method = METHODS[name]
    nodes = [0.0, *-np.cumsum(rng.uniform(0.5, 2, size=method.steps - 1))]
    alpha, beta = method.weights([jnp.asarray(t) for t in nodes])
    alpha, beta = np.array(alpha, float), np.array(beta, float)
    ends = np.array([1.0, *nodes])[: len(beta)]
    at = np.array(nodes)[: len(alpha)]
    for q in range(method.order + 1):
        slope = q * ends ** max(q - 1, 0) if q else 0 * ends
        np.testing.assert_allclose(alpha @ at**q + beta @ slope, 1, atol=1e-11)


@pytest.mark.parametrize("name", METHODS)
def test_a_trained_step_is_a_step_of_that_size(name, key, rng):
    field, xs = cases.FIELDS["Leaky"](key), jnp.asarray(rng.normal(size=(9, 3)))
    given, _ = _layer(field, METHODS[name], 0.3)(xs)
    trained, _ = _layer(field, METHODS[name], odernn.TrainedStep(0.3))(xs)
    np.testing.assert_allclose(trained, given, rtol=0, atol=1e-12)


def _oracle(field, name, xs, dt, start, interpolated):
    """The published formula in NumPy, from the states ``start``; Newton by a fixed point."""
    alpha, beta, scale = PUBLISHED[name]
    weight, inward, bias = map(np.asarray, (field.weight, field.input_weight, field.bias))

    def slope(y, x):
        return np.tanh(y @ weight + x @ inward + bias) - y

    ys = list(start)
    slopes = []
    for n in range(len(xs)):
        # The input at the beginning of step n: held, it is that of the step itself.
        begin = xs[max(n - 1, 0)] if interpolated else xs[n]
        slopes.append(slope(ys[n], begin))
        if n + 1 < len(ys):
            continue
        base = sum(a * ys[n - j] for j, a in enumerate(alpha))
        base = base + dt * sum(b * slopes[n - j] for j, b in enumerate(beta[1:]))
        y = ys[n]
        for _ in range(200):
            y = (base + dt * beta[0] * slope(y, xs[n])) / scale
        ys.append(y)
    return np.array(ys[1:])


@pytest.mark.parametrize("interpolated", [False, True], ids=["held", "linear"])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_equals_a_loop_over_the_published_formula(name, interpolated, key, rng):
    field, xs = odernn.fields.Leaky(3, 5, key=key), rng.normal(size=(12, 3))
    interpolation = odernn.LinearInput() if interpolated else odernn.HeldInput()
    cell = odernn.Cell(field, METHODS[name], 0.3, interpolation)
    hs, _ = odernn.Layer(cell, odernn.Scan())(jnp.asarray(xs))
    first = METHODS[name].starting_steps
    start = [np.zeros(5), *np.asarray(hs[:first])]
    wanted = _oracle(field, name, xs, 0.3, start, interpolated)
    np.testing.assert_allclose(hs, wanted, rtol=0, atol=1e-9)
    assert np.abs(wanted).max() > 0.1


_STARTERS = {
    "adamsbashforth2": odernn.Heun(),
    "adamsbashforth4": odernn.RK4(),
    "adamsbashforth5": odernn.DormandPrince5(),
    "adamsmoulton3": odernn.RadauIIA(3),
    "bdf3": odernn.RadauIIA(2),
    "bdf4": odernn.RadauIIA(3),
    "leapfrog": odernn.Heun(),
}


@pytest.mark.parametrize("name", _STARTERS)
def test_first_steps_are_of_a_runge_kutta_method(name, key, rng):
    field, first = cases.FIELDS["Gated"](key), METHODS[name].starting_steps
    xs = jnp.asarray(rng.normal(size=(first + 1, 3)))
    hs, _ = _layer(field, METHODS[name], 0.3)(xs)
    wanted, _ = _layer(field, _STARTERS[name], 0.3)(xs)
    np.testing.assert_allclose(hs[:first], wanted[:first], rtol=0, atol=1e-12)
    assert np.abs(hs[first] - wanted[first]).max() > 1e-8
    # Locally as accurate as the method is globally, and safe for what is stiff.
    assert _STARTERS[name].order >= METHODS[name].order - 1
    if not METHODS[name].explicit:
        assert np.abs(_STARTERS[name].stability_function(-1e8)) < 1e-3


def _close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(_flat(a), _flat(b), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_a_sequence_is_its_steps(name, key, rng):
    cell = odernn.Cell(cases.FIELDS["Oscillator"](key), METHODS[name], 0.3)
    xs = jnp.asarray(rng.normal(size=(9, 3)))
    hs, last = odernn.Layer(cell, odernn.Scan())(xs)
    y, step = cell.initial_state(), eqx.filter_jit(lambda y, x, k: cell(y, x, elapsed=k))
    for k, x in enumerate(xs):
        y = step(y, x, jnp.asarray(float(k)))
        _close(cell.output(y), hs[k])
    _close(y, last)


@pytest.mark.parametrize("name", SOME)
def test_a_masked_step_is_as_if_it_were_not_there(name, key, rng):
    layer = _layer(cases.FIELDS["Leaky"](key), METHODS[name], 0.3)
    xs = jnp.asarray(rng.normal(size=(12, 3)))
    # The first steps among them, where the past is still being gathered.
    mask = np.array([0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1], bool)
    wanted, last = layer(xs[mask])
    hs, state = layer(jnp.where(mask[:, None], xs, jnp.nan), mask=mask)
    _close(hs[mask], wanted)
    _close(state, last)
    stamps = jnp.asarray(np.cumsum(rng.uniform(0.5, 1.5, size=12)))
    wanted, last = layer(xs[mask], times=stamps[mask])
    hs, state = layer(xs, mask=mask, times=stamps)
    _close(hs[mask], wanted)
    _close(state, last)


@pytest.mark.parametrize("name", SOME)
def test_padding_is_not_read(name, key, rng):
    layer = _layer(cases.FIELDS["Leaky"](key), METHODS[name], 0.3)
    xs = jnp.asarray(rng.normal(size=(8, 3)))
    for length in (1, 2, 6):
        wanted, last = layer(xs[:length])
        hs, state = layer(xs, length=length)
        _close(hs[:length], wanted)
        _close(state, last)


@pytest.mark.parametrize("name", SOME)
def test_padding_is_not_read_in_reverse(name, key, rng):
    layer = _layer(cases.FIELDS["Leaky"](key), METHODS[name], 0.3, reverse=True)
    xs = jnp.asarray(rng.normal(size=(8, 3)))
    wanted, last = layer(xs[:6])
    hs, state = layer(xs, length=6)
    _close(hs[:6], wanted)
    _close(state, last)


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("name", SOME)
def test_a_state_handed_over_goes_on(name, regular, key, rng):
    layer = _layer(cases.FIELDS["Oscillator"](key), METHODS[name], 0.3)
    xs = jnp.asarray(rng.normal(size=(12, 3)))
    times = None if regular else np.concatenate([[0.0], np.cumsum(rng.uniform(0.5, 1.5, size=12))])
    wanted, last = layer(xs, times=times)
    # Cut among the first steps and after them.
    state, parts = None, []
    for begin, end in ((0, 2), (2, 3), (3, 12)):
        stamps = None if regular else times[begin : end + 1]
        hs, state = layer(xs[begin:end], times=stamps, initial_state=state)
        parts.append(hs)
    _close(jnp.concatenate(parts), wanted)
    _close(state, last)


@pytest.mark.parametrize("name", SOME)
def test_equal_steps_may_follow_others(name, key, rng):
    """After irregular steps, a number as dt does not say that the past steps had that length."""
    cell = odernn.Cell(cases.FIELDS["Leaky"](key), METHODS[name], 0.3)
    layer = odernn.Layer(cell, odernn.Scan())
    xs = jnp.asarray(rng.normal(size=(9, 3)))
    lengths = np.array([1.0, 0.6, 1.4, 0.8, 1.2, 1.0, 1.0, 1.0, 1.0])
    times = np.concatenate([[0.0], np.cumsum(lengths)])
    wanted, last = layer(xs, times=times)
    _, state = layer(xs[:5], times=times[:6])
    hs, state = layer(xs[5:], initial_state=state)
    _close(hs, wanted[5:])
    _close(state, last)
    # Nor does a number as the interval of one step.
    y = cell.initial_state()
    for k in range(4):
        y = cell(y, xs[k], elapsed=float(times[k]), interval=float(lengths[k]))
    _close(cell.output(y), wanted[3])


@pytest.mark.parametrize("name", SOME)
def test_a_batch_with_masks_of_its_own(name, key, rng):
    layer = _layer(cases.FIELDS["Leaky"](key), METHODS[name], 0.3)
    xs = jnp.asarray(rng.normal(size=(3, 9, 3)))
    masks = jnp.asarray(rng.uniform(size=(3, 9)) < 0.6)
    hs, last = jax.vmap(lambda xs, mask: layer(xs, mask=mask))(xs, masks)
    for k in range(3):
        wanted, state = layer(xs[k], mask=masks[k])
        _close(hs[k], wanted)
        _close(jax.tree.map(lambda a, k=k: a[k], last), state)


def test_steps_of_a_batch_that_are_not_taken_raise_nothing():
    """Both kinds of step are computed for each sequence; from zeros, BDF4 has no solution here."""

    class Growing(odernn.AbstractField):
        input_size: int = eqx.field(static=True, default=1)
        hidden_size: int = eqx.field(static=True, default=1)

        def __call__(self, time, y, u):
            return y * y - y

    layer, y0 = _layer(Growing(), BDF(4), 0.5), jnp.array([0.9])
    xs, masks = jnp.zeros((6, 1)), jnp.ones((2, 6), bool)
    wanted, _ = layer(xs, initial_state=y0)
    hs, _ = jax.vmap(lambda mask: layer(xs, mask=mask, initial_state=y0))(masks)
    _close(hs[1], wanted)


def _loss(layer, xs, times):
    hs, last = layer(xs, times=times)
    tail = layer.cell.field.output(layer.cell.method.current(last))
    return jnp.sum(jnp.sin(2 * hs)) + jnp.sum(jnp.cos(tail))


def _gradient(layer, xs, times):
    return eqx.filter_jit(eqx.filter_grad(lambda a: _loss(*a, times)))((layer, xs))


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("name", SOME)
def test_gradients(name, regular, key, rng):
    """Scan, Adjoint and finite differences; step, start, parameters and inputs are trained."""
    field = cases.FIELDS["Leaky"](key)
    cell = odernn.Cell(field, METHODS[name], odernn.TrainedStep(0.3))
    start, xs = jnp.asarray(rng.normal(size=5)), jnp.asarray(rng.normal(size=(9, 3)))
    times = None if regular else np.cumsum(rng.uniform(0.5, 1.5, size=9))
    layer = odernn.Layer(cell, odernn.Scan(), initial_state=start)
    scanned = _gradient(layer, xs, times)
    blocks = _gradient(odernn.Layer(cell, odernn.Adjoint(block=4), start), xs, times)
    _close(eqx.filter(blocks, eqx.is_array), eqx.filter(scanned, eqx.is_array))

    varied, fixed = eqx.partition((layer, xs), eqx.is_inexact_array)
    flat, unravel = ravel_pytree(varied)
    loss = jax.jit(lambda v: _loss(*eqx.combine(unravel(v), fixed), times))
    gradient = _flat(eqx.filter(scanned, eqx.is_inexact_array))
    for _ in range(3):
        direction, h = rng.normal(size=flat.shape), 1e-5
        measured = (loss(flat + h * direction) - loss(flat - h * direction)) / (2 * h)
        np.testing.assert_allclose(measured, gradient @ direction, rtol=1e-5, atol=1e-6)
    slope = scanned[0].cell.dt.log_dt
    assert np.abs(slope) > 1e-4


@pytest.mark.parametrize("name", SOME)
def test_gradients_through_a_mask(name, key, rng):
    """The choice between both kinds of step is made while running."""
    cell = odernn.Cell(cases.FIELDS["Leaky"](key), METHODS[name], 0.3)
    xs, mask = rng.normal(size=(9, 3)), np.array([1, 0, 1, 1, 0, 1, 1, 1, 1], bool)

    def gradient(unroll, xs, **options):
        def loss(layer):
            return jnp.sum(jnp.sin(layer(jnp.asarray(xs), **options)[0][-1]))

        return _flat(eqx.filter_jit(eqx.filter_grad(loss))(odernn.Layer(cell, unroll)))

    wanted = gradient(odernn.Scan(), xs[mask])
    xs = np.where(mask[:, None], xs, np.nan)
    np.testing.assert_allclose(gradient(odernn.Scan(), xs, mask=mask), wanted, atol=1e-12)
    np.testing.assert_allclose(gradient(odernn.Adjoint(), xs, mask=mask), wanted, atol=1e-12)
    assert np.abs(wanted).max() > 1e-3


class Stiff(odernn.AbstractField):
    """y' = -rate (g(y) - g(cos s)) - sin s with g(y) = y + y^3: the solution is cos s."""

    rate: float = eqx.field(static=True)
    precision: str = eqx.field(static=True, default="float64")
    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=1)

    @property
    def dtype(self):
        return jnp.dtype(self.precision)

    def __call__(self, time, y, u):
        time = jnp.asarray(time, y.dtype)
        exact = jnp.cos(time)
        return -self.rate * (y**3 + y - exact**3 - exact) - jnp.sin(time)


def _stiff_error(method, rate, precision="float64", count=20):
    layer = _layer(Stiff(rate, precision), method, 1 / count)
    hs, _ = layer(jnp.zeros((count, 1)), initial_state=jnp.ones(1))
    assert hs.dtype == precision
    return np.abs(np.asarray(hs)[:, 0] - np.cos(np.arange(1, count + 1) / count)).max()


@pytest.mark.parametrize("name", [name for name in IMPLICIT if name.startswith("bdf")])
def test_bdf_on_a_stiff_field(name):
    assert _stiff_error(METHODS[name], 1e6) < 2e-8
    # Stiffness costs no digits in single precision either.
    assert _stiff_error(METHODS[name], 1e6, "float32") < 1e-6


def test_an_explicit_method_on_a_stiff_field():
    assert not _stiff_error(AdamsBashforth(2), 1e6) < 1


def test_equations_that_are_not_solved_are_an_error():
    for method in (BDF(2, max_steps=1), AdamsMoulton(2, max_steps=1)):
        with pytest.raises(Exception, match="solved? "):
            _stiff_error(method, 1e3)
        name = type(method).__name__
        with pytest.raises(
            Exception, match=f"{name}: the equations of a step were not solved in 1"
        ):
            state = method.start(Stiff(1e3), jnp.ones(1))
            eqx.filter_jit(method.later_step)(Stiff(1e3), 0.0, state, jnp.zeros(1), 0.05)
    assert np.isfinite(_stiff_error(BDF(2, max_steps=2, throw=False), 1e3))


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (AdamsBashforth, (1, 6, 2.0, True, "2")),
        (AdamsMoulton, (0, 5, 1.0, True)),
        (BDF, (0, 5, 1.0, True)),
    ],
)
def test_numbers_of_steps_are_checked(make, wrong):
    for steps in wrong:
        with pytest.raises(InputError, match="steps = .*: give a whole number from"):
            make(steps)


@pytest.mark.parametrize("make", [AdamsMoulton, BDF])
def test_iterations_are_checked(make):
    with pytest.raises(InputError, match="max_steps = 0"):
        make(2, max_steps=0)


def test_leapfrog_is_undone_to_the_start(key, rng):
    """Also the first step, which is Heun's."""
    cell = odernn.Cell(cases.FIELDS["Oscillator"](key), Leapfrog(), 0.1)
    start = jax.tree.map(
        lambda a: jnp.asarray(rng.normal(size=a.shape)), cell.field.initial_state()
    )
    xs = jnp.asarray(rng.normal(size=(6, 3)))
    states = [cell.start(start)]
    for k, x in enumerate(xs):
        states.append(cell.step(states[-1], cell.drive(x), elapsed=float(k)))
    y = states[-1]
    for k in reversed(range(6)):
        y = cell.inverse(y, cell.drive(xs[k]), elapsed=float(k))
        _close(y, states[k], 1e-13)


def test_a_leapfrog_step_of_traced_length_is_not_undone(key):
    cell = odernn.Cell(cases.FIELDS["Leaky"](key), Leapfrog(), odernn.TrainedStep(0.1))
    state, u = cell.initial_state(), cell.drive(jnp.ones(3))
    with pytest.raises(InputError, match="undone for equal steps of a given size only"):
        cell.inverse(cell.step(state, u), u)


@pytest.mark.parametrize("name", SOME)
def test_single_precision_stays_single(name, key):
    cell = odernn.Cell(cases.FIELDS["Oscillator"](key), METHODS[name], odernn.TrainedStep(0.3))
    cell = cases.as_precision(cell, jnp.float32)
    for times in (None, jnp.arange(6.0, dtype=jnp.float32)):
        hs, last = odernn.Layer(cell)(jnp.ones((6, 3), jnp.float32), times=times)
        assert {a.dtype for a in jax.tree.leaves((hs, last))} == {np.dtype("float32")}
