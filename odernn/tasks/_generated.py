"""Tasks whose data are drawn: a new training set in every epoch, of any length."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._results import InputError
from ._options import whole_number
from ._task import Dataset, Task

SYMBOLS = 8
"""Symbols of the copy task; a blank and the cue come on top."""

MEMORY = 10
"""How many symbols the copy task asks to remember."""

_TRAINING, _VALIDATION, _TEST = 1, 2, 3
_USUAL_SIZE, _VALIDATION_SIZE, _TEST_SIZE = 2000, 500, 1000
_MOST_NUMBERS = 10**9


@dataclass(frozen=True)
class Drawn:
    """Training data that are drawn anew in every epoch, from the seed and the epoch alone."""

    draw: Callable[[np.random.Generator, int], Dataset]
    size: int
    seed: int

    def __call__(self, epoch: int) -> Dataset:
        """The data of this epoch.

        Raises:
            InputError: the epoch is not a whole number of at least 0.
        """
        epoch = whole_number("epoch", epoch, 0)
        # The part comes first: no seed or epoch can make a training set a test set.
        return self.draw(np.random.default_rng([_TRAINING, epoch, self.seed]), self.size)


def adding(*, seed: int = 0, length: int | None = None, train_size: int | None = None) -> Task:
    """The adding problem: the sum of two marked numbers among many (Hochreiter, Schmidhuber 1997).

    Each step has a number drawn from [0, 1) and a marker, which is 1 at two steps, one in each
    half of the sequence, and 0 elsewhere. Always answering the mean, 1, has a squared error of
    1/6 = 0.167.

    Arguments:
        seed: of the training data. Validation and test are the same for every seed.
        length: steps of a sequence, at least 2; 100 by default.
        train_size: sequences of an epoch; 2000 by default.

    Raises:
        InputError: an argument out of range.

    >>> adding(length=50).test.inputs.shape
    (1000, 50, 2)
    """
    length = 100 if length is None else whole_number("length", length, 2)

    def draw(rng: np.random.Generator, size: int) -> Dataset:
        rows = np.arange(size)
        numbers = rng.random((size, length), dtype=np.float32)
        first = rng.integers(0, length // 2, size)
        second = rng.integers(length // 2, length, size)
        marker = np.zeros_like(numbers)
        marker[rows, first] = 1
        marker[rows, second] = 1
        total = numbers[rows, first] + numbers[rows, second]
        return Dataset(np.stack([numbers, marker], axis=-1), total[:, None])

    return Task(
        name="adding",
        kind="regression",
        per_step=False,
        input_size=2,
        output_size=1,
        metric="mse",
        **_parts(draw, seed, train_size, 2 * length),
        channels=("number", "marker"),
        baseline=(1 / 6, "guessing the mean"),
        needed=lambda data: data.inputs[..., 1] > 0,
    )


def copy(*, seed: int = 0, length: int | None = None, train_size: int | None = None) -> Task:
    """Copy memory: repeat ten symbols after a delay (Hochreiter, Schmidhuber 1997).

    Inputs are one-hot in 10 channels: K = 10 symbols out of 8, then `length` = T steps that are
    blank but for the last, the cue, then K blanks. The target is a blank at the first T + K
    steps, then the K symbols: T + 2 K steps in all.

    The metric is the accuracy at the last K steps (`Task.target_mask`); guessing a symbol there
    has 1/8. The loss is the mean over all T + 2 K steps: only so can it be compared with the
    K ln(8) / (T + 2 K) of a network without memory, which knows when to answer but not what
    (`Task.loss_baseline`).

    Arguments:
        seed: of the training data. Validation and test are the same for every seed.
        length: the delay T, at least 1; 100 by default.
        train_size: sequences of an epoch; 2000 by default.

    Raises:
        InputError: an argument out of range.

    >>> task = copy(length=30)
    >>> task.test.inputs.shape, int(task.target_mask.sum())
    ((1000, 50, 10), 10)
    """
    delay = 100 if length is None else whole_number("length", length, 1)
    steps = delay + 2 * MEMORY
    blank, cue = SYMBOLS, SYMBOLS + 1
    onehot = np.eye(SYMBOLS + 2, dtype=np.float32)

    def draw(rng: np.random.Generator, size: int) -> Dataset:
        symbols = rng.integers(0, SYMBOLS, (size, MEMORY))
        read = np.full((size, steps), blank)
        read[:, :MEMORY] = symbols
        read[:, MEMORY + delay - 1] = cue
        answer = np.full((size, steps), blank, np.int32)
        answer[:, -MEMORY:] = symbols
        return Dataset(onehot[read], answer)

    names = (*(f"symbol {index + 1}" for index in range(SYMBOLS)), "blank", "cue")
    return Task(
        name="copy",
        kind="classification",
        per_step=True,
        input_size=SYMBOLS + 2,
        output_size=SYMBOLS + 2,
        metric="accuracy",
        **_parts(draw, seed, train_size, steps * (SYMBOLS + 2)),
        channels=names,
        classes=names,
        target_mask=np.arange(steps) >= steps - MEMORY,
        baseline=(1 / SYMBOLS, "guessing a symbol"),
        loss_baseline=(MEMORY * math.log(SYMBOLS) / steps, "no memory"),
        needed=lambda data: data.inputs[..., blank] == 0,
    )


def generated_task(
    name: str, *, seed: int, length: int | None, train_size: int | None, **_: object
) -> Task:
    """The generated task of this name."""
    return {"adding": adding, "copy": copy}[name](seed=seed, length=length, train_size=train_size)


def _parts(
    draw: Callable[[np.random.Generator, int], Dataset],
    seed: int,
    train_size: int | None,
    numbers: int,
) -> dict:
    """The three parts, given how many numbers a sequence has."""
    size = _USUAL_SIZE if train_size is None else whole_number("train_size", train_size, 1)
    if max(size, _TEST_SIZE) * numbers > _MOST_NUMBERS:
        raise InputError(
            f"an epoch of {size} sequences (train_size, --train-size) of this length takes "
            f"{size * numbers * 4 / 1e9:.3g} GB: take fewer or shorter ones; each epoch draws anew."
        )
    return {
        "training": Drawn(draw, size, whole_number("seed", seed, 0)),
        "validation": draw(np.random.default_rng([_VALIDATION]), _VALIDATION_SIZE),
        "test": draw(np.random.default_rng([_TEST]), _TEST_SIZE),
    }
