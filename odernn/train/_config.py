"""One typed description of a run: the schema of its TOML file and of the command line's flags."""

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import tomli_w

from .._results import InputError
from ..zoo import CELLS, Network
from ..zoo._network import size_for, size_name

FORMAT = 1
"""Version of the run folder's files; raised when an older reader would misread them."""

UNITS = 64
"""Units of a layer that nobody gave, and amplitudes of one that is made of qubits."""

CELL_OPTIONS = (
    *("hidden_size", "qubits", "memory", "sharing", "feedback", "encoding", "features"),
    "precession",
)
"""What is handed to the cell's field; each cell takes some of them."""

_RATES = {
    **dict.fromkeys(("rnn", "indrnn", "br", "reslstm"), 0.005),
    **dict.fromkeys(("fullcapacityurnn", "scornn", "cfcpure"), 0.005),
    **dict.fromkeys(("momentumrnn", "cfc", "cfcnogate"), 0.001),
}
"""Cells that want another learning rate than 0.02 where a sequence has one label: those with which
`benchmarks/digits_cells.py` finds another rate clearly better."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What to train and how; every field is a flag (`hidden_size` is `--hidden-size`).

    >>> Config(task="digits", epochs=0).check()
    Traceback (most recent call last):
    odernn._results.InputError: --epochs is 0, it must be at least 1.
    """

    task: str = ""
    """Task to learn: a name from `odernn list`, a .ts file or a .csv file."""
    cell: str = "cornn"
    """Cell: a name from `odernn list`."""
    hidden_size: int | None = None
    """Units per layer (64)."""
    qubits: int | None = None
    """Qubits per layer, of a cell that is made of them (6)."""
    memory: int | None = None
    """Inputs that a step reads, the present one and those before it (qunn)."""
    sharing: Literal["global", "site"] | None = None
    """One trained number for all sites of a kind of term, or one for each site (qunn)."""
    feedback: bool | None = None
    """Let what is measured of past states act on the state (qunn)."""
    encoding: Literal["fixed", "trained", "linear"] | None = None
    """How inputs become angles: by fixed random numbers, by trained products of two affine forms,
    or by a trained matrix (qunn, trained)."""
    features: int | None = None
    """Products in a trained encoding (qunn)."""
    precession: float | None = None
    """Largest initial angle of a qubit's own turn in a step, radians; the others' are spread evenly
    from 0 (qunn, 0)."""
    layers: int = 1
    """Recurrent layers, one on top of the other."""
    bidirectional: bool = False
    """Read every sequence in both directions (not causal)."""
    method: str | None = None
    """Integration method in place of the cell's own, for example rk4."""
    dt: float | None = None
    """Step size in place of the cell's own, in input steps."""
    train_dt: bool = False
    """Make the step size a trained parameter."""
    interpolation: Literal["held", "linear", "cubic"] | None = None
    """What the field sees between two inputs, in place of the cell's own: the later one, a straight
    line or a cubic."""
    initial_horizon: int | None = None
    """Choose initial time scales, spectrum, gate biases or step size so that gradients reach so
    many steps before training."""
    readout: Literal["auto", "last", "mean", "each"] = "auto"
    """Read the last state, the mean over time or each step; auto: each if targets are per step."""
    epochs: int = 40
    """Passes over the training part."""
    batch_size: int = 32
    """Sequences per gradient step."""
    learning_rate: float | None = None
    """Peak learning rate (AdamW, linear warm-up, cosine decay to zero); by default the cell's if a
    sequence has one label, else 0.005."""
    warmup: float = 0.1
    """Fraction of all steps spent raising the learning rate."""
    weight_decay: float | None = None
    """Decoupled weight decay of matrices; by default 0.1 if a sequence has one label, else 0."""
    gradient_clip: float = 1.0
    """Largest global norm of a gradient; 0 turns clipping off."""
    dropout: float | None = None
    """Share of units dropped behind each layer; by default 0.2 if a sequence has one label."""
    label_smoothing: float | None = None
    """Share of a target spread over all classes; by default 0.1 if a sequence has one label."""
    average: float | None = None
    """Decay of the weights' moving average, which is saved; by default 0.98 or 0, as above."""
    patience: int = 0
    """Epochs without a better validation metric before stopping; 0 never stops early."""
    keep_certified: bool = False
    """Keep every cell certified not to expand: after each step the weights are put back where the
    theorem about the cell holds."""
    diagnose: int = 0
    """Gradient steps between measurements of the memory horizon (diagnostics.csv); 0: none."""
    seed: int = 0
    """Seed of the weights, the data order and generated data."""
    length: int | None = None
    """Sequence length of generated tasks, window length of .csv files."""
    train_size: int | None = None
    """Training sequences of generated tasks; fewer than all of a fixed data set."""
    target: str | None = None
    """Column to forecast (.csv)."""
    horizon: int = 1
    """Rows ahead to forecast (.csv)."""
    mask_missing: bool = False
    """Hold the state where values are missing instead of refusing the file (.csv, .ts)."""
    out: Path | None = None
    """Run folder to create; runs/TASK-CELL-N by default."""

    @property
    def cell_options(self) -> dict[str, Any]:
        """Those of the `CELL_OPTIONS` that are given."""
        values = {name: getattr(self, name) for name in CELL_OPTIONS}
        return {name: value for name, value in values.items() if value is not None}

    def check(self) -> None:
        """Refuse values that no run can have.

        Raises:
            InputError: a value is out of range; names the flag and the range.
        """
        if not self.task:
            raise InputError("no task given: name one (see `odernn list`), a .ts or a .csv file.")
        check_cell_options(self.cell_options)
        _in_range("layers", self.layers, 1, 1000)
        for name in ("epochs", "batch_size", "horizon"):
            _in_range(name, getattr(self, name), 1)
        for name in ("length", "train_size", "initial_horizon"):
            if getattr(self, name) is not None:
                _in_range(name, getattr(self, name), 1)
        for name in ("patience", "diagnose"):
            _in_range(name, getattr(self, name), 0)
        for name in ("learning_rate", "dt"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{_flag(name)} is {value}, it must be positive and finite.")
        for name in ("weight_decay", "gradient_clip"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{_flag(name)} is {value}, it must be 0 or more, and finite.")
        for name in ("warmup", "dropout", "label_smoothing", "average"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise InputError(f"{_flag(name)} is {value}, it must be at least 0 and below 1.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed is {self.seed}, it must be from 0 to {2**32 - 1}.")

    def settled(self, *, one_label: bool) -> "Config":
        """The configuration with numbers in place of what it leaves open.

        The size is 64 units, or as many qubits as have 64 amplitudes. `one_label` says that a
        sequence has one class label: such data sets are small and call for regularisation; series
        and generated tasks do not. The numbers are those with which `benchmarks/digits_cells.py`
        compares the cells.
        """
        usual = {
            "learning_rate": _RATES.get(self.cell.lower(), 0.02) if one_label else 0.005,
            "weight_decay": 0.1 if one_label else 0.0,
            "dropout": 0.2 if one_label else 0.0,
            "label_smoothing": 0.1 if one_label else 0.0,
            "average": 0.98 if one_label else 0.0,
        }
        if network := CELLS.get(self.cell.lower()):
            usual[size_name(network.field)] = size_for(network.field, UNITS)
        left_open = {k: v for k, v in usual.items() if getattr(self, k) is None}
        return dataclasses.replace(self, **left_open)

    def to_toml(self) -> str:
        """The configuration as TOML text; values that are None are left out, as is `out`.

        `out` names one folder, which exists once the run has begun: a repetition needs another.
        """
        values = dataclasses.asdict(self)
        del values["out"]
        return tomli_w.dumps({key: value for key, value in values.items() if value is not None})

    @classmethod
    def from_toml(cls, path: str | Path) -> "Config":
        """Read a configuration; keys left out keep their defaults.

        Raises:
            InputError: no such file, not TOML, an unknown key (with the nearest known), a value
                of the wrong type or a file written by another version.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read configuration {path}: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"configuration {path} is not valid TOML: {reason}.") from error
        written, version = values.pop("format", FORMAT), values.pop("odernn", "unknown")
        if written != FORMAT:
            raise InputError(
                f"configuration {path} has format {written!r} (odernn {version}), this version"
                f" reads format {FORMAT}: use that version, or start a new run."
            )
        hints = typing.get_type_hints(cls)
        checked = {}
        for key, value in values.items():
            if key not in hints:
                raise _unknown_key(path, key, list(hints))
            checked[key] = _conform(path, key, value, hints[key])
        return cls(**checked)


def check_cell_options(given: Mapping[str, Any]) -> None:
    """Refuse options that no cell can have.

    Raises:
        InputError: a value is out of range; names the flag and the range.
    """
    for name, least, most in (
        ("hidden_size", 1, 100_000),
        ("qubits", 2, None),
        ("memory", 1, 10_000),
        ("features", 1, 100_000),
    ):
        if name in given:
            _in_range(name, given[name], least, most)
    if not math.isfinite(angle := given.get("precession", 0.0)):
        raise InputError(f"--precession is {angle}, it must be a finite angle in radians.")


def cell_options(given: Mapping[str, Any], network: Network, units: int) -> dict[str, Any]:
    """The size of a network and what is given besides, by the names of its field's arguments.

    Arguments:
        given: some of the `CELL_OPTIONS`.
        network: whose field takes them or does not.
        units: how many there are if no size is given; of qubits as many as have so many amplitudes.

    Raises:
        InputError: the network does not take an option; names the flag and the cells that do.
    """
    size = size_name(network.field)
    options = {size: size_for(network.field, units)} | dict(given)
    for name, value in given.items():
        if name not in network.takes:
            raise _not_taken(name, value, network, options[size])
    return options


def _not_taken(name: str, value: Any, network: Network, count: int) -> InputError:
    if name != "hidden_size":
        taking = " or ".join(cell for cell, other in CELLS.items() if name in other.takes)
        return InputError(
            f"{_flag(name)} is {value}, but {network.name} does not take it: leave it out, or take "
            f"{taking}."
        )
    size = size_name(network.field)
    cell = eqx.filter_eval_shape(lambda: network(1, count, key=jax.random.key(0)))
    return InputError(
        f"--hidden-size is {value}, but the size of {network.name} is {_flag(size)}: what the next "
        f"layer sees follows from it, {cell.hidden_size} numbers of {count} {size}."
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _in_range(name: str, value: int, least: int, most: int | None = None) -> None:
    if value < least:
        raise InputError(f"{_flag(name)} is {value}, it must be at least {least}.")
    if most is not None and value > most:
        raise InputError(f"{_flag(name)} is {value}, it must be at most {most}.")


def _unknown_key(path: Path, key: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}."
    return InputError(f"configuration {path} has an unknown key {key!r}: {hint}")


def _conform(path: Path, key: str, value: Any, expected: Any) -> Any:
    """`value` in the field's type: TOML writes a path as text, and 1 may stand for 1.0."""
    if typing.get_origin(expected) in (types.UnionType, typing.Union):
        expected = typing.get_args(expected)[0]
    if typing.get_origin(expected) is Literal:
        choices = typing.get_args(expected)
        if value not in choices:
            raise InputError(
                f"configuration {path}: {key} is {value!r}, it must be one of "
                f"{', '.join(map(repr, choices))}."
            )
        return value
    if expected is Path and isinstance(value, str):
        return Path(value)
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise InputError(
            f"configuration {path}: {key} is {value!r}, it must be of type {expected.__name__}."
        )
    return value
