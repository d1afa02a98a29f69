"""Checks of the options that tasks share."""

from typing import Any

import numpy as np

from .._results import InputError

_FLAGS = {"train_size": "train_size (--train-size)"}


def whole_number(name: str, value: Any, least: int) -> int:
    """`value` as an int.

    Raises:
        InputError: not a whole number, or below `least`.
    """
    label = _FLAGS.get(name, name)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{label} is {value!r}: give a whole number.")
    if value < least:
        raise InputError(f"{label} is {value}: give at least {least}.")
    return int(value)


def refuse(task: str, reason: str, **options: Any) -> None:
    """Raise if an option was given that the task does not have.

    Raises:
        InputError: the first option that is not None, with the reason.
    """
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} is {value!r}, but task {task} {reason}: leave {name} out.")
