"""What the commands about one network share: how it is named and altered, a bar on the terminal."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator

import tyro

from ._results import InputError
from ._target import Target, cells_in, read_target

FLAG = tyro.conf.FlagCreatePairsOff
TARGET = tyro.conf.arg(metavar="RUN|CELL")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """Which network, and how it steps; its options are those of all three commands."""

    kappa: float = 10.0
    """Gradients count as carried while they lie between 1/kappa and kappa times."""
    dt: float | None = None
    """Step size in place of the network's own, in input steps."""
    method: str | None = None
    """Integration method in place of the network's own, for example rk4."""
    hidden_size: int | None = None
    """Units of a CELL (16)."""
    input_size: int | None = None
    """Inputs of a CELL (4)."""

    def read(self, text: str) -> Target:
        """What is named, with the options given."""
        if not 1 < self.kappa < math.inf:
            raise InputError(f"--kappa is {self.kappa:g}, it must be above 1, and finite.")
        if self.dt is not None and not 0 < self.dt < math.inf:
            raise InputError(f"--dt is {self.dt:g}, it must be positive and finite.")
        return read_target(
            text,
            hidden_size=self.hidden_size,
            input_size=self.input_size,
            dt=self.dt,
            method=self.method,
        )


def at_least_one(flag: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise InputError(f"{flag} is {value}, it must be at least 1.")


@contextlib.contextmanager
def bar(parts: int) -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal, where the errors go: what is printed may be read by a program."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console, finished = Console(stderr=True), 0
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    off = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off) as progress:
        bar = progress.add_task("", total=max(parts, 1))

        def report(what: str, share: float) -> None:
            nonlocal finished
            progress.update(bar, description=what, completed=finished + share)
            finished += share >= 1

        yield report


def number_of_cells(target: Target) -> int:
    return len(cells_in(target.model)) or 1
