"""The command line: the only place where strings become objects.

Bad input ends in one line on stderr and exit code 2, a run that fails in one line and exit code
1, Ctrl-C in 130. Nothing heavy is imported before the command that needs it is known.
"""

import contextlib
import dataclasses
import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from equinox import EquinoxRuntimeError

from ._results import InputError, RunFailed, unknown_name
from ._version import __version__

if TYPE_CHECKING:
    from rich.table import Table

_HELP = """\
usage: odernn COMMAND ...

Recurrent neural networks as ordinary differential equations.

commands:
  train TASK          train a network on a task, leave a run folder
  evaluate RUN        measure the model of a run on its test data
  predict RUN FILE    apply the model of a run to a CSV file
  list                show tasks, cells, fields and methods

options:
  -h, --help          this text; `odernn COMMAND --help` for the options of a command
  --version           the version

example: odernn train digits
"""

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 (run failed), 2 (bad input), 130 (Ctrl-C)."""
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except InputError as error:
        return _complain(error, 2)
    except RunFailed as error:
        return _complain(error, 1)
    except KeyboardInterrupt as error:
        return _complain(error if str(error) else "stopped.", 130)
    except BrokenPipeError:  # the reader has gone, as `head` does
        _drop_output()
        return 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except (OSError, MemoryError, RuntimeError) as error:
        _drop_output()
        return _complain(_failure(error), 1)


def _run(arguments: list[str]) -> int:
    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if command == "--version":
        print(f"odernn {__version__}")
        return 0
    if command not in _COMMANDS:
        raise unknown_name("command", command, _COMMANDS)
    _COMMANDS[command](rest)
    return 0


def _drop_output() -> None:
    """Let go of output that cannot be written: Python would try again, and complain, at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: Exception | BaseException | str, code: int) -> int:
    # What a file said may be quoted here: no line breaks or terminal codes of its own.
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    with contextlib.suppress(OSError):
        print(f"odernn: {text}", file=sys.stderr)
    return code


def _failure(error: Exception) -> str:
    """One line for what goes wrong outside the library; a bug keeps its traceback."""
    if isinstance(error, OSError) and error.errno is not None:
        what = f"{error.filename}: " if error.filename else ""
        hint = " Make room and try again." if error.errno == errno.ENOSPC else ""
        return f"{what}{error.strerror}.{hint}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory: take a smaller --hidden-size, --batch-size or --length."
    if isinstance(error, EquinoxRuntimeError):
        # What a compiled step found wrong: equations not solved, states that drifted.
        return str(error).strip().splitlines()[0]
    raise error


# --- parsing -----------------------------------------------------------------------------------


def _parse(form: Callable[..., T], command: str, arguments: list[str], default: Any = None) -> T:
    """Parse arguments as the fields of a dataclass or the parameters of a function.

    Raises `InputError` in one line, where tyro would draw a box.
    """
    import tyro

    options = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(form, prog=f"odernn {command}", args=arguments, **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise InputError(_one_line(said.getvalue(), command)) from None


def _one_line(box: str, command: str) -> str:
    """What matters of an error as tyro draws it: the reason, and flags that come near."""
    # Colours go; a box is drawn in ASCII where the terminal has no UTF-8.
    lines = [
        line.strip("│╭╮╰╯").rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", box).splitlines()
    ]
    sections: list[list[str]] = [[]]
    for line in lines[1:]:  # the first is the title
        if line and not line.strip("─- "):
            sections.append([])
        elif line and not line.startswith(" " * 8):  # further in, the help of an option is repeated
            sections[-1].append(line.strip())
    sections = [section for section in sections if section] or [[]]
    reason = " ".join(sections[0]).rstrip(".") or "the arguments cannot be read"
    near = [
        line.split()[0]
        for section in sections[1:]
        if section and section[0].startswith("Perhaps you meant")
        for line in section[1:]
        if line.startswith("--")
    ]
    hint = f"; did you mean {' or '.join(near[:3])}?" if near else "."
    return f"{reason[0].lower()}{reason[1:]}{hint} See `odernn {command} --help`."


# --- commands ----------------------------------------------------------------------------------


def _train(arguments: list[str]) -> None:
    import tyro
    from rich.console import Console

    from .train import Config, fit

    @dataclasses.dataclass(frozen=True)
    class Train(Config):
        """Train a network on a task and leave a run folder.

        Every option is also a key of the TOML file that --config reads (hidden_size = 64).
        """

        task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")] = ""
        config: Annotated[
            Path | None,
            tyro.conf.arg(help="Read options from a TOML file; those given here come first."),
        ] = None
        resume: Annotated[
            Path | None, tyro.conf.arg(help="Continue the stopped run in this folder.")
        ] = None

    parsed = _parse(Train, "train", arguments)
    names = [field.name for field in dataclasses.fields(Config)]
    if parsed.config is not None and parsed.resume is None:
        stored = Config.from_toml(parsed.config)
        values = {name: getattr(stored, name) for name in names}
        parsed = _parse(Train, "train", arguments, Train(**values))
    config = Config(**{name: getattr(parsed, name) for name in names})
    if parsed.resume is None:
        fit(config, console=Console())
        return
    if config != Config() or parsed.config is not None:
        raise InputError(
            f"--resume {parsed.resume} takes no other options: a resumed run keeps those in its "
            "config.toml; for others start a new run with --config."
        )
    fit(resume=parsed.resume, console=Console())


def _evaluate(arguments: list[str]) -> None:
    import tyro

    @dataclasses.dataclass(frozen=True)
    class Evaluate:
        """Measure the model of a run on its test data."""

        run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
        """The run folder."""
        json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Print JSON instead of a table."""

    options = _parse(Evaluate, "evaluate", arguments)
    from .train import evaluate

    result = evaluate(options.run)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    table = _table(str(options.run), "", "")
    table.show_header = False
    for name, value in result.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    _show(table)


def _list(arguments: list[str]) -> None:
    def show() -> None:
        """Show the tasks, cells, fields and methods that can be named."""

    _parse(show, "list", arguments)
    _show(_task_table(), _cell_table(), _field_table(), _method_table())


def _table(title: str, *columns: str, right: Sequence[str] = ()) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        justify = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column == "name")
    return table


def _show(*tables: "Table") -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    for table in tables:
        console.print(table)


def _task_table() -> "Table":
    from . import tasks

    table = _table("tasks", "name", "what it is", "installed")
    for name, description, installed in tasks.names():
        table.add_row(name, description, "yes" if installed else "odernn[aeon]")
    return table


_LISTED_SIZE = 64


def _cell_table() -> "Table":
    import equinox as eqx
    import jax

    from . import zoo

    table = _table(
        f"cells (parameters: 1 channel, {_LISTED_SIZE} units)",
        *("name", "field", "method", "dt", "n", "t", "parameters"),
        right=("dt", "n", "t", "parameters"),
    )
    for name, make in zoo.CELLS.items():
        # Shapes are all that is shown: drawing the weights would take seconds.
        cell = eqx.filter_eval_shape(partial(make, 1, _LISTED_SIZE, key=jax.random.key(0)))
        count = sum(leaf.size for leaf in jax.tree.leaves(cell) if hasattr(leaf, "size"))
        parts = (type(cell.field).__name__, type(cell.method).__name__, f"{cell.dt:g}")
        table.add_row(name, *parts, str(cell.n), str(cell.t), f"{count:,}")
    return table


def _field_table() -> "Table":
    from . import fields
    from ._field import AbstractPartitionedField

    columns = ("name", "order t", "depth", "state", "equation")
    table = _table("fields", *columns, right=columns[1:3])
    for name, field in vars(fields).items():
        if isinstance(field, type):
            partitioned = issubclass(field, AbstractPartitionedField)
            state = ", ".join(field.blocks) if partitioned else "h"
            about = (field.__doc__ or "").splitlines()[0].replace("``", "")
            table.add_row(name, str(field.order), str(field.depth), state, about)
    return table


def _method_table() -> "Table":
    import equinox as eqx
    import jax

    from . import fields
    from ._method import METHODS

    columns = ("name", "stages n", "order", "past", "a step is", "fits")
    table = _table("methods", *columns, right=columns[1:4])
    made = [
        eqx.filter_eval_shape(partial(make, 1, _LISTED_SIZE, key=jax.random.key(0)))
        for make in vars(fields).values()
        if isinstance(make, type)
    ]
    for name, method in METHODS.items():
        step = ["explicit" if method.explicit else "implicit"]
        step += [kind for kind in ("symplectic", "reversible") if getattr(method, kind)]
        fitting = [type(field).__name__ for field in made if method.fits(field)]
        fits = "all" if len(fitting) == len(made) else ", ".join(fitting) or "your own"
        numbers = (str(method.stages), str(method.order), str(method.memory or ""))
        table.add_row(name, *numbers, ", ".join(step), fits)
    return table


def _predict(arguments: list[str]) -> None:
    import tyro

    @dataclasses.dataclass(frozen=True)
    class Predict:
        """Apply the model of a run to a CSV file: a line of column names, then a row a step.

        A column `sequence`, if there is one, says which sequence a row belongs to; a column
        `time` is carried over. Classification gives a row for each sequence with its label and
        probability, forecasting a row for each row read, in the units of the file.
        """

        run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
        """The run folder."""
        file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
        """The CSV file to read."""
        out: Path | None = None
        """Write the predictions to this new file instead of the terminal."""
        mask_missing: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Hold the state where values are missing instead of refusing the file."""

    options = _parse(Predict, "predict", arguments)
    from ._predictions import predict_file
    from ._storage import write_file

    if options.out is not None and options.out.exists():
        raise InputError(f"--out {options.out} exists already: choose another file or delete it.")
    text = predict_file(options.run, options.file, mask_missing=options.mask_missing)
    if options.out is None:
        sys.stdout.write(text)
        return
    try:
        write_file(options.out, text.encode())
    except OSError as error:
        problem = RunFailed if error.errno == errno.ENOSPC else InputError
        raise problem(f"--out {options.out} cannot be written: {error.strerror}.") from error


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "list": _list,
}
