"""aeon's base classes around the estimators: what they check, convert and name."""

import dataclasses
from typing import Any, Literal

import numpy as np
from aeon.classification import BaseClassifier
from aeon.forecasting.base import BaseForecaster, DirectForecastingMixin, IterativeForecastingMixin
from aeon.regression import BaseRegressor
from jaxtyping import Float

from .. import sklearn as estimators
from ..sklearn._parameters import ClassifierParameters, ForecasterParameters, RegressorParameters

_COLLECTIONS = {
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "X_inner_type": ["numpy3D", "np-list"],
    "algorithm_type": "deeplearning",
}
_SERIES = {"capability:missing_values": True, "algorithm_type": "deeplearning"}
_SMALL = {"cell": "gru", "hidden_size": 4, "epochs": 2}


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class ODERNNClassifier(ClassifierParameters, BaseClassifier):
    """`odernn.interop.sklearn.ODERNNClassifier` as an aeon classifier.

    Arguments are those of the wrapped class, but nan is masked unless `missing="refuse"`. All
    kinds of collections that aeon knows are taken; `estimator_` is the fitted estimator.

    Raises:
        InputError: in `fit`, an argument out of range, or data that cannot be used.

    >>> from aeon.testing.data_generation import make_example_3d_numpy
    >>> X, y = make_example_3d_numpy(n_channels=2, random_state=0)
    >>> network = ODERNNClassifier(cell="gru", hidden_size=4, epochs=2, random_state=0)
    >>> network.fit(X, y).predict_proba(X).shape
    (10, 2)
    """

    missing: Literal["refuse", "mask"] = "mask"

    _tags = _COLLECTIONS

    def __post_init__(self) -> None:
        BaseClassifier.__init__(self)

    def _fit(self, X: Any, y: np.ndarray) -> "ODERNNClassifier":
        self.estimator_ = estimators.ODERNNClassifier(**self.get_params(deep=False)).fit(X, y)
        return self

    def _predict(self, X: Any) -> np.ndarray:
        return self.estimator_.predict(X)

    def _predict_proba(self, X: Any) -> Float[np.ndarray, "n classes"]:
        return self.estimator_.predict_proba(X)

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return dict(_SMALL)


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class ODERNNRegressor(RegressorParameters, BaseRegressor):
    """`odernn.interop.sklearn.ODERNNRegressor` as an aeon regressor, with one value a sequence.

    Arguments are those of the wrapped class, but nan is masked unless `missing="refuse"`. All
    kinds of collections that aeon knows are taken; `estimator_` is the fitted estimator.

    Raises:
        InputError: in `fit`, an argument out of range, or data that cannot be used.

    >>> from aeon.testing.data_generation import make_example_3d_numpy
    >>> X, y = make_example_3d_numpy(n_channels=2, regression_target=True, random_state=0)
    >>> network = ODERNNRegressor(cell="gru", hidden_size=4, epochs=2, random_state=0)
    >>> network.fit(X, y).predict(X).shape
    (10,)
    """

    missing: Literal["refuse", "mask"] = "mask"

    _tags = _COLLECTIONS

    def __post_init__(self) -> None:
        BaseRegressor.__init__(self)

    def _fit(self, X: Any, y: np.ndarray) -> "ODERNNRegressor":
        self.estimator_ = estimators.ODERNNRegressor(**self.get_params(deep=False)).fit(X, y)
        return self

    def _predict(self, X: Any) -> Float[np.ndarray, " n"]:
        return self.estimator_.predict(X)

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return dict(_SMALL)


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class ODERNNForecaster(
    ForecasterParameters, DirectForecastingMixin, IterativeForecastingMixin, BaseForecaster
):
    """`odernn.interop.sklearn.ODERNNForecaster` as an aeon forecaster of one series.

    Arguments are those of the wrapped class, but nan is masked unless `missing="refuse"`;
    `estimator_` is the fitted estimator. As in aeon, `forecast(y)` is a fit and a prediction.

    Raises:
        InputError: in `fit`, an argument out of range, or a series that cannot be used.

    >>> import numpy as np
    >>> network = ODERNNForecaster(cell="gru", hidden_size=4, epochs=2, random_state=0)
    >>> isinstance(network.forecast(np.sin(np.arange(30.0))), float)
    True
    """

    missing: Literal["refuse", "mask"] = "mask"

    _tags = _SERIES

    def __post_init__(self) -> None:
        BaseForecaster.__init__(self, horizon=self.horizon, axis=1)

    def _fit(self, y: np.ndarray, exog: None) -> "ODERNNForecaster":
        parameters = self.get_params(deep=False)
        self.estimator_ = estimators.ODERNNForecaster(**parameters).fit(y[0])
        return self

    def _predict(self, y: np.ndarray, exog: None) -> float:
        return self.estimator_.predict(y[0])

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return dict(_SMALL)
