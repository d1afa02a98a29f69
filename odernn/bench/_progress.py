"""What a benchmark shows while it runs."""

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ._store import OK, Row

if TYPE_CHECKING:
    from types import TracebackType


class Bar:
    """A live bar on a terminal, and a line for each training that is done.

    Arguments:
        console: where to; None shows nothing.
        total: trainings in all.
        done: trainings that were done before.
    """

    def __init__(self, console: Console | None, total: int, done: int):
        self._console = console or Console(quiet=True)
        self._total, self._done, self._before = total, done, done
        self._began = time.perf_counter()
        self._what = ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=total, completed=done, left="")

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        self._progress.stop()

    def begin(self, task: str, cell: str, role: str, rate: float | None, seed: int) -> None:
        """A training begins."""
        which = f"rate {rate:g}" if role == "search" and rate is not None else f"seed {seed}"
        self._what = f"{task}  {cell}  {role}, {which}"
        self._progress.update(self._bar, description=self._what)

    def share(self, part: float) -> None:
        """So much of the training is done."""
        done = self._done + part
        new = done - self._before
        left = ""
        if new > 0.05:
            seconds = (time.perf_counter() - self._began) * (self._total - done) / new
            left = f"{_shown(seconds)} left"
        percent = f" {100 * part:.0f} %" if part < 1 else ""
        self._progress.update(self._bar, description=self._what + percent, left=left)

    def end(self, row: Row) -> None:
        """A training is done, with this line of results."""
        self._done += 1
        self._progress.update(self._bar, completed=self._done)
        self.share(0.0)
        seconds = (time.perf_counter() - self._began) / (self._done - self._before)
        left = _shown(seconds * (self._total - self._done))
        found = row["status"]
        if found == OK:
            part = "validation" if row["test_metric"] is None else "test"
            metric = f"{part} {row['metric']} {row[part + '_metric']:.4g}"
            found = f"{metric}, {row['updates']} updates in {_shown(row['seconds'])}"
        self._console.print(
            f"{self._what}: {found}; {self._done} of {self._total} done, {left} left",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _shown(seconds: float) -> str:
    """A time in two figures.

    >>> _shown(59.6), _shown(600), _shown(8000)
    ('60 s', '10 min', '2.2 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
