"""What keeps gated cells from expanding: GRU, LSTM, LEM, in maximum norms."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell
from .._enclosure import Norm
from ..fields._activation import sigmoid
from ._rule import (
    Box,
    Rule,
    at_most,
    field_of,
    initial_dt,
    largest_drive,
    margin_of,
    row_sums,
    shrink_above,
    step_size,
    with_arrays,
)

FORGET = 0.9
"""Largest forget gate that an LSTM unit keeps whose certificate fails."""

_HIDDEN_WEIGHT = 4 / 3  # of the memory against h; leaves the row sums of the output gate room for 1


# --- Gated units: GRU ----------------------------------------------------------------------------


def gated(cell: Cell, box: Box, bound: float) -> Rule | str:
    """``h+ = h + dt a.(g - h)``, ``a = 1 - z``, in the maximum norm, on ``|h| <= 1``.

    h+ is between h and g, and ``|g| < 1``, so ``|h| <= 1`` stays. Row i of the Jacobian is::

        (1 - dt a) delta_ij + dt a dg_i/dh_j + dt (g - h) da_i/dh_j

    - ``|dg_i/dh| <= G + R (G + |d|) / 4``, as ``g = tanh(. + r.(W_g h + d))``, ``r < 1``,
      ``r' <= 1/4``, ``|W_g h| <= G``; G, R, Z are the sums of the absolute weights of unit i.
    - ``|g - h| < 2`` and ``|da_i/dh| <= a (1 - a) Z <= a Z``.

    So its absolute sum is at most ``1 + dt a (q - 1)`` with ``q = G + R (G + |d|)/4 + 2 Z``: not
    above 1 where ``q <= 1``, and then at most ``1 - dt a_min (1 - q)``.
    """
    if initial_dt(cell) > 1:
        return "the closed form for Gated needs dt <= 1"

    def sums(cell: Cell) -> tuple[Any, ...]:
        field = field_of(cell)
        d = field.candidate_bias
        size = jnp.zeros(field.hidden_size, field.dtype) if d is None else jnp.abs(d)
        return (*field.split(row_sums(field.weight)), size)

    def units(cell: Cell) -> Any:
        reset, keep, candidate, d = sums(cell)
        return candidate + reset * (candidate + d) / 4 + 2 * keep

    def upper(cell: Cell) -> Any:
        q, field, dt = units(cell), field_of(cell), step_size(cell)
        least = jnp.zeros_like(q)
        if box.bounded:
            top = largest_drive(field, box)[1] + field.split(row_sums(field.weight))[1]
            if field.recurrent_bias is not None:
                top = top + field.split(field.recurrent_bias)[1]
            least = sigmoid(-top)
        return jnp.max(1 + dt * (q - 1) * jnp.where(q > 1, jnp.ones_like(q), least))

    def project(cell: Cell) -> Cell:
        cell = at_most(cell, 1.0)
        limit = 1 + jnp.maximum(bound - 1, 0.0) / step_size(cell)
        reset, keep, candidate, d = sums(cell)
        # Scaled by s, a unit has q = s^2 R G / 4 + s (G + R d / 4 + 2 Z): the root without
        # cancellation.
        square, linear = reset * candidate / 4, candidate + reset * d / 4 + 2 * keep
        target = limit * (1 - margin_of(square.dtype))
        root = 2 * target / (linear + jnp.sqrt(linear**2 + 4 * square * target))
        s = shrink_above(units(cell), limit, root)
        return with_arrays(cell, weight=field_of(cell).weight * jnp.tile(s, 3))

    return Rule(
        upper,
        project,
        Norm("inf"),
        "row sums of a gated unit: |U_g| + |U_r| (|U_g| + |d|)/4 + 2 |U_z| against 1",
        ("|h| <= 1 at the start",),
        lambda cell: jnp.ones(cell.hidden_size, field_of(cell).dtype),
        1.0,
    )


# --- LSTM ----------------------------------------------------------------------------------------


def lstm(cell: Cell, box: Box, bound: float) -> Rule | str:
    """``c+ = c + dt (i.g - (1 - f).c)``, ``h+ = h + dt (o.tanh(c+) - h)``, gates of (h, x).

    The norm is ``max(|c|, |h|/w)``, the region ``|h| <= 1``, ``|c| <= C = i g/(1 - f)`` with the
    largest gates there (letters stand for these bounds from here on); states stay in it. With the
    sums U of the absolute weights of a unit, and gates whose slopes are at most 1/4, a
    perturbation of norm 1 (so ``|dc| <= 1``, ``|dh| <= w``) becomes::

        |dc+| <= p,      p = 1 - dt (1 - f) + w dt (C U_f/4 + g U_i/4 + i U_g)
        |dh+|/w <= 1 - dt + dt (o p/w + tanh(C) U_o/4)
    """
    if initial_dt(cell) > 1:
        return "the closed form for LSTM needs dt <= 1"
    if not box.bounded:
        return "an LSTM forgets at a certified rate for bounded inputs only: give inputs="
    w = _HIDDEN_WEIGHT

    def units(cell: Cell, scale: Any = 1.0) -> tuple[Any, Any]:
        """The larger row sum of each unit, its recurrent weights scaled, and C."""
        field, dt = field_of(cell), step_size(cell)
        u_i, u_f, u_g, u_o = (scale * part for part in field.split(row_sums(field.weight)))
        top = largest_drive(field, box)
        deep = largest_drive(field, box, absolute=True)
        enter, leave = sigmoid(top[0] + u_i), sigmoid(top[3] + u_o)
        loss = sigmoid(-(top[1] + u_f))  # 1 - f without cancellation
        candidate = jnp.tanh(deep[2] + u_g)
        memory = enter * candidate / loss
        gain = memory * u_f / 4 + candidate * u_i / 4 + enter * u_g
        p = 1 - dt * loss + w * dt * gain
        h = 1 - dt + dt * (leave * p / w + jnp.tanh(memory) * u_o / 4)
        return jnp.maximum(p, h), memory

    def project(cell: Cell) -> Cell:
        cell = at_most(cell, 1.0)
        field = field_of(cell)
        margin = margin_of(field.dtype)
        # Not the opposite comparison: a gate so near 1 that its loss is 0 gives no number at all.
        offends = ~(units(cell)[0] <= bound * (1 - margin / 2))
        if field.bias is not None:
            top = largest_drive(field, box)[1]
            lower = jnp.where(offends, jnp.maximum(top - math.log(FORGET / (1 - FORGET)), 0.0), 0.0)
            size = field.hidden_size
            cell = with_arrays(cell, bias=field.bias.at[size : 2 * size].add(-lower))
        one = jnp.ones(field.hidden_size, field.dtype)

        def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
            middle = (ends[0] + ends[1]) / 2
            fits = units(cell, middle)[0] <= bound * (1 - margin)
            return jnp.where(fits, middle, ends[0]), jnp.where(fits, ends[1], middle)

        # The row sums grow with the scale: the lower end is the largest one that fits.
        low, _ = jax.lax.fori_loop(0, 40, halve, (0 * one, one))
        s = jnp.where(offends, low, one)
        return with_arrays(cell, weight=field_of(cell).weight * jnp.tile(s, 4))

    size = cell.hidden_size
    return Rule(
        lambda cell: jnp.max(units(cell)[0]),
        project,
        Norm("inf", np.concatenate([np.ones(size), np.full(size, 1 / w)])),
        "comparison matrix of memory and hidden state of an LSTM, gates at their largest",
        ("|h| <= 1 and |c| <= i g/(1 - f) at the start",),
        lambda cell: {"h": jnp.ones(size, field_of(cell).dtype), "c": units(cell)[1]},
        1.0,
    )


# --- LEM -----------------------------------------------------------------------------------------


def lem(cell: Cell, box: Box, bound: float) -> Rule | str:
    """``z+ = z + dt a.(y - z)``, ``h+ = h + dt e.(t - h)``, ``y = tanh(W h)``, ``t = tanh(T z+)``.

    In the maximum norm on ``|h|, |z| <= 1``, which stays as both are means. As in a gated unit
    (``|y - z| < 2``, ``|da| <= a A``, ``|de| <= e E`` with sums A, E of absolute weights), for
    perturbations of at most 1::

        |dz+| <= 1 + dt a (Y + 2 A - 1)
        |dh+| <= 1 + dt e (T |dz+| + 2 E - 1)
    """
    if initial_dt(cell) > 1:
        return "the closed form for LEM needs dt <= 1"

    def rows(cell: Cell) -> tuple[Any, Any, Any, Any]:
        field = field_of(cell)
        return (*field.split(row_sums(field.weight)), row_sums(field.slow_weight))

    def upper(cell: Cell) -> Any:
        e, a, y, t = rows(cell)
        dt = step_size(cell)
        z = 1 + dt * jnp.max(jnp.maximum(y + 2 * a - 1, 0.0))
        h = 1 + dt * jnp.max(jnp.maximum(t * z + 2 * e - 1, 0.0))
        return jnp.maximum(z, h)

    def project(cell: Cell) -> Cell:
        cell = at_most(cell, 1.0)
        e, a, y, t = rows(cell)
        most = max(bound, 1.0)
        limit = 1 + (most - 1) / step_size(cell)
        rest = limit * (1 - margin_of(e.dtype))
        z_row, h_row = y + 2 * a, t * most + 2 * e
        one = jnp.ones_like(e)
        z = shrink_above(z_row, limit, rest / jnp.where(z_row > 0, z_row, one))
        h = shrink_above(h_row, limit, rest / jnp.where(h_row > 0, h_row, one))
        field = field_of(cell)
        weight = field.weight * jnp.concatenate([h, z, z])
        return with_arrays(cell, weight=weight, slow_weight=field.slow_weight * h)

    def states(cell: Cell) -> Any:
        one = jnp.ones(cell.hidden_size, field_of(cell).dtype)
        return {"h": one, "z": one}

    return Rule(
        upper,
        project,
        Norm("inf"),
        "row sums of a long expressive memory: |W_z| + 2 |W_a| and |T| + 2 |W_e| against 1",
        ("|h| <= 1 and |z| <= 1 at the start",),
        states,
        1.0,
    )
