"""A classifier in the way of scikit-learn."""

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import ClassifierMixin

from ._base import AbstractCollectionEstimator
from ._collection import read
from ._parameters import ClassifierParameters
from ._targets import labels


class ODERNNClassifier(ClassifierMixin, AbstractCollectionEstimator, ClassifierParameters):
    """A recurrent network that names the class of a sequence, as a scikit-learn estimator.

    It is trained as `odernn train` does it, in memory and with the same defaults.

    Arguments:
        cell: a name from `odernn list`, or a function: ``cell(input_size, key=key)`` returns an
            `odernn.Cell`.
        hidden_size: units per layer (64).
        layers, bidirectional: how many layers, and whether they read in both directions.
        method, dt, train_dt, interpolation: in place of the cell's own; dt is in input steps.
        initial_horizon: choose initial values so that gradients reach so many steps.
        readout: "last" reads the last state (also "auto"), "mean" the mean over time.
        epochs, batch_size, learning_rate, warmup, weight_decay, gradient_clip, dropout, average,
            label_smoothing: training, as in `odernn.train.Config`.
        keep_certified: keep every cell certified not to expand.
        early_stopping: validate on a part of the data (`validation_fraction`), keep the best epoch
            and stop after `patience` epochs without a better one (0: never). Without it all data
            are trained on for all epochs, and the last weights are kept.
        missing: "refuse" refuses nan; "mask" holds the state at a step that lacks a value.
        random_state: seed of weights, data order and validation part.
        verbose: 1 shows a bar.
        qubits, memory, sharing, feedback, encoding, features, precession: of QUNN.

    Attributes:
        model_: the `odernn.Model`.
        classes_: what y may be.
        config_: the `odernn.train.Config` with all numbers filled in.
        n_iter_: epochs done.
        history_: a dict of metrics for each epoch; without early stopping those of validation are
            about (some of) the training data.
        n_features_in_: steps of a table, or channels of sequences.
        n_channels_: channels of sequences, None for a table.
        certificates_: with `keep_certified`, what is certified of each cell.

    Raises:
        InputError: in `fit`, an argument out of range, or data that cannot be used.

    >>> import numpy as np
    >>> X = np.sin(np.arange(20) * np.linspace(0.2, 1, 40)[:, None])  # 40 sequences, 20 steps
    >>> y = np.where(np.arange(40) < 20, "slow", "fast")
    >>> network = ODERNNClassifier(cell="gru", hidden_size=8, batch_size=8, random_state=0)
    >>> network.fit(X, y).score(X, y) > 0.8
    True
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any, times: Any = None) -> "ODERNNClassifier":
        """Train on sequences with their classes.

        Arguments:
            X: a table (n, time) of one channel; an array (n, channels, time); or a list of n arrays
                (channels, time), whose lengths may differ.
            y: (n,), the class of each.
            times: time stamps, (n, time) or a list of n arrays (time,), increasing; the median
                interval is one input step. None: one step each.

        Raises:
            InputError: an argument out of range, or data that cannot be used.
        """
        config = self._config(type(self).__name__)
        data = read(self, X, times, missing=self.missing, fit=True)
        y = labels(y, len(data.inputs), type(self).__name__)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        self._train_on(config, data, numbers, tuple(map(str, self.classes_)))
        return self

    def predict_proba(self, X: Any, times: Any = None) -> Float[np.ndarray, "n classes"]:
        """Return the probability of each of `classes_`; arguments as of `fit`.

        Raises:
            InputError: other channels than in training, or values that cannot be read.
        """
        return self._answers(X, times)

    def predict(self, X: Any, times: Any = None) -> np.ndarray:
        """Return the most probable class of each sequence; arguments as of `fit`.

        Raises:
            InputError: other channels than in training, or values that cannot be read.
        """
        numbers = self._answers(X, times).argmax(axis=1)
        return self.classes_[numbers]
