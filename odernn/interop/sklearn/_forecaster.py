"""A forecaster: fit to one series, then asked for the values after its end."""

import itertools
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.utils.validation import check_array, check_is_fitted

from ..._results import InputError
from ...tasks import Dataset, Scaling, Task, last_read
from ...tasks._forecasting import WINDOW, _cut, _windows
from ...tasks._task import Always, single
from ...train import Config
from ...train._evaluate import answers, new_data
from ._base import AbstractEstimator
from ._parameters import ForecasterParameters


class ODERNNForecaster(AbstractEstimator, ForecasterParameters):
    """A recurrent network that forecasts a series.

    At each row it forecasts the next `horizon` values at once, as differences from the present
    one, from all rows so far. As in `odernn.tasks.forecasting`, a series is cut into windows that
    overlap by half, and of all but the first only the second half counts.

    Arguments:
        horizon: how many rows ahead to forecast.
        length: rows of a window (64, or all that there are); a forecast reads so many.
        validation_fraction: with `early_stopping`, the share of the rows, the last ones, to
            validate on.
        missing: "refuse" refuses nan; "mask" holds the state at a row that lacks a value.

    All others are those of `ODERNNClassifier`, and so are `model_`, `config_`, `n_iter_`,
    `history_` and `certificates_`.

    Raises:
        InputError: in `fit`, an argument out of range, or data that cannot be used.

    >>> import numpy as np
    >>> y = np.sin(np.arange(200) / 5)
    >>> network = ODERNNForecaster(cell="gru", hidden_size=8, batch_size=1, random_state=0)
    >>> ahead = network.set_params(horizon=5).fit(y).forecast()
    >>> bool(np.abs(ahead - np.sin(np.arange(200, 205) / 5)).max() < 0.2)
    True
    """

    _end: Float[np.ndarray, "rows columns"]

    def fit(self, y: Any, X: Any = None) -> "ODERNNForecaster":
        """Train on a series.

        Arguments:
            y: (rows,), what to forecast.
            X: (rows, columns), what else is known at each row; its future is not needed.

        Raises:
            InputError: an argument out of range, or a series that is too short or cannot be used.
        """
        config = self._config(type(self).__name__)
        values = self._read(y, X)
        self._train(config, self._task(config, values))
        self._end = values[-(config.length or WINDOW) :]
        return self

    def predict(self, y: Any = None, X: Any = None) -> float:
        """Return the value `horizon` rows after the end of y.

        Arguments:
            y: (rows,), a series with its past; None: the one in training.
            X: (rows, columns), as in `fit`.

        Raises:
            InputError: other columns than in training, or values that cannot be read.
        """
        return float(self._next(self._past(y, X))[-1])

    def forecast(
        self, steps: int | None = None, y: Any = None, X: Any = None
    ) -> Float[np.ndarray, " steps"]:
        """Return the values of the rows after the end of y.

        The first `horizon` are one answer of the network. If more are asked for, it goes on from
        its own forecasts, which takes a series without X.

        Arguments:
            steps: how many (`horizon`).
            y: (rows,), a series with its past; None: the one in training.
            X: (rows, columns), as in `fit`.

        Raises:
            InputError: more steps than the horizon with X, other columns than in training, or
                values that cannot be read.
        """
        values = self._past(y, X)
        horizon = self.config_.horizon
        steps = horizon if steps is None else steps
        if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
            raise InputError(f"steps is {steps!r}: give a whole number, at least 1.")
        if steps > horizon and values.shape[1] > 1:
            raise InputError(
                f"steps is {steps}, but X is not known beyond its end: fit with horizon={steps}."
            )
        found = np.zeros(0)
        while len(found) < steps:
            ahead = self._next(values)
            found = np.concatenate([found, ahead])
            values = np.concatenate([values, ahead[:, None]])
        return found[:steps]

    def _next(self, values: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " horizon"]:
        length = self.config_.length or WINDOW
        values = values[-length:]
        there = np.asarray(~np.isnan(values).any(axis=1))
        filled = np.where(np.isnan(values), self._about["scaling"]["mean"], values)[None]
        mask = None if there.all() else there[None]
        data = new_data(self._about, filled, None, mask, None)
        ahead = answers(self.model_, self._about, filled, data, 1)[0, -1].astype(float)
        if np.isnan(ahead).any():
            raise InputError(f"y lacks a value in each of its last {len(values)} rows.")
        return ahead

    def _past(self, y: Any, X: Any) -> Float[np.ndarray, "rows columns"]:
        check_is_fitted(self)
        if y is None:
            if X is not None:
                raise InputError("X is given without y: give both, or none for those in training.")
            return self._end
        values = self._read(y, X)
        if values.shape[1] != self._end.shape[1]:
            raise InputError(
                f"X has {values.shape[1] - 1} column(s), but the estimator was fitted to "
                f"{self._end.shape[1] - 1}."
            )
        return values

    def _read(self, y: Any, X: Any) -> Float[np.ndarray, "rows columns"]:
        """The series and what else is known, side by side."""
        finite = "allow-nan" if self.missing == "mask" else True
        kind: dict[str, Any] = {"dtype": "float64", "ensure_all_finite": finite, "ensure_2d": False}
        columns = [np.asarray(check_array(y, input_name="y", **kind))]
        if columns[0].ndim == 2 and columns[0].shape[1] == 1:
            columns[0] = columns[0][:, 0]
        if columns[0].ndim != 1:
            raise InputError(f"y has the shape {columns[0].shape}: give one series, (rows,).")
        if X is not None:
            columns.append(np.asarray(check_array(X, input_name="X", **kind)))
            if columns[1].ndim > 2 or len(columns[1]) != len(columns[0]):
                raise InputError(
                    f"X has the shape {columns[1].shape}, but y has {len(columns[0])} rows: give "
                    "(rows, columns)."
                )
        return np.column_stack(columns)

    def _task(self, config: Config, values: Float[np.ndarray, "rows columns"]) -> Task:
        horizon, count = config.horizon, len(values)
        ends = [count]
        if self.early_stopping:
            ends = [count - max(1, round(self.validation_fraction * count)), count]
        # Step k reads row k and forecasts rows up to k + horizon, which decides the part it is in.
        bounds = [0, *(end - horizon for end in ends)]
        window = config.length or min(WINDOW, max(bounds[1], 1))
        if window > bounds[1]:
            raise InputError(
                f"y has {count} row(s), of which {max(bounds[1], 0)} can be trained on: "
                f"forecasting {horizon} row(s) ahead from windows of {window} needs more."
            )
        names = ("y", *(f"column {index + 1} of X" for index in range(values.shape[1] - 1)))
        scaling = Scaling.fit(values[: ends[0]], names)
        levels = scaling.apply(values)
        read = np.asarray(~np.isnan(levels).any(axis=1))
        targets, counts = _differences(levels[:, 0], read, horizon)
        inputs = single(np.where(np.isnan(levels), 0.0, levels), "y or X")
        parts = [
            _windows(inputs, single(targets, "y"), read, counts, _cut(low, high, window), window)
            for low, high in itertools.pairwise(bounds)
        ]
        for part in parts:
            _check_counts(part)
        return Task(
            name=type(self).__name__,
            kind="regression",
            per_step=True,
            input_size=len(names),
            output_size=horizon,
            metric="mse",
            training=Always(parts[0]),
            validation=parts[-1],
            test=parts[-1],
            channels=names,
            scaling=scaling,
            target="y",
            target_scaling=Scaling((0.0,) * horizon, (scaling.std[0],) * horizon),
        )


def _differences(
    levels: Float[np.ndarray, " rows"], read: Bool[np.ndarray, " rows"], horizon: int
) -> tuple[Float[np.ndarray, "steps horizon"], Bool[np.ndarray, " steps"]]:
    """What each of the next values is more than the present one, and where all are known."""
    ahead = np.lib.stride_tricks.sliding_window_view(levels[1:], horizon)
    targets = ahead - last_read(levels, read)[:-horizon, None]
    counts = np.asarray(~np.isnan(targets).any(axis=1))
    return np.where(counts[:, None], targets, 0.0), counts


def _check_counts(part: Dataset) -> None:
    if part.target_mask is not None and not part.target_mask.any():
        raise InputError("y lacks so many values that there is nothing to compare a forecast with.")
