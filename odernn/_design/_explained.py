"""What an untrained network's output tells of the targets in data, by a linear read-out."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._layer import Layer
from ..analysis._recall import read_out
from ..tasks import Dataset, Task

_FEWEST, _MOST = 32, 256
_ROWS = 5000
"""Sequences, and outputs of them, that are looked at in each part of the data."""
_RIDGES = (1e-8, 1e-6, 1e-4, 1e-2)


def explained(layer: Layer, task: Task) -> float:
    """The share of the targets' variance that a linear read-out of the outputs explains.

    The read-out is fitted to the training part by least squares; the best of four ridges is that
    of the validation part, where the share is measured (R^2 over all components, classes as
    one-hot vectors). The layer stays as it is, test data are not looked at. 0 where nothing is
    explained or a state is not finite.

    Of a layer for one label, the last output counts; else that of each step that is scored.
    """
    parts = task.training(0), task.validation
    size = min(max(len(data) for data in parts), _enough(task))
    (fit, goal), (test, truth) = (_rows(layer, data, size, task) for data in parts)
    total = np.sum((truth - goal.mean(axis=0)) ** 2)
    if not (np.isfinite(fit).all() and np.isfinite(test).all() and total > 0):
        return 0.0
    errors = [np.sum((truth - read_out(fit, goal, test, ridge)) ** 2) for ridge in _RIDGES]
    best = min(error for error in errors if math.isfinite(error))
    return max(float(1 - best / total), 0.0)


def _enough(task: Task) -> int:
    """How many sequences have enough outputs that are scored."""
    mask = task.target_mask
    steps = task.validation.inputs.shape[1] if mask is None else int(np.sum(mask))
    return min(max(-(-_ROWS // (steps if task.per_step else 1)), _FEWEST), _MOST)


def _rows(layer: Layer, data: Dataset, size: int, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that are scored, and their targets: (rows, hidden) and (rows, output).

    Sequences are repeated up to `size`, so that one program serves all parts.
    """
    count = min(len(data), size)
    data = data[np.arange(size) % count]
    dtype = np.finfo(layer.cell.field.dtype).dtype
    times = None if data.times is None else jnp.asarray(data.times, dtype)
    lengths = None if data.lengths is None else jnp.asarray(data.lengths, int)
    inputs = jnp.asarray(data.inputs, dtype)
    outputs = np.asarray(_run(layer, inputs, times, data.mask, lengths), np.float64)
    outputs, data = outputs[:count], data[:count]
    targets = data.targets
    if task.kind == "classification":
        targets = np.eye(task.output_size)[targets]
    if not task.per_step:
        # Padding holds the state: the last output is that of the last step.
        return outputs[:, -1], targets.astype(np.float64)
    counts = np.ones(outputs.shape[:2], bool)
    if data.lengths is not None:
        counts &= np.arange(outputs.shape[1]) < data.lengths[:, None]
    for mask in (data.target_mask, task.target_mask):
        if mask is not None:
            counts &= mask
    rows, goals = outputs[counts], targets[counts].astype(np.float64)
    every = max(len(rows) // _ROWS, 1)
    return rows[::every], goals[::every]


@eqx.filter_jit
def _run(layer: Layer, xs: Any, times: Any, mask: Any, lengths: Any) -> Any:
    def one(x: Any, times: Any, mask: Any, length: Any) -> Any:
        return layer(x, times=times, mask=mask, length=length)[0]

    return jax.vmap(one)(xs, times, mask, lengths)
