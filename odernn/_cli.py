"""The command line: the only place where strings become objects.

Bad input ends in one line on stderr and exit code 2, a run that fails in one line and exit code
1, Ctrl-C in 130. Nothing heavy is imported before the command that needs it is known.
"""

import contextlib
import csv
import dataclasses
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

from ._results import InputError, RunFailed, unknown_name
from ._version import __version__

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table as Display

    from .tasks import Table

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
    except BrokenPipeError:
        # The reader has gone, as `head` does; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except (OSError, MemoryError, RuntimeError) as error:
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


def _complain(error: Exception | BaseException | str, code: int) -> int:
    # What a file said may be quoted here: no line breaks or terminal codes of its own.
    text = "".join(c if c.isprintable() else " " for c in " ".join(str(error).split()))
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
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    sections: list[list[str]] = [[]]
    for line in lines[1:]:  # the first is the title
        if line and not line.strip("─"):
            sections.append([])
        elif line:
            sections[-1].append(line)
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


def _table(title: str, *columns: str, right: Sequence[str] = ()) -> "Display":
    from rich.table import Table as Display

    table = Display(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def _show(*tables: "Display") -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    for table in tables:
        console.print(table)


def _task_table() -> "Display":
    from . import tasks

    table = _table("tasks", "name", "what it is", "installed")
    for name, description, installed in tasks.names():
        table.add_row(name, description, "yes" if installed else "no")
    return table


_LISTED_SIZE = 64


def _cell_table() -> "Display":
    import jax

    from . import zoo
    from ._model import parameter_count

    table = _table(
        f"cells (parameters: 1 channel, {_LISTED_SIZE} units)",
        *("name", "field", "method", "dt", "n", "t", "parameters"),
        right=("dt", "n", "t", "parameters"),
    )
    for name, make in zoo.CELLS.items():
        cell = make(1, _LISTED_SIZE, key=jax.random.key(0))
        parts = (type(cell.field).__name__, type(cell.method).__name__, f"{cell.dt:g}")
        table.add_row(name, *parts, str(cell.n), str(cell.t), f"{parameter_count(cell):,}")
    return table


def _field_table() -> "Display":
    from . import fields
    from ._field import AbstractPartitionedField

    table = _table("fields", "name", "order t", "depth", "state", "equation", right=("order t",))
    for name, field in vars(fields).items():
        if isinstance(field, type):
            partitioned = issubclass(field, AbstractPartitionedField)
            state = ", ".join(field.blocks) if partitioned else "h"
            about = (field.__doc__ or "").splitlines()[0].replace("``", "")
            table.add_row(name, str(field.order), str(field.depth), state, about)
    return table


def _method_table() -> "Display":
    from ._method import METHODS

    table = _table("methods", "name", "stages n", "order of accuracy", "what it is")
    for name, make in METHODS.items():
        about = (make.__doc__ or "").splitlines()[0].replace("``", "")
        method = make()
        table.add_row(name, str(method.stages), str(method.order), about)
    return table


# --- predictions -------------------------------------------------------------------------------


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
    text = _predictions(options.run, options.file, options.mask_missing, options.out)
    if options.out is None:
        sys.stdout.write(text)


class _Sequences(NamedTuple):
    """The sequences of a file: which rows each has, and what the model reads, padded."""

    rows: "list[np.ndarray]"
    labels: list[str]
    inputs: "np.ndarray"
    mask: "np.ndarray | None"
    times: "np.ndarray | None"


def _predictions(run: Path, file: Path, mask_missing: bool, out: Path | None) -> str:
    """The CSV text that answers a CSV file; written to `out` if that is given."""
    import numpy as np

    from ._storage import load_metadata, write_file
    from .tasks._csv import read_table
    from .train import predict
    from .train._folder import read_result

    if out is not None and out.exists():
        raise InputError(f"--out {out} exists already: choose another file or delete it.")
    read_result(run)
    about = load_metadata(run)
    table = read_table(file)
    found = _sequences(table, about, run, mask_missing or bool(about.get("mask_missing")))
    lengths = np.array([len(rows) for rows in found.rows], np.int32)
    predicted = predict(run, found.inputs, lengths=lengths, mask=found.mask, times=found.times)
    text = _to_csv(table, about, found, predicted)
    if out is not None:
        write_file(out, text.encode())
    return text


def _sequences(table: "Table", about: dict[str, Any], run: Path, mask_missing: bool) -> _Sequences:
    import numpy as np

    channels = _channels(table, list(about["channels"]), run)
    values, present = table.values(channels, mask_missing=mask_missing)
    labels: dict[str, list[int]] = {}
    extra = _extra_columns(table, about)
    for number, row in enumerate(table.rows):
        label = row[table.index("sequence")] if "sequence" in extra else "1"
        labels.setdefault(label, []).append(number)
    rows = [np.array(numbers) for numbers in labels.values()]
    shape = (len(rows), max(map(len, rows)))
    inputs, mask = np.zeros((*shape, len(channels))), np.ones(shape, bool)
    for number, part in enumerate(rows):
        inputs[number, : len(part)] = values[part]
        mask[number, : len(part)] = present[part].all(axis=1)
    times = None if about["time_unit"] is None else _times(table, about, rows, shape, run)
    return _Sequences(rows, list(labels), inputs, None if mask.all() else mask, times)


def _extra_columns(table: "Table", about: dict[str, Any]) -> list[str]:
    """The columns `sequence` and `time`, unless the model reads them as channels."""
    wanted = {"sequence", "time"} - set(about["channels"])
    return [name for name in table.names if name in wanted]


def _channels(table: "Table", wanted: list[str], run: Path) -> tuple[str, ...]:
    """The columns to read: by their names in training, else all numeric ones in order."""
    if set(wanted) <= set(table.names):
        return tuple(wanted)
    others = {"sequence", "time"} - set(wanted)
    there = [name for name in table.numeric() if name not in others]
    if len(there) == len(wanted) and not set(wanted) & set(table.names):
        return tuple(there)
    missing = [name for name in wanted if name not in table.names]
    raise InputError(
        f"{table.path} has {_count(there)}, but the model of {run} reads {_count(wanted)}: "
        f"add {_shown(missing)} or leave out what is not an input."
    )


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} channel{'' if len(names) == 1 else 's'} ({_shown(names)})"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")


def _times(
    table: "Table",
    about: dict[str, Any],
    rows: "list[np.ndarray]",
    shape: tuple[int, int],
    run: Path,
) -> "np.ndarray":
    """Time stamps in input steps since the first of each sequence."""
    import numpy as np

    if "time" not in _extra_columns(table, about):
        raise InputError(f"{table.path} has no column 'time': {run} was trained on time stamps.")
    stamps = table.values(["time"])[0][:, 0]
    times = np.zeros(shape)
    for number, part in enumerate(rows):
        steps = np.diff(stamps[part])
        if not (steps > 0).all():
            place = table.place(part[int(np.argmin(steps > 0)) + 1], table.index("time"))
            raise InputError(f"{table.path}: the time at {place} is not later than the one before.")
        times[number, : len(part)] = (stamps[part] - stamps[part[0]]) / about["time_unit"]
    return times


def _to_csv(
    table: "Table", about: dict[str, Any], found: _Sequences, predicted: "np.ndarray"
) -> str:
    extra = _extra_columns(table, about) if about["per_step"] else ["sequence"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*extra, *_result_columns(about, predicted.shape[-1])])
    if not about["per_step"]:
        for label, values in zip(found.labels, predicted, strict=True):
            writer.writerow([label, *_result(about, values)])
        return text.getvalue()
    lines: dict[int, list[str]] = {}
    for rows, values in zip(found.rows, predicted, strict=True):
        for row, value in zip(rows, values, strict=False):  # what follows is padding
            cells = [table.rows[row][table.index(name)] for name in extra]
            lines[int(row)] = [*cells, *_result(about, value)]
    writer.writerows(lines[row] for row in sorted(lines))
    return text.getvalue()


def _result_columns(about: dict[str, Any], size: int) -> list[str]:
    if about["kind"] == "classification":
        return ["label", "probability"]
    if about["target"] is not None:
        return [f"{about['target']}+{about['horizon']}"]
    return ["value"] if size == 1 else [f"value {number + 1}" for number in range(size)]


def _result(about: dict[str, Any], values: "np.ndarray") -> list[str]:
    if about["kind"] != "classification":
        return [f"{value:.9g}" for value in values.tolist()]
    best = int(values.argmax())
    label = str(best) if about["classes"] is None else about["classes"][best]
    return [label, f"{values[best]:.6g}"]


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "list": _list,
}
