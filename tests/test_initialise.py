"""Initial values by design: gradients reach the horizon, in every network of the zoo."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import InputError, zoo
from odernn.analysis import advise, diagnose, initialise
from odernn.zoo._network import size_for
from tests.cases import as_precision

# Networks that no single change brings to a horizon of 100 steps, with the reason.
BOUNDED = {"cfcpure": "the derivative of its step is at most that of `limit` times two layers"}


def made(name, key, units=8):
    network = zoo.CELLS[name]
    return network(2, size_for(network.field, units), key=key)


def noise(key, steps):
    return jax.random.normal(key, (2, steps, 2))


@pytest.mark.parametrize("name", zoo.CELLS)
def test_every_network_reaches_the_horizon_or_says_that_it_does_not(name, key):
    cell = made(name, key)
    found = initialise(cell, 100, key=key)
    if name in BOUNDED:
        assert not found.solved and found.reason.startswith("no freedom: tried initialisation, dt")
        assert found.before < found.gradient < 0.1
        return
    assert found.solved and 0.1 <= found.gradient <= 10 and found.reason == ""
    assert found.horizon == 100
    if found.freedom is None:
        assert found.cell is cell and found.before == found.gradient and found.change == ""
    else:
        assert not 0.1 <= found.before <= 10 and found.change in str(found)


@pytest.mark.parametrize("name", ["rnn", "lstm", "lem", "cornn", "lmu"])
@pytest.mark.parametrize("horizon", [10, 1000])
def test_short_and_long_horizons(name, horizon, key):
    found = initialise(made(name, key), horizon, key=key)
    assert found.solved and 0.1 <= found.gradient <= 10


@pytest.mark.parametrize(
    ("name", "freedom", "changed"),
    [
        ("lstm", "time scale", {"bias"}),
        ("ctrnn", "initialisation", {"weight"}),
        ("scrn", "time scale", {"alpha"}),
        ("lru", "time scale", {"nu"}),
        ("indrnn", "dt", set()),
    ],
)
def test_it_is_what_a_diagnosis_measures_and_nothing_else_is_changed(name, freedom, changed, key):
    cell, xs = made(name, key), noise(key, 110)
    found = initialise(cell, 100, xs, key=key)
    assert found.freedom == freedom
    after = diagnose(found.cell, xs, horizon=100, key=key, advice=False, fixed_points=False)
    assert after.wanted_gradient == pytest.approx(found.gradient, rel=1e-6)
    assert after.horizon == found.horizon
    names = list(vars(cell.field))
    same = {
        n for n in names if eqx.tree_equal(getattr(cell.field, n), getattr(found.cell.field, n))
    }
    assert set(names) - same == changed
    assert (found.cell.dt != cell.dt) == (freedom == "dt")


def test_advice_is_all_that_solves_it_in_the_same_order(key):
    cell, xs = made("cornn", key), noise(key, 100)
    found, all_found = initialise(cell, 100, xs, key=key), advise(cell, xs, key=key)
    assert all_found[0].change == found.change and all_found[0].gradient == found.gradient
    kinds = [one.kind for one in all_found]
    order = ["initialisation", "damping", "dt"]
    assert sorted(set(kinds), key=kinds.index) == order and all(one.solved for one in all_found)
    epsilon = next(one.cell.field.epsilon for one in all_found if "epsilon" in one.change)
    assert 0 <= epsilon < cell.field.epsilon


def test_gates_are_spread_evenly_over_the_time_scales(key):
    cell = zoo.LSTM(2, 16, key=key)
    found = initialise(cell, 200, key=key)
    before, after = (np.split(np.asarray(c.field.bias), 4) for c in (cell, found.cell))
    for gate in (0, 2, 3):
        np.testing.assert_array_equal(before[gate], after[gate])
    # A forget gate keeps 1 - rate of the memory.
    slower = np.log(1 / (1 + np.exp(before[1]))) - np.log(1 / (1 + np.exp(after[1])))
    assert np.all(slower > 0)
    np.testing.assert_allclose(np.diff(slower), slower[0], rtol=0.1)
    slowest = 1 + math.exp(after[1].max())
    assert found.change == f"bias for time constants up to {slowest:.3g} steps"
    assert 50 < slowest < 2000


class Relaxing(odernn.AbstractRelaxationField):
    """``h' = b - exp(-longer).h``: what it calls its time scale is its own business."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    shift: jax.Array
    longer: jax.Array

    def relaxation(self, time, y, u):
        return jnp.exp(-self.longer), self.shift + jnp.sum(u)

    def __call__(self, time, y, u):
        rate, drive = self.relaxation(time, y, u)
        return drive - rate * y


def test_the_time_scales_of_a_new_field_are_found(key):
    cell = odernn.Cell(Relaxing(2, 6, jnp.ones(6), jnp.zeros(6)), odernn.FusedEuler(), 1.0)
    found = initialise(cell, 100, key=key)
    assert found.solved and found.change.startswith("longer for time constants up to ")
    np.testing.assert_array_equal(found.cell.field.shift, cell.field.shift)
    # Of this field the path is a straight line.
    longer = np.asarray(found.cell.field.longer)
    np.testing.assert_allclose(longer, longer[-1] * np.arange(1, 7) / 6, rtol=1e-6)


def test_the_same_key_gives_the_same_weights(key):
    cell = zoo.CTRNN(2, 8, key=key)
    one, two = (initialise(cell, 100, key=jax.random.key(1)) for _ in range(2))
    assert eqx.tree_equal(one.cell, two.cell) and one.gradient == two.gradient
    other = initialise(cell, 100, key=jax.random.key(2))
    assert not eqx.tree_equal(one.cell, other.cell)


class Counted(odernn.AbstractField):
    """``h' = strength tanh(h) - gamma h``; counts how often it is traced."""

    traced = []

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=3)
    strength: float = eqx.field(static=True, default=0.0)
    gamma: float = eqx.field(static=True, default=1.0)

    def __call__(self, time, y, u):
        self.traced.append(self.gamma)
        return self.strength * jnp.tanh(y) - self.gamma * y


def test_values_of_a_number_and_of_the_step_size_are_compiled_once(key):
    def cell(gamma, dt):
        return odernn.Cell(Counted(gamma=gamma), odernn.Euler(), dt)

    found = initialise(cell(1.0, 0.5), 50, key=key)
    assert found.freedom == "damping" and found.solved
    count = len(Counted.traced)
    initialise(cell(1.7, 0.2), 50, key=key)
    initialise(found.cell, 50, key=key)
    assert len(Counted.traced) == count


class Computing(Counted):
    """A field that computes with its number in Python."""

    def __call__(self, time, y, u):
        return -math.sqrt(self.gamma) * y


def test_a_number_that_cannot_be_traced_is_searched_all_the_same(key):
    found = initialise(odernn.Cell(Computing(gamma=4.0), odernn.Euler(), 0.1), 20, key=key)
    assert found.freedom == "damping" and found.solved
    gamma = found.cell.field.gamma
    assert found.gradient == pytest.approx((1 - 0.1 * math.sqrt(gamma)) ** 20)


def test_growth_is_damped(key):
    field = Counted(gamma=0.0, strength=1.0)
    found = initialise(odernn.Cell(field, odernn.Euler(), 0.1), 50, key=key)
    assert found.before > 10 and found.solved and found.freedom == "damping"
    assert found.gradient == pytest.approx((1 + 0.1 * (1 - found.cell.field.gamma)) ** 50)


@pytest.mark.parametrize("name", ["lstm", "ctrnn", "scrn"])
def test_single_precision_stays(name, key):
    found = initialise(as_precision(made(name, key), jnp.float32), 100, key=key)
    assert found.solved and found.freedom is not None
    arrays = jax.tree.leaves(eqx.filter(found.cell, eqx.is_array))
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


def test_of_a_layer_its_direction_its_start_and_its_trained_step_are_kept(key):
    cell = zoo.IndRNN(2, 4, dt=odernn.TrainedStep(1.0), key=key)
    layer = odernn.Layer(cell, initial_state=jnp.ones(4), reverse=True)
    found = initialise(layer, 40, noise(key, 40), key=key)
    assert found.freedom == "dt" and isinstance(found.cell.dt, odernn.TrainedStep)
    changed = odernn.Layer(found.cell, initial_state=jnp.ones(4), reverse=True)
    after = diagnose(changed, noise(key, 40), key=key, advice=False, fixed_points=False)
    assert after.wanted_gradient == pytest.approx(found.gradient, rel=1e-6)


def test_kappa_is_how_near_to_one(key):
    cell = zoo.GRU(2, 8, key=key)
    near, far = (initialise(cell, 100, kappa=kappa, key=key) for kappa in (3.0, 100.0))
    assert 1 / 3 <= near.gradient <= 3 and far.gradient < near.gradient


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0}, "horizon = 0: give a whole number of steps of at least 1"),
        ({"horizon": 2.5}, "horizon = 2.5: give a whole number"),
        ({"horizon": True}, "horizon = True: give a whole number"),
        ({"horizon": None}, "horizon = None: give a whole number"),
        ({"cell": jnp.tanh}, "cell is a .*: give a Cell or a Layer"),
        ({"xs": np.zeros((9, 2))}, "horizon = 10 but xs has 9 steps: give inputs as long as"),
        ({"xs": np.zeros((10, 3))}, r"xs has the shape \(10, 3\)"),
        ({"kappa": 1.0}, "kappa = 1.0: give a tolerance above 1"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    cell = zoo.RNN(2, 3, key=jax.random.key(0))
    with pytest.raises(InputError, match=message):
        initialise(**{"cell": cell, "horizon": 10, **arguments})
