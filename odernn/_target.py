"""What a command is told to look at: a run, a saved model, a network by its name, an import."""

import dataclasses
import difflib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ._results import InputError, unknown_name

if TYPE_CHECKING:
    from .tasks import Dataset
    from .train import Config

INPUT_SIZE, UNITS = 4, 16
"""Sizes of a network of the zoo that nobody gave; qubits have so many amplitudes."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What was named, and what is known of it.

    Arguments:
        title: as it was named.
        name: for a file about it.
        model: a model, layer, cell, or function that was imported.
        config: of a run; None if it is none.
        notes: what a reader of any result must know.
        random: the weights are random, as those of a network of the zoo are.
    """

    title: str
    name: str
    model: Any
    config: "Config | None" = None
    notes: tuple[str, ...] = ()
    random: bool = False


class Sequences(NamedTuple):
    """Sequences of a run's task: the steps that were observed, in front.

    Behind its length a sequence holds its last input.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    text: str


def read_target(
    text: str,
    *,
    options: Mapping[str, Any],
    input_size: int | None = None,
    dt: float | None = None,
    method: str | None = None,
) -> Target:
    """Return what is named: `module:name`, a network of the zoo, or a folder.

    A network gets random weights, `input_size` and the `options` given, which are some of the
    `CELL_OPTIONS` of a configuration. `dt` and `method` replace those of every cell.

    Raises:
        InputError: nothing has that name (with the nearest), a run that is not finished, a saved
            model that cannot be read, options that do not fit.
    """
    found = _read(text, options, input_size)
    if dt is None and method is None:
        return found
    from ._method import METHODS
    from ._model import replace

    if method is not None and method.lower() not in METHODS:
        raise unknown_name("method", method, METHODS)
    if not cells_in(found.model):
        raise InputError(f"--dt and --method: {text} has no cell, whose they could be.")
    chosen = None if method is None else METHODS[method.lower()]
    return dataclasses.replace(found, model=replace(found.model, method=chosen, dt=dt))


def _read(text: str, options: Mapping[str, Any], input_size: int | None) -> Target:
    import jax

    from . import zoo
    from .train._config import cell_options, check_cell_options

    if input_size is not None and input_size < 1:
        raise InputError(f"--input-size is {input_size}, it must be at least 1.")
    check_cell_options(options)
    if text.lower() in zoo.CELLS:
        network, inputs = zoo.CELLS[text.lower()], input_size or INPUT_SIZE
        chosen = cell_options(options, network, UNITS)
        cell = network(inputs, key=jax.random.key(0), **chosen)
        shown = {"inputs": inputs} | chosen
        words = ", ".join(f"{name}: {value}" for name, value in shown.items())
        note = f"random weights (seed 0), {words.replace('hidden_size', 'units')}"
        return Target(network.name, network.name, cell, notes=(note,), random=True)
    given = [*options]
    if input_size is not None and ":" not in text:  # an imported function takes it
        given.append("input_size")
    if given and (":" in text or Path(text).exists()):
        flag = "--" + given[0].replace("_", "-")
        raise InputError(f"{flag} is for a network of the zoo: {text} has its own.")
    if ":" in text:
        return Target(text, text.rpartition(":")[2], imported(text))
    return _read_folder(text)


def _read_folder(text: str) -> Target:
    from ._storage import load, load_metadata

    folder = Path(text)
    if not folder.exists():
        raise nothing_of_that_name(text)
    config, notes = None, ()
    if (folder / "config.toml").is_file():
        from .train._folder import read_config, read_result

        read_result(folder)
        config = read_config(folder)
        if load_metadata(folder).get("time_unit") is not None:
            notes = ("time stamps are left out: every step is taken to have the length dt",)
    return Target(text, folder.resolve().name, load(folder), config, notes)


def nothing_of_that_name(text: str) -> InputError:
    """An error for a name of no network and no folder, with the nearest ones."""
    from . import zoo

    beside = Path(text).parent
    folders = [str(path) for path in beside.iterdir() if path.is_dir()] if beside.is_dir() else []
    near = [
        *difflib.get_close_matches(text, folders, n=1, cutoff=0.7),
        *difflib.get_close_matches(text.lower(), zoo.CELLS, n=2, cutoff=0.5),
    ]
    hint = f": did you mean {' or '.join(near)}?" if near else " (`odernn list` names these)."
    return InputError(f"{text} is no folder, no module:name and no network{hint}")


def imported(target: str) -> Any:
    """The object ``module:name``; modules in the present folder come first."""
    module, _, name = target.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever the user's module does when it is imported
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise InputError(
            f"{module} cannot be imported ({type(error).__name__}: {reason}): give module:name."
        ) from error
    if not hasattr(found, name):
        raise unknown_name(f"name in {module}", name, [n for n in vars(found) if n[0] != "_"])
    return getattr(found, name)


def cells_in(model: Any) -> list[tuple[str, Any]]:
    """The cells of a model with their places in it."""
    import jax

    from ._cell import Cell

    leaves, _ = jax.tree_util.tree_flatten_with_path(model, is_leaf=lambda a: isinstance(a, Cell))
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in leaves
        if isinstance(leaf, Cell)
    ]


def data_of_run(target: Target, part: Literal["training", "validation"]) -> Sequences:
    """Return sequences of a run's task.

    Raises:
        InputError: the data cannot be read, or are not those of the run.
    """
    from .train import get_task

    if target.config is None:
        raise InputError(f"{target.title} is no run folder, so there are no data of its task.")
    task = get_task(target.config)
    if task.input_size != target.model.input_size:
        raise InputError(
            f"the model in {target.title} has {target.model.input_size} inputs, but task "
            f"{task.name} now has {task.input_size}: the data changed since the run."
        )
    return _observed(task.training(0) if part == "training" else task.validation, part, task.name)


def _observed(data: "Dataset", part: str, task: str) -> Sequences:
    """The steps that a network reads, in front; a state is held in the others."""
    count, steps, _ = data.inputs.shape
    valid = np.ones((count, steps), bool) if data.mask is None else data.mask.copy()
    if data.lengths is not None:
        valid &= np.arange(steps) < data.lengths[:, None]
    lengths = valid.sum(axis=1)
    order = np.argsort(~valid, axis=1, kind="stable")
    inputs = np.take_along_axis(data.inputs, order[:, :, None], axis=1)[lengths > 0]
    if not len(inputs):
        raise InputError(f"the {part} part of {task} has no step that was observed.")
    lengths = lengths[lengths > 0]
    return Sequences(in_order(inputs, lengths), lengths, f"{part} data of {task}")


def in_order(inputs: Any, lengths: np.ndarray, reverse: bool = False) -> Any:
    """Sequences as a layer reads them, forwards or from their ends; the last input is held."""
    steps = np.minimum(np.arange(inputs.shape[1]), lengths[:, None] - 1)
    index = lengths[:, None] - 1 - steps if reverse else steps
    return inputs[np.arange(len(inputs))[:, None], index]


def the_longest(data: Sequences, count: int, steps: int) -> Sequences:
    """Some sequences, the longest ones, cut to one length of at most so many steps."""
    chosen = np.argsort(-data.lengths, kind="stable")[:count]
    length = int(min(data.lengths[chosen].min(), steps))
    text = data.text
    if length < data.lengths.max() and length < steps:
        text += f", the longest sequences, cut to {length} steps"
    return Sequences(data.inputs[chosen, :length], np.full(len(chosen), length), text)
