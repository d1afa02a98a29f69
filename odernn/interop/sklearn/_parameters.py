"""The arguments of the estimators, and the configuration of a run that they make."""

import contextlib
import dataclasses
import numbers
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from sklearn.utils import check_random_state

from ..._cell import Cell
from ..._results import InputError, RunFailed
from ...train import Config
from ...train._config import CELL_OPTIONS

_SEEDS = 2**31


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Parameters:
    """What a network is made of and how it is trained: arguments of all estimators.

    The constructor stores them and does nothing else. Those that `train.Config` has too mean the
    same there and have the same defaults; None leaves a number to the cell and the kind of task.
    """

    cell: str | Callable[..., Cell] = "cornn"
    """A name from `odernn list`, or a function: ``cell(input_size, key=key)`` returns a `Cell`."""
    hidden_size: int | None = None
    """Units per layer (64)."""
    layers: int = 1
    """Recurrent layers, one on top of the other."""
    bidirectional: bool = False
    """Read every sequence in both directions."""
    method: str | None = None
    """Integration method in place of the cell's own, for example "rk4"."""
    dt: float | None = None
    """Step size in place of the cell's own, in input steps."""
    train_dt: bool = False
    """Make the step size a trained parameter."""
    interpolation: Literal["held", "linear", "cubic"] | None = None
    """What the field sees between two inputs."""
    initial_horizon: int | None = None
    """Choose initial values so that gradients reach so many steps before training."""
    epochs: int = 40
    """Passes over the training data, at most."""
    batch_size: int = 32
    """Sequences per gradient step."""
    learning_rate: float | None = None
    """Peak learning rate."""
    warmup: float = 0.1
    """Fraction of all steps spent raising the learning rate."""
    weight_decay: float | None = None
    """Decoupled weight decay of matrices."""
    gradient_clip: float = 1.0
    """Largest global norm of a gradient; 0 turns clipping off."""
    dropout: float | None = None
    """Share of units dropped behind each layer."""
    average: float | None = None
    """Decay of the weights' moving average, which is kept."""
    keep_certified: bool = False
    """Keep every cell certified not to expand."""
    early_stopping: bool = False
    """Validate on a part of the data, keep the best epoch, and stop as `patience` says."""
    validation_fraction: float = 0.2
    """Share of the data to validate on, with early stopping."""
    patience: int = 10
    """Epochs without improvement before stopping; 0 trains to the end and keeps the best."""
    missing: Literal["refuse", "mask"] = "refuse"
    """What to do where a value is nan: refuse the data, or hold the state at that step."""
    random_state: Any = None
    """Seed (an integer, a `RandomState` or None) of weights, data order and validation part."""
    verbose: int = 0
    """1 shows a bar."""
    qubits: int | None = None
    """Qubits per layer, of a cell that is made of them."""
    memory: int | None = None
    """Inputs that a step reads (qunn)."""
    sharing: Literal["global", "site"] | None = None
    """Whether the sites of a kind of term share one number (qunn)."""
    feedback: bool | None = None
    """Let what is measured of past states act on the state (qunn)."""
    encoding: Literal["fixed", "trained", "linear"] | None = None
    """How inputs become angles (qunn)."""
    features: int | None = None
    """Products in a trained encoding (qunn)."""
    precession: float | None = None
    """Largest initial angle of a qubit's own turn in a step, radians (qunn)."""

    def _config(self, task: str) -> Config:
        """The configuration of a run of this kind.

        Raises:
            InputError: a value that no run can have; names the argument.
        """
        given = {name: _plain(value) for name, value in _arguments(self).items()}
        _check_choices(given)
        names = {field.name for field in dataclasses.fields(Config)}
        values = {name: value for name, value in given.items() if name in names}
        values |= {"task": task, "seed": _seed(self.random_state)}
        if not given["early_stopping"]:
            values["patience"] = 0
        if callable(given["cell"]):
            sizes = [name for name in CELL_OPTIONS if values.get(name) is not None]
            if sizes:
                raise InputError(
                    f"{sizes[0]} is {values[sizes[0]]!r}, but cell is a function: set it in there."
                )
            make = given["cell"]
            values["cell"] = f"function {getattr(make, '__qualname__', type(make).__qualname__)}"
        _check_types(values)
        with in_python():
            config = Config(**values)
            config.check()
        return config


def _arguments(given: Parameters) -> dict[str, Any]:
    return {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}


def _plain(value: Any) -> Any:
    """Python's number in place of NumPy's, as searches over parameters draw them."""
    return value.item() if isinstance(value, np.generic) else value


def _seed(random_state: Any) -> int:
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(_SEEDS))


def _check_choices(given: dict[str, Any]) -> None:
    if given["missing"] not in ("refuse", "mask"):
        raise InputError(f"missing is {given['missing']!r}: give 'refuse' or 'mask'.")
    fraction = given["validation_fraction"]
    if not (isinstance(fraction, int | float) and 0 < fraction < 1):
        raise InputError(
            f"validation_fraction is {fraction!r}, it must be a number between 0 and 1."
        )


def _check_types(values: dict[str, Any]) -> None:
    """Refuse what cannot be compared with a range."""
    for name, hint in typing.get_type_hints(Config).items():
        kinds = {hint, *typing.get_args(hint)}
        if name not in values or (values[name] is None and type(None) in kinds):
            continue
        kind, value = type(values[name]), values[name]
        if int in kinds and kind is not int:
            raise InputError(f"{name} is {value!r}: give a whole number.")
        if float in kinds and kind not in (int, float):
            raise InputError(f"{name} is {value!r}: give a number.")
        if bool in kinds and kind is not bool:
            raise InputError(f"{name} is {value!r}: give True or False.")
        if str in kinds and kind is not str:
            raise InputError(f"{name} is {value!r}: give a name.")


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Errors name the arguments of an estimator where those of a run name flags.

    >>> with in_python():
    ...     raise InputError("--batch-size is 0, it must be at least 1.")
    Traceback (most recent call last):
    odernn._results.InputError: batch_size is 0, it must be at least 1.
    """

    def argument(flag: re.Match[str]) -> str:
        return "random_state" if flag[1] == "seed" else flag[1].replace("-", "_")

    try:
        yield
    except (InputError, RunFailed) as error:
        text = re.sub(r"--([a-z]+(?:-[a-z]+)*)", argument, str(error))
        # Here nothing is written while training.
        text = re.sub(r" The checkpoint of epoch \d+ stays\.", "", text)
        raise type(error)(text) from error


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class RegressorParameters(Parameters):
    """Arguments of a regressor."""

    readout: Literal["auto", "last", "mean"] = "auto"
    """Read the last state (also "auto"), or the mean over time."""


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class ClassifierParameters(RegressorParameters):
    """Arguments of a classifier."""

    label_smoothing: float | None = None
    """Share of a target spread over all classes."""


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class ForecasterParameters(Parameters):
    """Arguments of a forecaster."""

    horizon: int = 1
    """Rows ahead to forecast; all rows up to that one are learnt."""
    length: int | None = None
    """Rows of a window: how far a forecast looks back (64, or all there are)."""
