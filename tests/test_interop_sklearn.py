"""Estimators in the way of scikit-learn: its own checks, and what those do not ask."""

import dataclasses
import json
import pickle
from copy import deepcopy
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import odernn
from odernn.interop.sklearn import ODERNNClassifier, ODERNNForecaster, ODERNNRegressor
from odernn.train import Config

pytestmark = pytest.mark.usefixtures("compiled_programs_are_kept")

EXAMPLES = Path(__file__).parent.parent / "examples"
TINY = {"cell": "rnn", "hidden_size": 4, "epochs": 2, "random_state": 0}
# Enough steps to pass the checks that something is learnt.
CHECKED = {"cell": "rnn", "average": 0.0, "dropout": 0.0}


@parametrize_with_checks(
    [
        ODERNNClassifier(
            **CHECKED, hidden_size=4, epochs=8, learning_rate=0.05, label_smoothing=0.0
        ),
        ODERNNRegressor(**CHECKED, hidden_size=8, epochs=40, learning_rate=0.02),
    ]
)
def test_what_scikit_learn_checks(estimator, check):
    check(estimator)


# --- Sequences ---------------------------------------------------------------------------------


def waves(rng, count=24, channels=2, steps=10):
    """Sequences of two classes: slow and fast waves."""
    y = np.arange(count) % 2
    time, phase = np.arange(steps), rng.uniform(0, 6, (count, channels, 1))
    return np.sin(time * (0.3 + 0.7 * y)[:, None, None] + phase), np.where(y, "fast", "slow")


@pytest.fixture(scope="module")
def data():
    return waves(np.random.default_rng(0))


@pytest.fixture(scope="module")
def learnt(data, compiled_programs_are_kept):
    """A classifier that knows its training data."""
    network = ODERNNClassifier(cell="gru", hidden_size=8, batch_size=4, random_state=0)
    return network.fit(*data)


@pytest.fixture(scope="module")
def uneven(data, compiled_programs_are_kept):
    """A classifier of sequences that differ in length."""
    X = [one[:, : 6 + number % 5] for number, one in enumerate(data[0])]
    return ODERNNClassifier(**TINY).fit(X, data[1]), X


def test_arguments_are_those_of_a_run():
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    for estimator in (ODERNNClassifier(), ODERNNRegressor(), ODERNNForecaster()):
        ours = estimator.get_params()
        differ = {name for name in ours.keys() & defaults.keys() if ours[name] != defaults[name]}
        assert differ == {"patience"}
    # What belongs to files and folders, and what an estimator says in its own way.
    taken = ODERNNForecaster().get_params().keys() | ODERNNClassifier().get_params().keys()
    left = defaults.keys() - taken
    assert left == {"task", "seed", "train_size", "target", "mask_missing", "out", "diagnose"}


def test_it_learns_and_says_what_it_did(learnt, data):
    X, y = data
    assert learnt.score(X, y) > 0.9
    assert learnt.predict(X).tolist() == y.tolist()
    np.testing.assert_allclose(learnt.predict_proba(X).sum(axis=1), 1)
    assert isinstance(learnt.model_, odernn.Model)
    assert learnt.classes_.tolist() == ["fast", "slow"]
    assert (learnt.n_features_in_, learnt.n_channels_) == (2, 2)
    assert learnt.n_iter_ == len(learnt.history_) == 40
    config = learnt.config_
    assert (config.learning_rate, config.weight_decay, config.average) == (0.02, 0.1, 0.98)
    assert (config.method, config.dt, config.seed) == ("euler", 1.0, 0)


@pytest.mark.parametrize("kind", [list, np.asarray, lambda X: X.astype(np.float32)])
def test_kinds_of_collections_say_the_same(learnt, data, kind):
    X, _ = data
    np.testing.assert_allclose(
        learnt.predict_proba(kind(X)), learnt.predict_proba(X), rtol=1e-5, atol=1e-7
    )


def test_a_sequence_is_read_to_its_own_end(uneven):
    network, X = uneven
    together = network.predict_proba(X)
    assert len({one.shape for one in X}) == 5
    for row in (0, 3):
        alone = network.predict_proba(X[row][None])
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-6)


def test_a_step_that_lacks_a_value_changes_nothing(uneven):
    network, X = uneven
    gaps = [np.insert(one, 3, np.nan, axis=1) for one in X]
    gaps[0][0, 3] = 7.0  # one of two channels is enough to miss
    network = deepcopy(network).set_params(missing="mask")
    np.testing.assert_allclose(network.predict_proba(gaps), network.predict_proba(X), rtol=1e-6)
    again = clone(network).fit(gaps, network.predict(X))
    assert np.isfinite(again.predict_proba(gaps)).all()


def test_missing_values_are_refused_unless_masked(data, learnt):
    X, y = data[0].copy(), data[1]
    X[3, 0, 2] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        ODERNNClassifier(**TINY).fit(X, y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        learnt.predict(X)
    table = X[:, 0]
    with pytest.raises(ValueError, match="Input X contains NaN"):
        ODERNNClassifier(**TINY).fit(table, y)
    ODERNNClassifier(**TINY, missing="mask").fit(table, y)


def test_time_stamps_count_in_their_median_interval(rng):
    X, y = waves(rng, count=8, channels=1)
    X, uneven_steps = X[:, 0], np.cumsum(rng.uniform(0.5, 2, X[:, 0].shape), axis=1)
    network = ODERNNClassifier(**TINY | {"cell": "cornn"})
    given = clone(network).fit(X, y, times=uneven_steps)
    days = clone(network).fit(X, y, times=[1e6 + 86400 * one for one in uneven_steps])
    expected = given.predict_proba(X, times=uneven_steps)
    np.testing.assert_allclose(
        days.predict_proba(X, times=1e6 + 86400 * uneven_steps), expected, rtol=1e-4
    )
    even = np.arange(10.0) * np.median(np.diff(uneven_steps, axis=1)) * np.ones((8, 1))
    assert np.abs(given.predict_proba(X, times=even) - expected).max() > 1e-5
    with pytest.raises(odernn.InputError, match="fitted with time stamps: give times"):
        given.predict(X)
    with pytest.raises(odernn.InputError, match="fitted without: leave it out"):
        network.fit(X, y).predict(X, times=uneven_steps)


def test_a_table_is_one_channel(data):
    table, y = data[0][:, 0], data[1]
    names = [f"t{step}" for step in range(10)]
    network = ODERNNClassifier(**TINY).fit(pd.DataFrame(table, columns=names), y)
    assert network.feature_names_in_.tolist() == names
    assert (network.n_features_in_, network.n_channels_) == (10, None)
    same = ODERNNClassifier(**TINY).fit(table[:, None], y)
    np.testing.assert_array_equal(
        network.predict_proba(pd.DataFrame(table, columns=names)),
        same.predict_proba(table[:, None]),
    )
    # Fitted again to channels, it forgets the names.
    assert not hasattr(network.fit(table[:, None], y), "feature_names_in_")


def test_several_targets(data, rng):
    X, _ = data
    y = 1000 + 50 * X[:, :, -1]
    network = ODERNNRegressor(cell="gru", hidden_size=8, epochs=30, batch_size=4, random_state=0)
    assert network.fit(X, y).score(X, y) > 0.5
    assert network.predict(X).shape == (24, 2)
    assert ODERNNRegressor(**TINY).fit(X, y[:, 0]).predict(X).shape == (24,)


# --- Training ----------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_epoch(data):
    X, y = data
    # So small a rate that nothing changes: the first epoch is the best.
    options = {**TINY, "early_stopping": True, "epochs": 6, "learning_rate": 1e-30, "average": 0.0}
    assert ODERNNClassifier(**options, patience=2).fit(X, y).n_iter_ == 3
    assert ODERNNClassifier(**options, patience=0).fit(X, y).n_iter_ == 6
    with pytest.raises(odernn.InputError, match="1 sequence.* too few .* early_stopping=False"):
        ODERNNClassifier(**options).fit(X[:1], y[:1])


def test_without_early_stopping_the_last_weights_are_kept(data):
    X, y = data
    # So large a rate that the last epoch is not the best one.
    network = ODERNNClassifier(**TINY | {"epochs": 6}, learning_rate=1.0, average=0.0).fit(X, y)
    losses = [row["validation_loss"] for row in network.history_]
    assert min(losses) < losses[-1]
    labels = np.where(y == network.classes_[0], 0, 1)
    chosen = network.predict_proba(X)[np.arange(len(y)), labels]
    np.testing.assert_allclose(-np.log(chosen).mean(), losses[-1], rtol=1e-5)


def test_the_seed_decides(data):
    X, y = data
    fit = lambda seed: ODERNNClassifier(**TINY | {"random_state": seed}).fit(X, y)  # noqa: E731
    first = fit(3).predict_proba(X)
    np.testing.assert_array_equal(first, fit(3).predict_proba(X))
    assert (fit(4).predict_proba(X) != first).any()
    random = np.random.RandomState(0)
    one, two = fit(random), fit(random)
    assert one.config_.seed != two.config_.seed
    assert fit(None).config_.seed != fit(None).config_.seed


def test_verbose_shows_epochs(data, capsys):
    ODERNNClassifier(**TINY, verbose=1).fit(*data)
    assert "epoch 2/2  loss" in capsys.readouterr().out
    ODERNNClassifier(**TINY).fit(*data)
    assert not capsys.readouterr().out


def test_a_certificate_is_kept(data):
    options = TINY | {"learning_rate": 1.0}
    kept = ODERNNClassifier(**options, keep_certified=True).fit(*data)
    (certificate,) = kept.certificates_.values()
    assert certificate.upper <= 1.0
    weight = kept.model_.layers[0].cell.field.weight
    assert np.linalg.norm(weight, 2) <= 1 + 1e-6
    assert not hasattr(ODERNNClassifier(**TINY).fit(*data), "certificates_")
    with pytest.raises(odernn.InputError, match="^keep_certified: .* time stamps"):
        kept.fit(data[0], data[1], times=np.arange(10.0) * np.ones((24, 1)))


def test_a_loss_that_is_not_finite_stops(data):
    # Twice the largest float32, from a rate that no test of the arguments could refuse.
    network = ODERNNRegressor(**TINY, learning_rate=1e300, gradient_clip=0.0)
    with pytest.raises(odernn.RunFailed, match="smaller learning_rate .*or another random_state"):
        network.fit(data[0], data[0][:, 0, 0])


class Bistable(odernn.AbstractField):
    """Units that remember a bit."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    W: jax.Array

    def __call__(self, time, h, x):
        return h - h**3 + jnp.tanh(x @ self.W)


def bistable(input_size, key):
    field = Bistable(input_size, 4, jax.random.normal(key, (input_size, 4)))
    return odernn.Cell(field, odernn.RK4(), dt=0.1)


def test_a_function_makes_the_cells(data):
    X, y = data
    network = ODERNNClassifier(cell=bistable, layers=2, epochs=2, dt=0.2, random_state=0).fit(X, y)
    assert [type(layer.cell.field) for layer in network.model_.layers] == [Bistable, Bistable]
    assert network.model_.layers[1].cell.dt == 0.2
    assert (network.config_.cell, network.config_.method) == ("function bistable", "rk4")
    # What is pickled is a description; the class is found by its name.
    same = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(same.predict_proba(X), network.predict_proba(X))
    named = ODERNNClassifier(**TINY).fit(X, y)
    part = partial(odernn.zoo.RNN, hidden_size=4)
    given = ODERNNClassifier(cell=part, epochs=2, learning_rate=0.005, random_state=0).fit(X, y)
    np.testing.assert_array_equal(named.predict_proba(X), given.predict_proba(X))


# --- As scikit-learn's tools use them ----------------------------------------------------------


@pytest.mark.parametrize("copied", ["pickle", "joblib", "deepcopy"])
def test_copies_give_equal_answers(copied, learnt, data, tmp_path):
    if copied == "pickle":
        content = pickle.dumps(learnt)
        assert b"jax" not in content and b"equinox" not in content
        same = pickle.loads(content)
    elif copied == "joblib":
        joblib.dump(learnt, tmp_path / "network")
        same = joblib.load(tmp_path / "network")
    else:
        same = deepcopy(learnt)
    np.testing.assert_array_equal(same.predict_proba(data[0]), learnt.predict_proba(data[0]))
    assert eqx.tree_equal(same.model_, learnt.model_)
    assert (same.config_, same.history_) == (learnt.config_, learnt.history_)


def test_pipeline_and_grid_search(data):
    table, y = data[0][:, 0], data[1]
    pipeline = make_pipeline(StandardScaler(), ODERNNClassifier(**TINY))
    grid = {
        "odernnclassifier__hidden_size": np.array([2, 4]),  # NumPy's integers
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(table, y)
    best = search.best_estimator_[-1]
    assert (
        best.model_.layers[0].cell.hidden_size
        == search.best_params_["odernnclassifier__hidden_size"]
    )
    assert type(best.config_.hidden_size) is int
    assert 0 <= search.best_score_ <= 1
    pickle.dumps(search)


def test_cross_validation_of_a_list(uneven, data):
    scores = cross_val_score(clone(uneven[0]), uneven[1], data[1], cv=2, error_score="raise")
    assert scores.shape == (2,)


def test_imported_when_asked_for():
    assert odernn.interop.sklearn.ODERNNClassifier is ODERNNClassifier
    with pytest.raises(AttributeError, match="no attribute 'scikit'"):
        _ = odernn.interop.scikit


# --- Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "ltsm"}, "unknown cell 'ltsm': did you mean 'lstm'"),
        ({"cell": 3}, "^cell is 3: give a name"),
        ({"method": "rk5"}, "unknown method 'rk5'"),
        ({"epochs": 0}, "^epochs is 0, it must be at least 1"),
        ({"epochs": 2.5}, "^epochs is 2.5: give a whole number"),
        ({"batch_size": None}, "^batch_size is None: give a whole number"),
        ({"hidden_size": "8"}, "^hidden_size is '8': give a whole number"),
        ({"learning_rate": -1.0}, "^learning_rate is -1.0, it must be positive"),
        ({"dropout": "a lot"}, "^dropout is 'a lot': give a number"),
        ({"bidirectional": 1}, "^bidirectional is 1: give True or False"),
        ({"missing": "zero"}, "^missing is 'zero': give 'refuse' or 'mask'"),
        ({"validation_fraction": 1.0}, "^validation_fraction is 1.0, it must be"),
        ({"random_state": -1}, "^random_state is -1, it must be from 0"),
        ({"readout": "each"}, "^readout each gives one output a step"),
        ({"qubits": 3}, "^qubits is 3, but RNN does not take it"),
        ({"cell": bistable, "hidden_size": 8}, "^hidden_size is 8, but cell is a function"),
        ({"cell": lambda size, key: size, "hidden_size": None}, "^cell made a int"),
    ],
)
def test_arguments_that_no_network_can_have(options, message, data):
    with pytest.raises(odernn.InputError, match=message) as caught:
        ODERNNClassifier(**TINY | options).fit(*data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 3, 5)), r"X has 3 channel\(s\), but the estimator was fitted to 2"),
        ([np.zeros((2, 4)), np.zeros((3, 4))], r"sequences of \[2, 3\] channels"),
        (np.zeros((2, 5)), "X is a table, but the estimator was fitted to sequences"),
        (np.zeros((2, 2, 0)), "sequences of length 0: give at least one step"),
        ([np.zeros((2, 0))], "minimum of 1 is required"),
        (np.full((2, 2, 5), np.inf), "Input X contains infinity"),
    ],
)
def test_sequences_that_do_not_fit(learnt, X, message):
    with pytest.raises(ValueError, match=message):
        learnt.predict(X)


def test_targets_and_times_that_do_not_fit(data):
    X, y = data
    network, even = ODERNNClassifier(**TINY), np.arange(10.0) * np.ones((24, 1))
    with pytest.raises(odernn.InputError, match="y has 23 targets, but X has 24 sequences"):
        network.fit(X, y[:-1])
    with pytest.raises(odernn.InputError, match="times has stamps of 23 sequences, but X has 24"):
        network.fit(X, y, times=even[1:])
    with pytest.raises(odernn.InputError, match=r"times of sequence 0 has the shape \(9,\)"):
        network.fit(X, y, times=even[:, 1:])
    with pytest.raises(odernn.InputError, match="times must be finite and increase strictly"):
        network.fit(X, y, times=even[:, ::-1])
    with pytest.raises(odernn.InputError, match="times holds something that is no number"):
        network.fit(X, y, times=[["monday"] * 10] * 24)
    with pytest.raises(odernn.InputError, match=r"y has the shape \(24, 1, 1\)"):
        ODERNNRegressor(**TINY).fit(X, np.zeros((24, 1, 1)))
    with pytest.raises(odernn.InputError, match="fitted to a table: give a table"):
        network.fit(X[:, 0], y).predict(X)


# --- Forecasts ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def series():
    return 100 + 20 * np.sin(np.arange(180) / 3)


@pytest.fixture(scope="module")
def forecaster(series, compiled_programs_are_kept):
    network = ODERNNForecaster(cell="gru", hidden_size=8, horizon=4, length=16, random_state=0)
    return network.set_params(batch_size=2).fit(series[:150])


def test_a_forecast_goes_on_from_the_end(forecaster, series):
    ahead = forecaster.forecast()
    assert ahead.shape == (4,)
    assert np.abs(ahead - series[150:154]).max() < 4  # of a range of 40
    assert forecaster.predict() == ahead[-1]
    assert isinstance(forecaster.predict(), float)
    later = forecaster.forecast(4, y=series[:160])
    assert np.abs(later - series[160:164]).max() < 4
    # It reads as many rows as a window has.
    assert forecaster.predict(series[:160]) == forecaster.predict(series[144:160])


def test_beyond_the_horizon_it_reads_its_own_forecasts(forecaster, series):
    far = forecaster.forecast(10)
    first = forecaster.forecast(4)
    np.testing.assert_array_equal(far[:4], first)
    second = forecaster.forecast(4, y=np.concatenate([series[:150], first]))
    np.testing.assert_array_equal(far[4:8], second)
    assert forecaster.forecast(2).tolist() == first[:2].tolist()


def test_a_level_that_drifted_is_followed(forecaster, series):
    found = forecaster.forecast(y=series[:150] + 500) - forecaster.forecast(y=series[:150])
    assert (found > 300).all()


def test_further_columns(series, rng):
    lead = rng.normal(size=200)
    y = np.concatenate([[0.0, 0.0], lead[:-2]])  # what X says two rows before
    options = {"cell": "gru", "hidden_size": 8, "length": 10, "batch_size": 4, "random_state": 0}
    network = ODERNNForecaster(**options, horizon=2, epochs=30).fit(y[:150], lead[:150])
    ends = range(160, 200)
    found = [network.predict(y[:end], lead[:end]) for end in ends]
    truth = lead[[end - 1 for end in ends]]
    assert np.corrcoef(found, truth)[0, 1] > 0.9
    with pytest.raises(odernn.InputError, match="steps is 3, but X is not known.*horizon=3"):
        network.forecast(3)
    with pytest.raises(odernn.InputError, match=r"X has 0 column\(s\), .* fitted to 1"):
        network.predict(y)


def test_a_forecast_with_gaps(series):
    gaps = series[:60].copy()
    gaps[[3, 20, 21, -1]] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN"):
        ODERNNForecaster(**TINY).fit(gaps)
    network = ODERNNForecaster(**TINY, missing="mask", length=8).fit(gaps)
    assert np.isfinite(network.forecast(3)).all()
    with pytest.raises(odernn.InputError, match="y lacks a value in each of its last 8 rows"):
        network.predict(np.full(20, np.nan))


def test_early_stopping_of_a_forecast(series):
    options = {**TINY, "epochs": 6, "early_stopping": True, "learning_rate": 1e-30, "length": 8}
    network = ODERNNForecaster(**options, patience=2).fit(series)
    assert network.n_iter_ == 3
    same = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(same.forecast(3), network.forecast(3))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda f, y: clone(f).fit(y[:4]), r"y has 4 row\(s\), of which 0 can be trained on"),
        (lambda f, y: clone(f).fit(y[:12]), "windows of 16 needs more"),
        (lambda f, y: clone(f).fit(y[:, None] * np.ones(2)), r"y has the shape \(180, 2\)"),
        (lambda f, y: clone(f).fit(y, y[1:]), r"X has the shape \(179,\), but y has 180 rows"),
        (lambda f, y: clone(f).set_params(horizon=0).fit(y), "^horizon is 0, it must be at least"),
        (lambda f, y: f.forecast(0), "steps is 0: give a whole number"),
        (lambda f, y: f.predict(X=y), "X is given without y"),
    ],
)
def test_series_that_cannot_be_forecast(forecaster, series, use, message):
    with pytest.raises(odernn.InputError, match=message):
        use(forecaster, series)


def test_not_fitted():
    with pytest.raises(NotFittedError):
        ODERNNForecaster().forecast()


def test_the_notebook_runs(monkeypatch):
    # Its code has no magic, so that neither Jupyter nor a kernel is needed.
    notebook = json.loads((EXAMPLES / "forecast.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    lines = [line for line in "\n".join(cells).splitlines() if line.strip()]
    assert len(lines) < 20
    monkeypatch.chdir(EXAMPLES)
    space = {}
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell, f"cell {number} of forecast.ipynb", "exec"), space)
    assert space["error"] < space["usual"]
    (line,) = [one for one in plt.gca().lines if one.get_label() == "forecast"]
    np.testing.assert_array_equal(line.get_ydata(), space["forecast"])
    plt.close("all")
    assert any(
        o["output_type"] == "display_data" for c in notebook["cells"] for o in c.get("outputs", ())
    )
