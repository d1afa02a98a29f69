"""Epochs of gradient steps, each followed by validation and a checkpoint."""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._model import Model, trained
from .._results import RunFailed
from ..tasks import Dataset, Task
from ._config import Config
from ._diagnosis import Diagnosis
from ._keep import Keeper
from ._loss import Batch, Sums, batches, outputs, sums

COLUMNS: tuple[str, ...] = (
    "epoch",
    "step",
    "train_loss",
    "validation_loss",
    "validation_metric",
    "learning_rate",
    "gradient_norm",
)
"""Columns of metrics.csv: only what a repetition of the run reproduces to the last digit."""

CERTIFIED = "certified_upper"
"""One more column of a run that keeps its certificates: the largest rate per step."""

EVALUATED = 256
"""Sequences evaluated at once: no gradient, so less memory than in training."""
_SHUFFLE = 7  # keeps the random numbers of the data order apart from those of generated data


class Arrays(NamedTuple):
    """The arrays of a checkpoint; `average` is None if no average of the weights is kept."""

    weights: Any
    optimiser: Any
    average: Any
    best: Any


@dataclasses.dataclass
class Position:
    """Where a run stands: the part of a checkpoint that is not arrays."""

    epoch: int = 0  # epochs finished
    batch: int = 0  # steps done in the epoch that runs
    step: int = 0  # steps done in all
    loss: float = 0.0  # weighted sums over the epoch that runs
    weight: float = 0.0
    norm: float = 0.0
    last_loss: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)
    diagnoses: list[dict[str, float]] = dataclasses.field(default_factory=list)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped the run, after saving; the message says how to continue."""


class Observer:
    """What the loop tells while it runs; this one keeps quiet and remembers nothing."""

    def step(self, position: Position, sequences: int) -> None:
        """A gradient step on so many sequences is done."""

    def epoch(self, position: Position, row: dict[str, float]) -> None:
        """An epoch is done, with this row of metrics."""

    def diagnosed(self, row: dict[str, float]) -> None:
        """A measurement is done, with this row of diagnostics."""


class Trainer:
    """A model in training: everything that stays the same from step to step.

    `keeper` keeps its cells certified; `diagnosis`, once set, measures it now and then.
    """

    diagnosis: Diagnosis | None = None

    def __init__(self, config: Config, task: Task, model: Model, keeper: Keeper | None = None):
        size = len(task.training(0))
        self.config, self.task = config, task
        self.batch_size = min(config.batch_size, size)
        self.steps_per_epoch = -(-size // self.batch_size)
        self._evaluated = evaluation_batch(task, config.batch_size)
        self.schedule = _schedule(config, config.epochs * self.steps_per_epoch)
        self.keeper = keeper
        self.optimiser = _optimiser(config, self.schedule, keeper)
        if keeper is not None:
            model = eqx.filter_jit(keeper.project)(model)
            self._certified = jax.jit(keeper.weights)
        weights, self.static = eqx.partition(model, trained(model))
        average = weights if config.average else None
        self.arrays = _copy(Arrays(weights, self.optimiser.init(weights), average, weights))
        self.position = Position()
        self._step = jax.jit(self._one_step, donate_argnums=(0, 1, 2))
        self._sums = jax.jit(self._evaluate_batch)

    def restore(self, arrays: Arrays, position: Position) -> None:
        """Continue from a checkpoint."""
        self.arrays, self.position = _copy(arrays), position

    def model(self, weights: Any) -> Model:
        """The model with these weights."""
        return eqx.combine(weights, self.static)

    def finished(self) -> bool:
        """All epochs are done, or the validation metric has not improved for `patience` epochs."""
        position, patience = self.position, self.config.patience
        waited = position.epoch - position.best_epoch
        return position.epoch >= self.config.epochs or bool(patience and waited >= patience)

    def run(
        self,
        save: Callable[[dict[str, float] | None], None],
        observer: Observer,
        stop: Callable[[], bool],
    ) -> None:
        """Train until finished.

        Arguments:
            save: keeps a checkpoint of `arrays` and `position`; gets the row of the epoch that
                ended, or None when stopped inside an epoch.
            observer: is told about steps and epochs.
            stop: whether to save and stop after the current step.

        Raises:
            RunFailed: the loss or the gradient is not finite.
            Interrupted: `stop` said so.
        """
        while not self.finished():
            self._finish_epoch(save, observer, stop)
            validated = self._validate()
            save(validated)
            observer.epoch(self.position, validated)
            if stop() and not self.finished():
                raise Interrupted

    def present(self) -> Any:
        """The weights as they would be kept now: averaged and certified, where that is wanted."""
        arrays = self.arrays
        weights = arrays.weights if arrays.average is None else arrays.average
        # A mean of certified weights need not be certified.
        return weights if self.keeper is None else self._certified(weights)

    def evaluate(self, data: Dataset, weights: Any) -> tuple[float, float]:
        """Mean loss (without label smoothing) and metric on a part of the data."""
        return mean_loss_and_metric(partial(self._sums, weights), data, self._evaluated)

    def _finish_epoch(self, save, observer: Observer, stop) -> None:
        """The steps that remain of an epoch."""
        position, seed = self.position, self.config.seed
        data = self.task.training(position.epoch)
        order = np.random.default_rng([_SHUFFLE, seed, position.epoch]).permutation(len(data))
        started = time.perf_counter()
        for batch in batches(data, order, self.batch_size, first=position.batch):
            weights, optimiser, average, best = self.arrays
            weights, optimiser, average, total, norm = self._step(
                weights, optimiser, average, batch, np.uint32(seed), np.int32(position.step)
            )
            self.arrays = Arrays(weights, optimiser, average, best)
            total, norm = jax.device_get((total, norm))
            self._count(Sums(*(float(value) for value in total)), float(norm))
            observer.step(position, int(batch.weight.sum()))
            self._diagnose(observer)
            now = time.perf_counter()
            position.seconds, started = position.seconds + now - started, now
            if stop() and position.batch < self.steps_per_epoch:
                save(None)
                raise Interrupted

    def _diagnose(self, observer: Observer) -> None:
        rows = self.position.diagnoses
        if self.diagnosis is not None and self.diagnosis.step(
            rows, self.position.step, lambda: self.model(self.arrays.weights)
        ):
            observer.diagnosed(rows[-1])

    def _count(self, total: Sums, norm: float) -> None:
        position = self.position
        loss = total.loss / max(total.weight, 1.0)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise RunFailed(self._not_finite(loss, norm))
        position.last_loss = loss
        position.loss += total.loss
        position.weight += total.weight
        position.norm += norm
        position.batch += 1
        position.step += 1

    def _not_finite(self, loss: float, norm: float) -> str:
        position, config = self.position, self.config
        what = "gradient" if math.isfinite(loss) else "loss"
        last = "none" if position.last_loss is None else f"{position.last_loss:.6g}"
        clip = f"{config.gradient_clip:g}" if config.gradient_clip else "off"
        kept = f"The checkpoint of epoch {position.epoch} stays." if position.epoch else ""
        return (
            f"the {what} is not finite at step {position.step + 1} (epoch {position.epoch + 1}): "
            f"loss {loss:g}, gradient norm {norm:g}, last finite loss {last}. Try a smaller "
            f"--learning-rate (it is {config.learning_rate:g}), a smaller --gradient-clip (it is "
            f"{clip}), a smaller --dt, or another --seed. {kept}"
        ).rstrip()

    def _validate(self) -> dict[str, float]:
        """End the epoch: validate, keep the best weights and start the sums anew."""
        position, arrays = self.position, self.arrays
        started = time.perf_counter()
        weights = self.present()
        loss, metric = self._validate_part(weights)
        if not math.isfinite(loss):
            raise RunFailed(self._not_finite(loss, position.norm / position.batch))
        position.epoch += 1
        row = {
            "epoch": position.epoch,
            "step": position.step,
            "train_loss": position.loss / max(position.weight, 1.0),
            "validation_loss": loss,
            "validation_metric": metric,
            "learning_rate": float(np.asarray(self.schedule(position.step - 1))),
            "gradient_norm": position.norm / position.batch,
        }
        if self.keeper is not None:
            row[CERTIFIED] = self.keeper.upper(self.model(weights))
        if self._improves(row):
            self.arrays = arrays._replace(best=_copy(weights))
            position.best_epoch = position.epoch
        position.rows.append(row)
        position.batch, position.loss, position.weight, position.norm = 0, 0.0, 0.0, 0.0
        position.seconds += time.perf_counter() - started
        return row

    def _validate_part(self, weights: Any) -> tuple[float, float]:
        return self.evaluate(self.task.validation, weights)

    def _improves(self, row: dict[str, float]) -> bool:
        """Whether the metric is better than the best so far; an equal one needs a lower loss."""
        if not self.position.best_epoch:
            return True
        sign = 1 if self.task.metric == "accuracy" else -1
        best = self.position.rows[self.position.best_epoch - 1]

        def rank(row):
            return sign * row["validation_metric"], -row["validation_loss"]

        return rank(row) > rank(best)

    def _one_step(self, weights, optimiser, average, batch: Batch, seed, step):
        key = jax.random.fold_in(jax.random.key(seed), step) if self.config.dropout else None
        smoothing = self.config.label_smoothing or 0.0

        def objective(weights):
            total = sums(outputs(self.model(weights), batch, key), batch, self.task, smoothing)
            return total.loss / jnp.maximum(total.weight, 1), total

        gradient, total = jax.grad(objective, has_aux=True)(weights)
        norm = optax.tree.norm(gradient)
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes counts and floats
            updates, optimiser = self.optimiser.update(gradient, optimiser, weights)
        weights = optax.apply_updates(weights, updates)
        if average is not None:
            average = _moving(average, weights, self.config.average or 0.0, step)
        return weights, optimiser, average, total, norm

    def _evaluate_batch(self, weights, batch: Batch) -> Sums:
        return sums(outputs(self.model(weights), batch), batch, self.task)


def evaluation_batch(task: Task, batch_size: int) -> int:
    """One batch size for validation and test, so that evaluation is compiled once."""
    return min(max(batch_size, EVALUATED), max(len(task.validation), len(task.test)))


def mean_loss_and_metric(
    add_up: Callable[[Batch], Sums], data: Dataset, size: int
) -> tuple[float, float]:
    """Means over a data set, from sums over batches of `size` sequences."""
    total = np.zeros(4)
    for batch in batches(data, np.arange(len(data)), size):
        total += np.array(jax.device_get(add_up(batch)), np.float64)
    loss, weight, metric, metric_weight = (float(value) for value in total)
    return loss / weight, metric / metric_weight


def _schedule(config: Config, steps: int) -> optax.Schedule:
    """Linear warm-up, then a cosine to zero; even the first step has a positive rate."""
    warmup = min(round(config.warmup * steps), steps - 1)
    assert config.learning_rate is not None, "a trainer takes a settled configuration"
    peak = config.learning_rate
    return optax.warmup_cosine_decay_schedule(peak / (warmup + 1), peak, warmup, steps)


def _optimiser(
    config: Config, schedule: optax.Schedule, keeper: Keeper | None = None
) -> optax.GradientTransformation:
    decay = partial(jax.tree.map, lambda leaf: leaf.ndim >= 2)
    adam = optax.adamw(schedule, weight_decay=config.weight_decay or 0.0, mask=decay)
    clip = [optax.clip_by_global_norm(config.gradient_clip)] if config.gradient_clip else []
    keep = [] if keeper is None else [keeper.transformation()]  # last: it corrects the new weights
    return optax.chain(*clip, adam, *keep)


def _moving(average: Any, weights: Any, decay: float, step: jax.Array) -> Any:
    """The moving average one step on; it forgets faster at the start, when weights change most."""
    count = step.astype(jnp.float32)
    decay_now = jnp.minimum(decay, (1 + count) / (10 + count))

    def move(old, new):
        rate = decay_now.astype(jnp.finfo(old.dtype).dtype)
        return rate * old + (1 - rate) * new

    return jax.tree.map(move, average, weights)


def _copy(tree: Any) -> Any:
    """Arrays of their own: a step gives its old weights' memory away."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
