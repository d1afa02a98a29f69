"""Tasks by name or by file."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from .._results import InputError, unknown_name
from . import _aeon as aeon
from ._digits import digits_task
from ._dynamics import dynamics_task
from ._forecasting import forecasting
from ._generated import generated_task
from ._irregular import irregular
from ._options import refuse, whole_number
from ._sequences import sequences
from ._task import Task

_OWN = {
    "digits": (digits_task, "handwritten digits pixel by pixel, 64 steps, 10 classes"),
    "digits-permuted": (digits_task, "the same pixels in a shuffled order"),
    "adding": (generated_task, "add two marked numbers among many, 100 steps"),
    "copy": (generated_task, "repeat ten symbols after a delay of 100 steps"),
    "fhn": (dynamics_task, "forecast the voltage of a FitzHugh-Nagumo neuron, 1000 steps"),
    "lorenz": (dynamics_task, "forecast x of Lorenz's chaotic system, 128 steps"),
    "pendulum": (dynamics_task, "forecast the angle of a damped pendulum, 128 steps"),
}
_IRREGULAR = "-irregular"


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

    A name may end in a length (`adding-500`), which stands for `length=500`, and then in
    `-irregular` (`adding-500-irregular`, `sales.csv-irregular`): 30 % of the steps are left out,
    see `irregular`.

    Arguments:
        name: one of `names()`, in upper or lower case; or the path of a file.
        seed: of generated training data; other data do not depend on it.
        length: steps of a sequence, delay of `copy`, rows of a window of a forecast series.
        train_size: sequences of an epoch (generated), or fewer than all of fixed data.
        target: column of a series to forecast.
        horizon: rows ahead to forecast it.
        mask_missing: mask missing and infinite values in files instead of refusing them.

    Raises:
        InputError: an unknown name (with the nearest ones), a file that cannot be used, or an
            option that is out of range or that the task does not have.

    >>> task = get("digits")
    >>> len(task.training(0)), len(task.validation), len(task.test)
    (1293, 144, 360)
    >>> get("adding-50-irregular").test.inputs.shape
    (1000, 35, 2)
    """
    text = str(name)
    stem = text[: -len(_IRREGULAR)] if text.lower().endswith(_IRREGULAR) else text
    seed = whole_number("seed", seed, 0)
    options: dict[str, Any] = {
        "length": length,
        "train_size": train_size,
        "target": target,
        "horizon": horizon,
        "mask_missing": mask_missing,
    }
    found = _regular(stem, seed, options)
    return found if stem == text else irregular(found)


def _regular(text: str, seed: int, options: dict[str, Any]) -> Task:
    path = Path(text)
    kind = path.suffix.lower()
    if kind == ".csv":
        return forecasting(path, **options)
    known = {
        **dict.fromkeys(_aeon_names(), aeon.aeon_task),
        **{own: make for own, (make, _) in _OWN.items()},
    }
    folded = {found.lower(): found for found in known}
    name, number = folded.get(text.lower()), None
    if name is None and (match := re.fullmatch(r"(.+)-(\d+)", text)):
        name, number = folded.get(match[1].lower()), int(match[2])
    if name not in aeon.SERIES:
        target, horizon = options["target"], options["horizon"]
        other = {"target": target, "horizon": None if horizon == 1 else horizon}
        refuse(text, "forecasts no column (that is for .csv files)", **other)
    if kind == ".ts":
        refuse(text, "has sequences of a given length", length=options["length"])
        choices = {k: options[k] for k in ("train_size", "mask_missing")}
        return sequences(path, **choices)
    if name is None:
        if kind or len(path.parts) > 1:
            raise InputError(f"{text} is not a task: name one, or a file that ends in .ts or .csv.")
        raise unknown_name("task", text, known)
    if number is None:
        return known[name](name, seed=seed, **options)
    refuse(text, "has it in its name", length=options["length"])
    task = known[name](name, seed=seed, **options | {"length": number})
    return replace(task, name=f"{name}-{number}")


def _aeon_names() -> list[str]:
    return sorted(aeon.DESCRIPTIONS | aeon.SERIES | aeon.files(), key=str.lower)


def names() -> list[tuple[str, str, bool]]:
    """Name, description and whether it is installed, of each task that has a name.

    Every name may end in `-irregular`, and some in a length: see `get`.
    """
    files = aeon.files()
    rows = [(name, text, True) for name, (_, text) in _OWN.items()]
    rows += [(name + _IRREGULAR, f"{name} with 30 % of its steps left out", True) for name in _OWN]
    return rows + [(name, aeon.describe(name), name in files) for name in _aeon_names()]
