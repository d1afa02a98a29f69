"""From a configuration and a task to an untrained model."""

from collections.abc import Callable

import equinox as eqx
import jax

from .. import _method as methods
from .. import zoo
from .._cell import Cell, TrainedStep
from .._interpolation import CubicInput, HeldInput, LinearInput
from .._layer import Bidirectional, Layer
from .._model import Model
from .._readout import EachStep, LastStep, MeanPool
from .._results import InputError, unknown_name
from ..analysis import initialise
from ..tasks import Task
from ._config import UNITS, Config, cell_options

_INTERPOLATIONS = {"held": HeldInput, "linear": LinearInput, "cubic": CubicInput}
_READOUTS = {"last": LastStep, "mean": MeanPool, "each": EachStep}


def build_model(
    config: Config, task: Task, key: jax.Array, make: Callable[..., Cell] | None = None
) -> Model:
    """An untrained model for `task`: layers of `config.cell` and the read-out the task needs.

    Arguments:
        config: what to build.
        task: what for.
        key: of the random weights.
        make: ``make(input_size, key=key)`` is the cell of a layer, in place of the one named.

    Raises:
        InputError: unknown cell or method (with the nearest names), an option that the cell does
            not take, a method that does not fit its field, or a read-out that does not fit the
            task; or `make` returns something that is no cell.
    """
    readout = _readout_class(config, task)
    keys = jax.random.split(key, 2 * config.layers + 1)
    layers, size = [], task.input_size
    for index in range(config.layers):
        layer = Layer(_cell(config, size, keys[2 * index], make))
        if config.bidirectional:
            back = Layer(_cell(config, size, keys[2 * index + 1], make), reverse=True)
            layer = Bidirectional(layer, back)
        layers.append(layer)
        size = layer.hidden_size
    return Model(
        layers, readout(size, task.output_size, key=keys[-1]), dropout=config.dropout or 0.0
    )


def first_cell(model: Model) -> Cell:
    """The cell of the first layer, which stands for all: a configuration has one kind of cell."""
    layer = model.layers[0]
    if isinstance(layer, Bidirectional):
        layer = layer.forward
    if not isinstance(layer, Layer):
        raise InputError(f"the first layer is a {type(layer).__name__}, which has no cell.")
    return layer.cell


def _named(config: Config, input_size: int, key: jax.Array) -> Cell:
    name = config.cell.lower()
    if name not in zoo.CELLS:
        raise unknown_name("cell", config.cell, zoo.CELLS)
    network = zoo.CELLS[name]
    return network(input_size, key=key, **cell_options(config.cell_options, network, UNITS))


def _cell(
    config: Config, input_size: int, key: jax.Array, make: Callable[..., Cell] | None
) -> Cell:
    cell = _named(config, input_size, key) if make is None else make(input_size, key=key)
    if not isinstance(cell, Cell):
        raise InputError(f"cell made a {type(cell).__name__}: let it return an odernn.Cell.")
    method = cell.method if config.method is None else _method(config.method)
    dt = cell.dt if config.dt is None else config.dt
    if config.train_dt and not isinstance(dt, eqx.Module):
        dt = TrainedStep(dt)
    interpolation = cell.interpolation
    if config.interpolation is not None:
        if config.interpolation not in _INTERPOLATIONS:
            raise unknown_name("interpolation", config.interpolation, _INTERPOLATIONS)
        interpolation = _INTERPOLATIONS[config.interpolation]()
    cell = Cell(cell.field, method, dt, interpolation)
    if config.initial_horizon is None:
        return cell
    return initialise(cell, config.initial_horizon, key=jax.random.fold_in(key, 1)).cell


def _method(name: str):
    if name.lower() not in methods.METHODS:
        raise unknown_name("method", name, methods.METHODS)
    return methods.METHODS[name.lower()]


def _readout_class(config: Config, task: Task):
    choice = config.readout
    if choice == "auto":
        choice = "each" if task.per_step else "last"
    if choice not in _READOUTS:
        raise unknown_name("read-out", choice, ["auto", *_READOUTS])
    if task.per_step and choice != "each":
        raise InputError(
            f"--readout {choice} gives one output a sequence, but task {task.name} "
            "has a target at each step: use --readout each."
        )
    if choice == "each" and not task.per_step:
        raise InputError(
            f"--readout each gives one output a step, but task {task.name} has one "
            "target a sequence: use --readout last or mean."
        )
    return _READOUTS[choice]
