"""Training that keeps certificates: the theorems, the projections, and whole runs."""

import csv
import dataclasses
import functools
import io
import json
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from rich.console import Console

import odernn
from odernn import InputError, zoo
from odernn._enclosure import Norm
from odernn.train import Config, Interrupted, fit, keep_certified
from odernn.train._diagnosis import Diagnosis
from odernn.train._keep import Keeper

pytestmark = pytest.mark.usefixtures("compiled_programs_are_kept")

HIDDEN, INPUT, WILD = 2, 2, 128

CASES = {
    "rnn": (lambda key: zoo.RNN(INPUT, HIDDEN, key=key), {}),
    "leaky": (lambda key: zoo.RNN(INPUT, HIDDEN, dt=0.3, key=key), {"bound": 0.9}),
    "sigmoid": (lambda key: zoo.RNN(INPUT, HIDDEN, activation="sigmoid", key=key), {}),
    "gru": (lambda key: zoo.GRU(INPUT, HIDDEN, key=key), {}),
    "gru, two biases": (lambda key: zoo.GRU(INPUT, HIDDEN, biases=2, key=key), {"inputs": 1.0}),
    "gru, small step": (lambda key: zoo.GRU(INPUT, HIDDEN, dt=0.5, key=key), {"bound": 1.1}),
    "lstm": (lambda key: zoo.LSTM(INPUT, HIDDEN, key=key), {"inputs": (-0.5, 2.0)}),
    "lstm, small step": (lambda key: zoo.LSTM(INPUT, HIDDEN, dt=0.4, key=key), {"inputs": 1.0}),
    "lem": (lambda key: zoo.LEM(INPUT, HIDDEN, key=key), {}),
    "lem, budget": (lambda key: zoo.LEM(INPUT, HIDDEN, dt=0.5, key=key), {"bound": 1.05}),
    "cornn": (lambda key: zoo.coRNN(INPUT, HIDDEN, key=key), {}),
    "cornn, authors": (
        lambda key: zoo.coRNN(INPUT, HIDDEN, dt=0.042, gamma=2.7, epsilon=4.7, key=key),
        {},
    ),
    "antisymmetric": (lambda key: zoo.AntisymmetricRNN(INPUT, 3, gamma=0.5, key=key), {}),
    "antisymmetric, budget": (
        lambda key: zoo.AntisymmetricRNN(INPUT, 3, dt=0.3, key=key),
        {"bound": 10 ** (1 / 20)},
    ),
}


class Cells(NamedTuple):
    """Many cells side by side: half of them wild, half of them with weights near zero."""

    keeper: Keeper
    before: Any
    after: Any
    again: Any

    def arrays(self, which):
        leaves = jax.tree.leaves(eqx.filter(getattr(self, which), eqx.is_array))
        return [np.asarray(leaf) for leaf in leaves]


@functools.cache
def case(name):
    """The keeper of a case, and many cells before and after one and two projections."""
    make, options = CASES[name]
    cell, rng = make(jax.random.key(0)), np.random.default_rng(1)
    keeper = Keeper(cell, **options)
    size = np.concatenate([np.ones(WILD), np.full(WILD, 0.01)])

    def draw(leaf):
        # Weights of very different sizes, so that each term of a bound is the largest somewhere.
        draws = rng.normal(size=(2 * WILD, *leaf.shape))
        draws *= np.exp(rng.uniform(-4, 3, draws.shape))
        return jnp.asarray(draws * size.reshape(-1, *[1] * leaf.ndim))

    arrays, rest = eqx.partition(cell, odernn.trained(cell))
    before = eqx.combine(jax.tree.map(draw, arrays), rest)
    project = eqx.filter_jit(eqx.filter_vmap(keeper.project))
    after = project(before)
    return Cells(keeper, before, after, project(after))


def expansion(kept, cell, y, x):
    """The norm of the step Jacobian, in the norm of the certificate."""
    flat, unflatten = ravel_pytree(y)
    jacobian = jax.jacfwd(lambda v: ravel_pytree(cell(unflatten(v), x))[0])(flat)
    scale = kept.rule.norm.scale
    if scale is not None:
        t = jnp.asarray(np.diag(scale) if scale.ndim == 1 else scale)
        jacobian = t @ jacobian @ jnp.linalg.inv(t)
    if kept.rule.norm.kind == "inf":
        return jnp.max(jnp.sum(jnp.abs(jacobian), axis=1))
    return jnp.linalg.norm(jacobian, 2)


def worst(kept, cell, key):
    """The largest expansion that a random start and gradient ascent find in the region."""
    a, c = jax.random.split(key)
    like, unflatten = ravel_pytree(cell.initial_state())
    size = 3 * jnp.exp(jax.random.normal(c))
    bounds = (
        jnp.full(like.shape, size)
        if kept.rule.states is None
        else (ravel_pytree(kept.rule.states(cell))[0])
    )
    low, high = jnp.asarray(kept.box.lower), jnp.asarray(kept.box.upper)
    low, high = (low, high) if kept.box.bounded else (jnp.full(INPUT, -size), jnp.full(INPUT, size))

    def place(point):
        y, x = jnp.tanh(point[: like.size]), jnp.tanh(point[like.size :])
        return unflatten(bounds * y), (low + high) / 2 + x * (high - low) / 2

    def value(point):
        return expansion(kept, cell, *place(point))

    def ascend(carry, rate):
        point, best = carry
        found, slope = jax.value_and_grad(value)(point)
        return (point + rate * jnp.sign(slope), jnp.maximum(best, found)), None

    start = 2 * jax.random.normal(a, (like.size + INPUT,))
    (_, best), _ = jax.lax.scan(ascend, (start, 0.0), jnp.geomspace(1.0, 1e-3, 40))
    return best


@functools.cache
def measured(name):
    """Of each cell, before and after: what is certified, and the largest expansion found."""
    cells = case(name)
    (kept,) = cells.keeper.kept
    keys = jax.random.split(jax.random.key(2), 2 * WILD)

    @eqx.filter_jit
    def both(cells):
        return eqx.filter_vmap(lambda c, k: (kept.rule.upper(c), worst(kept, c, k)))(cells, keys)

    return [np.asarray(v) for v in (*both(cells.before), *both(cells.after))]


@pytest.mark.parametrize("name", CASES)
def test_no_jacobian_is_above_its_certificate(name):
    upper, found, kept_upper, kept_found = measured(name)
    # Large weights can close the forget gate to rounding: then nothing is certified.
    known = np.isfinite(upper)
    assert known.all() or (name.startswith("lstm") and known.sum() > WILD)
    assert (found <= upper * (1 + 1e-9))[known].all()
    assert (kept_found <= kept_upper + 1e-9).all()
    # The search is worth something: it comes close to what is certified, of large weights, too.
    assert (found / upper)[known & (upper > 1.2)].max() > 0.4
    assert (kept_found / kept_upper)[:WILD].max() > 0.9


REACHED = {
    # r' = 1/4 with U_r = 8, d = 1 and a = 1
    "reset, bias": (zoo.GRU, [8, 0, 0], [0, -30, -0.5], {"candidate_bias": [1.0]}, 0, 0.99),
    # the same with U_g h in place of d: 1/2 + 2 of 1 + 2
    "reset, weight": (zoo.GRU, [8, 0, 1], [-8, -30, 0], {"candidate_bias": [0.0]}, 1, 0.6),
    # g - h = 2 and a = 0.22: above 1, and so above what half of the term would allow
    "keep": (zoo.GRU, [0, -0.9, 0], [0, 0.37, 30], {"candidate_bias": [0.0]}, -1, 0.6),
    "output gate": (zoo.LSTM, [0, 0, 0, 16], [30, -30, 30, 0], {}, {"h": 0, "c": 0}, 0.99),
    "forget gate": (zoo.LSTM, [0, 8, 0, 0], [30, -8, 30, 30], {}, {"h": 1, "c": 1}, 0.5),
    "candidate": (zoo.LSTM, [0, 0, 4, 0], [30, -30, 0, 30], {}, {"h": 0, "c": 0}, 0.99),
    "slow scale": (zoo.LEM, [0, 0.9, 0], [0, -1.27, 30, 0], {}, {"h": 0, "z": -1}, 0.6),
    "fast scale": (zoo.LEM, [0.9, 0, 0], [-1.27, -30, 0, 30], {}, {"h": -1, "z": 0}, 0.55),
}


@pytest.mark.parametrize("name", REACHED)
def test_single_units_show_that_no_term_can_be_smaller(name):
    network, weight, bias, more, start, share = REACHED[name]
    cell = network(1, 1, key=jax.random.key(0))
    zero = jax.tree.map(lambda a: 0 * a, eqx.filter(cell.field, eqx.is_array))
    field = eqx.combine(zero, cell.field)
    arrays = {"weight": [weight], "bias": bias} | more
    field = eqx.tree_at(
        lambda f: [getattr(f, name) for name in arrays],
        field,
        [jnp.asarray(value, float) for value in arrays.values()],
    )
    cell = odernn.Cell(field, cell.method, cell.dt)
    (kept,) = Keeper(cell, inputs=1.0).kept
    y = jax.tree.map(lambda like, v: like + v, cell.initial_state(), start)
    found = float(expansion(kept, cell, y, jnp.zeros(1)))
    upper = float(kept.rule.upper(cell))
    assert 1 < found <= upper * (1 + 1e-9)
    assert found > share * upper


@pytest.mark.parametrize("name", CASES)
def test_projected_weights_keep_the_bound_and_move_no_more_than_that(name):
    cells = case(name)
    bound = cells.keeper.kept[0].bound
    upper, _, kept_upper, _ = measured(name)
    offends = ~(upper <= bound)
    assert offends[:WILD].sum() > WILD / 4 and not offends[WILD:].all()
    assert (kept_upper <= bound + 1e-12).all()
    # The rule for this cell does it alone, the general one is not needed.
    rule = cells.keeper.kept[0].rule
    alone = eqx.filter_jit(eqx.filter_vmap(lambda cell: rule.upper(rule.project(cell))))
    assert (np.asarray(alone(cells.before)) <= bound + 1e-12).all()
    assert np.median(kept_upper[offends]) > bound - 0.05
    for before, after, again in zip(*map(cells.arrays, ("before", "after", "again")), strict=True):
        np.testing.assert_array_equal(after[~offends], before[~offends])
        # The rest of an antisymmetric weight rounds: equal to its last digits only.
        np.testing.assert_allclose(again, after, rtol=1e-12, atol=1e-13)


def test_only_the_units_that_offend_move(key):
    cell = zoo.GRU(INPUT, HIDDEN, key=key)
    quiet = 0.01 * cell.field.weight
    loud = quiet.at[:, [1, HIDDEN + 1, 2 * HIDDEN + 1]].mul(1e4)
    cell = eqx.tree_at(lambda c: c.field.weight, cell, loud)
    found = Keeper(cell).project(cell)
    moved = np.asarray(found.field.weight != loud)
    assert moved[:, 1::HIDDEN].all()
    assert not moved[:, 0::HIDDEN].any() and not moved[:, 2::HIDDEN].any()
    np.testing.assert_array_equal(found.field.bias, cell.field.bias)
    np.testing.assert_array_equal(found.field.input_weight, cell.field.input_weight)


def test_clipping_gives_the_nearest_matrix_also_from_far_away(rng):
    cell = zoo.RNN(INPUT, 12, key=jax.random.key(0))
    weight = rng.normal(size=(12, 12)) * np.geomspace(1e-3, 1e4, 12)
    cell = eqx.tree_at(lambda c: c.field.weight, cell, jnp.asarray(weight))
    found = np.asarray(Keeper(cell).project(cell).field.weight)
    u, s, v = np.linalg.svd(weight)
    assert np.linalg.norm(found, 2) <= 1
    # Singular values far below the largest lose digits; the nearest matrix is met to those.
    np.testing.assert_allclose(found, (u * np.minimum(s, 1)) @ v, atol=1e-6)


def test_an_oscillator_may_be_coupled_as_far_as_its_frequencies_allow(key):
    # By the bounded-real lemma no metric allows more than 1 over the largest gain.
    cell = zoo.coRNN(INPUT, HIDDEN, dt=0.042, gamma=2.7, epsilon=4.7, key=key)
    stiff = jax.tree.map(lambda a: 100 * a, cell)
    field = Keeper(cell).project(stiff).field
    norm = np.linalg.norm(np.concatenate([field.weight, field.velocity_weight]), 2)
    m = np.array([[1 - 0.042**2 * 2.7, 0.042 * (1 - 0.042 * 4.7)], [-0.042 * 2.7, 1 - 0.042 * 4.7]])
    b = np.array([0.042**2, 0.042])
    z = np.exp(1j * np.linspace(0, np.pi, 2001))[:, None, None]
    gain = np.linalg.norm(
        np.linalg.solve(z * np.eye(2) - m, np.broadcast_to(b, (2001, 2))[..., None]), axis=1
    ).max()
    assert 0.99 / gain < norm <= 1 / gain


# --- A chain of updates ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_chain_keeps_every_cell_of_a_model_certified(key, dtype):
    a, b, c = jax.random.split(key, 3)
    lower = odernn.Layer(zoo.GRU(INPUT, 4, key=a), initial_state=jnp.full(4, 0.9))
    upper = odernn.Bidirectional(
        odernn.Layer(zoo.LSTM(4, 3, key=b)), odernn.Layer(zoo.RNN(4, 3, key=c), reverse=True)
    )
    model = odernn.Model([lower, upper], odernn.LastStep(6, 1, key=key), dropout=0.2)
    cast = lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf  # noqa: E731
    model = jax.tree.map(cast, model)
    keeper = Keeper(model)
    assert [kept.place for kept in keeper.kept] == [
        "layer 1",
        "layer 2, forward",
        "layer 2, backward",
    ]
    np.testing.assert_allclose(keeper.kept[1].box.upper, 1 / 0.8)
    weights, rest = eqx.partition(model, odernn.trained(model))
    optimiser = optax.chain(optax.sgd(1.0), keep_certified(model))
    state = optimiser.init(weights)
    shocks = jax.random.normal(key, (3,))

    @jax.jit
    def step(weights, state, shock):
        gradient = jax.tree.map(lambda w: (3 * shock).astype(w.dtype) * jnp.cos(9 * w), weights)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimiser.update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state

    for shock in shocks:
        weights, state = step(weights, state, shock)
        now = eqx.combine(weights, rest)
        found = keeper.certificates(now)
        assert all(certificate.upper <= 1 + 1e-12 for certificate in found.values())
        assert jnp.abs(now.layers[0].initial_state).max() <= 1 + 1e-6
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(weights))
    assert found["layer 1"].norm == Norm("inf")
    assert "inputs in [-1.25, 1.25]" in found["layer 2, forward"].region


def test_a_trained_step_stays_where_the_theorem_holds(key):
    cell = zoo.GRU(INPUT, HIDDEN, dt=odernn.TrainedStep(0.5), key=key)
    long = eqx.tree_at(lambda c: c.dt.log_dt, cell, jnp.asarray(2.0))
    assert float(Keeper(cell).project(long).dt.value) == 1
    with pytest.raises(InputError, match="dt must not be trained"):
        keep_certified(zoo.coRNN(INPUT, HIDDEN, dt=odernn.TrainedStep(0.1), key=key))


def test_any_cell_with_a_rate_of_ones_own(key):
    cell = zoo.LipschitzRNN(INPUT, HIDDEN, key=key)
    like = jnp.zeros(HIDDEN)

    def rate(cell):  # the slope of the activation at its largest, and a price on biases
        jacobian = jax.jacfwd(cell.step)(like, jnp.zeros(HIDDEN))
        return jnp.linalg.norm(jacobian, 2) + jnp.abs(cell.field.bias).sum()

    norm = Norm("2", np.ones(HIDDEN))
    keeper = Keeper(cell, bound=1.5, rate=rate, norm=norm)
    double = jax.tree.map(lambda a: 40 * a, eqx.tree_at(lambda c: c.field.bias, cell, 0.001 * like))
    found = jax.jit(keeper.weights)(eqx.filter(double, odernn.trained(cell)))
    assert 1.49 < float(rate(eqx.combine(found, cell))) <= 1.5
    np.testing.assert_array_equal(found.field.input_weight, double.field.input_weight)
    biased = eqx.tree_at(lambda c: c.field.bias, cell, jnp.full(HIDDEN, 7.0))
    found = keeper.project(biased)
    assert 1.4 < float(rate(found)) <= 1.5
    (certificate,) = keeper.certificates(found).values()
    assert certificate.norm is norm


def test_a_cell_without_a_closed_form_is_enclosed(key):
    cell = zoo.LipschitzRNN(INPUT, HIDDEN, key=key)
    keeper = Keeper(cell)
    loud = eqx.tree_at(lambda c: c.field.weight, cell, 99 * cell.field.weight)
    assert keeper.upper(loud) > 1.1
    found = eqx.filter_jit(keeper.project)(loud)
    assert 0.99 < keeper.upper(found) <= 1
    np.testing.assert_array_equal(found.field.input_weight, cell.field.input_weight)


@pytest.mark.parametrize(
    ("make", "options", "part"),
    [
        (lambda key: zoo.LSTM(2, 3, key=key), {}, "bounded inputs only: give inputs="),
        (lambda key: zoo.LRU(2, 3, key=key), {}, "no closed form is known for LRU.*; give rate="),
        (lambda key: zoo.GRU(2, 3, method=odernn.RK4(), key=key), {}, r"about Euler\(\), not RK4"),
        (lambda key: zoo.ATR(2, 3, key=key), {}, "its Jacobian is unbounded on all states"),
        (lambda key: zoo.GRU(2, 3, dt=1.5, key=key), {}, "needs dt <= 1"),
        (lambda key: zoo.LMU(2, 3, key=key), {}, "even with all trained weights zero"),
        (lambda key: zoo.GRU(2, 3, key=key), {"bound": 0.5}, "is 1 even with all .* zero"),
        (lambda key: zoo.RNN(2, 3, key=key), {"bound": 0}, "bound = 0: give the largest rate"),
        (lambda key: zoo.RNN(2, 3, key=key), {"inputs": (1, 0)}, "a lower bound is above its"),
        (lambda key: zoo.RNN(2, 3, key=key), {"inputs": "all"}, "inputs = 'all': give a bound"),
        (lambda key: odernn.LastStep(3, 1, key=key), {}, "there is no cell inside"),
    ],
)
def test_what_cannot_be_kept_is_refused(make, options, part, key):
    with pytest.raises(InputError, match=part) as error:
        keep_certified(make(key), **options)
    assert "\n" not in str(error.value)


def test_the_weights_are_needed(key):
    cell = zoo.RNN(2, 3, key=key)
    with pytest.raises(InputError, match="params = None: the projection needs the weights"):
        keep_certified(cell).update(cell, optax.EmptyState())


# --- Whole runs --------------------------------------------------------------------------------

TINY = Config(
    task="adding",
    length=6,
    train_size=32,
    hidden_size=4,
    batch_size=16,
    epochs=2,
    average=0.9,
    keep_certified=True,
    learning_rate=0.5,
)


@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({"cell": "rnn", "layers": 2}, 1.0),
        ({"cell": "antisymmetricrnn"}, 10 ** (1 / 6)),
    ],
)
def test_a_run_leaves_a_certified_model(tmp_path, changes, bound):
    text = io.StringIO()
    config = dataclasses.replace(TINY, out=tmp_path / "x", **changes)
    result = fit(config, console=Console(file=text, width=200))
    stored = json.loads((tmp_path / "x/result.json").read_text())["certificate"]
    assert stored["upper"] <= bound + 1e-12
    assert stored["steps"] == 6
    assert stored["growth"] == pytest.approx(stored["upper"] ** 6)
    assert stored["theorem"] == result.certificates[stored["cell"]].theorem
    assert len(stored.get("cells", [0])) == config.layers
    with (tmp_path / "x/metrics.csv").open(newline="") as file:
        rows = [float(row["certified_upper"]) for row in csv.DictReader(file)]
    assert len(rows) == 2
    assert max(rows) <= bound + 1e-12
    assert rows[result.best_epoch - 1] == max(c.upper for c in result.certificates.values())
    assert f"corridor {rows[-1]:.4g}^6" in text.getvalue()
    assert "gradients grow at most" in text.getvalue()


def test_without_it_the_same_run_leaves_the_region(tmp_path):
    config = dataclasses.replace(TINY, cell="rnn", keep_certified=False, out=tmp_path / "x")
    result = fit(config)
    assert Keeper(result.model).upper(result.model) > 1.1
    assert result.certificates == {}
    assert "certificate" not in json.loads((tmp_path / "x/result.json").read_text())
    assert "certified_upper" not in (tmp_path / "x/metrics.csv").read_text()


def test_a_cell_without_a_theorem_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match="cannot be kept certified"):
        fit(dataclasses.replace(TINY, cell="lru", out=tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_measurements_are_kept_and_go_on_after_a_stop(tmp_path, monkeypatch):
    seen = []

    def measure(model, inputs):
        seen.append(inputs.shape)
        weights = sum(jnp.sum(a**2) for a in jax.tree.leaves(eqx.filter(model, eqx.is_array)))
        return {"horizon": float(weights), "lyapunov": 0.5}

    monkeypatch.setattr("odernn.train._diagnosis.measure", measure)
    monkeypatch.setattr("odernn.train._diagnosis.SHARE", 1e9)
    config = dataclasses.replace(TINY, cell="rnn", epochs=4, diagnose=3, keep_certified=False)
    fit(dataclasses.replace(config, out=tmp_path / "whole"))
    with (tmp_path / "whole/diagnostics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert set(seen) == {(8, 6, 2)}
    stopped = []
    monkeypatch.setattr("odernn.train._run._interruptible", lambda: _stop_after(stopped, 5))
    with pytest.raises(Interrupted):
        fit(dataclasses.replace(config, out=tmp_path / "parts"))
    monkeypatch.undo()
    monkeypatch.setattr("odernn.train._diagnosis.measure", measure)
    monkeypatch.setattr("odernn.train._diagnosis.SHARE", 1e9)
    fit(resume=tmp_path / "parts")
    for name in ("diagnostics.csv", "metrics.csv", "model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


class _stop_after:
    """Asks a run to stop when it has been asked so many times."""

    def __init__(self, calls, count):
        self.calls, self.count = calls, count

    def __enter__(self):
        return lambda: self.calls.append(0) or len(self.calls) >= self.count

    def __exit__(self, *_):
        return False


def test_slow_measurements_are_made_less_often(monkeypatch):
    now, said = [0.0], []

    def measure(model, inputs):
        now[0] += 3.0
        return {"horizon": 1.0}

    monkeypatch.setattr("odernn.train._diagnosis.measure", measure)
    diagnosis = Diagnosis(10, np.zeros((9, 4, 2)), lambda rows: None, said.append, lambda: now[0])
    rows = []
    for step in range(1, 301):
        now[0] += 1.0
        diagnosis.step(rows, step, lambda: None)
    # 3 s of measurement take 5 % of the time at every 60 steps of 1 s; the first one compiles.
    assert [row["step"] for row in rows] == [10, 20, 80, 140, 200, 260]
    assert [row["every"] for row in rows] == [10, 60, 60, 60, 60, 60]
    assert len(said) == 1 and "measuring every 60 steps instead of 10" in said[0]


def test_a_real_measurement_of_a_run(tmp_path):
    config = dataclasses.replace(TINY, cell="rnn", epochs=1, diagnose=1, out=tmp_path / "x")
    fit(config)
    with (tmp_path / "x/diagnostics.csv").open(newline="") as file:
        (first, *_) = list(csv.DictReader(file))
    assert 0 <= float(first["horizon"]) <= 6
