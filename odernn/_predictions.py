"""Predictions for a file: CSV in, CSV out."""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ._results import InputError
from ._storage import load_metadata
from .tasks._csv import Table, read_table
from .train import predict
from .train._folder import read_result


@dataclasses.dataclass(frozen=True)
class _About:
    """What a model says about its task; the file it comes from may hold anything."""

    kind: str
    per_step: bool
    channels: list[str]
    classes: list[str] | None
    target: str | None
    horizon: int
    time_unit: float | None
    mask_missing: bool

    @classmethod
    def read(cls, run: Path) -> "_About":
        metadata = load_metadata(run)
        values: dict[str, Any] = {
            field.name: metadata.get(field.name) for field in dataclasses.fields(cls)
        }
        about = cls(**values)
        for name, right in about._checks().items():
            if not right:
                raise InputError(
                    f"the model in {run} gives {name!r} as {values[name]!r:.80}, which cannot be "
                    "right: train it again."
                )
        return about

    def _checks(self) -> dict[str, bool]:
        unit = self.time_unit
        return {
            "kind": self.kind in ("classification", "regression"),
            "per_step": isinstance(self.per_step, bool),
            "channels": bool(self.channels) and _strings(self.channels),
            "classes": _strings(self.classes) if self.kind == "classification" else True,
            "target": self.target is None
            or (self.per_step and _strings(self.channels) and self.target in self.channels),
            "horizon": isinstance(self.horizon, int),
            "time_unit": unit is None
            or (isinstance(unit, float) and unit > 0 and math.isfinite(unit)),
            "mask_missing": isinstance(self.mask_missing, bool),
        }


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class _Sequences(NamedTuple):
    """The sequences of a file, padded to one length."""

    rows: list[Int[np.ndarray, " time"]]  # of the file, for each sequence
    labels: list[str]
    inputs: Float[np.ndarray, "n time channels"]
    mask: Bool[np.ndarray, "n time"] | None
    times: Float[np.ndarray, "n time"] | None


def predict_file(run: Path, file: Path, *, mask_missing: bool = False) -> str:
    """Apply the model of a run to a CSV file and give the predictions as CSV text.

    The columns that the model reads are found by the names they had in training or, if none of
    those is there and it is no forecast, are all numeric ones. A column `sequence` says which
    sequence a row belongs to; a column `time` is needed after training on time stamps, else only
    carried over.

    With one output a sequence there is a row for each sequence, in the order in which they first
    appear; with one a step there is a row for each row of the file. Classes are given as `label`
    and its `probability`; a forecast of the column x three rows ahead is called `x+3`, and is nan
    in rows before the first of a sequence that lacks no number; values are in the units of the
    training data.

    Raises:
        InputError: the run folder is incomplete or of another version; anything that `read_csv`
            refuses; other channels than the model reads; time stamps that do not increase.
    """
    read_result(run)
    about = _About.read(run)
    table = read_table(file)
    found = _sequences(table, about, run, mask_missing or about.mask_missing)
    lengths = np.array([len(rows) for rows in found.rows], np.int32)
    padded = None if (lengths == lengths[0]).all() else lengths
    predicted = predict(run, found.inputs, lengths=padded, mask=found.mask, times=found.times)
    if predicted.ndim != (3 if about.per_step else 2) or (
        about.classes is not None and predicted.shape[-1] != len(about.classes)
    ):
        raise InputError(f"the model in {run} is not the one that its description is of.")
    return _to_csv(table, about, found, predicted)


def _sequences(table: Table, about: _About, run: Path, mask_missing: bool) -> _Sequences:
    channels = _channels(table, about, run)
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
    times = None if about.time_unit is None else _times(table, about, rows, shape, run)
    return _Sequences(rows, list(labels), inputs, None if mask.all() else mask, times)


def _extra_columns(table: Table, about: _About) -> list[str]:
    """The columns `sequence` and `time`, unless the model reads them as channels."""
    wanted = {"sequence", "time"} - set(about.channels)
    return [name for name in table.names if name in wanted]


def _channels(table: Table, about: _About, run: Path) -> tuple[str, ...]:
    """The columns to read: by their names in training, else all numeric ones in order."""
    wanted = about.channels
    if set(wanted) <= set(table.names):
        return tuple(wanted)
    others = {"sequence", "time"} - set(wanted)
    there = [name for name in table.numeric() if name not in others]
    # The columns of a series have a meaning of their own: there, other names are other data.
    named = about.target is not None or bool(set(wanted) & set(table.names))
    if len(there) == len(wanted) and not named:
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
    table: Table,
    about: _About,
    rows: list[np.ndarray],
    shape: tuple[int, int],
    run: Path,
) -> np.ndarray:
    """Time stamps in input steps since the first of each sequence."""
    if "time" not in _extra_columns(table, about):
        raise InputError(f"{table.path} has no column 'time': {run} was trained on time stamps.")
    stamps = table.values(["time"])[0][:, 0]
    times = np.zeros(shape)
    for number, part in enumerate(rows):
        steps = np.diff(stamps[part])
        if not (steps > 0).all():
            place = table.place(part[int(np.argmin(steps > 0)) + 1], table.index("time"))
            raise InputError(f"{table.path}: the time at {place} is not later than the one before.")
        times[number, : len(part)] = (stamps[part] - stamps[part[0]]) / about.time_unit
    return times


def _to_csv(table: Table, about: _About, found: _Sequences, predicted: np.ndarray) -> str:
    extra = _extra_columns(table, about) if about.per_step else ["sequence"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*extra, *_result_columns(about, predicted.shape[-1])])
    if not about.per_step:
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


def _result_columns(about: _About, size: int) -> list[str]:
    if about.kind == "classification":
        return ["label", "probability"]
    if about.target is not None:
        return [f"{about.target}+{about.horizon}"]
    return ["value"] if size == 1 else [f"value {number + 1}" for number in range(size)]


def _result(about: _About, values: np.ndarray) -> list[str]:
    if about.kind != "classification":
        return [f"{value:.9g}" for value in values.tolist()]
    best = int(values.argmax())
    return [(about.classes or [])[best], f"{values[best]:.6g}"]
