"""Recurrent networks as scikit-learn estimators, of tables and of collections of sequences."""

from ._classifier import ODERNNClassifier as ODERNNClassifier
from ._forecaster import ODERNNForecaster as ODERNNForecaster
from ._regressor import ODERNNRegressor as ODERNNRegressor
