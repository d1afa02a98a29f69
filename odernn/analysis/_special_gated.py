"""Gated networks: row sums of the step Jacobian from the ranges of the gates.

With an inverse time scale a, the gate, a unit of such a network has the step
``y+ = (1 - dt a) y + dt a m``: for dt a <= 1 a row of its Jacobian holds a convex combination, and
``|a'| = a (1 - a)``. So the sum of a row's absolute values is a polynomial of degree two in a,
whose maximum over the range of the gate is exact. Sums are weighted: ``|J| w``, all weights
positive, bounds J in the maximum norm with the weights 1/w by the largest ``(|J| w)_i / w_i``.

The functions accept parameters with more axes in front: many networks at once.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._enclosure import Norm
from ..fields._gated import LEM, LSTM, Gated
from ._certificate import TOLERANCE, Rates
from ._region import Region

FLOOR = 1e-3
"""Smallest weight of a unit over the largest: an upper bound of the norm's condition."""


class Sums(NamedTuple):
    """Weighted row sums of the Jacobians: ``low`` (diagonal minus the others), ``high``.

    ``high <= w`` wherever ``goal <= w``, whatever the step size: the goal is what a unit at rest
    (a = 0) tends to, and what the search for weights iterates.
    """

    low: np.ndarray
    high: np.ndarray
    goal: np.ndarray


class Gates(NamedTuple):
    """``sums`` of a network, as a function of the weights w, and what is known beside them.

    ``blocks``: how many blocks of units; ``dt_max``: up to where the sums are valid and a bound of
    one stays true; ``facts``: about the region, in words.
    """

    sums: Callable[[np.ndarray], Sums]
    size: int
    blocks: int
    dt_max: np.ndarray | float
    facts: tuple[str, ...]


def gated_rates(field: Any, dt: float, region: Region) -> list[Rates]:
    """Return the rates of a GRU (Euler), an LSTM or LEM (Gauss-Seidel Euler) on the region.

    In the maximum norm with one weight for each block, and with one for each unit.
    """
    if not (np.isfinite(region.state_lower).all() and np.isfinite(region.state_upper).all()):
        return []
    gates = {Gated: gru_gates, LSTM: lstm_gates, LEM: lem_gates}[type(field)](field, dt, region)
    if dt > gates.dt_max * (1 + 1e-12):
        return []
    each = _block_weights(gates)
    rates = [_rates(gates, each, NAMES[type(field)])]
    if type(field) is Gated:
        rates += gru_theorem(field, dt, region)
    weights = _unit_weights(gates, each)
    if growth(gates, weights) < rates[0].upper - TOLERANCE:
        rates.append(_rates(gates, weights, f"{NAMES[type(field)]}, a weight for each unit"))
    return rates


NAMES = {
    Gated: "row sums of the GRU (after Bonassi, Farina, Scattolini 2021)",
    LSTM: "comparison matrix of the LSTM (after Terzi, Bonassi, Farina, Scattolini 2021)",
    LEM: "comparison matrix of LEM (Perron and Frobenius)",
}


def gru_gates(field: Any, dt: float, region: Region) -> Gates:
    """Return the row sums of ``h+ = h + dt a (g - h)``, a = 1 - z.

    ``J = I - dt a + dt (g - h) a' U_z + dt a g' (r W_g + (W_g h + d) r' U_r)``, each factor in
    front of a matrix a diagonal one, of units.
    """
    rate, reset, inner, target, slope = _gru_ranges(field, region)
    h = region.state_lower, region.state_upper
    distance = np.maximum(target[1] - h[0], h[1] - target[0])
    content = np.maximum(np.abs(inner[0]), np.abs(inner[1]))
    by_reset, by_keep, by_state = _parts(np.abs(_array(field.weight)), 3)

    def sums(w: np.ndarray) -> Sums:
        turned = content * _times(w, by_reset)
        outer = slope * largest(turned + _times(w, by_state), -turned, *reset)
        gate = distance * _times(w, by_keep)
        high = w + dt * largest(outer + gate - w, -gate, *rate)
        low = w - dt * largest(outer + gate + w, -gate, *rate)
        return Sums(low, high, outer + (1 - rate[0]) * gate)

    facts = (_states(h), "|h| <= 1 is never left, as dt (1 - z) <= 1")
    return Gates(sums, field.hidden_size, 1, 1 / rate[1].max(axis=-1), facts)


def gru_theorem(field: Any, dt: float, region: Region) -> list[Rates]:
    """Return the inequality of the authors as it reads for this field, where it holds.

    ``|W_g| s_r + 1/4 max|W_g h + d| |U_r| < 1 - 1/4 (1 + phi) / (1 - s_z) |U_z|`` in maximum
    norms. The authors reset the state before the product, so that their term is |W_g||U_r|/4: the
    same for d = 0 and |h| <= 1.
    """
    rate, reset, inner, target, _ = _gru_ranges(field, region)
    reset_norm, keep_norm, state_norm = (
        part.sum(axis=-2).max() for part in _parts(np.abs(_array(field.weight)), 3)
    )
    states = max(np.abs(region.state_lower).max(), np.abs(region.state_upper).max())
    target_gain = state_norm * reset[1].max() + np.abs(inner).max() * reset_norm / 4
    gate_gain = (states + np.abs(target).max()) * keep_norm / 4
    upper = 1 - dt * (rate[0].min() * (1 - target_gain) - gate_gain)
    if not (target_gain <= 1 and upper <= 1):
        return []
    return [
        Rates(
            Norm("inf"),
            "incremental stability of the GRU (Bonassi, Farina, Scattolini 2021)",
            0.0,
            float(upper),
            (_states((region.state_lower, region.state_upper)), "inputs in the region"),
            dt_max=float(1 / rate[1].max()),
        )
    ]


def lstm_gates(field: Any, dt: float, region: Region) -> Gates:
    """Return the row sums of ``c+ = c + dt (i g - (1 - f) c)``, ``h+ = h + dt (o tanh(c+) - h)``.

    The gates are those of h before the step. |c| <= i g / (1 - f), with the largest i, g and f, is
    never left, nor is |h| <= 1.
    """
    (c_low, h_low), (c_high, h_high) = _halves(region)
    total = np.stack(affine(_array(field.weight), h_low, h_high)) + np.stack(_drive(field, region))
    pre = _parts(total, 4)
    enter, forget, leave = (_sigmoids(pre[k]) for k in (0, 1, 3))
    candidate = np.tanh(pre[2])
    rate = 1 - forget[1], 1 - forget[0]
    content, candidate_size = _size(c_low, c_high), _size(*candidate)
    with np.errstate(divide="ignore"):
        invariant = enter[1] * candidate_size / rate[0]
    # Of the memory after a step: where it can grow, as after one of length one.
    drift = enter[1] * candidate_size - rate[0] * content
    shown = np.tanh(content + np.where(drift > 0, drift, dt * drift))
    by_enter, by_forget, by_candidate, by_leave = _parts(np.abs(_array(field.weight)), 4)

    def sums(w: np.ndarray) -> Sums:
        c, h = np.split(w, 2, axis=-1)
        forgotten = content * _times(h, by_forget)
        written = candidate_size * _steepest(enter) * _times(h, by_enter)
        written = written + enter[1] * _slope(*pre[2]) * _times(h, by_candidate)
        gate = shown * _steepest(leave) * _times(h, by_leave)
        memory = c + dt * (largest(forgotten - c, -forgotten, *rate) + written)
        high = h + dt * (gate + leave[1] * memory - h)
        low_c = c - dt * (largest(forgotten + c, -forgotten, *rate) + written)
        low = (low_c, (1 - dt) * h - dt * (gate + leave[1] * memory))
        with np.errstate(divide="ignore", invalid="ignore"):
            goal = (1 - rate[0]) * forgotten + np.where(written > 0, written / rate[0], 0.0)
        pairs = low, (memory, high), (goal, gate + leave[1] * c)
        return Sums(*(np.concatenate(pair, axis=-1) for pair in pairs))

    inside = bool((content >= invariant * (1 - 1e-12)).all())
    left = f"|c| <= {float(invariant.max()):.4g}, |h| <= 1 is never left"
    facts = (_states((h_low, h_high), "h"), _states((c_low, c_high), "c"), left)
    facts = facts if inside else (*facts, "as long as c stays in the region")
    return Gates(sums, 2 * field.hidden_size, 2, 1.0, facts)


def lem_gates(field: Any, dt: float, region: Region) -> Gates:
    """Return the row sums of ``z+ = z + dt a (m - z)``, ``h+ = h + dt e (tanh(T z+ + ...) - h)``.

    The gates a, e and m are those of h before the step; |h|, |z| <= 1 is never left.
    """
    (h_low, z_low), (h_high, z_high) = _halves(region)
    drive = _parts(np.stack(_drive(field, region)), 4)
    state = _parts(np.stack(affine(_array(field.weight), h_low, h_high)), 3)
    pre = [state[k] + drive[k] for k in range(3)]
    fast, slow, candidate = _sigmoids(pre[0]), _sigmoids(pre[1]), np.tanh(pre[2])
    # What z can be after the step: a mean of z and m.
    seen = np.minimum(z_low, candidate[0]), np.maximum(z_high, candidate[1])
    inner = np.stack(affine(_array(field.slow_weight), *seen)) + drive[3]
    target = np.tanh(inner)
    slow_distance = np.maximum(candidate[1] - z_low, z_high - candidate[0])
    fast_distance = np.maximum(target[1] - h_low, h_high - target[0])
    by_fast, by_slow, by_candidate = _parts(np.abs(_array(field.weight)), 3)
    across = np.abs(_array(field.slow_weight))

    def sums(w: np.ndarray) -> Sums:
        h, z = np.split(w, 2, axis=-1)
        slow_gate = slow_distance * _times(h, by_slow)
        drawn = _slope(*pre[2]) * _times(h, by_candidate)
        memory = z + dt * largest(drawn + slow_gate - z, -slow_gate, *slow)
        low_z = z - dt * largest(drawn + slow_gate + z, -slow_gate, *slow)
        fast_gate, slope = fast_distance * _times(h, by_fast), _slope(*inner)
        pulled = slope * _times(memory, across)
        high = h + dt * largest(pulled + fast_gate - h, -fast_gate, *fast)
        low = h - dt * largest(pulled + fast_gate + h, -fast_gate, *fast)
        goal_h = slope * _times(z, across) + (1 - fast[0]) * fast_gate
        goal_z = drawn + (1 - slow[0]) * slow_gate
        pairs = (low, low_z), (high, memory), (goal_h, goal_z)
        return Sums(*(np.concatenate(pair, axis=-1) for pair in pairs))

    dt_max = 1 / np.maximum(slow[1].max(axis=-1), fast[1].max(axis=-1))
    facts = _states((h_low, h_high), "h"), _states((z_low, z_high), "z")
    facts = (*facts, "|h|, |z| <= 1 is never left, as dt times the gates is at most 1")
    return Gates(sums, 2 * field.hidden_size, 2, dt_max, facts)


def growth(gates: Gates, weights: np.ndarray) -> np.ndarray:
    """Return the upper rate in the maximum norm with the weights 1/w."""
    return (gates.sums(weights).high / weights).max(axis=-1)


# --- Weights ------------------------------------------------------------------------------------


def _rates(gates: Gates, weights: np.ndarray, name: str) -> Rates:
    low, high, _ = gates.sums(weights)
    upper = float((high / weights).max())
    scale = None if np.ptp(weights) == 0 else weights.max() / weights
    return Rates(
        Norm("inf", scale),
        name,
        max(0.0, float((low / weights).min())),
        upper,
        (*gates.facts, "inputs in the region"),
        dt_max=float(gates.dt_max) if upper <= 1 else None,
    )


def _block_weights(gates: Gates) -> np.ndarray:
    """One weight for each block: the best ratio of two of them, by search."""
    ones = np.ones(gates.size // gates.blocks)
    if gates.blocks == 1:
        return ones
    best, width = 0.0, -math.log(FLOOR)
    for points in (81, 21, 21):
        offsets = best + np.linspace(-width, width, points)
        trials = [np.concatenate([ones, math.exp(v) * ones]) for v in offsets]
        values = [float(growth(gates, w)) for w in trials]
        best = float(offsets[int(np.argmin(values))])
        width = 2 * width / points
    return np.concatenate([ones, math.exp(best) * ones])


def _unit_weights(gates: Gates, start: np.ndarray) -> np.ndarray:
    """A weight for each unit: the best of the iterates towards a Perron vector.

    Any positive weights give a bound; iterating the sums finds the lowest, and iterating the goal
    finds those that give a bound of one where gates may close.
    """
    best, lowest = start, float(growth(gates, start))
    for attribute in ("high", "goal"):
        weights = start
        for _ in range(40):
            sums = gates.sums(weights)
            rate = float((sums.high / weights).max())
            if rate < lowest:
                best, lowest = weights, rate
            image = getattr(sums, attribute)
            if not np.isfinite(image).all():
                break
            weights = weights + image
            weights = np.maximum(weights / weights.max(), FLOOR)
    return best


# --- Ranges -------------------------------------------------------------------------------------


def largest(
    linear: np.ndarray, square: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return the maximum of ``linear a + square a^2`` over a in [low, high], elementwise."""
    curved = square != 0
    vertex = np.where(curved, -linear / (2 * np.where(curved, square, 1.0)), low)
    points = (low, high, np.clip(vertex, low, high))
    first, second, third = (a * (linear + square * a) for a in points)
    return np.maximum(np.maximum(first, second), third)


def affine(
    weight: np.ndarray, low: np.ndarray, high: np.ndarray, *biases: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the range of ``x @ weight`` plus biases for x in a box, which may be infinite."""
    low, high = low[..., :, None], high[..., :, None]
    positive, negative, zero = weight > 0, weight < 0, np.zeros(weight.shape)

    def total(upward: np.ndarray, downward: np.ndarray) -> np.ndarray:
        # A weight of zero takes nothing of an infinite input.
        each = np.multiply(weight, upward, out=zero.copy(), where=positive)
        return np.multiply(weight, downward, out=each, where=negative).sum(axis=-2)

    shift = sum(_array(bias) for bias in biases if bias is not None)
    return total(low, high) + shift, total(high, low) + shift


def _gru_ranges(field: Any, region: Region) -> tuple[Any, ...]:
    """Ranges of 1 - z, r, W_g h + d and g, and the largest slope of its tanh."""
    size = field.hidden_size
    low, high = affine(_array(field.weight), region.state_lower, region.state_upper)
    drive = _parts(np.stack(_drive(field, region)), 3)
    gates = np.stack([low, high])[..., : 2 * size]
    if field.recurrent_bias is not None:
        gates = gates + _array(field.recurrent_bias)
    inner = np.stack([low, high])[..., 2 * size :]
    if field.candidate_bias is not None:
        inner = inner + _array(field.candidate_bias)
    reset, keep = (
        _sigmoids(v) for v in (gates[..., :size] + drive[0], gates[..., size:] + drive[1])
    )
    reached = np.stack(
        [
            drive[2][0] + np.minimum(reset[0] * inner[0], reset[1] * inner[0]),
            drive[2][1] + np.maximum(reset[0] * inner[1], reset[1] * inner[1]),
        ]
    )
    return (1 - keep[1], 1 - keep[0]), reset, inner, np.tanh(reached), _slope(*reached)


def _drive(field: Any, region: Region) -> tuple[np.ndarray, np.ndarray]:
    """The range of the field's drive."""
    biases = (getattr(field, name) for name in field.input_biases)
    return affine(_array(field.input_weight), region.input_lower, region.input_upper, *biases)


def _halves(region: Region) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The bounds of the two blocks of a state."""
    return np.split(region.state_lower, 2), np.split(region.state_upper, 2)


def _parts(packed: np.ndarray, count: int) -> list[np.ndarray]:
    return np.split(packed, count, axis=-1)


def _times(w: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A product of rows, ``w @ matrix``, of each network its own."""
    return (w[..., None, :] @ matrix)[..., 0, :]


def _array(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)


def _sigmoids(ranges: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * ranges) + 0.5


def _steepest(gate: np.ndarray) -> np.ndarray:
    """The largest g (1 - g) over the range of a gate."""
    nearest = np.clip(0.5, gate[0], gate[1])
    return nearest * (1 - nearest)


def _slope(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The largest slope of tanh on an interval."""
    return 1 - np.tanh(np.maximum(0.0, np.maximum(low, -high))) ** 2


def _size(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(low), np.abs(high))


def _states(bounds: tuple[np.ndarray, np.ndarray], name: str = "h") -> str:
    return f"|{name}| <= {float(_size(*bounds).max()):.4g}"
