"""What keeps cells from expanding whose bound is a norm of weights: leaky, antisymmetric, coRNN."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._cell import Cell, TrainedStep
from .._enclosure import Norm
from ..fields._activation import SIZES, SLOPES
from ._rule import (
    Box,
    Rule,
    at_most,
    clipped,
    field_of,
    initial_dt,
    margin_of,
    row_sums,
    shrink_above,
    spectral_norm,
    step_size,
    with_arrays,
)

# --- Leaky units ---------------------------------------------------------------------------------


def leaky(cell: Cell, box: Box, bound: float) -> Rule | str:
    """``J = (1 - dt) I + dt D W`` with ``0 <= D <= slope``: ``|1 - dt| + dt slope ||W||_2``."""
    field: Any = cell.field
    slope = SLOPES.get(field.activation)
    if slope is None:
        return f"the largest slope of {field.activation} is not known"

    def upper(cell: Cell) -> Any:
        dt, field = step_size(cell), field_of(cell)
        return jnp.abs(1 - dt) + dt * slope * spectral_norm(field.weight)

    def project(cell: Cell) -> Cell:
        cell = at_most(cell, 1.0)
        dt = step_size(cell)
        limit = jnp.maximum(bound - jnp.abs(1 - dt), 0.0) / (dt * slope)
        return with_arrays(cell, weight=clipped(field_of(cell).weight, limit))

    seen = SIZES.get(field.activation, math.inf) if initial_dt(cell) <= 1 else math.inf
    return Rule(
        upper,
        project,
        Norm("2"),
        "|1 - dt| + dt L |W|, L the largest slope of the activation (triangle inequality)",
        seen=seen,
    )


# --- Oscillators ---------------------------------------------------------------------------------


def oscillator(cell: Cell, box: Box, bound: float) -> Rule | str:
    """``(dh, dv)+ = M (dh, dv) + b k`` with ``|k| <= l |(dh, dv)|``, ``l = ||[W U]||_2``.

    M = [[1 - dt^2 gamma, dt (1 - dt epsilon)], [-dt gamma, 1 - dt epsilon]], b = (dt^2, dt),
    ``k = D (W dh + U dv)``, ``0 <= D <= 1``. In the norm ``x' P x``, for every ``t > b'Pb``,
    Young's inequality for the mixed term gives ::

        |M x + b k|^2 <= x' N(t) x + t k^2,   N(t) = M'PM + M'P b b'P M / (t - b'Pb)

    so the rate is at most the root of the largest eigenvalue of ``N(t) + t l^2`` against P, for the
    best of many t. P is the one that lets l be largest, by search.
    """
    if isinstance(cell.dt, TrainedStep):
        return "the closed form for Oscillator has one metric, so dt must not be trained"
    field: Any = cell.field
    dt = float(cell.dt)
    damped = 1 - dt * field.epsilon
    m = np.array([[1 - dt**2 * field.gamma, dt * damped], [-dt * field.gamma, damped]])
    b = np.array([dt**2, dt])
    p, limit = _metric(m, b, bound)
    root = _root(p)
    inverse = np.linalg.inv(root)
    parts, t = _young(m, b, p)
    scaled, identity = inverse @ parts @ inverse, inverse @ inverse

    def stacked(cell: Cell) -> Any:
        field = field_of(cell)
        return jnp.concatenate([field.weight, field.velocity_weight])

    def upper(cell: Cell) -> Any:
        norm = spectral_norm(stacked(cell))
        dtype = norm.dtype
        load = jnp.asarray(t, dtype) * norm**2
        both = jnp.asarray(scaled, dtype) + load[:, None, None] * jnp.asarray(identity, dtype)
        return jnp.sqrt(jnp.min(_eigenvalues(both, jnp)[1]))

    def project(cell: Cell) -> Cell:
        both = clipped(stacked(cell), limit)
        size = cell.hidden_size
        return with_arrays(cell, weight=both[:size], velocity_weight=both[size:])

    return Rule(
        upper,
        project,
        Norm("2", np.kron(root, np.eye(cell.hidden_size))),
        "damped oscillators against a coupling of norm |[W U]| in one metric (S-procedure)",
    )


def _young(m: np.ndarray, b: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N(t) for many t, of one metric or of several."""
    pb = p @ b
    least = pb @ b
    t = least[..., None] * (1 + np.geomspace(1e-2, 1e3, 80))
    mixed = pb @ m
    outer = mixed[..., :, None] * mixed[..., None, :]
    share = 1 / (t - least[..., None])
    return (m.T @ p @ m)[..., None, :, :] + share[..., None, None] * outer[..., None, :, :], t


def _metric(m: np.ndarray, b: np.ndarray, bound: float) -> tuple[np.ndarray, float]:
    """The metric P with the largest coupling that it allows, and that coupling."""

    def coupling(log_ratio: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ratio = np.exp(log_ratio)
        mixed = np.tanh(angle) * np.sqrt(ratio)
        rows = [np.stack([np.ones_like(ratio), mixed], -1), np.stack([mixed, ratio], -1)]
        p = np.stack(rows, -2)
        parts, t = _young(m, b, p)
        room = _eigenvalues(bound**2 * p[..., None, :, :] - parts, np)[0]
        return p, (room / t).max(-1)

    middle, width = np.zeros(2), np.array([6.0, 4.0])
    best, room = np.eye(2), -1.0
    for _ in range(6):
        grids = (c + s * np.linspace(-1, 1, 41) for c, s in zip(middle, width, strict=True))
        first, second = (g.reshape(-1) for g in np.meshgrid(*grids, indexing="ij"))
        p, rooms = coupling(first, second)
        index = int(rooms.argmax())
        if rooms[index] > room:
            best, room = p[index], float(rooms[index])
        middle, width = np.array([first[index], second[index]]), width / 6
    return best, math.sqrt(max(room, 0.0))


def _eigenvalues(a: Any, xp: Any) -> tuple[Any, Any]:
    """Both eigenvalues of symmetric 2 x 2 matrices, the smaller first."""
    mean = (a[..., 0, 0] + a[..., 1, 1]) / 2
    half = (a[..., 0, 0] - a[..., 1, 1]) / 2
    radius = xp.sqrt(half**2 + a[..., 0, 1] ** 2)
    return mean - radius, mean + radius


def _root(p: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(p)
    return vectors * np.sqrt(values) @ vectors.T


# --- Antisymmetric units -------------------------------------------------------------------------


def antisymmetric(cell: Cell, box: Box, bound: float) -> Rule | str:
    """``J = I + dt D A``, ``A = K - gamma I``, ``K = M - M'``, ``0 <= D <= 1``.

    Up to a bound of 1, in the maximum norm: row i has the sum ``|1 - dt d gamma| + dt d S_i``, S_i
    that of the absolute values of K; it is convex in d, so at most ``max(1, |1 - dt gamma| + dt
    S_i)``. Above 1, in the 2-norm: with ``D = (I + E)/2``, ``|E| <= 1``, J is ``(I + dt A/2) +
    E dt A/2``, and A is normal with eigenvalues ``-gamma + i omega``, so::

        ||J|| <= sqrt((1 - dt gamma/2)^2 + x^2) + sqrt((dt gamma/2)^2 + x^2),   x = dt ||K||_2/2

    That allows a larger K: its norm is far below its row sums.
    """
    field: Any = cell.field
    gamma = field.gamma
    if gamma < 0 or initial_dt(cell) * gamma > 1:
        return "the closed form for Antisymmetric needs gamma >= 0 and dt gamma <= 1"
    by_rows = bound <= 1

    def skew(cell: Cell) -> Any:
        weight = field_of(cell).weight
        return weight - weight.T

    def upper(cell: Cell) -> Any:
        dt, k = step_size(cell), skew(cell)
        if by_rows:
            return jnp.maximum(jnp.max(jnp.abs(1 - dt * gamma) + dt * row_sums(k)), 1.0)
        x = dt * spectral_norm(k) / 2
        return jnp.sqrt((1 - dt * gamma / 2) ** 2 + x**2) + jnp.sqrt((dt * gamma / 2) ** 2 + x**2)

    def project(cell: Cell) -> Cell:
        if gamma:
            cell = at_most(cell, 1 / gamma)
        dt, k, weight = step_size(cell), skew(cell), field_of(cell).weight
        if by_rows:
            sums = row_sums(k)
            small = (
                gamma * (1 - margin_of(k.dtype)) / jnp.where(sums > 0, sums, jnp.ones_like(sums))
            )
            s = shrink_above(sums, gamma, small)
            # An entry belongs to two rows; the smaller factor keeps K antisymmetric.
            shrunk = k * jnp.minimum(s[:, None], s[None, :])
        else:
            g = dt * gamma / 2
            most = (bound**2 + g**2 - (1 - g) ** 2) / (2 * bound)
            shrunk = clipped(k, 2 * jnp.sqrt(jnp.maximum(most**2 - g**2, 0.0)) / dt)
        return with_arrays(cell, weight=weight + (shrunk - k) / 2)

    return Rule(
        upper,
        project,
        Norm("inf") if by_rows else Norm("2"),
        "row sums of an antisymmetric unit against gamma"
        if by_rows
        else "Euler step of an antisymmetric unit: the mean slope is normal, the rest small",
    )
