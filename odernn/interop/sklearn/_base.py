"""What the estimators share: training in memory, answers, pickling."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..._model import Model
from ..._results import InputError
from ..._storage import ARRAYS_FILE, DESCRIPTION_FILE, load, save
from ...tasks import Dataset, Scaling, Task
from ...tasks._split import stratified_split
from ...tasks._task import Always, single
from ...train import Config, build_model
from ...train._evaluate import answers, new_data
from ...train._loop import EVALUATED, Observer, Trainer
from ...train._run import describe_task, keeper_for, with_step
from ._collection import Collection, read
from ._parameters import Parameters, in_python

_LEAST = 32  # sequences answered at once, so that few programs are compiled


class AbstractEstimator(BaseEstimator, Parameters):
    """Trains as `odernn train` does, without a run folder.

    A pickle holds the model as `odernn.save` writes it: description and numbers, no JAX objects.
    """

    model_: Model
    config_: Config
    history_: list[dict[str, float]]
    n_iter_: int
    _about: dict[str, Any]

    def _train(self, config: Config, task: Task) -> None:
        """Train on a task, and set what every fitted estimator has."""
        with in_python():
            config = config.settled(one_label=task.kind == "classification")
            make = self.cell if callable(self.cell) else None
            model = build_model(config, task, jax.random.key(config.seed), make)
            config = with_step(config, model)
            trainer = Trainer(config, task, model, keeper_for(config, task, model))
            self._run(trainer)
        weights = trainer.arrays.best if self.early_stopping else trainer.present()
        self.model_, self.config_ = trainer.model(weights), config
        self.history_, self.n_iter_ = trainer.position.rows, trainer.position.epoch
        self._about = describe_task(config, task)
        if trainer.keeper is not None:
            self.certificates_ = trainer.keeper.certificates(self.model_)

    def _run(self, trainer: Trainer) -> None:
        def save(row: object) -> None:
            """Nothing is written."""

        def stop() -> bool:
            return False

        if not self.verbose:
            trainer.run(save, Observer(), stop)
            return
        from rich.console import Console

        from ...train._progress import Display

        task, steps = trainer.task, trainer.steps_per_epoch
        length = task.validation.inputs.shape[1]
        shown = (Console(), trainer.config, task.metric, steps, trainer.position, length)
        with Display(*shown) as display:
            trainer.run(save, display, stop)

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return state | {"model_": _packed(state["model_"])} if "model_" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "model_" in state:
            state = state | {"model_": _unpacked(state["model_"])}
        super().__setstate__(state)


class AbstractCollectionEstimator(AbstractEstimator):
    """An estimator of one answer a sequence."""

    n_features_in_: int
    n_channels_: int | None

    def _train_on(
        self,
        config: Config,
        data: Collection,
        targets: Int[np.ndarray, " n"] | Float64[np.ndarray, "n out"],
        classes: tuple[str, ...] | None,
    ) -> None:
        """Train on sequences with their targets; with classes, these are class numbers."""
        training, validation = self._parts(targets, classes, config.seed)
        rows = data.part(training).rows()
        channels = tuple(f"channel {index + 1} of X" for index in range(rows.shape[1]))
        scaling = Scaling.fit(rows, channels)
        scaled, target_scaling = targets, None
        if classes is None:
            names = [f"target {index + 1}" for index in range(targets.shape[1])]
            target_scaling = Scaling.fit(targets[training], names)
            scaled = target_scaling.apply(targets)
        about = {
            "channels": channels,
            "input_size": len(channels),
            "scaling": scaling.to_dict(),
            "time_unit": None if data.times is None else _unit(data),
        }
        _, everything = _prepared(about, data)
        everything = dataclasses.replace(everything, targets=_as_targets(scaled, classes))
        task = Task(
            name=type(self).__name__,
            kind="regression" if classes is None else "classification",
            per_step=False,
            input_size=len(channels),
            output_size=targets.shape[1] if classes is None else len(classes),
            metric="mse" if classes is None else "accuracy",
            training=Always(everything[training]),
            validation=everything[validation],
            test=everything[validation],
            channels=channels,
            classes=classes,
            scaling=scaling,
            target_scaling=target_scaling,
            time_unit=about["time_unit"],
        )
        self._train(config, task)

    def _parts(
        self, targets: np.ndarray, classes: tuple[str, ...] | None, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which sequences train, and which are validated on."""
        count = len(targets)
        if not self.early_stopping:
            # These only show how training goes.
            return np.arange(count), np.arange(min(count, EVALUATED))
        strata = np.zeros(count, int) if classes is None else targets
        size = max(1, round(self.validation_fraction * count))
        training, validation = stratified_split(strata, size, seed)
        if not len(validation):
            raise InputError(
                f"X has {count} sequence(s) in {len(np.unique(strata))} class(es), too few for a "
                "part to train on and one to validate on: give more, or early_stopping=False."
            )
        return training, validation

    def _answers(self, X: Any, times: Any) -> Float[np.ndarray, "n output"]:
        """Probabilities of the classes, or values in their units."""
        check_is_fitted(self)
        data = read(self, X, times, missing=self.missing, fit=False)
        if (data.times is None) != (self._about["time_unit"] is None):
            raise InputError(
                "times is missing, but the estimator was fitted with time stamps: give times."
                if data.times is None
                else "times is given, but the estimator was fitted without: leave it out."
            )
        inputs, data = _prepared(self._about, data)
        size = min(max(_LEAST, 1 << (len(data) - 1).bit_length()), EVALUATED)
        return answers(self.model_, self._about, inputs, data, size).astype(np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing == "mask"
        return tags


def _as_targets(
    targets: np.ndarray, classes: tuple[str, ...] | None
) -> Int32[np.ndarray, " n"] | Float32[np.ndarray, "n out"]:
    return single(targets, "y") if classes is None else targets.astype(np.int32)


def _unit(data: Collection) -> float:
    """The median interval, in the unit of the time stamps."""
    if data.times is None:
        return 1.0
    intervals = np.diff(data.times, axis=1)
    if data.lengths is not None:
        intervals = intervals[np.arange(1, data.times.shape[1]) < data.lengths[:, None]]
    unit = float(np.median(intervals)) if intervals.size else 1.0
    # What does not increase is refused where it is read.
    return unit if np.isfinite(unit) and unit > 0 else 1.0


def _prepared(about: dict[str, Any], data: Collection) -> tuple[np.ndarray, Dataset]:
    """Sequences in their units without nan, and scaled as the model reads them."""
    # What is missing becomes the mean: it is masked, and arithmetic on it stays finite.
    inputs = np.where(np.isnan(data.inputs), about["scaling"]["mean"], data.inputs)
    times = None if data.times is None else data.times / about["time_unit"]
    return inputs, new_data(about, inputs, data.lengths, data.mask, times)


def _packed(model: Model) -> dict[str, Any]:
    """A model as the contents of its files."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        names = (DESCRIPTION_FILE, ARRAYS_FILE)
        files = {name: Path(folder, name).read_bytes() for name in names}
    return {"files": files, "classes": tuple(_own_classes(model))}


def _unpacked(packed: dict[str, Any]) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        for name in (DESCRIPTION_FILE, ARRAYS_FILE):
            Path(folder, name).write_bytes(packed["files"][name])
        return load(folder, packed["classes"])


def _own_classes(node: Any) -> dict[type, None]:
    """The classes in a model that are the user's, in the order in which they are met."""
    if isinstance(node, tuple | list):
        parts = node
    elif isinstance(node, dict):
        parts = node.values()
    elif isinstance(node, eqx.Module):
        parts = [getattr(node, field.name, None) for field in dataclasses.fields(node)]
    else:
        return {}
    own = type(node).__module__.split(".")[0] not in ("odernn", "builtins")
    found: dict[type, None] = {type(node): None} if own else {}
    for part in parts:
        found |= _own_classes(part)
    return found
