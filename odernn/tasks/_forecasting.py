"""Forecasting a column of a CSV file, some rows ahead."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from .._results import InputError
from ._csv import Table, read_table
from ._options import whole_number
from ._task import Always, Dataset, Scaling, Task, single

WINDOW = 64
"""Rows of a window, where none is asked for and the training part has as many."""

_LEAST_STEPS = 10


def forecasting(
    path: str | Path,
    *,
    target: str | None = None,
    columns: Iterable[str] | None = None,
    horizon: int = 1,
    length: int | None = None,
    train_size: int | None = None,
    mask_missing: bool = False,
) -> Task:
    """At each row, forecast one column `horizon` rows later from all numeric columns so far.

    The targets are differences: the scaled value then less the present one. A network that
    answers 0 repeats the present value, wherever a series has drifted to since training. Their
    mean squared error is that of the scaled values; `odernn.train.predict` adds the present value
    again.

    The rows are split in order of time by the row that is forecast: the first 70 % are for
    training, the next 15 % for validation, the rest for testing. Neither the scaling nor a
    training window sees a later row. What is to be forecast in validation and test may use all
    rows before it, as in real use.

    A series is cut into windows of `length` rows, in each of which the network begins from its
    initial state. So that a forecast does not have to do without a past, windows overlap by half
    and only the second half of each counts (`Dataset.target_mask`; the very first window of the
    series counts in full): each row that can be forecast counts exactly once, after at least
    `length // 2` rows of past. Dependences longer than a window are not learnt: choose `length`
    accordingly.

    Missing numbers need `mask_missing`: a row that lacks one is masked (the state is held there,
    and the present value is that of the last row that lacks none). A forecast whose true value
    is missing does not count, nor one before the first row that lacks none.

    Arguments:
        path: a CSV file with a line of column names. Columns without any number are ignored.
        target: the column to forecast; may be None if there is one numeric column only.
        columns: the columns to read, the target besides; None: all that have a number in them.
        horizon: how many rows ahead, at least 1.
        length: rows of a window; by default 64, or all of the training part if it has fewer.
        train_size: train on this many windows only, the latest ones.
        mask_missing: let missing and infinite numbers pass.

    Returns:
        A task with scaled inputs and targets; its baseline is repeating the present value.

    Raises:
        InputError: anything that `read_csv` refuses, no such target column, too few rows, or an
            argument out of range.
    """
    table = read_table(path)
    horizon = whole_number("horizon", horizon, 1)
    target = _target(table, table.numeric(), target)
    names = table.numeric() if columns is None else tuple(dict.fromkeys((*columns, target)))
    values, present = table.values(names, mask_missing=mask_missing)
    column = names.index(target)
    count, ends = len(values), _ends(table, horizon)
    steps = ends[0] - horizon
    window = min(WINDOW, steps) if length is None else whole_number("length", length, 1)
    if window > steps:
        raise InputError(
            f"length is {window}, but the training part of {table.path} has {steps} of its "
            f"{count} rows for a window: give at most {steps}."
        )
    # Step k reads row k and forecasts row k + horizon, which decides the part it is in.
    bounds = [0, *(end - horizon for end in ends)]
    cuts = [_cut(low, high, window) for low, high in itertools.pairwise(bounds)]
    if train_size is not None:
        cuts[0] = _latest(cuts[0], train_size, table.path)
    first = cuts[0][0][0]
    seen = np.where(present, values, np.nan)[first : ends[0]]
    scaling = Scaling.fit(seen, [f"column {name!r} of {table.path}" for name in names])
    levels = scaling.apply(values)
    read = np.asarray(present.all(axis=1))
    now = last_read(levels[:, column], read)[:-horizon]
    counts = present[horizon:, column] & ~np.isnan(now)
    differences = np.where(counts, levels[horizon:, column] - now, 0.0)[:, None]
    inputs, targets = (single(array, str(table.path)) for array in (levels, differences))
    parts = [_windows(inputs, targets, read, counts, cut, window) for cut in cuts]
    for part, label in zip(parts, ("training", "validation", "test"), strict=True):
        if part.target_mask is not None and not part.target_mask.any():
            raise InputError(
                f"{table.path} has no value of column {target!r} in the {label} part to compare "
                "a forecast with."
            )
    training, validation, test = parts
    return Task(
        name=table.path.stem,
        kind="regression",
        per_step=True,
        input_size=len(names),
        output_size=1,
        metric="mse",
        training=Always(training),
        validation=validation,
        test=test,
        channels=names,
        scaling=scaling,
        target=target,
        target_scaling=Scaling((0.0,), (scaling.std[column],)),
        baseline=(_persistence(test), "repeating the present value"),
    )


def last_read(
    values: Float[np.ndarray, "*n time"], read: Bool[np.ndarray, "*n time"] | None
) -> Float[np.ndarray, "*n time"]:
    """At each step the value at the last step that was read, itself included; nan before any.

    It is what a forecast is the difference from. Where `read` is None, all steps are.

    >>> last_read(np.array([1.0, 2.0, 3.0]), np.array([False, True, False])).tolist()
    [nan, 2.0, 2.0]
    """
    if read is None:
        return values
    steps = np.arange(values.shape[-1])
    last = np.maximum.accumulate(np.where(read, steps, -1), axis=-1)
    known = np.take_along_axis(values, np.maximum(last, 0), axis=-1)
    return np.where(last < 0, np.nan, known)


def _target(table: Table, names: tuple[str, ...], target: str | None) -> str:
    if target is None:
        if len(names) == 1:
            return names[0]
        shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
        raise InputError(
            f"{table.path} has {len(names)} numeric columns: name the one to forecast with target "
            f"(--target): {shown}."
        )
    table.index(target)
    if target not in names:
        # Reading it says what is there instead of a number.
        table.values([target], mask_missing=True)
    return target


def _ends(table: Table, horizon: int) -> tuple[int, int, int]:
    """The row after the last of each part."""
    count = len(table.rows)
    least = -(-(_LEAST_STEPS + horizon) * 10 // 7)
    if count < least:
        raise InputError(
            f"{table.path} has {count} row(s): forecasting {horizon} row(s) ahead (horizon) needs "
            f"at least {least}."
        )
    # Whole numbers: 0.7 * 10 rounds down to 7 only by luck.
    return count * 70 // 100, count * 85 // 100, count


def _cut(low: int, high: int, window: int) -> list[tuple[int, int, int]]:
    """Windows whose counted steps cover low, ..., high - 1 once: (start, first counted, end)."""
    fresh = window - window // 2
    cuts = []
    while low < high:
        end = min(high, max(low + fresh, window))
        cuts.append((end - window, low, end))
        low = end
    return cuts


def _latest(
    cuts: list[tuple[int, int, int]], train_size: int, path: Path
) -> list[tuple[int, int, int]]:
    size = whole_number("train_size", train_size, 1)
    if size > len(cuts):
        raise InputError(
            f"train_size (--train-size) is {size}, but {path} gives {len(cuts)} training windows."
        )
    return cuts[-size:]


def _windows(
    inputs: np.ndarray,
    targets: np.ndarray,
    read: np.ndarray,
    counts: np.ndarray,
    cuts: list[tuple[int, int, int]],
    window: int,
) -> Dataset:
    start, low, _ = np.array(cuts).T
    steps = start[:, None] + np.arange(window)
    mask = read[steps]
    target_mask = (steps >= low[:, None]) & counts[steps]
    return Dataset(
        inputs=inputs[steps],
        targets=targets[steps],
        mask=None if mask.all() else mask,
        target_mask=None if target_mask.all() else target_mask,
    )


def _persistence(test: Dataset) -> float:
    """Mean squared error of a network that answers 0, over what counts."""
    squares = test.targets**2
    return float(squares.mean() if test.target_mask is None else squares[test.target_mask].mean())
