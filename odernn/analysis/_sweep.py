"""How far gradients reach, measured and certified, against the step size."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell
from .._results import InputError
from ._figure import BLUE, COLUMN, INK, RED, SOFT, figure_into
from ._measure import (
    against_lag,
    all_backward,
    check_inputs,
    directions,
    horizon_of,
    take,
    trajectories,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PROBES = 8
"""Directions of the gradient for each sequence."""


class Horizon(NamedTuple):
    """What was measured at one step size.

    ``middle`` is the largest lag at which the mean gradient lies in [1/kappa, kappa]; ``low`` and
    ``high`` are those of single sequences. ``broken`` is the first step with a state that is not
    finite, None if there is none.
    """

    dt: float
    middle: int
    low: int
    high: int
    broken: int | None


def horizons(
    cell: Cell | Callable[[float], Cell],
    xs: Any,
    dts: Sequence[float],
    *,
    kappa: float = 10.0,
    key: Any = None,
) -> list[Horizon]:
    """Measure the gradient horizon of a cell for each of some step sizes.

    A gradient is the 2-norm of ``v^T dy_T/dy_{T-lag}`` for random unit vectors v; means over them
    and over the sequences are geometric.

    **Arguments**: ``cell``, or a function from dt to a cell; ``xs``, inputs of shape (time, input)
    or (batch, time, input); ``dts``, step sizes in input steps; ``kappa``, the factor that a
    gradient may grow or shrink by; ``key`` for the directions.
    Raises ``InputError`` for step sizes that are not positive, a kappa below 1, or inputs that do
    not fit.
    """
    steps_of = [float(dt) for dt in dts]
    if not steps_of or not all(dt > 0 and math.isfinite(dt) for dt in steps_of):
        raise InputError(f"dts = {dts!r}: give at least one step size, all positive and finite.")
    if not (kappa >= 1 and math.isfinite(kappa)):
        raise InputError(f"kappa = {kappa!r}: give a tolerance of at least 1, 10 say.")
    key = jax.random.key(0) if key is None else key
    return [_measure(cell, xs, dt, kappa, key) for dt in steps_of]


def draw_horizon_sweep(
    path: str | Path,
    cell: Cell | Callable[[float], Cell],
    xs: Any,
    dts: Sequence[float],
    *,
    kappa: float = 10.0,
    certified: Sequence[tuple[float, float | None]] = (),
    key: Any = None,
) -> list[Horizon]:
    """Draw the gradient horizon against dt: as certified, and as measured on ``xs``.

    A certified horizon is a lower bound of any gradient's in the certificate's norm. A triangle
    that points up says that the horizon is at least as long as the sequence, or infinite.

    **Arguments**: ``path``, an .svg or .png file; ``cell``, ``xs``, ``dts``, ``kappa``, ``key`` as
    in ``horizons``; ``certified``, pairs of dt and ``certificate.horizon(kappa)``, None where there
    is no certificate. Returns what was measured. Raises ``InputError`` for another suffix, and
    what ``horizons`` raises.
    """
    with figure_into(path, COLUMN, 2.3) as figure:
        measured = horizons(cell, xs, dts, kappa=kappa, key=key)
        steps = int(np.shape(xs)[-2])
        axes = figure.subplots()
        _draw_measured(axes, measured, steps)
        _draw_certified(axes, certified, steps)
        axes.axhline(steps, color=SOFT, linewidth=0.7, linestyle=":")
        axes.text(0.99, 1.05 * steps, f"sequence, {steps} steps", va="bottom", ha="right",
                  color=SOFT, transform=axes.get_yaxis_transform())  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=1.0, linscale=0.3)
        axes.set_ylim(-0.35, 9.0 * steps)
        ticks = [0.0, *(10.0**k for k in range(math.floor(math.log10(max(steps, 1))) + 1))]
        axes.set_yticks(ticks)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        _short_ticks(axes, [p.dt for p in measured] + [dt for dt, _ in certified])
        axes.set(xlabel="dt (input steps)", ylabel="gradient horizon (steps)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2, frameon=False,
                    handlelength=2.2, columnspacing=1.2)  # fmt: skip
    return measured


def _measure(make: Any, xs: Any, dt: float, kappa: float, key: Any) -> Horizon:
    cell = make if isinstance(make, Cell) else make(dt)
    if not isinstance(cell, Cell):
        raise InputError(f"cell = {make!r}: give a cell, or a function from dt to one.")
    # A step size that is traced: all of them share one compilation.
    value = jnp.asarray(dt, jnp.finfo(cell.field.dtype).dtype)
    recurrence, y = take(eqx.tree_at(lambda c: c.dt, cell, value))
    inputs = check_inputs(recurrence, xs)
    run = trajectories(recurrence, y, inputs)
    form = recurrence.layout
    probes = directions(key, (len(inputs), _PROBES, form.size), form.dtype)
    logs, _ = all_backward(recurrence, run, probes, None)
    lags = against_lag(np.asarray(logs))
    finite = np.isfinite(np.asarray(run.after)).all(axis=(0, 2))
    each = [horizon_of(row, kappa) for row in lags]
    # A gradient that vanished to zero has the logarithm -inf, in the mean, too.
    middle = horizon_of(lags.mean(axis=0), kappa)
    broken = None if finite.all() else int(np.argmin(finite))
    return Horizon(dt, middle, min(each), max(each), broken)


def _draw_measured(axes: "Axes", measured: Sequence[Horizon], steps: int) -> None:
    good = sorted((p for p in measured if p.broken is None), key=lambda p: p.dt)
    dts = [p.dt for p in good]
    axes.fill_between(dts, [p.low for p in good], [p.high for p in good], color=BLUE, alpha=0.25,
                      linewidth=0)  # fmt: skip
    axes.plot(dts, [p.middle for p in good], color=BLUE, label="measured")
    for reached, marker in ((False, "o"), (True, "^")):
        points = [p for p in good if (p.middle >= steps) == reached]
        axes.plot([p.dt for p in points], [p.middle for p in points], marker, color=BLUE,
                  markersize=3.5, linestyle="none")  # fmt: skip
    bad = [p for p in measured if p.broken is not None]
    if bad:
        first = min(p.broken for p in bad if p.broken is not None)
        axes.plot([p.dt for p in bad], [0.0] * len(bad), "x", color=RED, markersize=4,
                  linestyle="none", label=f"not finite from step {first}")  # fmt: skip


def _draw_certified(
    axes: "Axes", certified: Sequence[tuple[float, float | None]], steps: int
) -> None:
    if not certified:
        return
    top = 4.0 * steps
    pairs = sorted(
        (float(dt), math.nan if h is None else min(float(h), top)) for dt, h in certified
    )
    dts, values = np.array(pairs).T
    # The mark of the line, in the legend, too, is that of what is finite.
    axes.plot(dts, values, color=INK, linestyle="--", label="certified")
    for chosen, marker in ((values < top, "s"), (values >= top, "^")):
        axes.plot(dts[chosen], values[chosen], marker, color=INK, markersize=3.5,
                  markerfacecolor="white", linestyle="none")  # fmt: skip
    missing = np.isnan(values)
    if missing.any():
        axes.plot(dts[missing], np.zeros(missing.sum()), "|", color=INK, markersize=6,
                  linestyle="none", label="no certificate")  # fmt: skip
    if (values >= top).any():
        where = float(np.median(dts[values >= top]))
        axes.text(where, 1.12 * top, "∞" if _any_infinite(certified) else "longer", ha="center",
                  va="bottom")  # fmt: skip


def _any_infinite(certified: Sequence[tuple[float, float | None]]) -> bool:
    return any(h is not None and math.isinf(h) for _, h in certified)


def _short_ticks(axes: "Axes", dts: Sequence[float]) -> None:
    """Ticks of one, two and five, as many as there is room for."""
    low, high = math.log10(min(dts)), math.log10(max(dts))
    factors = (1, 2, 5) if high - low < 2 else (1,)
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    ticks = [f * 10.0**k for k in powers for f in factors]
    inside = [t for t in ticks if 0.999 * min(dts) <= t <= 1.001 * max(dts)]
    axes.set_xticks(inside or [min(dts)])
    axes.xaxis.set_major_formatter("{x:g}")
