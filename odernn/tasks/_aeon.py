"""The data sets that aeon brings in its package: read from its folder, never downloaded."""

import importlib.util
from pathlib import Path

from .._results import InputError
from ._options import refuse
from ._sequences import sequences
from ._task import Task

DESCRIPTIONS = {
    "ACSF1": "power use of 10 kinds of appliances",
    "ArrowHead": "outlines of projectile points, 3 classes",
    "BasicMotions": "accelerometer and gyroscope in 4 activities, 6 channels",
    "CardanoSentiment": "sentiment about a crypto-currency, forecast of a value, 2 channels",
    "Covid3Month": "death rate from three months of COVID-19 cases, forecast of a value",
    "Covid3Month_disc": "death rate from three months of COVID-19 cases, 3 classes",
    "GunPoint": "motion of a hand that draws a gun or points, 2 classes",
    "ItalyPowerDemand": "power demand of Italy over a day, summer or winter",
    "JapaneseVowels": "who of 9 speakers says two vowels, 12 channels, unequal lengths",
    "JapaneseVowels_eq": "JapaneseVowels brought to equal lengths",
    "OSULeaf": "outlines of leaves of 6 trees",
    "PickupGestureWiimoteZ": "one axis of a controller in 10 gestures, unequal lengths",
    "PickupGestureWiimoteZ_eq": "PickupGestureWiimoteZ brought to equal lengths",
    "UnitTest": "pedestrians in Melbourne's Chinatown over a day, small, 2 classes",
}
"""The data sets of aeon 1.6, to name them where aeon is not installed."""


def bundled() -> dict[str, Path]:
    """Name and training file of each data set in the installed aeon; empty without aeon.

    The package is located and not imported: importing it takes seconds, and its loaders would
    download what they do not find.
    """
    spec = importlib.util.find_spec("aeon")
    found = {}
    for place in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(place, "datasets", "data").glob("*/*_TRAIN.ts")):
            name = file.name.removesuffix("_TRAIN.ts")
            if file.with_name(f"{name}_TEST.ts").is_file():
                found[name] = file
    return found


def aeon_task(
    name: str, *, length: int | None, train_size: int | None, mask_missing: bool, **_: object
) -> Task:
    """A data set that aeon brings.

    Raises:
        InputError: aeon, or this data set in it, is not installed; or see `sequences`.
    """
    refuse(name, "has sequences of a given length", length=length)
    files = bundled()
    if name not in files:
        raise InputError(
            f"task {name} is a data set of aeon, which is not installed: "
            "pip install 'odernn[aeon]'."
        )
    return sequences(files[name], train_size=train_size, mask_missing=mask_missing)
