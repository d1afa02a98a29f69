"""What a run shows while it trains."""

import math
import time

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .._cell import Cell, TrainedStep
from .._model import Model, parameter_count
from .._version import __version__
from ..tasks import Task
from ..zoo._network import undelayed
from ._build import first_cell
from ._config import Config
from ._loop import CERTIFIED, Observer, Position

_LINES = 10  # about so many lines in all where no bar can be drawn


class Display(Observer):
    """A live bar on a terminal; elsewhere a line every tenth of the epochs."""

    def __init__(
        self,
        console: Console,
        config: Config,
        metric: str,
        steps_per_epoch: int,
        position: Position,
        length: int = 1,
    ):
        self._console, self._metric, self._length = console, metric, length
        self._epochs, self._steps = config.epochs, steps_per_epoch
        self._sequences, self._since = 0, None
        self._loss = self._value = float("nan")
        self._corridor = self._horizon = ""
        if position.diagnoses:
            self._horizon = _horizon(position.diagnoses[-1])
        if position.rows:
            self._corridor = self._corridor_of(position.rows[-1])
            self._loss = position.rows[-1]["train_loss"]
            self._value = position.rows[-1]["validation_metric"]
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn(
                "loss {task.fields[loss]}{task.fields[more]}  " + metric + " {task.fields[value]}"
            ),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task(
            "", total=self._epochs * steps_per_epoch, epoch="", loss="", more="", value="", rate=""
        )
        self._draw(position)

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, position: Position, sequences: int) -> None:
        """Move the bar."""
        if self._since is None:  # the first step is spent compiling, it says nothing about speed
            self._since = time.perf_counter()
        else:
            self._sequences += sequences
        self._loss = position.loss / max(position.weight, 1.0)
        self._draw(position)

    def epoch(self, position: Position, row: dict[str, float]) -> None:
        """Show the epoch's metric; without a terminal, print a line now and then."""
        self._value, self._corridor = row["validation_metric"], self._corridor_of(row)
        self._draw(position)
        every = max(1, self._epochs // _LINES)
        if not self._console.is_terminal and (
            position.epoch % every == 0 or position.epoch == self._epochs
        ):
            self._console.print(
                f"epoch {position.epoch}/{self._epochs}  loss {row['train_loss']:.4g}"
                f"{self._corridor}{self._horizon}  validation "
                f"loss {row['validation_loss']:.4g}  {self._metric} {self._value:.4g}  "
                f"{self._rate()}",
                highlight=False,
                soft_wrap=True,
            )

    def diagnosed(self, row: dict[str, float]) -> None:
        """Show the horizon from now on."""
        self._horizon = _horizon(row)

    def _corridor_of(self, row: dict[str, float]) -> str:
        """How much a gradient can grow over a sequence."""
        return f"  corridor {row[CERTIFIED]:.4g}^{self._length}" if CERTIFIED in row else ""

    def _draw(self, position: Position) -> None:
        epoch = min(position.epoch + 1, self._epochs)
        self._progress.update(
            self._bar,
            completed=position.epoch * self._steps + position.batch,
            epoch=f"{epoch}/{self._epochs}",
            loss=_shown(self._loss),
            more=self._corridor + self._horizon,
            value=_shown(self._value),
            rate=self._rate(),
        )

    def _rate(self) -> str:
        """The speed since the first step, in words."""
        if self._since is None:
            return "compiling"
        seconds = time.perf_counter() - self._since
        return f"{self._sequences / seconds:,.0f} sequences/s" if self._sequences else ""


def _horizon(row: dict[str, float]) -> str:
    return f"  horizon {row['horizon']:.4g}" if "horizon" in row else ""


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def show_start(console: Console, config: Config, task: Task, model: Model, folder: str) -> None:
    """Print what is trained, on what and where it is kept."""
    lines = {
        "task": _describe_task(task),
        "network": f"{config.cell}, {config.layers} x {_describe_size(config)}"
        + (", both directions" if config.bidirectional else ""),
        **describe_cell(first_cell(model)),
        "parameters": f"{parameter_count(model):,}",
        "run folder": folder,
    }
    console.print(f"odernn {__version__} on {jax.devices()[0].device_kind}", highlight=False)
    for name, text in lines.items():
        console.print(f"  {name:<11} {text}", highlight=False, markup=False, soft_wrap=True)


def show_end(console: Console, rows: dict[str, str]) -> None:
    """Print the table that ends a run."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a path that is cut short is of no use
    for name, text in rows.items():
        table.add_row(name, text)
    console.print(table)


def describe_cell(cell: Cell) -> dict[str, str]:
    """Field, method, step size and n-t class of a cell, as text."""
    if isinstance(cell.dt, TrainedStep):
        step = f"{float(cell.dt.value):g} (trained)"
    else:
        step = f"{cell.dt:g}"
    return {
        "field": type(cell.field).__name__,
        "method": type(undelayed(cell.method)).__name__,
        "dt": step,
        "class": f"{cell.n}-{cell.t} (n-t)",
    }


def _describe_size(config: Config) -> str:
    return (
        f"{config.qubits} qubits" if config.hidden_size is None else f"{config.hidden_size} units"
    )


def _describe_task(task: Task) -> str:
    training = task.training(0)
    sizes = [len(training), len(task.validation), len(task.test)]
    what = f"{task.output_size} classes" if task.kind == "classification" else "values"
    channels = f"{task.input_size} channel{'s' if task.input_size > 1 else ''}"
    return (
        f"{task.name}, {training.inputs.shape[1]} steps of {channels}, {what}"
        f"{' at each step' if task.per_step else ''}; sequences: {sizes[0]:,} training, "
        f"{sizes[1]:,} validation, {sizes[2]:,} test"
    )
