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

from . import cases

KUTTA3 = ButcherTableau([[], ["1/2"], [-1, 2]], ["1/6", "2/3", "1/6"])
ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4, "gaussseideleuler": 1}


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


class Rotation(odernn.AbstractPartitionedField):
    """h' = v, v' = -h + h v - h v: a circle, written so that it is not separable."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=1)
    blocks = ("h", "v")
    update_order = ("v", "h")
    depths = {"h": 0, "v": 1}

    def rate(self, block, time, y, frozen):
        return y["v"] if block == "h" else -y["h"] + 0.0 * y["h"] * y["v"]


def _error(field, method, dt, span=1.0):
    cell = odernn.Cell(field, method, dt)
    y = jax.tree.map(lambda a: a + 0.3, cell.initial_state())
    start = 0.3
    for k in range(round(span / dt)):
        y = cell(y, jnp.zeros(1), elapsed=float(k))
    if isinstance(field, Rotation):
        return abs(float(y["h"][0]) - 0.3 * (np.cos(span) + np.sin(span)))
    return abs(float(y[0]) - field.exact(span, start))


@pytest.mark.parametrize(
    "field", [Logistic(), Forced(), Rotation()], ids=lambda f: type(f).__name__
)
@pytest.mark.parametrize("name", cases.METHODS)
def test_order_of_accuracy_as_measured(name, field):
    method = cases.METHODS[name]
    assert method.order == ORDERS[name]
    if not cases.fits(field, method):
        field = Rotation()
    errors = [_error(field, method, 1 / steps) for steps in (32, 64)]
    slope = np.log2(errors[0] / errors[1])
    assert abs(slope - method.order) < 0.2


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
