"""Methods: tableaux, order of accuracy, and which field takes which."""

from fractions import Fraction

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import ButcherTableau, InputError
from odernn._method._multistep import AbstractMultistep

from . import cases

KUTTA3 = ButcherTableau([[], ["1/2"], [-1, 2]], ["1/6", "2/3", "1/6"])


class Logistic(odernn.AbstractField):
    """h' = h (1 - h): nonlinear, with a known solution."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=1)

    def __call__(self, time, y, u):
        return y * (1 - y)

    def exact(self, time, start):
        return 1 / (1 + (1 / start - 1) * np.exp(-time))


class Forced(odernn.AbstractField):
    """h' = -2 s h: depends on time, with a known solution."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=1)

    def __call__(self, time, y, u):
        return -2 * time * y

    def exact(self, time, start):
        return start * np.exp(-(time**2))


_START = np.array([0.1, 0.3, 0.6, 0.9, 1.7])
_GENERAL = [name for name, method in cases.METHODS.items() if cases.fits(Logistic(), method)]
_FIFTH = ["dormandprince5", "tsit5"]


def _error(field, method, steps):
    """Root mean square over a unit of time and five starting points."""
    field = type(field)(5, 5)
    layer = odernn.Layer(odernn.Cell(field, method, 1 / steps), odernn.Scan())
    hs, _ = layer(jnp.zeros((steps, 5)), initial_state=jnp.asarray(_START))
    times = np.arange(1, steps + 1)[:, None] / steps
    return np.sqrt(np.mean((hs - field.exact(times, _START)) ** 2))


@pytest.mark.parametrize("field", [Logistic(), Forced()], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("name", [name for name in _GENERAL if name not in _FIFTH])
def test_order_of_accuracy_as_measured(name, field):
    method = cases.METHODS[name]
    if name == "adaptive":
        assert _error(field, method, 4) < 1e-6
        return
    # Far enough for the leading term to rule, not so far that rounding does.
    multistep = isinstance(method, AbstractMultistep)
    steps = 200 if multistep else 32 if method.explicit else 16
    errors = [_error(field, method, count) for count in (steps, 2 * steps)]
    assert abs(np.log2(errors[0] / errors[1]) - method.order) < 0.2


class Split(odernn.AbstractSemilinearField):
    """y' = L y + sin(s + y) y reversed, for any operator L."""

    operator: odernn.AbstractOperator
    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=4)

    def linear(self):
        return self.operator

    def rest(self, time, y, u):
        return jnp.sin(time + y) * y[::-1]

    def __call__(self, time, y, u):
        return self.operator.apply(y) + self.rest(time, y, u)


class Pendulum(odernn.AbstractPartitionedField):
    """A driven pendulum."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=3)
    blocks = ("q", "p")
    update_order = ("p", "q")
    depths = {"q": 0, "p": 1}

    def rate(self, block, time, y, frozen):
        return y["p"] if block == "q" else -jnp.sin(y["q"]) + 0.3 * jnp.cos(time)


class NonSeparable(odernn.AbstractPartitionedField):
    """H = (1 + q^2)(1 + p^2) / 2."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=3)
    blocks = ("q", "p")
    update_order = ("p", "q")
    depths = {"q": 0, "p": 0}

    def rate(self, block, time, y, frozen):
        q, p = y["q"], y["p"]
        return p * (1 + q**2) if block == "q" else -q * (1 + p**2)


class Turning(odernn.AbstractLieField):
    """A rotation in space whose axis depends on time or on the state."""

    by_state: bool = eqx.field(static=True)
    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=3)

    def generator(self, time, y, u):
        if self.by_state:
            axis = jnp.stack([y[0], y[1] / 2, jnp.sin(y[2])])
        else:
            time = jnp.asarray(time, y.dtype)
            axis = jnp.stack([jnp.cos(time), jnp.sin(2 * time), jnp.ones_like(time)])
        cross = [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]]]
        cross.append([[0, -1, 0], [1, 0, 0], [0, 0, 0]])
        return jnp.einsum("k,kij->ij", axis, jnp.asarray(cross, axis.dtype))

    def exponential(self, element, y):
        return jax.scipy.linalg.expm(element) @ y

    def product(self, element, y):
        return element @ y


class Duffing(odernn.AbstractSemilinearField):
    """q' = p, p' = -q - 0.3 q^3: a rotation and a spring that stiffens."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=2)

    def linear(self):
        return odernn.Skew(jnp.array([[0.0, -1.0], [0.0, 0.0]]))

    def rest(self, time, y, u):
        return jnp.stack([jnp.zeros_like(y[0]), -0.3 * y[0] ** 3])

    def __call__(self, time, y, u):
        return self.linear().apply(y) + self.rest(time, y, u)


_MATRIX = np.random.default_rng(3).normal(size=(4, 4))
SPLIT_FIELDS = {
    "diagonal": Split(odernn.Diagonal(jnp.array([-1.0, -2.0, 0.0, -0.5]))),
    "number": Split(odernn.Diagonal(-1.0)),
    "skew": Split(odernn.Skew(jnp.asarray(_MATRIX))),
    "dense": Split(odernn.Dense(jnp.asarray(_MATRIX))),
}
SPLIT_START = jnp.array([0.1, 0.5, -0.3, 1.0])
BLOCK_START = {"q": jnp.array([0.1, 0.5, 1.0]), "p": jnp.array([0.3, -0.2, 0.4])}
LIE_START = jnp.array([0.3, 0.8, -0.52])


def _slope(field, method, start, steps):
    """Order as measured against a fine run of another method."""

    def end(method, count):
        layer = odernn.Layer(odernn.Cell(field, method, 1 / count), odernn.Scan())
        last = method.current(layer(jnp.zeros((count, 1)), initial_state=start)[1])
        return np.concatenate([np.ravel(a) for a in jax.tree.leaves(last)])

    exact = end(odernn.DormandPrince5(), 1000)
    errors = [np.linalg.norm(end(method, count) - exact) for count in (steps, 2 * steps)]
    return np.log2(errors[0] / errors[1])


_SPLITTING = ("imexeuler", "ars222", "ark3", "etd1", "etdrk2", "etdrk4", "lawson4")


@pytest.mark.parametrize("name", _FIFTH)
@pytest.mark.parametrize("steps", [16, 24])
def test_order_five(name, steps):
    """On the problems above the leading error is so small that rounding comes before the slope."""
    assert abs(_slope(Pendulum(), cases.METHODS[name], BLOCK_START, steps) - 5) < 0.2


@pytest.mark.parametrize("kind", SPLIT_FIELDS)
@pytest.mark.parametrize("name", [*_SPLITTING, "lietrotter", "strang"])
def test_order_on_split_fields(name, kind):
    method = cases.METHODS[name]
    slope = _slope(SPLIT_FIELDS[kind], method, SPLIT_START, 32)
    assert abs(slope - method.order) < 0.2


@pytest.mark.parametrize("order", [("p", "q"), ("q", "p")])
@pytest.mark.parametrize("field", [Pendulum(), NonSeparable()], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize(
    "name", ["gaussseideleuler", "symplecticeuler", "stormerverlet", "yoshida4"]
)
def test_order_on_partitioned_fields(name, field, order):
    method = type(cases.METHODS[name])(order)
    assert abs(_slope(field, method, BLOCK_START, 32) - method.order) < 0.2


@pytest.mark.parametrize("by_state", [False, True])
@pytest.mark.parametrize("kind", [odernn.CrouchGrossman, odernn.CommutatorFree])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_order_of_lie_group_methods(kind, order, by_state):
    method = kind(order)
    # Necessary conditions: those of the method for commuting generators.
    assert method.tableau.order >= order
    assert abs(_slope(Turning(by_state), method, LIE_START, 16) - order) < 0.2


@pytest.mark.parametrize("kind", [odernn.CrouchGrossman, odernn.CommutatorFree])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lie_group_methods_keep_the_norm(kind, order):
    cell = odernn.Cell(Turning(True), kind(order), 0.3)
    hs, _ = odernn.Layer(cell, odernn.Scan())(jnp.zeros((10_000, 1)), initial_state=LIE_START)
    norms = np.linalg.norm(hs, axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(LIE_START), rtol=0, atol=1e-12)


_SYMPLECTIC = [
    name
    for name, method in cases.METHODS.items()
    if method.symplectic and cases.fits(NonSeparable(), method)
]


def test_there_are_symplectic_methods():
    assert {"stormerverlet", "yoshida4", "symplecticeuler", "gauss2", "implicitmidpoint"} <= set(
        _SYMPLECTIC
    )


@pytest.mark.parametrize(
    "field", [Pendulum(1, 1), NonSeparable(1, 1)], ids=lambda f: type(f).__name__
)
@pytest.mark.parametrize("name", _SYMPLECTIC)
def test_symplectic_form_is_kept(name, field):
    def step(v):
        y = cases.METHODS[name].step(field, 0.1, {"q": v[:1], "p": v[1:]}, jnp.zeros(1), 0.2)
        return jnp.concatenate([y["q"], y["p"]])

    jacobian = jax.jacfwd(step)(jnp.array([0.4, 0.7]))
    form = np.array([[0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(jacobian.T @ form @ jacobian, form, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", _SYMPLECTIC)
def test_energy_error_stays_bounded(name):
    field, method = NonSeparable(1, 1), cases.METHODS[name]
    start = {"q": jnp.array([0.5]), "p": jnp.array([0.4])}

    def energy(y):
        return (1 + y["q"][0] ** 2) * (1 + y["p"][0] ** 2) / 2

    @jax.jit
    def run(y):
        def body(y, _):
            y = method.step(field, 0.0, y, jnp.zeros(1), 0.1)
            return y, energy(y)

        return jax.lax.scan(body, y, None, length=100_000)[1]

    error = np.abs(np.asarray(run(start)) - float(energy(start)))
    assert error.max() < 0.05
    # No drift: the last tenth is as good as the first.
    assert error[-10_000:].max() < 1.1 * error[:10_000].max() + 1e-9


_CONSERVATIVE = {
    **dict.fromkeys(["symplecticeuler", "stormerverlet", "yoshida4"], NonSeparable()),
    **dict.fromkeys(["implicitmidpoint", "trapezoid", "gauss2", "gauss3"], NonSeparable()),
    **dict.fromkeys(["gaussseideleuler", "leapfrog", "reversiblerk4"], Pendulum()),
    **{f"crouchgrossman{k}": Turning(False) for k in (1, 2, 3, 4)},
    **{f"commutatorfree{k}": Turning(False) for k in (1, 2, 3, 4)},
    **dict.fromkeys(["lietrotter", "strang"], Duffing()),
}


def test_all_reversible_methods_are_undone_below():
    assert {name for name, m in cases.METHODS.items() if m.reversible} == set(_CONSERVATIVE)


@pytest.mark.parametrize("name", _CONSERVATIVE)
def test_steps_are_undone(name):
    field, method, start = _CONSERVATIVE[name], cases.METHODS[name], BLOCK_START
    if name in ("lietrotter", "strang"):
        # What has no exact flow is followed by a method that can be undone.
        method, start = type(method)({"rest": odernn.ImplicitMidpoint()}), jnp.array([0.6, 0.4])
    elif isinstance(field, Turning):
        start = LIE_START
    cell = odernn.Cell(field, method, 0.05)
    start = cell.start(start)
    x = cell.drive(jnp.zeros(1))

    @jax.jit
    def there_and_back(state):
        def ahead(state, k):
            return cell.step(state, x, elapsed=k), None

        def back(state, k):
            return cell.inverse(state, x, elapsed=k), None

        count = jnp.arange(1000.0)
        end, _ = jax.lax.scan(ahead, state, count)
        return end, jax.lax.scan(back, end, count, reverse=True)[0]

    end, again = there_and_back(start)
    pairs = list(zip(jax.tree.leaves(start), jax.tree.leaves(again), strict=True))
    assert max(np.abs(a - b).max() for a, b in pairs) < 1e-9
    moved = zip(jax.tree.leaves(start), jax.tree.leaves(end), strict=True)
    assert max(np.abs(a - b).max() for a, b in moved) > 0.1


@pytest.mark.parametrize(
    "interpolation", [odernn.HeldInput(), odernn.LinearInput(), odernn.CubicInput()]
)
@pytest.mark.parametrize("irregular", [False, True])
def test_interpolated_inputs_allow_their_order(interpolation, irregular):
    class Follow(odernn.AbstractField):
        input_size: int = eqx.field(static=True, default=1)
        hidden_size: int = eqx.field(static=True, default=1)

        def __call__(self, time, y, u):
            return u - y

    def error(count):
        stamps = np.linspace(0, 3, count + 1)
        if irregular:
            stamps = stamps + 0.3 / count * np.sin(40 * stamps) * (stamps > 0)
        steps = np.diff(stamps) * count / 3
        cell = odernn.Cell(Follow(), odernn.RK4(), 3 / count, interpolation)
        past = stamps[1] - np.arange(interpolation.samples - 1, 0, -1) * (stamps[1] - stamps[0])
        times = np.concatenate([[0.0], np.cumsum(steps)])
        hs, _ = odernn.Layer(cell, odernn.Scan())(
            jnp.sin(stamps[1:])[:, None],
            times=jnp.asarray(times) if irregular else None,
            past=jnp.sin(past)[:, None],
        )
        exact = (np.sin(stamps[1:]) - np.cos(stamps[1:]) + np.exp(-stamps[1:])) / 2
        return np.sqrt(np.mean((hs[:, 0] - exact) ** 2))

    slope = np.log2(error(64) / error(128))
    assert slope > interpolation.order - 0.3
    assert slope < interpolation.order + 0.6


@pytest.mark.parametrize(
    ("tableau", "order"),
    [
        (KUTTA3, 3),
        (ButcherTableau([[]], [1]), 1),
        # Dormand-Prince 5: order exactly five by all seventeen conditions.
        (
            ButcherTableau(
                [
                    [],
                    ["1/5"],
                    ["3/40", "9/40"],
                    ["44/45", "-56/15", "32/9"],
                    ["19372/6561", "-25360/2187", "64448/6561", "-212/729"],
                    ["9017/3168", "-355/33", "46732/5247", "49/176", "-5103/18656"],
                ],
                ["35/384", 0, "500/1113", "125/192", "-2187/6784", "11/84"],
            ),
            5,
        ),
        (ButcherTableau([["1/2"]], [1]), 2),  # implicit midpoint
    ],
)
def test_order_of_accuracy_from_the_order_conditions(tableau, order):
    assert tableau.order == order


def test_number_of_rooted_trees():
    from odernn._tableau import _trees

    assert [len(_trees(size)) for size in range(1, 6)] == [1, 1, 2, 4, 9]


def test_tableau_keeps_fractions_exact():
    assert KUTTA3.c == (0, Fraction(1, 2), 1)
    assert KUTTA3.explicit and not ButcherTableau([["1/2"]], [1]).explicit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[], [1]], [1]), "a has 2 rows but b has 1"),
        (([[]], []), "b is empty"),
        (([[]], ["1/2"]), "b sums to 1/2"),
        (([[1, 2]], [1]), "row 0 of a has 2 entries"),
        (([[], ["1/2"]], [0, 1], [0, "1/3"]), "contradicts the row sums"),
        (([[], ["half"]], [0, 1]), "entry 'half'"),
        (([[]], [float("nan")]), "entry nan"),
    ],
)
def test_wrong_tableaux_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        ButcherTableau(*arguments)


def test_implicit_tableau_is_refused():
    with pytest.raises(InputError, match="implicit"):
        odernn.RungeKutta(ButcherTableau([["1/2"]], [1]))


@pytest.mark.parametrize(
    ("method", "solver"),
    [
        (odernn.Euler(), diffrax.Euler()),
        (odernn.Midpoint(), diffrax.Midpoint()),
        (odernn.Heun(), diffrax.Heun()),
    ],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.parametrize("name", ["Leaky", "Oscillator", "Gated", "LSTM"])
def test_steps_agree_with_diffrax(name, method, solver, key, rng):
    field = cases.FIELDS[name](key)
    cell = odernn.Cell(field, method, dt=0.3)
    y = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), cell.initial_state())
    x = jnp.asarray(rng.normal(size=3))
    term = diffrax.ODETerm(field)
    u = field.drive(x)
    expected, *_ = solver.step(term, 0.0, 0.3, y, u, solver.init(term, 0.0, 0.3, y, u), False)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-14), cell(y, x), expected
    )


@pytest.mark.parametrize(("field", "method"), cases.MISFITS)
def test_a_method_that_does_not_fit_is_refused_by_name(field, method, key):
    field = cases.FIELDS[field](key)
    pattern = f"{type(cases.METHODS[method]).__name__} does not fit {type(field).__name__}.*take"
    with pytest.raises(InputError, match=pattern):
        odernn.Cell(field, cases.METHODS[method])


def test_there_are_misfits():
    assert ("Leaky", "gaussseideleuler") in cases.MISFITS


def test_update_order_is_data(key):
    field = cases.FIELDS["Oscillator"](key)
    y = {"h": jnp.ones(5), "v": -jnp.ones(5)}
    x = jnp.zeros(3)
    first = odernn.Cell(field, odernn.GaussSeidelEuler(("v", "h")), 0.1)(y, x)
    default = odernn.Cell(field, odernn.GaussSeidelEuler(), 0.1)(y, x)
    other = odernn.Cell(field, odernn.GaussSeidelEuler(("h", "v")), 0.1)(y, x)
    np.testing.assert_array_equal(first["h"], default["h"])
    np.testing.assert_allclose(other["h"], 1 - 0.1)  # with the old velocity
    assert np.abs(first["h"] - other["h"]).max() > 1e-3
    with pytest.raises(InputError, match="name each of them once"):
        odernn.Cell(field, odernn.GaussSeidelEuler(("v", "w")))


def test_nesting_counts_stages_times_depth(key):
    gru = cases.FIELDS["Gated"](key)
    assert odernn.Cell(gru, odernn.RK4()).n == 8
    # A stage that the result does not pass through does not nest.
    parallel = odernn.RungeKutta(ButcherTableau([[], [1], [1]], ["1/2", "1/4", "1/4"]))
    assert odernn.Cell(cases.FIELDS["Leaky"](key), parallel).n == 2


def test_cell_checks_its_parts(key):
    field = cases.FIELDS["Leaky"](key)
    with pytest.raises(InputError, match=r"call it: RK4\(\), not RK4"):
        odernn.Cell(field, odernn.RK4)
    with pytest.raises(InputError, match="takes an AbstractField"):
        odernn.Cell(odernn.RK4(), field)
    for dt in (0, -0.5, float("nan"), float("inf"), "fast", None):
        with pytest.raises(InputError, match="dt = "):
            odernn.Cell(field, odernn.Euler(), dt)
    with pytest.raises(InputError, match="initial = 0"):
        odernn.TrainedStep(0)
    with pytest.raises(InputError, match="a layer takes whole sequences"):
        odernn.Cell(field, odernn.Euler())(jnp.zeros(5), jnp.zeros((4, 3)))


@pytest.mark.parametrize(
    "make", [odernn.fields.Leaky, odernn.fields.LSTM, odernn.fields.Oscillator]
)
@pytest.mark.parametrize("size", [0, -1, 2.0, True])
def test_sizes_are_checked(make, size, key):
    with pytest.raises(InputError, match="hidden_size = "):
        make(3, size, key=key)


def test_unknown_activation_is_named(key):
    with pytest.raises(InputError, match="unknown activation 'tan': did you mean 'tanh'"):
        odernn.fields.Leaky(3, 4, activation="tan", key=key)
