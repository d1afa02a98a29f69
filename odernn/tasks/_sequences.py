"""Tasks of classified (or valued) sequences that are stored in .ts files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from .._results import InputError
from ._split import part_of, reduced
from ._task import Always, Dataset, Scaling, Task, most_common, single
from ._ts import Sequences, read_ts

_TEST, _VALIDATION = 0.2, 0.2


def sequences(
    path: str | Path, *, train_size: int | None = None, mask_missing: bool = False
) -> Task:
    """The sequences of a .ts file, or of a pair NAME_TRAIN.ts and NAME_TEST.ts.

    Of a pair, either file names both. A single file is split: a fifth is for testing. A fifth of
    the training part is for validation. Both splits are stratified and never change.

    Channels are scaled, and the targets too if they are values, by mean and standard deviation of
    the training part. Shorter sequences are padded with zeros (`Dataset.lengths`). Time stamps
    are counted in units of the median interval of the training part (`Task.time_unit`).

    Arguments:
        path: the file.
        train_size: fewer training sequences than all; stratified.
        mask_missing: let missing and infinite values pass: a step that lacks one is masked.

    Raises:
        InputError: a file that `read_ts` refuses, a pair whose files do not fit together, missing
            values without `mask_missing`, too few sequences, or train_size out of range.
    """
    path = Path(path)
    name, pair = _pair(path)
    if pair is None:
        data = _read(path, mask_missing)
        known, test = part_of(str(path), _strata(data), _TEST)
        return _task(name, _select(data, known), _select(data, test), train_size)
    training, test = (_read(file, mask_missing) for file in pair)
    _check_pair(training, test)
    # Class numbers are those of the training file, whatever the order in the other.
    test = replace(test, classes=training.classes)
    return _task(name, training, test, train_size)


def _pair(path: Path) -> tuple[str, tuple[Path, Path] | None]:
    """The data set's name, and its two files if the file is one of a pair."""
    for ending in ("_TRAIN", "_TEST"):
        if path.stem.upper().endswith(ending):
            name = path.stem[: -len(ending)]
            files = [path.with_name(f"{name}{end}{path.suffix}") for end in ("_TRAIN", "_TEST")]
            if all(file.is_file() for file in files):
                return name, (files[0], files[1])
    return path.stem, None


def _read(path: Path, mask_missing: bool) -> Sequences:
    data = read_ts(path)
    wrong = [
        (line, step, channel, series[step, channel])
        for line, series in zip(data.lines, data.series, strict=True)
        for step, channel in np.argwhere(~np.isfinite(series))
    ]
    if mask_missing or not wrong:
        return data
    missing = sum(bool(np.isnan(value)) for *_, value in wrong)
    counts = [f"{missing} missing"] * (missing > 0)
    counts += [f"{len(wrong) - missing} infinite"] * (len(wrong) > missing)
    line, step, channel, _ = wrong[0]
    raise InputError(
        f"{data.path} has {' and '.join(counts)} value(s), the first at line {line}, channel "
        f"{channel + 1}, step {step + 1}: pass mask_missing=True (--mask-missing) to hold the "
        "state there."
    )


def _check_pair(training: Sequences, test: Sequences) -> None:
    if (training.classes is None) != (test.classes is None):
        raise InputError(f"of {training.path} and {test.path}, one has classes and one has values.")
    if (training.times is None) != (test.times is None):
        raise InputError(f"of {training.path} and {test.path}, only one has time stamps.")
    sizes = training.series[0].shape[1], test.series[0].shape[1]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{training.path} has {sizes[0]} channel(s), but {test.path} has {sizes[1]}."
        )


def _strata(data: Sequences) -> np.ndarray:
    """What to stratify by: the class; values are not stratified."""
    targets = data.targets()
    return targets if targets.ndim == 1 else np.zeros(len(targets), np.int32)


def _select(data: Sequences, rows: np.ndarray) -> Sequences:
    return replace(
        data,
        series=[data.series[row] for row in rows],
        lines=[data.lines[row] for row in rows],
        labels=[data.labels[row] for row in rows],
        times=None if data.times is None else [data.times[row] for row in rows],
    )


def _task(name: str, known: Sequences, test: Sequences, train_size: int | None) -> Task:
    known_strata = _strata(known)
    rest, validating = part_of(name, known_strata, _VALIDATION)
    training = _select(known, rest[reduced(name, known_strata[rest], train_size)])
    parts = [training, _select(known, validating), test]
    channels = tuple(f"channel {index + 1}" for index in range(known.series[0].shape[1]))
    rows = np.concatenate(training.series)
    labels = [f"{label} of {known.path}" for label in channels]
    scaling = Scaling.fit(np.where(np.isfinite(rows), rows, np.nan), labels)
    unit = None if training.times is None else _median_interval(training.times)
    steps = max(len(series) for part in parts for series in part.series)
    data = [_dataset(part, part.targets(), scaling, unit, steps) for part in parts]
    values = known.classes is None
    target_scaling = None
    if values:
        target_scaling = Scaling.fit(data[0].targets, [f"the target of {known.path}"])
        data = [
            replace(part, targets=single(target_scaling.apply(part.targets), str(known.path)))
            for part in data
        ]
        baseline = float(np.mean(data[2].targets ** 2)), "guessing the mean"
    else:
        baseline = most_common(data[0].targets, data[2].targets)
    return Task(
        name=name,
        kind="regression" if values else "classification",
        per_step=False,
        input_size=len(channels),
        output_size=1 if known.classes is None else len(known.classes),
        metric="mse" if values else "accuracy",
        training=Always(data[0]),
        validation=data[1],
        test=data[2],
        channels=channels,
        classes=known.classes,
        scaling=scaling,
        target_scaling=target_scaling,
        time_unit=unit,
        baseline=baseline,
    )


def _median_interval(times: Sequence[np.ndarray]) -> float:
    intervals = np.concatenate([np.diff(stamps) for stamps in times])
    return float(np.median(intervals)) if intervals.size else 1.0


def _dataset(
    data: Sequences, targets: np.ndarray, scaling: Scaling, unit: float | None, steps: int
) -> Dataset:
    count = len(data.series)
    lengths = np.array([len(series) for series in data.series], np.int32)
    inputs = np.zeros((count, steps, data.series[0].shape[1]), np.float32)
    mask = np.ones((count, steps), bool)
    for row, series in enumerate(data.series):
        there = np.isfinite(series)
        # What is missing becomes 0, the mean: it is masked, and arithmetic on it stays finite.
        scaled = scaling.apply(np.where(there, series, scaling.mean))
        inputs[row, : len(series)] = single(scaled, f"{data.path} line {data.lines[row]}")
        mask[row, : len(series)] = there.all(axis=1)
    return Dataset(
        inputs=inputs,
        targets=targets,
        lengths=None if (lengths == steps).all() else lengths,
        mask=None if mask.all() else mask,
        times=None if unit is None or data.times is None else _padded(data.times, unit, steps),
    )


def _padded(times: Sequence[np.ndarray], unit: float, steps: int) -> Float[np.ndarray, "n time"]:
    """Time stamps in input steps; beyond the end they go on increasing by one."""
    padded = np.empty((len(times), steps), np.float32)
    for row, stamps in enumerate(times):
        scaled = stamps / unit
        beyond = scaled[-1] + 1 + np.arange(steps - len(stamps))
        padded[row] = np.concatenate([scaled, beyond])
    return padded
