"""Batches of one shape, and the weighted sums that losses and metrics are made of."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from .._model import Model
from ..tasks import Dataset, Task


class Batch(NamedTuple):
    """Sequences side by side; rows of weight 0 only fill the last batch up to the common size."""

    inputs: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    lengths: np.ndarray | None
    mask: np.ndarray | None
    times: np.ndarray | None
    target_mask: np.ndarray | None


class Sums(NamedTuple):
    """Sums of loss and metric over a batch, and over how many targets each was summed."""

    loss: Any
    weight: Any
    metric: Any
    metric_weight: Any


def batches(data: Dataset, order: np.ndarray, size: int, first: int = 0) -> Iterator[Batch]:
    """The sequences `data[order]` in batches of exactly `size` rows, from batch `first` on."""
    for start in range(first * size, len(order), size):
        rows = order[start : start + size]
        weight = np.zeros(size, np.float32)
        weight[: len(rows)] = 1
        # Filling with a real sequence keeps every value finite: 0 * nan would be nan.
        rows = np.concatenate([rows, np.full(size - len(rows), order[0], rows.dtype)])
        part = data[rows]
        yield Batch(
            part.inputs,
            part.targets,
            weight,
            part.lengths,
            part.mask,
            part.times,
            part.target_mask,
        )


def outputs(
    model: Model, batch: Batch, key: jax.Array | None = None
) -> Float[Array, "batch *output"]:
    """The model's outputs for a batch; with a key, dropout is on.

    Numbers take the precision of the model, so that one data set serves float32 and float64;
    lengths become JAX's usual integers.
    """
    dtype = _dtype(model)
    keys = None if key is None else jax.random.split(key, batch.inputs.shape[0])

    def one(inputs, times, mask, length, key):
        return model(inputs, times=times, mask=mask, length=length, key=key)

    times = None if batch.times is None else jnp.asarray(batch.times, dtype)
    inputs = jnp.asarray(batch.inputs, dtype)
    lengths = None if batch.lengths is None else jnp.asarray(batch.lengths, int)
    return jax.vmap(one)(inputs, times, batch.mask, lengths, keys)


def sums(
    predicted: Float[Array, "batch *output"], batch: Batch, task: Task, smoothing: float = 0.0
) -> Sums:
    """Loss and metric of outputs, summed over what counts.

    Classification: cross-entropy and the number of right classes. Regression: both are the
    squared error, averaged over the output's components. The metric looks only at the steps in
    the task's `target_mask`, the loss at all that have a target.
    """
    weight = _weight(batch, task.per_step).astype(predicted.dtype)
    if task.kind == "classification":
        targets = jnp.asarray(batch.targets)
        loss = optax.softmax_cross_entropy_with_integer_labels(predicted, targets)
        if smoothing:
            uniform = jax.nn.logsumexp(predicted, axis=-1) - jnp.mean(predicted, axis=-1)
            loss = (1 - smoothing) * loss + smoothing * uniform
        answer = jnp.argmax(predicted, axis=-1).astype(targets.dtype)
        metric = (answer == targets).astype(predicted.dtype)
    else:
        targets = jnp.asarray(batch.targets, predicted.dtype)
        # A target that does not count may be missing (nan), and 0 * nan is nan.
        targets = jnp.where((weight > 0)[..., None], targets, jnp.zeros_like(targets))
        loss = jnp.mean((predicted - targets) ** 2, axis=-1)
        metric = loss
    scored = weight
    if task.target_mask is not None:
        scored = weight * jnp.asarray(task.target_mask, weight.dtype)
    return Sums(jnp.sum(loss * weight), jnp.sum(weight), jnp.sum(metric * scored), jnp.sum(scored))


def _weight(batch: Batch, per_step: bool) -> Array:
    """1 for a target that counts, else 0: (batch,), or (batch, time) for targets at each step."""
    weight = jnp.asarray(batch.weight)
    if not per_step:
        return weight
    time = batch.inputs.shape[1]
    weight = jnp.broadcast_to(weight[:, None], (weight.shape[0], time))
    if batch.target_mask is not None:
        weight = weight * jnp.asarray(batch.target_mask, weight.dtype)
    if batch.lengths is not None:
        lengths = jnp.asarray(batch.lengths)
        within = jnp.arange(time, dtype=lengths.dtype) < lengths[:, None]
        weight = weight * within.astype(weight.dtype)
    return weight


def _dtype(model: Model):
    """The precision of the model's real numbers."""
    floats = [
        leaf.dtype
        for leaf in jax.tree.leaves(model)
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return jnp.result_type(*floats)
