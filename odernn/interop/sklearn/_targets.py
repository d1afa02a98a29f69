"""What estimators are to learn, checked."""

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from ..._results import InputError


def labels(y: Any, count: int, name: str) -> np.ndarray:
    """One class a sequence.

    Raises:
        InputError: none given, or as many as there are no sequences.
        ValueError: scikit-learn's own: values in place of classes, nan.
    """
    _check_given(y, name)
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name="y", estimator_name=name)
    check_classification_targets(y)
    _check_count(y, count)
    return y


def values(y: Any, count: int, name: str) -> Float[np.ndarray, "n *out"]:
    """One number a sequence, or several.

    Raises:
        InputError: none given, as many as there are no sequences, or too many axes.
        ValueError: scikit-learn's own: nan, or what is no number.
    """
    _check_given(y, name)
    options: dict[str, Any] = {"ensure_2d": False, "allow_nd": True, "dtype": "float64"}
    y = np.asarray(check_array(y, input_name="y", **options))
    if y.ndim != 1 and y.ndim != 2:
        raise InputError(f"y has the shape {y.shape}: give (n,) or (n, outputs).")
    _check_count(y, count)
    return y


def _check_given(y: Any, name: str) -> None:
    if y is None:
        raise InputError(f"{name} requires y to be passed, but the target y is None.")


def _check_count(y: np.ndarray, count: int) -> None:
    if len(y) != count:
        raise InputError(f"y has {len(y)} targets, but X has {count} sequences: give one each.")
