"""How many of its past inputs can be read from a state by a linear read-out, before training."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int

from .._cell import Cell
from .._layer import Layer
from .._typing import Array
from ._initialise import check_cell, check_wanted

_SEQUENCES = 32
_SAMPLES = 24
"""Rows of the regression for each unit; half of them fit, half measure."""
_FEWEST = 128
_RIDGE = 1e-4


@dataclasses.dataclass(frozen=True, eq=False)
class Recall:
    """How well a signal some steps ago can be read from the output of a cell, linearly.

    Attributes: ``lags``, in steps; ``share``, at each the share of the signal's variance that is
    recovered (R^2 on sequences that were not fitted, freed of the error of the fit; 0 or a little
    less where nothing is), nan where a state was not finite; ``numbers``, how many values of the
    far half, from half the longest lag to the longest, are recovered: the sum of R^2 over these
    lags (between the measured ones by straight lines), at least 0.
    """

    lags: Int[np.ndarray, " lags"]
    share: Float[np.ndarray, " lags"]
    numbers: float


def recall(cell: Cell | Layer, horizon: int, *, key: Any = None) -> Recall:
    """Measure what a cell remembers of a signal of white noise, with the weights that it has.

    The memory function of Jaeger (2001): the sum of all its values, over all lags, is at most
    the number of units, so that a network that remembers long remembers little of each step. Of a
    new cell it says what training has to start from. All channels carry the same signal, of
    variance 1, with a random sign each.

    **Arguments**: ``cell``; ``horizon``, the longest lag, in steps; ``key``, for the noise. It runs
    32 sequences of ``horizon`` steps and at least 128 more.
    Raises ``InputError`` for what is no cell, and a horizon below 1.

    >>> import jax, odernn
    >>> from odernn.analysis import recall
    >>> keeps = odernn.zoo.scoRNN(1, 16, key=jax.random.key(0))
    >>> forgets = odernn.zoo.RNN(1, 16, key=jax.random.key(0))
    >>> recall(keeps, 50).numbers > 3 > 1 > recall(forgets, 50).numbers
    True

    Reference: Jaeger, Short term memory in echo state networks, GMD Report 152 (2001).
    """
    layer, horizon = check_cell(cell), check_wanted(horizon, None)
    key = jax.random.key(0) if key is None else key
    more = max(_FEWEST, math.ceil(_SAMPLES * layer.hidden_size / _SEQUENCES))
    dtype = np.finfo(layer.cell.field.dtype).dtype
    first, second = jax.random.split(key)
    signal = jax.random.normal(first, (_SEQUENCES, horizon + more), dtype)
    signs = jax.random.rademacher(second, (layer.cell.input_size,), dtype)
    seen = np.asarray(_run(layer, signal[..., None] * signs), np.float64)[:, horizon:]
    lags = _lags(horizon)
    if not np.isfinite(seen).all():
        return Recall(lags, np.full(len(lags), np.nan), math.nan)
    past = np.asarray(signal, np.float64)
    wanted = np.stack([past[:, horizon - lag : horizon - lag + more] for lag in lags], axis=2)
    share = _r_squared(seen, wanted)
    far = lags >= horizon / 2
    width = np.trapezoid(share[far], lags[far]) + (share[far][0] + share[far][-1]) / 2
    return Recall(lags, share, max(float(width), 0.0))


@eqx.filter_jit
def _run(layer: Layer, xs: Array) -> Array:
    return jax.vmap(lambda x: layer(x)[0])(xs)


def _lags(horizon: int) -> np.ndarray:
    """Lags of all sizes, and more in the far half."""
    near = np.geomspace(1, max(horizon / 2, 1), 8)
    far = np.linspace(math.ceil(horizon / 2), horizon, 7)
    return np.unique(np.concatenate([near, far]).round().astype(int))


def read_out(fit: np.ndarray, goal: np.ndarray, test: np.ndarray, ridge: float) -> np.ndarray:
    """What a linear read-out, fitted to rows (states and their goals), makes of other states."""
    middle, spread = fit.mean(axis=0), fit.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    fit, test = (fit - middle) / scale, (test - middle) / scale
    gram = fit.T @ fit + ridge * len(fit) * np.eye(fit.shape[1])
    return goal.mean(axis=0) + test @ np.linalg.solve(gram, fit.T @ (goal - goal.mean(axis=0)))


def _r_squared(seen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The share of variance that a linear read-out finds in sequences that it was not fitted to."""
    half = len(seen) // 2
    size = seen.shape[-1]
    fit, test = (part.reshape(-1, size) for part in (seen[:half], seen[half:]))
    goal, truth = (part.reshape(-1, wanted.shape[-1]) for part in (wanted[:half], wanted[half:]))
    error = truth - read_out(fit, goal, test, _RIDGE)
    found = 1 - np.mean(error**2, axis=0) / truth.var(0)
    # Of what is not recovered, the fit adds so large a part to the error again.
    excess = size / len(fit)
    return (found + excess) / (1 + excess)
