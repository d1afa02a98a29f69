"""A regressor in the way of scikit-learn."""

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import RegressorMixin

from ._base import AbstractCollectionEstimator
from ._collection import read
from ._parameters import RegressorParameters
from ._targets import values


class ODERNNRegressor(RegressorMixin, AbstractCollectionEstimator, RegressorParameters):
    """A recurrent network that gives a sequence one value or several, as a scikit-learn estimator.

    Targets are scaled by their mean and standard deviation in training. Arguments and attributes
    are those of `ODERNNClassifier`, without `label_smoothing` and `classes_`.

    Raises:
        InputError: in `fit`, an argument out of range, or data that cannot be used.

    >>> import numpy as np
    >>> frequency = np.linspace(0.2, 1, 40)
    >>> X = np.sin(np.arange(20) * frequency[:, None])  # 40 sequences, 20 steps
    >>> options = {"cell": "gru", "hidden_size": 8, "batch_size": 4, "learning_rate": 0.02}
    >>> network = ODERNNRegressor(**options, random_state=0).fit(X, frequency)
    >>> network.score(X, frequency) > 0.8
    True
    """

    _outputs: tuple[int, ...]

    def fit(self, X: Any, y: Any, times: Any = None) -> "ODERNNRegressor":
        """Train on sequences with their values.

        Arguments:
            X: a table (n, time) of one channel; an array (n, channels, time); or a list of n arrays
                (channels, time), whose lengths may differ.
            y: (n,) or (n, outputs).
            times: time stamps, (n, time) or a list of n arrays (time,), increasing; the median
                interval is one input step. None: one step each.

        Raises:
            InputError: an argument out of range, or data that cannot be used.
        """
        config = self._config(type(self).__name__)
        data = read(self, X, times, missing=self.missing, fit=True)
        y = values(y, len(data.inputs), type(self).__name__)
        self._outputs = y.shape[1:]
        self._train_on(config, data, y.reshape(len(y), -1), None)
        return self

    def predict(self, X: Any, times: Any = None) -> Float[np.ndarray, "n *outputs"]:
        """Return the values of each sequence, in the shape of y; arguments as of `fit`.

        Raises:
            InputError: other channels than in training, or values that cannot be read.
        """
        answers = self._answers(X, times)
        return answers.reshape(len(answers), *self._outputs)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
