"""Use a finished run: measure its model again, or apply it to new data."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from .._model import Model
from .._readout import EachStep
from .._results import InputError
from .._storage import load, load_metadata
from ..tasks import Dataset, Scaling, last_read
from . import _folder as folders
from ._loop import EVALUATED, evaluation_batch, mean_loss_and_metric
from ._loss import Batch, batches, outputs, sums
from ._run import get_task


def evaluate(run: str | Path) -> dict[str, Any]:
    """Measure the saved model of a finished run on the validation and test parts of its task.

    Returns a dict with `task`, `metric`, and loss and metric on both parts. The numbers are those
    of result.json if data, machine and versions are the same.

    Raises:
        InputError: the run folder is incomplete or of another version, its model does not fit the
            task, or the data cannot be read.
    """
    folder = Path(run)
    folders.read_result(folder)
    config = folders.read_config(folder)
    _about(folder)
    task = get_task(config)
    model = _load(folder)
    if (model.input_size, model.output_size) != (task.input_size, task.output_size):
        raise InputError(
            f"the model in {folder} has {model.input_size} inputs and {model.output_size} outputs, "
            f"but task {task.name} now has {task.input_size} and {task.output_size}: the data "
            "changed since the run."
        )
    add_up = eqx.filter_jit(lambda model, batch: sums(outputs(model, batch), batch, task))
    size = evaluation_batch(task, config.batch_size)
    measured: dict[str, Any] = {"task": task.name, "metric": task.metric}
    for part, data in (("validation", task.validation), ("test", task.test)):
        loss, metric = mean_loss_and_metric(lambda batch: add_up(model, batch), data, size)
        measured[f"{part}_loss"], measured[f"{part}_metric"] = loss, metric
    return measured


def predict(
    run: str | Path,
    inputs: Float[np.ndarray, "n time channels"],
    *,
    lengths: Int[np.ndarray, " n"] | None = None,
    mask: Bool[np.ndarray, "n time"] | None = None,
    times: Float[np.ndarray, "n time"] | None = None,
) -> Float[np.ndarray, "n *time output"]:
    """Apply the saved model of a finished run to new sequences.

    Arguments:
        run: the run folder; its task's data are not needed.
        inputs: in the units of the training data before scaling.
        lengths: steps of each sequence that are data, the rest is padding.
        mask: false where a step was not observed.
        times: time stamps in input steps, strictly increasing.

    Returns the probability of each class, or values in their original units; with one output a
    step there is a time axis. A forecast begins at the last step that was observed: before there
    is one, it is nan. `odernn.load_metadata(run)` has the names of classes and channels.

    Raises:
        InputError: the run folder is incomplete or of another version, or shapes or values do not
            fit the model.
    """
    folder = Path(run)
    folders.read_result(folder)
    about = _about(folder)
    data = new_data(about, inputs, lengths, mask, times)
    model = _load(folder)
    if about["target"] is not None and not isinstance(model.readout, EachStep):
        raise InputError(f"the model in {folder} is not the one that its description is of.")
    return answers(model, about, inputs, data, min(len(data), EVALUATED))


def answers(
    model: Model,
    about: dict[str, Any],
    inputs: Float[np.ndarray, "n time channels"],
    data: Dataset,
    size: int,
) -> Float[np.ndarray, "n *time output"]:
    """What a model answers, as `predict` returns it.

    Arguments:
        model: trained on the task that `about` describes (`describe_task`).
        about: what has to travel with a model.
        inputs: in the units of the training data before scaling.
        data: the same as `new_data` returns them.
        size: sequences answered at once.
    """
    apply = eqx.filter_jit(outputs)
    parts = [_kept(apply(model, b), b) for b in batches(data, np.arange(len(data)), size)]
    predicted = np.concatenate(parts)
    if about["kind"] == "classification":
        return np.asarray(jax.nn.softmax(predicted, axis=-1))
    if about["target_scaling"] is not None:
        predicted = Scaling.from_dict(about["target_scaling"]).undo(predicted)
    if about["target"] is None:
        return predicted
    values = np.asarray(inputs, np.float64)[..., about["channels"].index(about["target"])]
    return last_read(values, data.mask)[..., None] + predicted


def _about(folder: Path) -> dict[str, Any]:
    """What the model says about its task.

    Raises:
        InputError: a forecast from before forecasts were differences.
    """
    about = load_metadata(folder)
    if about.get("target") is not None and about.get("differences") is not True:
        raise InputError(
            f"the model in {folder} forecasts values, as earlier versions did, and not differences "
            f"from the present value: train again with `odernn train --config "
            f"{folder / folders.CONFIG}`."
        )
    return about


def _load(folder: Path) -> Model:
    model = load(folder)
    if not isinstance(model, Model):
        raise InputError(f"{folder} holds a {type(model).__name__}, not the model of a run.")
    return model


def _kept(predicted: jax.Array, batch: Batch) -> np.ndarray:
    """The outputs of a batch's real rows."""
    return np.asarray(predicted)[batch.weight > 0]


def new_data(about: dict[str, Any], inputs: Any, lengths: Any, mask: Any, times: Any) -> Dataset:
    """New sequences as the training data were: checked and scaled. Arguments as of `predict`."""
    # Scaled, and stamps made relative, in double precision: 32 bits cannot tell large ones apart.
    inputs = np.asarray(inputs, np.float64)
    channels = about["channels"]
    if inputs.ndim != 3 or inputs.shape[2] != about["input_size"] or not inputs.shape[0]:
        raise InputError(
            f"inputs have the shape {inputs.shape}: give (sequences, time, {len(channels)}), the "
            f"channels are {', '.join(channels)}."
        )
    lengths = None if lengths is None else np.asarray(lengths, np.int32)
    mask = None if mask is None else np.asarray(mask, bool)
    times = None if times is None else np.asarray(times, np.float64)
    count = inputs.shape[0]
    no_targets = np.zeros((count, 1), np.float32)
    data = Dataset(inputs, no_targets, lengths, mask, times)
    _check_values(data)
    if about["scaling"] is not None:
        inputs = Scaling.from_dict(about["scaling"]).apply(inputs)
    if times is not None:
        times = (times - np.nanmin(times, axis=1, keepdims=True)).astype(np.float32)
    return Dataset(np.asarray(inputs, np.float32), no_targets, lengths, mask, times)


def _check_values(data: Dataset) -> None:
    """Refuse what no model can read: values and times that are not finite, times going back."""
    read = np.ones(data.inputs.shape[:2], bool) if data.mask is None else data.mask.copy()
    if data.lengths is not None:
        read &= np.arange(data.inputs.shape[1]) < data.lengths[:, None]
    wrong = read & ~np.isfinite(data.inputs).all(axis=-1)
    if wrong.any():
        sequence, step = np.argwhere(wrong)[0]
        raise InputError(
            f"inputs have {int(wrong.sum())} steps with nan or infinite values, the first in "
            f"sequence {sequence} at step {step}: mask them (mask=) or leave them out."
        )
    if data.times is None:
        return
    seen = np.maximum.accumulate(np.where(read, data.times, -np.inf), axis=1)
    before = np.pad(seen[:, :-1], ((0, 0), (1, 0)), constant_values=-np.inf)
    if (read & ~((data.times > before) & np.isfinite(data.times))).any():
        raise InputError("times must be finite and increase strictly within each sequence.")
