"""What a benchmark compares, and how much training each cell gets."""

import bisect
import dataclasses
import math
import re
import tomllib
import typing
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._model import parameter_count
from .._results import InputError, unknown_name
from ..tasks import Task
from ..train import Config, build_model
from ..train._config import CELL_OPTIONS, _conform, check_cell_options
from ..train._loss import batches, outputs
from ..zoo import CELLS
from ..zoo._network import size_name

DESIGN = (
    *("cell", *CELL_OPTIONS, "layers", "bidirectional"),
    *("method", "dt", "train_dt", "interpolation", "initial_horizon"),
)
"""What of a configuration is the network; the rest is the same for all cells."""

_LOWEST, _HIGHEST, _ONLY = 5e-4, 5e-2, 5e-3
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_USUAL_BUDGET = 600.0
_MOST_UNITS, _MOST_QUBITS = 65536, 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to compare on what, and how.

    Arguments:
        tasks: names or files, as `odernn.tasks.get` takes them.
        cells: networks: a name (`lstm`), a name with options (`cornn:dt=0.05:gamma=2` is written
            `NAME:OPTION=VALUE:...` with the options of a configuration that make a network), or a
            configuration file (`design.toml`), of which that part is read.
        seeds: final trainings of each cell on each task, with seeds 1, 2, ...
        budget: seconds of training and validation for each cell on each task, search and final
            trainings together, in equal parts; 600 if there are no `updates` either.
        updates: gradient steps of each training, instead of a budget of time.
        parameters: each cell gets the largest size that has no more; a size given with
            `NAME:hidden_size=32` stays.
        trials: learning rates that are tried, evenly on a logarithmic scale from 0.0005 to 0.05,
            with seed 0; the one with the best validation metric is taken. Of a single one, 0.005,
            no search is made.
        batch_size: sequences of a gradient step.
        every: gradient steps between two validations.
        patience: validations without a better metric before a training stops; 0 never stops.
        out: the folder of results, made if it is not there, else continued.

    Raises:
        InputError: a number out of range, nothing to compare, or one thing twice; by `check`.

    >>> Plan(tasks=("digits",), cells=("lstm", "gru"), trials=3).rates
    (0.0005, 0.005, 0.05)
    """

    tasks: tuple[str, ...]
    cells: tuple[str, ...]
    seeds: int = 5
    budget: float | None = None
    updates: int | None = None
    parameters: int = 10_000
    trials: int = 5
    batch_size: int = 32
    every: int = 50
    patience: int = 0
    out: Path = Path("runs/bench")

    def check(self) -> None:
        """Refuse what no benchmark can have.

        Raises:
            InputError: names the option and its range.
        """
        for name in ("tasks", "cells"):
            values = getattr(self, name)
            if not values:
                raise InputError(f"no {name} given: name at least one (see `odernn list`).")
            for value in values:
                if [v.lower() for v in values].count(value.lower()) > 1:
                    raise InputError(f"{name} has {value!r} twice: leave one out.")
        least = {"seeds": 1, "parameters": 1, "trials": 1, "batch_size": 1, "every": 1}
        for name, low in (least | {"patience": 0, "updates": 1}).items():
            value = getattr(self, name)
            if value is not None and value < low:
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{flag} is {value}, it must be at least {low}.")
        if self.budget is not None:
            if self.updates is not None:
                raise InputError("--budget and --updates are two ways to say one thing: give one.")
            if not (math.isfinite(self.budget) and self.budget > 0):
                raise InputError(f"--budget is {self.budget:g} s, it must be positive and finite.")

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates that are tried."""
        if self.trials == 1:
            return (_ONLY,)
        grid = np.geomspace(_LOWEST, _HIGHEST, self.trials)
        return tuple(float(f"{rate:.2g}") for rate in grid)

    @property
    def trainings(self) -> int:
        """How many trainings a cell has on a task."""
        return self.seeds + (self.trials if self.trials > 1 else 0)

    @property
    def share(self) -> float:
        """Seconds of one training, where time is the budget."""
        return (self.budget or _USUAL_BUDGET) / self.trainings


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A cell that takes part.

    Arguments:
        name: in tables.
        config: its part of a configuration.
        sized: whether its size was given and stays.
    """

    name: str
    config: Config
    sized: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What makes the network, less what is as it would be anyway."""
        values = {name: getattr(self.config, name) for name in DESIGN}
        usual = dataclasses.asdict(Config())
        return {k: v for k, v in values.items() if k == "cell" or v != usual[k]}


def seconds(text: str) -> float:
    """The seconds in `90s`, `10m` or `2h`.

    Raises:
        InputError: anything else.

    >>> seconds("1.5m")
    90.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip().lower())
    if match is None:
        raise InputError(f"--budget is {text!r}: give a time as 600s, 10m or 2h.")
    return float(match[1]) * _SECONDS[match[2]]


def contestant(text: str) -> Contestant:
    """The cell of this name, with these options, or in this configuration file.

    Raises:
        InputError: an unknown cell or option (with the nearest), a value that it cannot have, or
            a file that is no configuration.
    """
    if text.lower().endswith(".toml"):
        return _from_file(Path(text))
    name, *given = text.split(":")
    if name.lower() not in CELLS:
        raise unknown_name("cell", name, CELLS)
    hints = typing.get_type_hints(Config)
    values: dict[str, Any] = {"cell": name.lower()}
    for part in given:
        option, equals, value = part.partition("=")
        option = option.strip().replace("-", "_")
        if not equals:
            raise InputError(f"cell {text!r}: write options as NAME:OPTION=VALUE, not {part!r}.")
        if option not in DESIGN[1:]:
            raise unknown_name(f"option of cell {name}", option, DESIGN[1:])
        values[option] = _conform(Path(text), option, _value(value.strip()), hints[option])
    config = Config(**values)
    check_cell_options(config.cell_options)
    sized = any(values.get(size) is not None for size in ("hidden_size", "qubits"))
    return Contestant(text, config, sized)


def _value(text: str) -> Any:
    """A value as TOML has it; text needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _from_file(path: Path) -> Contestant:
    stored = Config.from_toml(path)
    if stored.cell.lower() not in CELLS:
        raise unknown_name(f"cell in {path}", stored.cell, CELLS)
    values = {name: getattr(stored, name) for name in DESIGN}
    check_cell_options(stored.cell_options)
    # A run writes down every size: the benchmark has sizes of its own.
    values |= {"cell": stored.cell.lower(), "hidden_size": None, "qubits": None}
    # The file of a run is always called the same, its folder is not.
    name = path.absolute().parent.name if path.stem == "config" else path.stem
    return Contestant(name, Config(**values))


def sized(player: Contestant, task: Task, most: int) -> tuple[Config, int, int]:
    """The configuration with the largest size of no more parameters; that size; the parameters.

    Only shapes are computed.

    Raises:
        InputError: the network cannot be built for the task, cannot read its sequences, or has
            more parameters at its smallest.
    """
    network = CELLS[player.config.cell]
    name = size_name(network.field)
    try:
        if player.sized:
            config, count = player.config, _count(player.config, task)
            size = config.cell_options[name]
        else:
            size, count = _largest(player, task, name, most)
            config = dataclasses.replace(player.config, **{name: size})
        model = _shapes(config, task)
        batch = next(batches(task.validation, np.arange(1), 1))
        eqx.filter_eval_shape(outputs, model, batch)
    except InputError as error:
        raise InputError(f"cell {player.name} on task {task.name}: {error}") from error
    return config, size, count


def _largest(player: Contestant, task: Task, name: str, most: int) -> tuple[int, int]:
    """The largest size of no more parameters, and how many these are."""

    def count(size: int) -> int:
        return _count(dataclasses.replace(player.config, **{name: size}), task)

    first, last = (2, _MOST_QUBITS) if name == "qubits" else (1, _MOST_UNITS)
    high = 4
    while count(high) <= most and high < last:
        high = min(2 * high, last)
    try:
        count(3)
        sizes = range(first, high + 1)
    except InputError:  # some take even numbers only
        sizes = range(2, high + 1, 2)
    found = bisect.bisect_right(sizes, most, key=count) - 1
    if found < 0:
        least = count(sizes[0])
        raise InputError(
            f"--parameters is {most}, but the smallest has {least}: give at least that."
        )
    return sizes[found], count(sizes[found])


def _shapes(config: Config, task: Task) -> Any:
    # Initial values are no shapes, and to choose them takes real ones.
    config = dataclasses.replace(config, initial_horizon=None)
    return eqx.filter_eval_shape(partial(build_model, config, task), jax.random.key(0))


def _count(config: Config, task: Task) -> int:
    return parameter_count(_shapes(config, task))
