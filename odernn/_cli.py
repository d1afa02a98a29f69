"""The command line: the only place where strings become objects.

Bad input ends in one line on stderr and exit code 2, a run that fails in one line and exit code
1, Ctrl-C in 130. Nothing heavy is imported before the command that needs it is known.
"""

import contextlib
import dataclasses
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from equinox import EquinoxRuntimeError

from ._arguments import parse
from ._listing import (
    cell_table,
    field_table,
    method_table,
    new_table,
    show_tables,
    task_table,
)
from ._results import InputError, RunFailed, unknown_name
from ._target import cells_in, imported, nothing_of_that_name
from ._version import __version__

_HELP = """\
usage: odernn COMMAND ...

Recurrent neural networks as ordinary differential equations.

commands:
  train TASK          train a network on a task, leave a run folder
  evaluate RUN        measure the model of a run on its test data
  predict RUN FILE    apply the model of a run to a CSV file
  list                show tasks, cells, fields and methods
  table               show all networks in their n-t table, or draw it
  classify TARGET     measure n and t of a network, a saved model or a function of yours
  certify TARGET      what a theorem says of the gradients in a run or a network
  diagnose TARGET     measure gradients along trajectories, and what would help them
  eye TARGET          draw what is certified and what is measured
  design              find networks that have what a task needs, and say why
  bench TASKS         compare cells on tasks, with equal budgets and sizes

options:
  -h, --help          this text; `odernn COMMAND --help` for the options of a command
  --version           the version

example: odernn train digits
"""


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
        feedback: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        config: Annotated[
            Path | None,
            tyro.conf.arg(help="Read options from a TOML file; those given here come first."),
        ] = None
        resume: Annotated[
            Path | None, tyro.conf.arg(help="Continue the stopped run in this folder.")
        ] = None

    parsed = parse(Train, "train", arguments)
    names, stored = [field.name for field in dataclasses.fields(Config)], Config()
    if parsed.config is not None and parsed.resume is None:
        stored = Config.from_toml(parsed.config)
        values = {name: getattr(stored, name) for name in names}
        values["feedback"] = bool(stored.feedback)
        parsed = parse(Train, "train", arguments, Train(**values))
    config = Config(**{name: getattr(parsed, name) for name in names})
    # A flag is given or not: without it, what the file says, which may be nothing.
    config = dataclasses.replace(config, feedback=parsed.feedback or stored.feedback)
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

    options = parse(Evaluate, "evaluate", arguments)
    from .train import evaluate

    result = evaluate(options.run)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    table = new_table(str(options.run), "", "")
    table.show_header = False
    for name, value in result.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    show_tables(table)


def _list(arguments: list[str]) -> None:
    def show() -> None:
        """Show the tasks, cells, fields and methods that can be named."""

    parse(show, "list", arguments)
    show_tables(task_table(), cell_table(), field_table(), method_table())


def _periodic(arguments: list[str]) -> None:
    import tyro

    @dataclasses.dataclass(frozen=True)
    class Table:
        """Show the networks of the zoo by their class: n across, t down."""

        out: Path | None = None
        """Draw the table to this new .svg or .png file instead."""
        certificates: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Mark what is certified of each network; finding out takes some minutes."""

    options = parse(Table, "table", arguments)
    from rich.console import Console

    from .analysis import draw_table, print_table

    if options.out is not None and options.out.exists():
        raise InputError(f"--out {options.out} exists already: choose another file or delete it.")
    tiles = _certified_tiles(formulas=options.out is not None) if options.certificates else None
    if options.out is None:
        print_table(Console(highlight=False), tiles)
        return
    draw_table(options.out, tiles)
    print(options.out)


def _certified_tiles(formulas: bool) -> list[Any]:
    """The tiles of the table with their certificates, and a bar while these are found."""
    from ._cli_network import counted
    from .analysis import periodic_table

    with counted() as report:
        return periodic_table(formulas=formulas, certificates=True, progress=report)


def _classify(arguments: list[str]) -> None:
    import tyro

    @dataclasses.dataclass(frozen=True)
    class Classify:
        """Measure the class n-t of a step by tracing its program.

        n counts the nonlinearities nested between one state and the next, t the blocks of hidden
        size in the state.
        """

        target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
        """module:name of a cell or of a function (y, x) -> y, a folder with a saved model, or a
        network by its name. The module is imported, from the present folder too."""
        state: tuple[int, ...] = (8,)
        """Size of a function's state; several sizes stand for a tuple of arrays."""
        input_size: int = 3
        """Size of a function's input."""

    options = parse(Classify, "classify", arguments)
    table = new_table(options.target, "step", "n-t", "declared")
    for name, measured, declared in _classes(options.target, options.state, options.input_size):
        table.add_row(name, measured, declared)
    show_tables(table)


def _classes(target: str, state: tuple[int, ...], input_size: int) -> list[tuple[str, str, str]]:
    """What a target holds: names of its steps, their classes as measured and as declared."""
    import jax

    from . import zoo
    from ._storage import load
    from .zoo._network import size_for

    for flag, numbers in {"--state": state, "--input-size": (input_size,)}.items():
        if not numbers or min(numbers) < 1:
            raise InputError(f"{flag} is {numbers}: give sizes of at least 1.")
    if ":" in target:
        return [_class_of_import(target, state, input_size)]
    if target.lower() in zoo.CELLS:
        network = zoo.CELLS[target.lower()]
        cell = network(input_size, size_for(network.field, 8), key=jax.random.key(0))
        return [_class_of(network.name, cell)]
    if not Path(target).exists():
        raise nothing_of_that_name(target)
    return [_class_of(name, cell) for name, cell in cells_in(load(target))]


def _class_of(name: str, cell: Any) -> tuple[str, str, str]:
    from .analysis import classify

    return name, str(classify(cell)), f"{cell.n}-{cell.t}"


def _class_of_import(target: str, state: tuple[int, ...], input_size: int) -> tuple[str, str, str]:
    """Class of what stands behind ``module:name``, which is imported."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from ._cell import Cell
    from ._layer import Layer
    from .analysis import classify

    step = imported(target)
    if isinstance(step, Cell):
        return _class_of(target, step)
    known = (Layer, eqx.nn.GRUCell, eqx.nn.LSTMCell)
    if isinstance(step, known) or hasattr(step, "initialize_carry"):
        return target, str(classify(step)), ""
    dtype = jnp.result_type(float)
    first, *more = (jax.ShapeDtypeStruct((size,), dtype) for size in state)
    x = jax.ShapeDtypeStruct((input_size,), dtype)
    try:
        return target, str(classify(step, (first, *more) if more else first, x)), ""
    except InputError:
        raise
    except Exception as error:  # whatever the user's function does with arrays of these sizes
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise InputError(
            f"{target} fails on a state of size {', '.join(map(str, state))} and an input of size "
            f"{input_size} ({type(error).__name__}: {reason}): give --state and --input-size."
        ) from error


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

    options = parse(Predict, "predict", arguments)
    from ._files import write_file
    from ._predictions import predict_file

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


def _certify(arguments: list[str]) -> None:
    from ._cli_certify import certify

    certify(arguments)


def _diagnose(arguments: list[str]) -> None:
    from ._cli_stability import diagnose

    diagnose(arguments)


def _eye(arguments: list[str]) -> None:
    from ._cli_stability import eye

    eye(arguments)


def _design(arguments: list[str]) -> None:
    from ._cli_design import design

    design(arguments)


def _bench(arguments: list[str]) -> None:
    from ._cli_bench import bench

    bench(arguments)


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "list": _list,
    "table": _periodic,
    "classify": _classify,
    "certify": _certify,
    "diagnose": _diagnose,
    "eye": _eye,
    "design": _design,
    "bench": _bench,
}
