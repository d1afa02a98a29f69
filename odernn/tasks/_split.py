"""Splitting sequences into parts that show the classes in the same shares."""

import numpy as np
from jaxtyping import Int

from .._results import InputError
from ._options import whole_number


def stratified_order(
    labels: Int[np.ndarray, " n"], seed: int = 0
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Indices in an order of which every beginning has the classes in about their shares.

    Also says, in that order, how many of its class are left after each index.
    """
    # RandomState and not Generator: NumPy promises its stream for ever, and a split is for ever.
    random = np.random.RandomState(seed)
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    place = np.empty(len(labels), int)
    for index, count in enumerate(counts):
        place[numbers == index] = random.permutation(count)
    # Member k of m comes where it would be if its class were spread evenly (Sainte-Lague).
    order = np.argsort((place + 0.5) / counts[numbers], kind="stable")
    return order, (counts[numbers] - place - 1)[order]


def stratified_split(
    labels: Int[np.ndarray, " n"], size: int, seed: int = 0
) -> tuple[Int[np.ndarray, " rest"], Int[np.ndarray, " part"]]:
    """Indices of the rest and of a part of `size`, each sorted.

    Every class keeps at least one member in the rest: the part is smaller if they are tiny.
    """
    order, left = stratified_order(labels, seed)
    part = np.sort(order[left > 0][:size])
    return np.setdiff1d(np.arange(len(labels)), part), part


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
    return np.sort(stratified_order(labels)[0][:size])
