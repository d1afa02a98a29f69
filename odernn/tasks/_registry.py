"""Tasks by name or by file."""

from pathlib import Path
from typing import Any

from .._results import InputError, unknown_name
from . import _aeon as aeon
from ._digits import digits_task
from ._forecasting import forecasting
from ._generated import generated_task
from ._options import refuse, whole_number
from ._sequences import sequences
from ._task import Task

_OWN = {
    "digits": (digits_task, "handwritten digits pixel by pixel, 64 steps, 10 classes"),
    "digits-permuted": (digits_task, "the same pixels in a shuffled order"),
    "adding": (generated_task, "add two marked numbers among many (length is an option)"),
    "copy": (generated_task, "repeat ten symbols after a delay (length is an option)"),
}


def get(
    name: str | Path,
    *,
    seed: int = 0,
    length: int | None = None,
    train_size: int | None = None,
    target: str | None = None,
    horizon: int = 1,
    mask_missing: bool = False,
) -> Task:
    """The task of this name, or of this .ts or .csv file.

    Arguments:
        name: one of `names()`, in upper or lower case; or the path of a file.
        seed: of generated training data; other data do not depend on it.
        length: steps of `adding`, delay of `copy`, rows of a window of a .csv file.
        train_size: sequences of an epoch (generated), or fewer than all of fixed data.
        target: column of a .csv file to forecast.
        horizon: rows ahead to forecast it.
        mask_missing: mask missing and infinite values in files instead of refusing them.

    Raises:
        InputError: an unknown name (with the nearest ones), a file that cannot be used, or an
            option that is out of range or that the task does not have.

    >>> task = get("digits")
    >>> len(task.training(0)), len(task.validation), len(task.test)
    (1293, 144, 360)
    """
    seed = whole_number("seed", seed, 0)
    options: dict[str, Any] = {"train_size": train_size, "mask_missing": mask_missing}
    path, text = Path(name), str(name)
    kind = path.suffix.lower()
    if kind == ".csv":
        return forecasting(path, target=target, horizon=horizon, length=length, **options)
    other = {"target": target, "horizon": None if horizon == 1 else horizon}
    refuse(text, "forecasts no column (that is for .csv files)", **other)
    if kind == ".ts":
        refuse(text, "has sequences of a given length", length=length)
        return sequences(path, **options)
    known = {
        **dict.fromkeys(aeon.DESCRIPTIONS | aeon.bundled(), aeon.aeon_task),
        **{own: make for own, (make, _) in _OWN.items()},
    }
    exact = {found.lower(): found for found in known}.get(text.lower())
    if exact is not None:
        return known[exact](exact, seed=seed, length=length, **options)
    if kind or len(path.parts) > 1:
        raise InputError(f"{text} is not a task: name one, or a file that ends in .ts or .csv.")
    raise unknown_name("task", text, known)


def names() -> list[tuple[str, str, bool]]:
    """Name, description and whether it is installed, of each task that has a name."""
    files = aeon.bundled()
    rows = [(name, text, True) for name, (_, text) in _OWN.items()]
    for name in sorted(aeon.DESCRIPTIONS | files, key=str.lower):
        text = aeon.DESCRIPTIONS.get(name, "a data set that aeon brings")
        rows.append((name, text, name in files))
    return rows
