"""Any task with some of its steps left out and the times of the others kept."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from .._results import InputError
from ._options import whole_number
from ._task import Always, Dataset, Task

_TRAINING, _VALIDATION, _TEST = 1, 2, 3


def irregular(task: Task, share: float = 0.3, seed: int = 0) -> Task:
    """The task with a share of the steps of each sequence left out, at random.

    The times of the steps that remain are kept (`Dataset.times`, in input steps, from 0), and so
    are their inputs, masks and targets: a forecast is still of the same time. Steps that a
    sequence cannot be answered without are never left out (`Task.needed`, `Task.target_mask`): the
    two marked numbers of `adding`; the symbols, the cue and the answers of `copy`. All sequences
    lose as many steps, or the same share of their lengths if these differ, so that nothing has to
    be padded that was not padded before.

    Which steps are left out depends on the seed and the part, and in generated training data on
    the epoch. The baseline is that of all steps.

    Arguments:
        task: any task.
        share: of the steps of a sequence, at least 0 and below 1; rounded to whole steps.
        seed: of the choice.

    Returns:
        The task, its name with "-irregular" behind it.

    Raises:
        InputError: share or seed out of range, or too few steps that can be left out.

    >>> from odernn import tasks
    >>> data = tasks.irregular(tasks.adding(length=100)).test
    >>> data.inputs.shape, data.times[0, :4].tolist()
    ((1000, 70, 2), [2.0, 3.0, 4.0, 6.0])
    """
    if not 0 <= share < 1:
        raise InputError(f"share is {share}, it must be at least 0 and below 1.")
    seed = whole_number("seed", seed, 0)
    parts = [
        _thinned(task, data, share, np.random.default_rng([seed, part]))
        for part, data in ((_VALIDATION, task.validation), (_TEST, task.test))
    ]
    if isinstance(task.training, Always):
        rng = np.random.default_rng([seed, _TRAINING])
        training = Always(_thinned(task, task.training(0), share, rng))
    else:
        training = _Thinned(task, share, seed)
    # A mean over fewer steps, of which the same number is hard.
    fewer = task.test.inputs.shape[1] / parts[1].inputs.shape[1] if task.per_step else 1.0
    value = task.loss_baseline
    return replace(
        task,
        name=f"{task.name}-irregular",
        training=training,
        validation=parts[0],
        test=parts[1],
        target_mask=_target_mask(task, share),
        time_unit=1.0 if task.time_unit is None else task.time_unit,
        loss_baseline=None if value is None else (value[0] * fewer, value[1]),
        needed=None,
    )


@dataclass(frozen=True)
class _Thinned:
    """Training data that are drawn anew in every epoch, and so is what they lose."""

    task: Task
    share: float
    seed: int

    def __call__(self, epoch: int) -> Dataset:
        """The data of this epoch."""
        data = self.task.training(epoch)
        rng = np.random.default_rng([self.seed, _TRAINING, epoch])
        return _thinned(self.task, data, self.share, rng)


def _thinned(task: Task, data: Dataset, share: float, rng: np.random.Generator) -> Dataset:
    count, time, _ = data.inputs.shape
    lengths = np.full(count, time) if data.lengths is None else data.lengths
    steps = np.arange(time)
    within = steps < lengths[:, None]
    needed = _needed(task, data) & within
    lost = _lost(share, lengths)
    few = within.sum(1) - needed.sum(1) < lost
    if few.any():
        row = int(few.argmax())
        raise InputError(
            f"share is {share:g}, {lost[row]} of the {lengths[row]} steps of a sequence of task "
            f"{task.name}, but {needed[row].sum()} of them are needed: take a smaller share or "
            "longer sequences."
        )
    # Those with the smallest numbers stay: what is needed first, padding last.
    rank = np.where(needed, -1.0, np.where(within, rng.random((count, time)), 1.0))
    kept = lengths - lost
    stay = np.argsort(np.argsort(rank, axis=1, kind="stable"), axis=1) < kept[:, None]
    chosen = np.argsort(~stay, axis=1, kind="stable")[:, : kept.max()]
    inputs = _at(data.inputs, chosen)
    times = (chosen if data.times is None else _at(data.times, chosen)).astype(np.float32)
    if data.lengths is not None:
        beyond = np.arange(kept.max()) - (kept[:, None] - 1)
        last = np.take_along_axis(times, kept[:, None] - 1, axis=1)
        times = np.where(beyond > 0, last + beyond, times).astype(np.float32)
        inputs = np.where((beyond > 0)[..., None], np.float32(0), inputs)
    return Dataset(
        inputs=inputs,
        targets=_at(data.targets, chosen) if task.per_step else data.targets,
        lengths=None if data.lengths is None else kept.astype(np.int32),
        mask=None if data.mask is None else _at(data.mask, chosen),
        times=times,
        target_mask=None if data.target_mask is None else _at(data.target_mask, chosen),
    )


def _lost(share: float, lengths: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How many steps sequences of these lengths lose; one remains."""
    return np.minimum(np.rint(share * lengths).astype(int), lengths - 1)


def _needed(task: Task, data: Dataset) -> Bool[np.ndarray, "n time"]:
    needed = np.zeros(data.inputs.shape[:2], bool)
    if task.needed is not None:
        needed |= task.needed(data)
    if task.target_mask is not None:
        needed |= task.target_mask
    return needed


def _at(array: np.ndarray, steps: Int[np.ndarray, "n kept"]) -> np.ndarray:
    """The entries of each sequence at its own steps."""
    return array[np.arange(len(array))[:, None], steps]


def _target_mask(task: Task, share: float) -> Bool[np.ndarray, " kept"] | None:
    """The last steps that count, which all remain.

    Raises:
        InputError: others count as well, which would be elsewhere in each sequence.
    """
    if task.target_mask is None:
        return None
    time, counted = len(task.target_mask), int(task.target_mask.sum())
    if not task.target_mask[time - counted :].all():
        raise InputError(
            f"task {task.name} counts other steps than the last ones (target_mask): steps can be "
            "left out only before those that count."
        )
    kept = time - int(_lost(share, np.array([time]))[0])
    return np.arange(kept) >= kept - counted
