"""Handwritten digits, read pixel by pixel."""

from typing import TYPE_CHECKING

import numpy as np

from ._options import refuse
from ._split import part_of, reduced
from ._task import Always, Dataset, Task, most_common

if TYPE_CHECKING:
    from sklearn.utils import Bunch


def digits(*, train_size: int | None = None, permuted: bool = False) -> Task:
    """The 1797 images of 8 x 8 pixels that scikit-learn brings, as sequences of 64 numbers.

    The parts never change, so that runs with different seeds can be compared: a fifth, stratified,
    is for testing (`train_test_split(..., test_size=0.2, stratify=y, random_state=0)`), a
    stratified tenth of the rest for validation.

    Arguments:
        train_size: fewer training sequences than all; stratified.
        permuted: shuffle the pixels, in the same way in every image, so that neighbours in the
            image are far apart in time.

    Raises:
        InputError: train_size out of range.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    name = "digits-permuted" if permuted else "digits"
    bunch: Bunch = load_digits()  # pyright: ignore[reportAssignmentType]
    inputs = (bunch.data / 16).astype(np.float32)[..., None]
    labels = bunch.target.astype(np.int32)
    if permuted:
        # RandomState's stream is promised not to change, Generator's is not.
        inputs = inputs[:, np.random.RandomState(0).permutation(inputs.shape[1])]
    rows = np.arange(len(labels))
    known, test = train_test_split(rows, test_size=0.2, stratify=labels, random_state=0)
    known, test = np.sort(known), np.sort(test)
    rest, validation = part_of(name, labels[known], 0.1)
    training = known[rest]
    training = training[reduced(name, labels[training], train_size)]
    data = Dataset(inputs, labels)
    return Task(
        name=name,
        kind="classification",
        per_step=False,
        input_size=1,
        output_size=10,
        metric="accuracy",
        training=Always(data[training]),
        validation=data[known[validation]],
        test=data[test],
        channels=("pixel",),
        classes=tuple(str(digit) for digit in range(10)),
        baseline=most_common(labels[training], labels[test]),
    )


def digits_task(name: str, *, length: int | None, train_size: int | None, **_: object) -> Task:
    """The task of this name; it has no options but `train_size`."""
    refuse(name, "has sequences of 64 pixels", length=length)
    return digits(train_size=train_size, permuted=name == "digits-permuted")
