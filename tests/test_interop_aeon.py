"""Estimators under aeon's bases: its own checks, and its collections."""

import numpy as np
import pytest
from aeon.datasets import load_basic_motions
from aeon.testing.estimator_checking import parametrize_with_checks

import odernn
import odernn.interop.sklearn
from odernn.interop.aeon import ODERNNClassifier, ODERNNForecaster, ODERNNRegressor

from .test_structure import undocumented

pytestmark = pytest.mark.usefixtures("compiled_programs_are_kept")


@parametrize_with_checks([ODERNNClassifier, ODERNNRegressor, ODERNNForecaster])
def test_what_aeon_checks(check):
    check()


@pytest.mark.parametrize("name", ["Classifier", "Regressor", "Forecaster"])
def test_the_arguments_are_those_of_the_wrapped(name):
    ours = odernn.interop.aeon.__dict__[f"ODERNN{name}"]().get_params()
    theirs = odernn.interop.sklearn.__dict__[f"ODERNN{name}"]().get_params()
    assert ours == theirs | {"missing": "mask"}


def test_answers_are_those_of_the_wrapped():
    X, y = load_basic_motions(split="train")
    options = {"cell": "rnn", "hidden_size": 4, "epochs": 1, "random_state": 0}
    network = ODERNNClassifier(**options).fit(X[:12], y[:12])
    same = odernn.interop.sklearn.ODERNNClassifier(**options).fit(X[:12], y[:12])
    np.testing.assert_array_equal(network.predict_proba(X), same.predict_proba(X))
    with pytest.raises(ValueError, match="number of channels"):
        network.predict(X[:, :5])


def test_forecasts_of_aeons_strategies():
    y = np.sin(np.arange(30) / 3)
    network = ODERNNForecaster(cell="rnn", hidden_size=4, epochs=1, random_state=0)
    ahead = network.iterative_forecast(y, prediction_horizon=3)
    np.testing.assert_allclose(ahead, network.estimator_.forecast(3), rtol=1e-12)
    assert network.direct_forecast(y, prediction_horizon=2).shape == (2,)
    with pytest.raises(ValueError, match="cannot handle exogenous"):
        network.fit(y, exog=y)


def test_every_public_name_is_documented():
    assert not list(undocumented(odernn.interop.aeon))
