"""Measurements of recurrent networks against values that are known, and advice that is tried."""

import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import odernn
from odernn import InputError
from odernn.analysis import _diagnose
from odernn.analysis._advice import advise
from odernn.analysis._diagnose import diagnose, quick_diagnosis
from odernn.analysis._fixed_points import find_fixed_points
from odernn.analysis._measure import directions, saturation, take
from tests.cases import as_precision

PLAIN: dict = {"advice": False, "fixed_points": False}


class Growing(odernn.AbstractField):
    """``y' = -x y``: the input says how fast each unit grows or falls."""

    input_size: int = eqx.field(static=True, default=2)
    hidden_size: int = eqx.field(static=True, default=2)

    def __call__(self, time, y, u):
        return -u * y


def turning(size, factor, rng):
    """A step that turns the state and scales it."""
    matrix = factor * np.linalg.qr(rng.normal(size=(size, size)))[0]
    return lambda y, x: jnp.asarray(matrix, y.dtype) @ y + jnp.zeros((), y.dtype) * x[0]


# --- Gradients, norms, spectra -------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 40])  # Jacobians are formed; probes
def test_of_a_linear_network_all_that_is_measured_is_known(rng, size):
    factor, steps = 0.9, 60
    xs = rng.normal(size=(2, steps, 1))
    found = diagnose(turning(size, factor, rng), xs, y=jnp.ones(size), horizon=30)
    powers = factor ** np.arange(1.0, steps + 1)
    np.testing.assert_array_equal(found.lags, np.arange(1, steps + 1))
    for gradient in (found.gradient, found.gradient_low, found.gradient_high):
        np.testing.assert_allclose(gradient, powers, rtol=1e-10)
    np.testing.assert_allclose(found.norms, np.full((2, steps), factor), rtol=1e-10)
    np.testing.assert_allclose(np.abs(found.eigenvalues), factor, rtol=1e-9)
    np.testing.assert_allclose(found.lyapunov, math.log(factor), rtol=1e-10)
    assert found.lyapunov.shape == (min(size, 8),)
    # 0.9**21 = 0.109 and 0.9**22 = 0.098.
    assert (found.horizon, found.horizon_is_bound, found.wanted) == (21, False, 30)
    assert found.wanted_gradient == pytest.approx(factor**30)
    assert found.size == size and found.steps == steps and found.finite
    assert found.field_eigenvalues is None and found.outside is None and found.advice == ()
    assert [p.stable for p in found.fixed_points] == [True]


@pytest.mark.parametrize("size", [2, 40])
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_gradients_too_small_or_large_for_a_float_are_kept_as_logarithms(rng, size, factor):
    def step(y, x):
        return jnp.float32(factor) * (y - jax.lax.stop_gradient(y)) + jnp.ones_like(y)

    start = jnp.ones(size, jnp.float32)
    found = diagnose(step, rng.normal(size=(150, 1)), y=start, **PLAIN)
    expected = math.log(factor) * np.arange(1, 151)
    np.testing.assert_allclose(found.log_gradient, expected, rtol=1e-5)
    assert found.gradient[-1] in (0.0, math.inf) and found.horizon == 0
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["steps"] == 150


def test_probes_agree_with_jacobians_that_are_formed(key, rng, monkeypatch):
    cell = odernn.zoo.GRU(2, 12, key=key)
    xs = rng.normal(size=(3, 40, 2))
    formed = diagnose(cell, xs, **PLAIN)
    monkeypatch.setattr(_diagnose, "DENSE", 0)
    probed = diagnose(cell, xs, **PLAIN)
    for name in ("gradient", "gradient_low", "gradient_high"):
        np.testing.assert_allclose(getattr(probed, name), getattr(formed, name), rtol=1e-9)
    ratio = probed.norms / formed.norms
    assert ratio.min() > 0.95 and ratio.max() < 1 + 1e-9
    np.testing.assert_allclose(probed.lyapunov[:3], formed.lyapunov[:3], atol=0.02)
    np.testing.assert_allclose(probed.eigenvalues, formed.eigenvalues, atol=1e-9)


def test_the_gradient_is_that_of_a_plain_loop(key, rng):
    cell = odernn.zoo.RNN(2, 6, key=key)
    xs = rng.normal(size=(30, 2))
    found = diagnose(cell, xs, key=key, **PLAIN)
    for lag in (12, 30):
        assert found.gradient[lag - 1] == pytest.approx(end_gradient(cell, xs, lag, key))


def test_a_gradient_in_the_band_at_the_last_lag_is_a_bound_of_the_horizon(rng):
    found = diagnose(turning(3, 0.99, rng), rng.normal(size=(50, 1)), y=jnp.ones(3), **PLAIN)
    assert found.horizon == 50 and found.horizon_is_bound
    assert "at least 50 steps" in str(found)


@pytest.mark.parametrize(
    "cell",
    [
        lambda key: odernn.zoo.LRU(2, 4, key=key),
        lambda key: odernn.replace(
            odernn.zoo.CTRNN(2, 4, key=key), method=odernn.AdamsBashforth(2)
        ),
        lambda key: odernn.replace(
            odernn.zoo.coRNN(2, 4, key=key), interpolation=odernn.LinearInput()
        ),
    ],
    ids=["complex", "multistep", "interpolated"],
)
def test_every_kind_of_state_is_one_real_vector(cell, key, rng):
    cell, xs = cell(key), rng.normal(size=(2, 20, 2))
    found = diagnose(cell, xs, **PLAIN)
    assert found.size == 8 and found.finite and np.isfinite(found.log_gradient).all()
    hs, _ = odernn.Layer(cell)(jnp.asarray(xs[1]))
    np.testing.assert_allclose(found.trajectory[1], hs, atol=1e-12)
    # A step count or the length of a step would be an eigenvalue of one or more.
    assert np.abs(found.eigenvalues).max() < 1
    assert (found.field_eigenvalues is None) == (found.name.startswith("LRU"))


class Clock(odernn.AbstractField):
    """``y' = -s y`` falls faster and faster."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=1)

    def __call__(self, time, y, u):
        return -time * y


def test_a_field_knows_the_time_and_a_reversed_layer_its_direction(key, rng):
    layer = odernn.Layer(odernn.Cell(Clock(), odernn.Euler(), 0.1), initial_state=jnp.ones(1))
    found = diagnose(layer, np.zeros((6, 1)), **PLAIN)
    factors = 1 - 0.01 * np.arange(6)
    np.testing.assert_allclose(found.norms[0], factors)
    np.testing.assert_allclose(found.gradient, np.cumprod(factors[::-1]))
    backward = odernn.Layer(odernn.zoo.RNN(2, 3, key=key), reverse=True)
    xs = rng.normal(size=(9, 2))
    np.testing.assert_allclose(
        diagnose(backward, xs, **PLAIN).trajectory[0], backward(jnp.asarray(xs))[0], atol=1e-12
    )


def test_single_precision(key, rng):
    cell = as_precision(odernn.zoo.LSTM(2, 4, key=key), jnp.float32)
    found = diagnose(cell, rng.normal(size=(12, 2)), **PLAIN)
    assert found.trajectory.dtype == np.float32 and found.finite


# --- Stability region, saturation, fixed points --------------------------------------------------


@pytest.mark.parametrize(
    ("method", "expected"), [(odernn.Euler(), 0.5), (odernn.RK4(), 0.0), (odernn.ETD1(), None)]
)
def test_the_share_of_steps_outside_the_stability_region(method, expected):
    # Eigenvalues -dt x: -1.25 and, at every other step, -2.5, beyond Euler's -2.
    xs = np.where(np.arange(16)[:, None] % 2 == 0, [[2.5, 2.5]], [[2.5, 5.0]])
    if expected is None:
        cell = odernn.Cell(odernn.fields.Leaky(2, 2, key=jax.random.key(0)), method, 0.5)
    else:
        cell = odernn.Cell(Growing(), method, 0.5)
    found = diagnose(cell, xs, y=jnp.ones(2), **PLAIN)
    assert found.outside == expected
    if expected is not None:
        assert sorted(set(found.field_eigenvalues.real.round(9))) == [-2.5, -1.25]
        assert "no certificate" in found.described()["stability region"]


def saturated(function, *arguments):
    recurrence, y = take(function, arguments[0])
    shares = saturation(recurrence, *recurrence.layout.split(y), arguments[1])
    return {name: float(share) for name, share in shares.items()}


def test_saturation_of_inputs_that_are_made_for_it():
    def step(y, x):
        return jnp.tanh(y) + jax.nn.sigmoid(y) + jax.nn.relu(y - 2.5) + jnp.tanh(jnp.ones(4))

    # tanh: 1 - tanh^2 < 0.05 beyond 2.18; logistic: 4 s (1 - s) < 0.05 beyond 4.36.
    found = saturated(step, jnp.array([-5.0, 2.1, 2.3, 4.3]), jnp.zeros(1))
    assert found == {"tanh": 0.75, "logistic": 0.25, "relu": 0.75}


def test_logistic_gates_that_are_computed_by_tanh_count_as_logistic():
    def step(y, x):
        i, f, g, o = odernn.fields._activation.gates(y, "ssts")
        return jnp.concatenate([i, f, g, o]) + odernn.fields._activation.sigmoid(x)

    y = jnp.array([9.0, 0.0, 0.0, 0.0, 3.0, 0.0, 3.0, 0.0])
    found = saturated(step, y, jnp.zeros(()))
    assert found == pytest.approx({"tanh": 0.5, "logistic": 1 / 7})


def test_saturation_of_a_network_whose_forget_gates_are_open(key, rng):
    cell = odernn.zoo.LSTM(2, 5, key=key)
    bias = cell.field.bias.at[5:10].set(20.0)
    cell = eqx.tree_at(lambda c: c.field.bias, cell, bias)
    found = diagnose(cell, rng.normal(size=(20, 2)), **PLAIN)
    # One gate of three; tanh of the candidate and of the memory.
    assert found.saturation["logistic"] == pytest.approx(1 / 3)
    assert set(found.saturation) == {"logistic", "tanh"}


def test_the_three_fixed_points_of_a_unit_with_gain_two():
    starts = jnp.linspace(-3, 3, 12)[:, None]
    found = find_fixed_points(lambda y, x: jnp.tanh(2 * y), None, starts)
    root = 0.957504024079  # y = tanh(2 y)
    np.testing.assert_allclose(
        sorted(float(p.state[0]) for p in found), [-root, 0, root], atol=1e-9
    )
    assert [p.stable for p in found] == [True, True, False]
    np.testing.assert_allclose(
        [p.eigenvalues[0].real for p in found], [2 * (1 - root**2)] * 2 + [2], atol=1e-9
    )
    assert max(p.residual for p in found) < 1e-11


@pytest.mark.parametrize("shift", [1.0, 1e-4])
def test_a_point_that_is_only_slow_is_no_fixed_point(shift):
    # y + y^2 + shift has none, however slow it is at 0.
    found = find_fixed_points(lambda y, x: y + y**2 + shift, None, jnp.linspace(-1, 1, 9)[:, None])
    assert found == ()


def test_fixed_points_of_a_cell_under_an_input(key):
    cell = odernn.zoo.LSTM(2, 3, key=key)
    starts = {name: jnp.zeros((2, 3)) for name in ("h", "c")}
    (point,) = find_fixed_points(cell, jnp.ones(2), starts)
    state = jax.tree.map(jnp.asarray, point.state)
    after = cell(state, jnp.ones(2))
    np.testing.assert_allclose(after["c"], state["c"], atol=1e-11)
    assert point.eigenvalues.shape == (6,) and point.stable


def test_starts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="starts is empty: give at least one state"):
        find_fixed_points(jnp.tanh, None, jnp.zeros((0, 2)))
    with pytest.raises(InputError, match="starts holds no stacked states"):
        find_fixed_points(jnp.tanh, None, jnp.zeros(()))


# --- Models, modules of other libraries, functions -----------------------------------------------


def test_every_layer_of_a_model_sees_what_the_layers_below_put_out(key, rng):
    a, b, c, d = jax.random.split(key, 4)
    both = odernn.Bidirectional(
        odernn.Layer(odernn.zoo.RNN(2, 3, key=a)), odernn.Layer(odernn.zoo.RNN(2, 4, key=b))
    )
    top = odernn.Layer(odernn.zoo.LRU(7, 5, key=c))
    model = odernn.Model([both, top], odernn.LastStep(5, 1, key=d))
    xs = rng.normal(size=(3, 15, 2))
    found = diagnose(model, xs, **PLAIN)
    assert list(found) == ["layers.0.forward", "layers.0.backward", "layers.1"]
    hs = jax.vmap(lambda x: both(x)[0])(jnp.asarray(xs))
    np.testing.assert_allclose(found["layers.0.backward"].trajectory, hs[..., 3:], atol=1e-12)
    seen = jax.vmap(lambda x: top(x)[0])(hs)
    np.testing.assert_allclose(found["layers.1"].trajectory, seen, atol=1e-12)
    assert found["layers.1"].name == "layers.1 (LRU + LieTrotter)"
    with pytest.raises(InputError, match="y: of a model or several layers"):
        diagnose(model, xs, y=jnp.zeros(3))


def test_a_torch_lstm_is_measured_through_its_import(seed, rng):
    torch.manual_seed(seed)
    module = torch.nn.LSTM(3, 4).double()
    xs = rng.normal(size=(25, 3))
    found = diagnose(odernn.interop.from_torch(module), xs, **PLAIN)
    with torch.no_grad():
        expected = module(torch.from_numpy(xs))[0].numpy()
    np.testing.assert_allclose(found.trajectory[0], expected, atol=1e-12)
    # The gradient of the last state, by PyTorch.
    y0 = torch.zeros(2, 4, dtype=torch.float64)

    def last(y):
        state = module(torch.from_numpy(xs), (y[1][None], y[0][None]))[1]
        return torch.cat([state[1][0], state[0][0]])

    matrix = torch.autograd.functional.jacobian(last, y0).numpy().reshape(8, 8)
    probes = np.asarray(directions(jax.random.key(0), (1, 8, 8), jnp.float64))[0]
    sizes = np.linalg.norm(probes @ matrix, axis=1)
    assert found.gradient[-1] == pytest.approx(np.exp(np.log(sizes).mean()))


def test_cells_of_equinox_and_functions_with_an_output(key, rng):
    cell, xs = eqx.nn.LSTMCell(2, 3, key=key), rng.normal(size=(10, 2))
    found = diagnose(cell, xs, **PLAIN)
    assert found.size == 6 and found.trajectory.shape == (1, 10, 3) and found.name == "LSTMCell"

    def step(y, x):
        h, count = y
        h = jnp.tanh(h + jnp.sum(x))
        return (h, count + 1), 2 * h

    found = diagnose(step, xs, y=(jnp.zeros(4), jnp.zeros((), jnp.int32)), **PLAIN)
    assert found.size == 4 and found.name == "step"
    assert found.trajectory[0, 0] == pytest.approx(np.full(4, 2 * np.tanh(xs[0].sum())))


# --- What breaks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("broken_at", [0, 5])
def test_nan_is_reported_and_the_steps_before_it_are_measured(rng, broken_at):
    xs = np.abs(rng.normal(size=(2, 12, 1))) + 1
    xs[1, broken_at] = -1
    found = diagnose(lambda y, x: 0.5 * y + jnp.sqrt(x[0]), xs, y=jnp.ones(2), **PLAIN)
    assert not found.finite and found.broken_at == broken_at and found.steps == broken_at
    assert f"NaN or infinity in step {broken_at}" in str(found)
    assert math.isnan(found.wanted_gradient) and not found.horizon_is_bound
    np.testing.assert_allclose(found.gradient, 0.5 ** np.arange(1.0, broken_at + 1))
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 11}, "horizon = 11 but 10 steps are measured"),
        ({"horizon": 0}, "horizon = 0: give a whole number of steps of at least 1"),
        ({"kappa": 1}, "kappa = 1: give a tolerance above 1"),
        ({"sequences": 0}, "sequences = 0: give a whole number of at least 1"),
        ({"steps": 2.5}, "steps = 2.5: give a whole number of at least 1"),
        (
            {"xs": np.zeros((10, 3))},
            r"xs has the shape \(10, 3\): give inputs of shape \(time, 2\)",
        ),
        ({"xs": np.zeros((0, 2))}, "with at least one step"),
        ({"step": odernn.Euler()}, "step is a Euler, which takes no step"),
        ({"step": jnp.tanh}, "y is missing: a function is measured from an example"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    cell = odernn.zoo.RNN(2, 3, key=jax.random.key(0))
    with pytest.raises(InputError, match=message):
        diagnose(**{"step": cell, "xs": np.zeros((10, 2)), **arguments})


def test_at_most_so_many_sequences_and_steps_and_progress_is_told(key, rng):
    told = []
    found = diagnose(
        odernn.zoo.RNN(2, 3, key=key),
        rng.normal(size=(5, 40, 2)),
        sequences=2,
        steps=10,
        **PLAIN,
        progress=lambda name, share: told.append(share),
    )
    assert found.norms.shape == (2, 10) and found.wanted == 10
    assert told == sorted(told) and told[-1] == 1.0


# --- Advice --------------------------------------------------------------------------------------


def end_gradient(cell, xs, horizon, key):
    """The mean gradient over the last steps, by autodiff of a plain loop."""

    def run(y, xs):
        return jax.lax.scan(lambda y, x: (cell(y, x), None), y, jnp.asarray(xs))[0]

    y = run(cell.initial_state(), xs[: len(xs) - horizon])
    matrix = np.asarray(jax.jit(jax.jacrev(lambda y: run(y, xs[len(xs) - horizon :])))(y))
    probes = np.asarray(directions(key, (1, min(8, len(y)), len(y)), jnp.float64))[0]
    return np.exp(np.log(np.linalg.norm(probes @ matrix, axis=1)).mean())


@pytest.mark.parametrize("gain", [2.5, 0.3], ids=["exploding", "forgetting"])
def test_advice_that_solves_it_solves_it(gain, key, rng):
    size, horizon = 16, 50
    cell = odernn.Cell(odernn.fields.Leaky(1, size, key=key), odernn.Euler(), 1.0)
    weight = jnp.asarray(gain * rng.normal(size=(size, size)) / math.sqrt(size))
    cell = eqx.tree_at(lambda c: c.field.weight, cell, weight)
    xs = 0.1 * rng.normal(size=(60, 1))
    found = advise(cell, xs, horizon, key=key)
    assert len(found) >= 2 and found[-1].kind in ("dt", "method")
    for advice in (found[0], found[-1]):
        gradient = end_gradient(advice.cell, xs, horizon, key)
        assert advice.gradient == pytest.approx(gradient, rel=1e-6)
        assert advice.solved and 0.1 <= gradient <= 10
    # Solved, nothing is left to advise.
    assert advise(found[0].cell, xs, horizon, key=key) == ()


def test_advice_for_an_lstm_is_its_forget_bias(key, rng):
    cell = odernn.zoo.LSTM(1, 8, key=key)
    xs = rng.normal(size=(2, 100, 1))
    found = diagnose(cell, xs, key=key, fixed_points=False)
    assert found.wanted_gradient < 0.1
    kinds = [(advice.kind, advice.solved) for advice in found.advice]
    assert ("time scale", True) in kinds
    best = next(advice for advice in found.advice if advice.kind == "time scale")
    again = diagnose(best.cell, xs, key=key, fixed_points=False)
    assert again.wanted_gradient == pytest.approx(best.gradient) and again.advice == ()
    assert best.change in str(found) and again.horizon == 100


class Jump(odernn.AbstractSplitField):
    """A step multiplies the state by ``kept + exp(-dt)/10``: no small one leaves it as it is."""

    kept: float = eqx.field(static=True, default=0.5)
    gain: float = eqx.field(static=True, default=0.1)
    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=2)

    parts = ("jump",)
    part_depths = {"jump": 0}

    def __call__(self, time, y, u):
        return -y

    def part(self, name, time, y, u):
        return -y

    def flow(self, name, time, y, u, dt):
        return (self.kept + self.gain * jnp.exp(-jnp.asarray(dt, y.dtype))) * y


def test_advice_that_does_not_suffice_is_not_called_a_solution(key):
    # Only dt is left to change, and with the smallest one 0.6 of the state is kept.
    cell = odernn.Cell(Jump(), odernn.LieTrotter(), 1.0)
    (advice,) = advise(cell, np.ones((40, 1)), key=key)
    kept = 0.5 + 0.1 * math.exp(-advice.cell.dt)
    assert advice.kind == "dt" and advice.gradient == pytest.approx(kept**40)
    assert not advice.solved and "does not solve it" in str(advice)
    # Where nothing helps, nothing is advised.
    assert advise(odernn.Cell(Jump(gain=0.0), odernn.LieTrotter()), np.ones((40, 1))) == ()


def test_damping_and_method_are_tried_where_there_are_such(key, rng):
    field = odernn.fields.Antisymmetric(1, 8, gamma=0.0, key=key)
    cell = odernn.Cell(field, odernn.Euler(), 0.25)
    found = advise(cell, 0.1 * rng.normal(size=(60, 1)), key=key)
    changes = {advice.kind: advice for advice in found if advice.solved}
    assert changes["damping"].cell.field.gamma > 0
    assert "gamma = " in changes["damping"].change


def test_advice_is_for_cells(rng):
    with pytest.raises(InputError, match="cell is a function: give a Cell or a Layer"):
        advise(lambda y, x: y, rng.normal(size=(5, 1)))


# --- In training ---------------------------------------------------------------------------------


def test_the_quick_diagnosis_agrees_with_the_whole_one(key, rng):
    a, b = jax.random.split(key)
    layers = [odernn.Layer(odernn.zoo.RNN(2, 6, key=a))]
    model = odernn.Model(layers, odernn.LastStep(6, 1, key=b))
    xs = rng.normal(size=(2, 60, 2))
    quick = quick_diagnosis(model, jnp.asarray(xs))
    whole = diagnose(model, xs, **PLAIN)["layers.0"]
    assert set(quick) == {"horizon", "gradient", "lyapunov", "saturation"}
    assert abs(quick["horizon"] - whole.horizon) <= 2
    assert math.log(quick["gradient"]) == pytest.approx(whole.log_gradient[-1], abs=2)
    assert quick["lyapunov"] == pytest.approx(whole.lyapunov[0], abs=0.05)
    assert quick["saturation"] == pytest.approx(whole.saturation["tanh"], abs=0.05)


def test_the_quick_diagnosis_of_a_linear_network_and_of_one_that_breaks(key):
    class Turn(odernn.AbstractField):
        input_size: int = eqx.field(static=True, default=1)
        hidden_size: int = eqx.field(static=True, default=2)

        def __call__(self, time, y, u):
            return -0.1 * y + jnp.log(u[0])

    cell = odernn.Cell(Turn(), odernn.Euler(), 1.0)
    model = odernn.Model([odernn.Layer(cell)], odernn.LastStep(2, 1, key=key))
    found = quick_diagnosis(model, jnp.ones((3, 40, 1)))
    assert found["horizon"] == 21 and found["saturation"] == 0
    assert found["gradient"] == pytest.approx(0.9**40)
    assert found["lyapunov"] == pytest.approx(math.log(0.9))
    broken = quick_diagnosis(model, -jnp.ones((3, 40, 1)))
    assert math.isnan(broken["horizon"]) and math.isnan(broken["gradient"])
