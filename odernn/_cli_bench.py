"""`odernn bench`: cells compared on tasks."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from ._arguments import parse
from ._listing import new_table, show_tables
from .bench import Plan
from .bench import bench as run
from .bench._plan import seconds
from .bench._report import by_task, table

_LEFT_OUT = {"loss", "size", "inference, ms", "memory, MB"}
"""Columns that are in results.md only, so that a table fits a terminal."""


@dataclasses.dataclass(frozen=True)
class _Bench:
    """Compare cells on tasks, with equal budgets for tuning and equal numbers of parameters.

    For each cell and task learning rates are tried and the best is trained with several seeds.
    The folder of results can be continued with the same command, whenever it was stopped.
    """

    tasks: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TASKS")]
    """Tasks: names from `odernn list`, also NAME-LENGTH and NAME-irregular, or files; separated by
    commas or spaces."""
    cells: str
    """Cells, separated by commas: names from `odernn list`, NAME:OPTION=VALUE:... (cornn:dt=0.05),
    or configuration files (x.toml), of which the network is read."""
    seeds: int = 5
    """Final trainings of each cell on each task."""
    budget: str | None = None
    """Time of training for each cell on each task, search and final trainings together (600s,
    10m, 2h); each training has an equal part. Without it and --updates: 10m."""
    updates: int | None = None
    """Gradient steps of each training, instead of a budget of time."""
    parameters: int = Plan.parameters
    """Each cell gets the largest size that has no more."""
    trials: int = Plan.trials
    """Learning rates to try, from 0.0005 to 0.05; 1: no search, 0.005."""
    batch_size: int = Plan.batch_size
    """Sequences of a gradient step."""
    every: int = Plan.every
    """Gradient steps between two validations."""
    patience: int = Plan.patience
    """Validations without a better metric before a training stops; 0 never stops early."""
    out: Path = Plan.out
    """Folder of results, to create or to continue."""


def bench(arguments: list[str]) -> None:
    """`odernn bench`: run or continue a benchmark, and show its tables.

    Raises:
        InputError: a name or an option that cannot be used.
        RunFailed: the disk is full.
        Interrupted: Ctrl-C; what is done is kept.
    """
    from rich.console import Console

    options = dataclasses.asdict(parse(_Bench, "bench", arguments))
    options["tasks"] = _split(",".join(options["tasks"]))
    options["cells"] = _split(options["cells"])
    if options["budget"] is not None:
        options["budget"] = seconds(options["budget"])
    result = run(Plan(**options), console=Console(stderr=True))
    tables = []
    for name, lines in by_task(result.summary).items():
        header, rows = table(lines)
        shown = [place for place, column in enumerate(header) if column not in _LEFT_OUT]
        tables.append(new_table(name, *(header[i] for i in shown), right=header[1:]))
        for row in rows:
            tables[-1].add_row(*(row[i] for i in shown))
    show_tables(*tables)
    print(f"{result.folder}: results.md, results.csv, summary.csv, metric.svg, cost.svg")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
