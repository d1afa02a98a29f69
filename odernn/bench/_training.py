"""One training of a benchmark: what it measures, and what it says when it fails."""

import math
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from equinox import EquinoxRuntimeError

from .._results import RunFailed
from ..tasks import Dataset, Task
from ..train import Config, build_model
from ..train._loop import Observer, Position, Trainer, evaluation_batch
from ..train._loss import batches

_TIMED = 5
"""Gradient steps that are timed to turn a budget of time into a number of steps."""

FAILURES = (RunFailed, EquinoxRuntimeError, MemoryError, jax.errors.JaxRuntimeError)
"""What makes a training a failed one, and leaves the benchmark to go on."""


class Rounds:
    """Training data in rounds of equally many sequences, whatever an epoch has.

    A round is the next part of a stream: the epochs, each in an order of its own.

    Arguments:
        training: the data of an epoch.
        size: sequences of a round.
        seed: of the orders.
    """

    def __init__(self, training: Callable[[int], Dataset], size: int, seed: int):
        # The same epoch serves several rounds.
        self._epoch = lru_cache(maxsize=1)(training)
        self._count = len(self._epoch(0))
        self._size, self._seed = size, seed

    def __call__(self, index: int) -> Dataset:
        """The data of a round."""
        position, end, parts = index * self._size, (index + 1) * self._size, []
        while position < end:
            epoch, start = divmod(position, self._count)
            order = np.random.default_rng([self._seed, epoch]).permutation(self._count)
            parts.append(self._epoch(epoch)[order[start : start + end - position]])
            position += len(parts[-1])
        return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[Dataset]) -> Dataset:
    columns = {
        field.name: [getattr(part, field.name) for part in parts] for field in fields(Dataset)
    }
    there = {name: column for name, column in columns.items() if column[0] is not None}
    return Dataset(**{name: np.concatenate(column) for name, column in there.items()})


class Pace(NamedTuple):
    """Seconds of a gradient step and of a validation."""

    step: float
    validation: float


class Clock(Observer):
    """Measures gradient steps, and passes on which share of a training is done."""

    def __init__(self, steps: int, report: Callable[[float], None]):
        self.times: list[float] = []
        self._last: float | None = None
        self._steps, self._report = steps, report

    def step(self, position: Position, sequences: int) -> None:
        """Note when a step has ended."""
        now = time.perf_counter()
        if self._last is not None:
            self.times.append(now - self._last)
        self._last = now
        self._report(position.step / self._steps)

    def epoch(self, position: Position, row: dict[str, float]) -> None:
        """Do not count the validation, nor the first step behind it, as a step."""
        self._last = None


def new_trainer(config: Config, task: Task, steps: int) -> Trainer:
    """A trainer of an untrained model, whose epochs are rounds of so many steps."""
    size = min(config.batch_size, len(task.training(0)))
    config = replace(config, batch_size=size).settled(
        one_label=task.kind == "classification" and not task.per_step
    )
    rounds = Rounds(task.training, size * steps, config.seed)
    model = build_model(config, task, jax.random.key(config.seed))
    return Trainer(config, replace(task, training=rounds), model)


def pace(trainer: Trainer) -> Pace:
    """What a gradient step and a validation take, compiled before; the trainer is of no use then.

    The median of some steps: the machine may have had other things to do in one.
    """
    trainer.evaluate(trainer.task.validation, trainer.arrays.best)
    began = time.perf_counter()
    trainer.evaluate(trainer.task.validation, trainer.arrays.best)
    validation = time.perf_counter() - began
    data, times = trainer.task.training(0), []
    arrays = trainer.arrays[:3]
    while len(times) <= _TIMED:
        for batch in batches(data, np.arange(len(data)), trainer.batch_size):
            began = time.perf_counter()
            *arrays, total, _ = trainer._step(*arrays, batch, np.uint32(0), np.int32(0))
            jax.block_until_ready(total)
            times.append(time.perf_counter() - began)
            if len(times) > _TIMED:
                break
    return Pace(statistics.median(times[1:]), validation)


def train(
    config: Config, task: Task, steps: int, report: Callable[[float], None], *, test: bool
) -> dict[str, float]:
    """Train a model, and measure it.

    Arguments:
        config: with a learning rate, a seed and as many epochs as there are rounds.
        task: what to learn.
        steps: gradient steps of a round.
        report: is told which share of the steps is done.
        test: measure the best weights on the test part.

    Returns a dict with columns of results.csv.

    Raises:
        RunFailed: loss, gradient or metric is not finite.
    """
    trainer = new_trainer(config, task, steps)
    memory = _memory(trainer)
    clock = Clock(config.epochs * steps, report)
    trainer.run(lambda row: None, clock, lambda: False)
    position = trainer.position
    best = position.rows[position.best_epoch - 1]
    step = statistics.median(clock.times or [position.seconds / position.step])
    measured = {
        "validation_metric": best["validation_metric"],
        "validation_loss": best["validation_loss"],
        "best_update": best["step"],
        "updates": position.step,
        "training_ms": 1000 * step / trainer.batch_size,
        "memory_mb": memory / 1e6,
        "seconds": position.seconds,
    }
    return measured | _tested(trainer) if test else measured


def _tested(trainer: Trainer) -> dict[str, float]:
    """Loss and metric on the test part, and what a sequence takes there."""
    data, size = trainer.task.test, evaluation_batch(trainer.task, trainer.config.batch_size)
    began = time.perf_counter()
    loss, metric = trainer.evaluate(data, trainer.arrays.best)
    seconds = time.perf_counter() - began
    if not (math.isfinite(loss) and math.isfinite(metric)):
        raise RunFailed("the test loss is not finite")
    filled = -(-len(data) // size) * size  # the last batch is as long as the others
    return {"test_loss": loss, "test_metric": metric, "inference_ms": 1000 * seconds / filled}


def reason(error: BaseException) -> str:
    """Why a training failed, in a few words."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, RunFailed):
        # The rest is advice on a run, and its rounds are no epochs.
        first = re.sub(r" \(epoch \d+\)", "", first.split(":")[0]).removeprefix("the ")
    return first[:200]


def _memory(trainer: Trainer) -> float:
    """Bytes of the compiled gradient step: its arguments, its results and what lies between."""
    batch = next(
        batches(trainer.task.training(0), np.arange(trainer.batch_size), trainer.batch_size)
    )
    arguments = (*trainer.arrays[:3], batch, np.uint32(0), np.int32(0))
    found = trainer._step.lower(*arguments).compile().memory_analysis()
    if found is None:  # not on every device
        return math.nan
    # What is given away holds results, too.
    own = found.output_size_in_bytes - found.alias_size_in_bytes
    return float(found.argument_size_in_bytes + own + found.temp_size_in_bytes)
