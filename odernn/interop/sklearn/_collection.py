"""Collections of sequences: what users give, as arrays of one shape."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.utils.validation import check_array, validate_data

from ..._results import InputError


class Collection(NamedTuple):
    """Sequences padded to one length; a step that lacks a value is masked.

    Where all sequences are of one length, or no step lacks a value, there is None.
    """

    inputs: Float[np.ndarray, "n time channels"]
    lengths: Int[np.ndarray, " n"] | None
    mask: Bool[np.ndarray, "n time"] | None
    times: Float[np.ndarray, "n time"] | None

    def rows(self) -> Float[np.ndarray, "rows channels"]:
        """All steps of all sequences, nan where a value is missing."""
        steps = np.arange(self.inputs.shape[1])
        lengths = steps.size if self.lengths is None else self.lengths[:, None]
        return self.inputs[np.broadcast_to(steps < lengths, self.inputs.shape[:2])]

    def part(self, index: Int[np.ndarray, " rows"]) -> "Collection":
        """Some of the sequences."""
        lengths, mask, times = (None if a is None else a[index] for a in self[1:])
        return Collection(self.inputs[index], lengths, mask, times)


def is_collection(X: Any) -> bool:
    """Whether X is sequences with channels, and no table of one number a step."""
    if isinstance(X, list | tuple):
        return bool(X) and all(isinstance(one, np.ndarray) and one.ndim == 2 for one in X)
    return getattr(X, "ndim", 2) == 3


def read(estimator: Any, X: Any, times: Any, *, missing: str, fit: bool) -> Collection:
    """The sequences that an estimator is given.

    Arguments:
        estimator: whose `n_features_in_` is set if it is fitted, else compared with.
        X: a table (n, time) of one channel; an array (n, channels, time); or a list of arrays
            (channels, time), which may differ in length.
        times: time stamps, an array (n, time) or a list of arrays (time,); or None.
        missing: "mask" lets nan pass.
        fit: whether it is fitted.

    Raises:
        InputError: shapes that do not fit together, or other channels than in training.
        ValueError: scikit-learn's own, for a table.
        TypeError: likewise, for a sparse one.
    """
    finite = "allow-nan" if missing == "mask" else True
    # Scaled, and stamps made relative, in double precision.
    kind: dict[str, Any] = {"dtype": "float64", "ensure_all_finite": finite}
    if is_collection(X):
        if isinstance(X, list | tuple):
            arrays = [check_array(one, input_name="a sequence of X", **kind) for one in X]
        else:
            arrays = check_array(X, allow_nd=True, input_name="X", **kind)
        series = [np.asarray(one).T for one in arrays]
        _check_channels(estimator, series, fit)
    else:
        if not fit and estimator.n_channels_ is not None:
            raise InputError(
                "X is a table, but the estimator was fitted to sequences with channels: give an "
                "array (n, channels, time), or a list of arrays (channels, time)."
            )
        table = validate_data(estimator, X, reset=fit, **kind)
        if fit:
            estimator.n_channels_ = None
        series = [row[:, None] for row in np.asarray(table)]
    return _padded(series, None if times is None else _stamps(times, series))


def _check_channels(estimator: Any, series: list[np.ndarray], fit: bool) -> None:
    counts = {one.shape[1] for one in series}
    if len(counts) > 1:
        raise InputError(f"X has sequences of {sorted(counts)} channels: give all the same number.")
    (count,) = counts
    if fit:
        estimator.n_features_in_ = estimator.n_channels_ = count
        vars(estimator).pop("feature_names_in_", None)  # of a table, earlier
        return
    expected = estimator.n_channels_
    if expected is None:
        raise InputError(
            "X has sequences with channels, but the estimator was fitted to a table: give a table "
            f"(n, {estimator.n_features_in_})."
        )
    if count != expected:
        raise InputError(f"X has {count} channel(s), but the estimator was fitted to {expected}.")


def _stamps(times: Any, series: list[np.ndarray]) -> list[np.ndarray]:
    try:
        stamps = [np.asarray(one, np.float64) for one in times]
    except (TypeError, ValueError):
        raise InputError("times holds something that is no number: give time stamps.") from None
    if len(stamps) != len(series):
        raise InputError(
            f"times has stamps of {len(stamps)} sequences, but X has {len(series)} sequences."
        )
    for number, (one, values) in enumerate(zip(stamps, series, strict=True)):
        if one.shape != values.shape[:1]:
            raise InputError(
                f"times of sequence {number} has the shape {one.shape}, but the sequence has "
                f"{len(values)} steps: give one number a step."
            )
    return stamps


def _padded(series: list[np.ndarray], times: list[np.ndarray] | None) -> Collection:
    lengths = np.array([len(one) for one in series], np.int32)
    shape = (len(series), int(lengths.max()))
    inputs = np.zeros((*shape, series[0].shape[1]))
    stamps = None if times is None else np.zeros(shape)
    for row, one in enumerate(series):
        inputs[row, : len(one)] = one
        if times is not None and stamps is not None:
            # Beyond the end they go on increasing.
            beyond = times[row][-1] + 1 + np.arange(shape[1] - len(one))
            stamps[row] = np.concatenate([times[row], beyond])
    there = np.asarray(~np.isnan(inputs).any(axis=-1))
    equal = bool((lengths == shape[1]).all())
    return Collection(inputs, None if equal else lengths, None if there.all() else there, stamps)
