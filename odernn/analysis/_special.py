"""Theorems for known networks: rates that follow from the form of one field and one method."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._cell import Cell
from .._enclosure import Norm
from .._method import (
    ETD1,
    ETDRK2,
    ETDRK4,
    Euler,
    GaussSeidelEuler,
    IMEXEuler,
    ImplicitMidpoint,
    Lawson4,
    LieTrotter,
    Strang,
    SymplecticEuler,
)
from ..fields._blocks import UnICORNN
from ..fields._gated import LEM, LSTM, Gated
from ..fields._history import HiPPOLegS
from ..fields._oscillator import Oscillator
from ..fields._stable import Lipschitz
from ..fields._state_space import LRU, S4D, S5, LinOSS
from ..fields._unitary import CayleyOrthogonal, FactoredUnitary, Orthogonal, Unitary
from ..fields._units_input import TGRU, InputGated, MinLSTM
from ._certificate import Rates
from ._region import Region
from ._special_gated import affine, gated_rates

Theorem = Callable[[Any, float, Region], list[Rates]]

ALL = ("all states and inputs",)


def special_rates(cell: Cell, region: Region) -> list[Rates]:
    """Return the rates of all theorems that are about this field with this method.

    They hold for the states and inputs of ``region`` and the step ``cell(y, x)``; there are none
    for other networks, for an input that is not held within a step, or where a theorem's
    conditions are not met. Rates above one are returned, too.

    **Arguments**: ``cell``; ``region``, whose box of inputs bounds the gates; those theorems that
    need a bounded state say nothing where it is not.

    >>> import jax, odernn
    >>> from odernn.analysis._region import everywhere
    >>> cell = odernn.zoo.LRU(3, 8, key=jax.random.key(0))
    >>> rates = special_rates(cell, everywhere(cell))
    >>> [(r.upper < 1, r.structural) for r in rates]
    [(True, True)]
    """
    field, method = cell.field, cell.method
    step = cell.step_size
    if cell.interpolation.samples != field.samples:
        return []
    for fields, methods, theorem in TABLE:
        if type(field) not in fields or type(method) not in methods:
            continue
        # Another order of the blocks is another step.
        order: Any = getattr(method, "update_order", None)
        if order is None or order == getattr(field, "update_order", None):
            return theorem(field, float(step), region)
    return []


# --- Lipschitz ----------------------------------------------------------------------------------


def lipschitz_rates(field: Lipschitz, dt: float, region: Region) -> list[Rates]:
    """Return the rates of Euler on ``h' = A h + tanh(W h + ...)``, whose Jacobian is A + D W.

    D is diagonal with entries in [0, 1]. The authors' condition (a): A dissipates more than W can
    add, ``mu2(A + D W) <= lambda_max(sym A) + |W|``. Centred: ``A + D W = A + W/2 + (D - 1/2) W``.
    """
    linear = field.alpha * _skewed(field, field.linear_weight).T
    weight = _skewed(field, field.weight).T
    one, gain = np.eye(len(weight)), np.linalg.norm(weight, 2)
    growth = float(np.linalg.eigvalsh((linear + linear.T) / 2)[-1] + gain)
    size = float(np.linalg.norm(linear, 2) + gain)
    upper = math.sqrt(max(0.0, 1 + 2 * dt * growth + (dt * size) ** 2))
    rates = []
    if growth < 0:
        name = "exponential stability of the Lipschitz RNN, condition (a) (Erichson et al. 2021)"
        limit = -2 * growth / size**2 if upper <= 1 else None
        rates.append(Rates(Norm("2"), name, 0.0, upper, ALL, dt_max=limit))
    centre = linear + weight / 2

    def bounds(dt: float) -> tuple[float, float]:
        values = np.linalg.svd(one + dt * centre, compute_uv=False)
        return float(values[-1] - dt * gain / 2), float(values[0] + dt * gain / 2)

    least = -np.linalg.eigvalsh((centre + centre.T) / 2)[0] + gain / 2
    lower, upper = bounds(dt)
    lower = max(0.0, lower, 1 - dt * float(least))
    name = "Lipschitz RNN, centred at half the slope (after Erichson et al. 2021)"
    limit = _last(lambda dt: bounds(dt)[1] <= 1, dt) if upper <= 1 else None
    return [*rates, Rates(Norm("2"), name, lower, upper, ALL, dt_max=limit)]


def _skewed(field: Lipschitz, matrix: Any) -> np.ndarray:
    m = _array(matrix)
    one = np.eye(len(m))
    return field.beta * (m - m.T) + (1 - field.beta) * (m + m.T) - field.gamma * one


# --- Oscillators --------------------------------------------------------------------------------


def oscillator_rates(field: Oscillator, dt: float, region: Region) -> list[Rates]:
    """Return the rates of the coRNN: in a metric of position and velocity, and in the maximum norm.

    The step is ``M (x) I + b (x) D [W U]`` with M the step without coupling, b = (dt^2, dt) and D
    diagonal with entries in [0, 1].
    """
    weights = [_array(w).T for w in (field.weight, field.velocity_weight)]
    contraction = _oscillator_metric(field, weights, dt)
    name = "gradient bound of the coRNN (after Rusch and Mishra 2021)"
    upper = _oscillator_rows(field, weights, dt)
    limit = _last(lambda dt: _oscillator_rows(field, weights, dt) <= 1, dt) if upper <= 1 else None
    return [contraction, Rates(Norm("inf"), name, 0.0, upper, ALL, dt_max=limit)]


def _oscillator_step(field: Oscillator, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """M and b, for position and velocity."""
    keep = 1 - dt * field.epsilon
    step = [[1 - dt**2 * field.gamma, dt * keep], [-dt * field.gamma, keep]]
    return np.array(step), np.array([dt**2, dt])


def _oscillator_rows(field: Oscillator, weights: list[np.ndarray], dt: float) -> float:
    """The largest row sum, a number 1 + O(dt)."""
    step, kick = _oscillator_step(field, dt)
    row = sum(float(np.abs(w).sum(axis=1).max()) for w in weights)
    return float((np.abs(step).sum(axis=1) + kick * row).max())


def _oscillator_metric(field: Oscillator, weights: list[np.ndarray], dt: float) -> Rates:
    step, kick = _oscillator_step(field, dt)
    position, velocity = weights
    cross = position @ velocity.T
    grams = [position @ position.T, cross + cross.T, velocity @ velocity.T]
    sizes = [float(np.linalg.norm(g, 2)) for g in grams]
    metric = _search_metric(step, kick, sizes)
    inverse = np.linalg.inv(metric)
    # |[W U] (R^-1 (x) I)|, from the Gram matrix.
    across = inverse @ inverse.T
    gram = across[0, 0] * grams[0] + across[0, 1] * grams[1] + across[1, 1] * grams[2]
    gain = math.sqrt(max(0.0, float(np.linalg.eigvalsh(gram)[-1])))
    coupling = np.concatenate(
        [position * inverse[0, k] + velocity * inverse[1, k] for k in (0, 1)], axis=1
    )
    centre = np.kron(metric @ step @ inverse, np.eye(len(position)))
    centre = centre + np.kron((metric @ kick)[:, None], coupling / 2)
    values = np.linalg.svd(centre, compute_uv=False)
    reach = float(np.linalg.norm(metric @ kick)) * gain / 2
    upper, lower = float(values[0]) + reach, max(0.0, float(values[-1]) - reach)

    def plain(dt: float) -> float:
        step, kick = _oscillator_step(field, dt)
        free = _singular(metric @ step @ inverse)[1]
        return float(free + np.linalg.norm(metric @ kick) * gain)

    # Without the centre the bound in this metric costs nothing at other step sizes.
    limit = _last(lambda dt: plain(dt) <= 1, dt) if plain(dt) <= 1 else None
    norm = Norm("2", np.kron(metric, np.eye(len(position))))
    name = "contraction of the coRNN in a metric of position and velocity (triangle inequality)"
    return Rates(norm, name, lower, upper, ALL, dt_max=limit)


def _search_metric(step: np.ndarray, kick: np.ndarray, sizes: list[float]) -> np.ndarray:
    """Return R, upper triangular, for which a bound of the step in the norm |R v| is lowest."""
    centre, width = np.zeros(2), np.array([5.0, 3.0])
    best = np.eye(2)
    for _ in range(6):
        axes = [np.linspace(c - w, c + w, 21) for c, w in zip(centre, width, strict=True)]
        scale, angle = (v.ravel() for v in np.meshgrid(*axes, indexing="ij"))
        # R^T R = [[1, p], [p, q]] with q = e^scale and p^2 < q.
        root = np.exp(scale / 2)
        tilt = np.tanh(angle)
        one, zero, height = np.ones_like(root), np.zeros_like(root), root * np.sqrt(1 - tilt**2)
        metric = _matrices(one, root * tilt, zero, height)
        inverse = _matrices(one, -root * tilt / height, zero, 1 / height)
        across = inverse @ np.swapaxes(inverse, -1, -2)
        gram = across[:, 0, 0] * sizes[0] + np.abs(across[:, 0, 1]) * sizes[1]
        gain = np.sqrt(gram + across[:, 1, 1] * sizes[2])
        free = _singular(metric @ step @ inverse)[1]
        value = free + np.linalg.norm(metric @ kick, axis=-1) * gain
        lowest = int(np.argmin(value))
        best, centre = metric[lowest], np.array([scale[lowest], angle[lowest]])
        width = width / 5
    return best


def linoss_rates(field: LinOSS, dt: float, region: Region, *, implicit: bool) -> list[Rates]:
    """Return the rates of LinOSS, whose oscillators are free: in the energy norm of each.

    With theta = dt delta sqrt(A): implicit, every growth is ``(1 + theta^2)^(-1/2)``; symplectic,
    one as long as ``theta < 2``.
    """
    stiffness = np.maximum(_array(field.stiffness), 0.0)
    speed = 0.5 * np.tanh(0.5 * _array(field.step_logit)) + 0.5
    theta = dt * speed * np.sqrt(stiffness)
    if not implicit and theta.max() >= 2 * (1 - 1e-9):
        return []
    # A unit without a spring drifts: no norm bounds its powers, and the energy is none.
    free = stiffness == 0
    spring = np.where(free, 1e-6 * max(1.0, stiffness.max()), stiffness)
    one, zero = np.ones_like(speed), np.zeros_like(speed)
    if implicit:
        step = np.linalg.inv(_matrices(one, -dt * speed, dt * speed * stiffness, one))
        metric = _matrices(np.sqrt(spring), zero, zero, one)
        name = "implicit oscillators (Rusch and Rus 2024, proposition 3.1)"
        limit = math.inf
    else:
        step = _symplectic_step(dt * speed, stiffness)
        metric = _energy(dt * speed, spring)
        name = "frequency limit of the symplectic Euler method (Rusch and Rus 2024, E.1)"
        limit = 2 / float((speed * np.sqrt(stiffness)).max()) if not free.all() else math.inf
    low, high = _singular(metric @ step @ np.linalg.inv(metric))
    lower, upper = float(low.min()), float(high.max())
    if not implicit and not free.any():
        lower = upper = 1.0
    facts = (*ALL, "the norm is the energy of each oscillator, of these parameters")
    if free.any():
        facts = (*facts, f"{int(free.sum())} oscillators have no spring (A = 0) and drift")
    bound = limit if upper <= 1 else None
    return [Rates(_unit_norm(metric, copies=2), name, lower, upper, facts, dt_max=bound)]


def unicornn_rates(field: UnICORNN, dt: float, region: Region) -> list[Rates]:
    """Return the rates of UnICORNN: in the energy norm of a mean stiffness of each unit.

    The stiffness is ``w d + alpha`` with d in [0, 1] the slope of tanh. The step is affine in d, so
    that its norm is largest at an end. Its determinant is one, so that the rates are reciprocal.
    """
    weight = _array(field.weight)
    time = dt * (0.5 * np.tanh(0.5 * _array(field.time_scale)) + 0.5)
    ends = np.stack([np.full_like(weight, field.alpha), field.alpha + weight])
    top = ends.max(axis=0)
    # No energy norm is fit for a stiffness that is not positive or beyond the frequency limit.
    if (top <= 0).any():
        return []
    least = np.maximum(ends.min(axis=0), 1e-3 * top)
    share = np.linspace(0.0, 1.0, 65)[:, None]
    trial = least ** (1 - share) * top**share
    inside = time**2 * trial < 4 * (1 - 1e-9)
    trial = np.where(inside, trial, least)
    if (time**2 * least >= 4 * (1 - 1e-9)).any():
        return []
    metric = _energy(np.broadcast_to(time, trial.shape), trial)
    inverse = np.linalg.inv(metric)
    high = np.stack([_singular(metric @ _symplectic_step(time, k) @ inverse)[1] for k in ends])
    best = high.max(axis=0).argmin(axis=0)
    units = np.arange(len(weight))
    upper = float(high.max(axis=0)[best, units].max())
    fixed = bool((weight == 0).all())
    if fixed:
        upper = 1.0
    limit = 2 / float((time / dt * np.sqrt(top)).max()) if fixed else None
    name = "frequency limit of the symplectic Euler method, stiffness in an interval (convexity)"
    norm = _unit_norm(metric[best, units], copies=1)
    return [Rates(norm, name, 1 / upper, upper, ALL, dt_max=limit)]


def _symplectic_step(time: np.ndarray, stiffness: np.ndarray) -> np.ndarray:
    """Velocity first: ``v+ = v - time k h``, ``h+ = h + time v+``, for each unit."""
    return _matrices(1 - time**2 * stiffness, time, -time * stiffness, np.ones_like(time))


def _energy(time: np.ndarray, stiffness: np.ndarray) -> np.ndarray:
    """R with |R (h, v)|^2 = k h^2 + v^2 - time k h v, which the symplectic step keeps."""
    theta = time * np.sqrt(stiffness)
    return _matrices(np.sqrt(stiffness), -theta / 2, 0 * theta, np.sqrt(1 - theta**2 / 4))


def _unit_norm(metric: np.ndarray, copies: int) -> Norm:
    """The 2-norm of T v: a metric (units, 2, 2) for the blocks h and v, complex for two copies."""
    blocks = [[np.diag(np.tile(metric[:, i, j], copies)) for j in (0, 1)] for i in (0, 1)]
    return Norm("2", np.block(blocks))


# --- Linear in the state ------------------------------------------------------------------------


def diagonal_rates(field: Any, dt: float, region: Region) -> list[Rates]:
    """Return the rates of a diagonal linear field whose flow is exact: ``exp(dt lambda)``."""
    if type(field) is LRU:
        real = -np.exp(_array(field.nu))
    elif type(field) is S4D:
        real = -np.exp(_array(field.log_step))[:, None] * np.exp(_array(field.poles)[0])
    else:
        real = np.exp(_array(field.log_step)) * _array(field.real)
    constrained = type(field) is not S5
    facts = (*ALL, "upper < 1 for all parameter values") if constrained else ALL
    limit = math.inf if real.max() <= 0 else None
    lower, upper = (float(np.exp(dt * value)) for value in (real.min(), real.max()))
    name = "spectrum of a diagonal step (exact flow)"
    return [Rates(Norm("2"), name, lower, upper, facts, constrained, limit)]


def input_gate_rates(field: Any, dt: float, region: Region) -> list[Rates]:
    """Return the rates of ``h+ = (1 - dt a(x)) h + ...`` with a gate a in (0, 1) of the input."""
    low, high = np.zeros(1), np.ones(1)
    if type(field) is not TGRU:
        low, high = affine(
            _array(field.input_weight), region.input_lower, region.input_upper, field.bias
        )
        low, high = (np.split(v, len(v) // field.hidden_size) for v in (low, high))
        if type(field) is InputGated:
            low, high = (0.5 * np.tanh(0.5 * v[0]) + 0.5 for v in (low, high))
        else:
            # i / (f + i) = 1 / (1 + f / i), largest for the largest i and the smallest f.
            low, high = _share(low[1], high[0]), _share(high[1], low[0])
    ends = np.concatenate([1 - dt * low, 1 - dt * high])
    crossed = bool(((1 - dt * low) * (1 - dt * high) <= 0).any())
    lower, upper = 0.0 if crossed else float(np.abs(ends).min()), float(np.abs(ends).max())
    name = "diagonal step with a gate of the input (convex combination)"
    facts = ("all states, inputs in the region", "upper <= 1 for all parameter values if dt <= 2")
    # Of all parameter values the gate is below one, of these it is at most high.
    limit = 2.0 if dt <= 2 else 2 / float(high.max())
    bound = limit if upper <= 1 else None
    return [Rates(Norm("2"), name, lower, upper, facts, dt <= 2, bound)]


def _share(enter: np.ndarray, forget: np.ndarray) -> np.ndarray:
    """``sigma(i) / (sigma(f) + sigma(i))`` for numbers that may be infinite."""
    difference = np.logaddexp(0.0, -forget) - np.logaddexp(0.0, -enter)
    return 0.5 * np.tanh(0.5 * difference) + 0.5


def legendre_rates(field: HiPPOLegS, dt: float, region: Region) -> list[Rates]:
    """Return the rates of ``c' = (B f - A c) / (s + 1/2)``: ``A + A^T = I + r r^T`` is positive."""
    name = "B-stability of the implicit midpoint rule (Burrage and Butcher 1979)"
    facts = (*ALL, "all times s >= 0; A + A^T = I + r r^T with r_n^2 = 2n + 1")
    return [Rates(Norm("2"), name, 0.0, 1.0, facts, True, math.inf)]


# --- Unitary ------------------------------------------------------------------------------------


def unitary_rates(field: Any, dt: float, region: Region) -> list[Rates]:
    """Return the rates of a rotation and a modReLU.

    ``z relu(|z| + b) / (|z| + epsilon)`` has the slope 0 or 1 for a real z. For a complex one it
    has, where it is active, the slopes ``1 - epsilon (epsilon - b)/(|z| + epsilon)^2`` along z and
    ``(|z| + b)/(|z| + epsilon)`` across.
    """
    bias, epsilon = dt * _array(field.bias), field.epsilon
    facts = (*ALL, "where the step is differentiable (z not 0, |z| not -b)")
    name = "isometry of the rotation and slopes of modReLU (chain rule)"
    real = type(field) in (Orthogonal, CayleyOrthogonal)
    if real:
        rates = [Rates(Norm("2"), name, 0.0, 1.0, facts, True, math.inf)]
        if (bias >= 0).all():
            facts = (*facts, "no threshold is negative: the slope is 1")
            rates.append(Rates(Norm("2"), name, 1.0, 1.0, facts, False, math.inf))
        return rates
    if epsilon == 0:
        low, high = np.where(bias < 0, 0.0, 1.0), np.where(bias > 0, np.inf, 1.0)
    else:
        low, high = np.clip(bias / epsilon, 0.0, 1.0), np.maximum(bias / epsilon, 1.0)
    upper = float(high.max())
    if not math.isfinite(upper):
        return []
    facts = (*facts, f"thresholds from {bias.min():.3g} to {bias.max():.3g}")
    limit = math.inf if bias.max() <= 0 else dt * epsilon / float(bias.max())
    bound = limit if upper <= 1 else None
    return [Rates(Norm("2"), name, float(low.min()), upper, facts, False, bound)]


# --- Arithmetic ---------------------------------------------------------------------------------


def _array(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)


def _matrices(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Matrices [[a, b], [c, d]]."""
    return np.stack([np.stack([a, b], axis=-1), np.stack([c, d], axis=-1)], axis=-2)


def _singular(m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smaller and the larger singular value of 2 x 2 matrices, to rounding."""
    turn = np.hypot(m[..., 0, 0] + m[..., 1, 1], m[..., 1, 0] - m[..., 0, 1])
    flip = np.hypot(m[..., 0, 0] - m[..., 1, 1], m[..., 0, 1] + m[..., 1, 0])
    return np.abs(turn - flip) / 2, (turn + flip) / 2


def _last(holds: Callable[[float], bool], dt: float) -> float:
    """Return up to where a statement that holds for dt stays true, as dt grows."""
    low = dt
    for _ in range(400):
        if not holds(high := low * 1.05):
            break
        low = high
    else:
        return math.inf
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


_SPLITTINGS, _SYMPLECTIC = (LieTrotter, Strang), (GaussSeidelEuler, SymplecticEuler)
_EXACT = (*_SPLITTINGS, ETD1, ETDRK2, ETDRK4, Lawson4)
TABLE: tuple[tuple[tuple[type, ...], tuple[type, ...], Theorem], ...] = (
    ((Gated,), (Euler,), gated_rates),
    ((LSTM, LEM), (GaussSeidelEuler,), gated_rates),
    ((Lipschitz,), (Euler,), lipschitz_rates),
    ((Oscillator,), (GaussSeidelEuler,), oscillator_rates),
    ((LinOSS,), (IMEXEuler,), partial(linoss_rates, implicit=True)),
    ((LinOSS,), _SYMPLECTIC, partial(linoss_rates, implicit=False)),
    ((UnICORNN,), _SYMPLECTIC, unicornn_rates),
    ((LRU, S4D, S5), _EXACT, diagonal_rates),
    ((InputGated, MinLSTM, TGRU), (Euler,), input_gate_rates),
    ((HiPPOLegS,), (ImplicitMidpoint,), legendre_rates),
    ((Orthogonal, CayleyOrthogonal, Unitary, FactoredUnitary), _SPLITTINGS, unitary_rates),
)
"""Which theorem is about which fields and methods."""
