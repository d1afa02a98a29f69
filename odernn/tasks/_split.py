"""Splitting sequences into parts that show the classes in the same shares."""

import numpy as np
from jaxtyping import Int

from .._results import InputError
from ._options import whole_number


def stratified_split(
    labels: Int[np.ndarray, " n"], size: int, seed: int = 0
) -> tuple[Int[np.ndarray, " rest"], Int[np.ndarray, " part"]]:
    """Indices of the rest and of a part of about `size`, each sorted.

    Every class gets its share of the part, rounded so that the sizes add up, and keeps at least
    one member in the rest; the part is therefore smaller if the classes are tiny.
    """
    # RandomState and not Generator: NumPy promises its stream for ever, and a split is for ever.
    random = np.random.RandomState(seed)
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    quota = counts * (min(size, len(labels)) / max(len(labels), 1))
    taken = np.minimum(np.floor(quota).astype(int), counts - 1)
    missing = min(size, len(labels) - len(classes)) - taken.sum()
    while missing > 0:
        # The class furthest below its share goes first; equal ones in order.
        short = np.where(taken < counts - 1, quota - taken, -np.inf)
        taken[np.argmax(short)] += 1
        missing -= 1
    part = [
        random.permutation(np.flatnonzero(numbers == index))[:count]
        for index, count in enumerate(taken)
    ]
    chosen = np.sort(np.concatenate([*part, np.empty(0, int)]).astype(int))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def part_of(
    name: str, labels: Int[np.ndarray, " n"], fraction: float
) -> tuple[Int[np.ndarray, " rest"], Int[np.ndarray, " part"]]:
    """A stratified part of the given fraction, at least one sequence.

    Raises:
        InputError: too few sequences to leave one of each class and take one.
    """
    rest, part = stratified_split(labels, max(1, round(fraction * len(labels))))
    if not len(part):
        raise InputError(
            f"{name} has {len(labels)} sequence(s) in {len(np.unique(labels))} class(es) to split: "
            "too few for a part to train on and one to validate on."
        )
    return rest, part


def reduced(
    name: str, labels: Int[np.ndarray, " n"], train_size: int | None
) -> Int[np.ndarray, " kept"]:
    """Indices of `train_size` training sequences, chosen class by class; None keeps all.

    Raises:
        InputError: more than there are, or fewer than one.
    """
    if train_size is None:
        return np.arange(len(labels))
    size = whole_number("train_size", train_size, 1)
    if size > len(labels):
        raise InputError(
            f"train_size (--train-size) is {size}, but task {name} has {len(labels)} training "
            "sequences."
        )
    if size > len(labels) - len(np.unique(labels)):
        # Here the part would rob a class of its last member, so choose what to leave out instead.
        return stratified_split(labels, len(labels) - size)[0]
    return stratified_split(labels, size)[1]
