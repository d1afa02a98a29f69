"""Recurrent networks as aeon estimators: those of `odernn.interop.sklearn` under aeon's bases."""

from ._adapters import ODERNNClassifier as ODERNNClassifier
from ._adapters import ODERNNForecaster as ODERNNForecaster
from ._adapters import ODERNNRegressor as ODERNNRegressor
