"""The data sets that aeon brings in its package: read from its folder, never downloaded."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from .._results import InputError
from ._forecasting import forecasting
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


class Series(NamedTuple):
    """A time series that aeon brings: what it is, what to forecast and what else to read."""

    description: str
    target: str
    others: tuple[str, ...] = ()


SERIES = {
    "Airline": Series("passengers of airlines, 12 years by month, forecast", "Passengers"),
    "Longley": Series(
        "employment in the USA, 16 years, forecast from 6 channels",
        *("TOTEMP", ("GNPDEFL", "GNP", "UNEMP", "ARMED", "POP")),
    ),
    "Lynx": Series("lynx trapped in Canada, 114 years, forecast", "0"),
    "ShampooSales": Series("sales of a shampoo, 3 years by month, forecast", "Sales"),
    "solar": Series("solar power of a region, 6 days by half hour, forecast", "solar_gen"),
    "Uschange": Series(
        "growth of consumption in the USA, 47 years by quarter, forecast from 5 channels",
        *("Consumption", ("Income", "Production", "Savings", "Unemployment")),
    ),
}
"""Its series in .csv files, less those for segmentation and for finding anomalies, and less
PBS_dataset, which ends in zeros; columns that only count the rows are not read."""


def bundled() -> dict[str, Path]:
    """Name and training file of each .ts data set in the installed aeon; empty without aeon."""
    found = {}
    for place in _places():
        for file in sorted(place.glob("*/*_TRAIN.ts")):
            name = file.name.removesuffix("_TRAIN.ts")
            if file.with_name(f"{name}_TEST.ts").is_file():
                found[name] = file
    return found


def files() -> dict[str, Path]:
    """Name and file of each data set in the installed aeon: `bundled` and the series."""
    series = {name: place / name / f"{name}.csv" for place in _places() for name in SERIES}
    return bundled() | {name: file for name, file in series.items() if file.is_file()}


def _places() -> list[Path]:
    """Where aeon's data are.

    The package is located and not imported: importing it takes seconds, and its loaders would
    download what they do not find.
    """
    spec = importlib.util.find_spec("aeon")
    places = (spec.submodule_search_locations or []) if spec else []
    return [Path(place, "datasets", "data") for place in places]


def describe(name: str) -> str:
    """What a data set is, in a few words."""
    if name in SERIES:
        return SERIES[name].description
    return DESCRIPTIONS.get(name, "a data set that aeon brings")


def aeon_task(
    name: str,
    *,
    seed: int,
    length: int | None,
    target: str | None,
    horizon: int,
    **options: Any,
) -> Task:
    """A data set that aeon brings.

    Raises:
        InputError: aeon, or this data set in it, is not installed; or see `sequences` and
            `forecasting`.
    """
    file = files().get(name)
    if file is None:
        raise InputError(
            f"task {name} is a data set of aeon, which is not installed: "
            "pip install 'odernn[aeon]'."
        )
    if name not in SERIES:
        refuse(name, "has sequences of a given length", length=length)
        return sequences(file, **options)
    series = SERIES[name]
    return forecasting(
        file,
        target=series.target if target is None else target,
        columns=(series.target, *series.others),
        horizon=horizon,
        length=length,
        **options,
    )
