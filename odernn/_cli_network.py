"""What the commands about one network share: how it is named and altered, a bar on the terminal."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import tyro

from ._results import InputError
from ._target import Target, cells_in, read_target
from .train._config import CELL_OPTIONS

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
    input_size: int | None = None
    """Inputs of a CELL (4)."""
    hidden_size: int | None = None
    """Units of a CELL (16)."""
    qubits: int | None = None
    """Qubits of a CELL that is made of them (4)."""
    memory: int | None = None
    """Inputs that a step of a CELL reads (qunn)."""
    sharing: Literal["global", "site"] | None = None
    """Whether the sites of a CELL share their numbers (qunn)."""
    feedback: Annotated[bool, FLAG] = False
    """Let what is measured of past states of a CELL act on its state (qunn)."""
    encoding: Literal["fixed", "trained", "linear"] | None = None
    """How inputs of a CELL become angles (qunn)."""
    features: int | None = None
    """Products in a trained encoding of a CELL (qunn)."""
    precession: float | None = None
    """Largest initial angle of a qubit's own turn in a step of a CELL, radians (qunn)."""

    def read(self, text: str) -> Target:
        """What is named, with the options given."""
        if not 1 < self.kappa < math.inf:
            raise InputError(f"--kappa is {self.kappa:g}, it must be above 1, and finite.")
        if self.dt is not None and not 0 < self.dt < math.inf:
            raise InputError(f"--dt is {self.dt:g}, it must be positive and finite.")
        given = {name: getattr(self, name) for name in CELL_OPTIONS}
        return read_target(
            text,
            options={name: v for name, v in given.items() if v is not None and v is not False},
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


@contextlib.contextmanager
def counted() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal of things that are counted: told what is next, how many are done, all."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def report(name: str, number: int, total: int) -> None:
            progress.update(task, description=name, completed=number, total=total)

        yield report


def number_of_cells(target: Target) -> int:
    return len(cells_in(target.model)) or 1
