"""The eye: what a diagnosis measured and a certificate promises, in one figure."""

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._cell import Cell
from ..zoo._network import undelayed
from ._certificate import Certificate
from ._figure import (
    BLUE,
    COLUMN,
    DECADES,
    INK,
    LINE,
    RED,
    SHADE,
    SOFT,
    decades,
    empty,
    figure_into,
    note,
    powers,
)
from ._growth import Alike, acts_on_eigenvalues, families
from ._regions_picture import fill_region, mark_segments

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 700
"""Eigenvalues that are drawn at most."""
_TITLE = 60
"""Letters that the title has room for."""
_SMOOTH = 0.5
"""Jumps up to this part of the spread can be followed by the eye."""
_ROUNDING = 1e-6
"""Exponents below this are zero in single precision."""
_FLOOR = 12.0
"""Decades that the certified band may add below or above what was measured."""


def draw_eye(
    diagnosis: Any, certificate: Certificate | None, cell: Cell | None, path: str | Path
) -> None:
    """Draw a diagnosis and a certificate of a cell as one figure of four panels.

    1. The stability region of the cell's method, ``|R(z)| <= 1``, with dt times the eigenvalues of
       dF/dy along the trajectory: a diagnostic, no certificate. Where there is no field, or a step
       is not a function of these eigenvalues, the unit circle with those of the step Jacobian.
    2. The growth of the gradient against the lag: the certified corridor ``lower^lag`` to
       ``upper^lag`` in the certificate's norm, the measured mean in the 2-norm with its range over
       the sequences, and the lines kappa and 1/kappa.
    3. The Lyapunov exponents, per step.
    4. What the next layer sees: its first two principal components, circles at the start and
       squares at the end; or, where it jumps about too much for that, the units of the first
       sequence over time.

    Numbers that are not finite are left out, and the panel says from where on.

    **Arguments**: ``diagnosis``, a ``Diagnosis``; ``certificate`` of the same cell, or None;
    ``cell``, or None for a step function without one; ``path``, an .svg or .png file.
    Raises ``InputError`` for another suffix.
    """
    with figure_into(path, COLUMN, 3.75) as figure:
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.04)  # pyright: ignore
        figure.suptitle(_title(diagnosis, cell), fontsize=7, fontweight="bold", x=0.02, ha="left")
        (plane, corridor), (spectrum, path_of) = figure.subplots(2, 2)
        _draw_plane(plane, diagnosis, cell)
        _draw_corridor(corridor, diagnosis, certificate)
        _draw_spectrum(spectrum, diagnosis)
        _draw_trajectory(path_of, diagnosis)
        for letter, axes in zip("abcd", (plane, corridor, spectrum, path_of), strict=True):
            axes.set_title(f"{letter}  {axes.get_title()}", loc="left")
            axes.set_title("")


def _title(diagnosis: Any, cell: Cell | None) -> str:
    if cell is None:
        return textwrap.shorten(str(diagnosis.name), _TITLE, placeholder=" …")
    dt = cell.step_size
    method = type(undelayed(cell.method)).__name__
    name = diagnosis.name if method in diagnosis.name else f"{diagnosis.name} + {method}"
    return f"{textwrap.shorten(name, _TITLE - 13, placeholder=' …')}, dt = {float(dt):.3g}"


# --- eigenvalues -------------------------------------------------------------------------------


def _draw_plane(axes: "Axes", diagnosis: Any, cell: Cell | None) -> None:
    values, entry = diagnosis.eigenvalues, None
    if diagnosis.field_eigenvalues is not None and cell and acts_on_eigenvalues(cell.method):
        values = diagnosis.field_eigenvalues
        entry = families({"method": cell.method})[0]
    values = np.ravel(np.asarray(values, np.complex128))
    finite = values[np.isfinite(values)]
    axes.set_title("dt · eig ∂F/∂y" if entry else "eig of the step")
    x, y = _window(finite, entry)
    axes.axhline(0, color=LINE, linewidth=0.5, zorder=0.5)
    axes.axvline(0, color=LINE, linewidth=0.5, zorder=0.5)
    if entry is None:
        turn = np.exp(2j * np.pi * np.linspace(0, 1, 361))
        axes.fill(
            np.real(turn), np.imag(turn), facecolor=SHADE, edgecolor=INK, linewidth=0.8, zorder=0
        )
        outside = np.abs(finite) > 1 + 1e-6
    else:
        if entry.thin:
            mark_segments(axes, entry.growth, 2 * max(-x[0], y[1]))
        else:
            fill_region(axes, entry.growth, x, y, 160)
        outside = entry.growth.size(finite) > 1e-6
    for chosen, marker, colour, size in ((~outside, ".", BLUE, 2.5), (outside, "x", RED, 2.6)):
        points = _thinned(finite[chosen])
        alpha = 0.35 if points.size > 200 else 0.9
        axes.plot(np.real(points), np.imag(points), marker, color=colour, markersize=size,
                  alpha=alpha, markeredgewidth=0.6, linestyle="none")  # fmt: skip
    axes.set(xlim=x, ylim=y, aspect="equal", xlabel="Re", ylabel="Im")
    text = f"outside {outside.mean():.1%}" if finite.size else "not finite"
    if finite.size and finite.size < values.size:
        text += f"\n{values.size - finite.size} not finite"
    note(axes, text, "low left")


def _window(values: np.ndarray, entry: Alike | None) -> tuple[Any, Any]:
    """A square with the eigenvalues, zero, and as much of the region as is not far from them."""
    if entry is None:
        reach = max(1.15, 1.1 * np.abs(values).max(initial=0.0))
        return (-reach, reach), (-reach, reach)
    real, imaginary = np.real(values), np.imag(values)
    low, high = 1.15 * real.min(initial=0.0), 1.15 * real.max(initial=0.0)
    up = 1.15 * np.abs(imaginary).max(initial=0.0)
    far = 4 * max(-low, high, up, 0.02)
    low = min(low, -min(1.1 * entry.left, far))
    high = max(high, min(1.1 * entry.right, far), -0.1 * low)
    up = max(up, min(1.1 * entry.top, far))
    half = max(up, (high - low) / 2)
    if not entry.bounded:
        low = min(low, -0.5 * high)
        half = max(half, (high - low) / 2)
    spare = half - (high - low) / 2
    return (low - spare, high + spare), (-half, half)


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most so many of the values, spread evenly over them."""
    if values.size <= _POINTS:
        return values
    return values[np.linspace(0, values.size - 1, _POINTS).astype(int)]


# --- gradients ---------------------------------------------------------------------------------


def _draw_corridor(axes: "Axes", diagnosis: Any, certificate: Certificate | None) -> None:
    axes.set_title("gradient over a lag")
    lags = np.asarray(diagnosis.lags, np.float64)
    middle, low, high = (
        _exponents(getattr(diagnosis, name))
        for name in ("gradient", "gradient_low", "gradient_high")
    )
    kappa = math.log10(diagnosis.kappa)
    seen = np.concatenate([a[np.isfinite(a)] for a in (middle, low, high)])
    bottom, top = min(seen.min(initial=0.0), -kappa), max(seen.max(initial=0.0), kappa)
    margin = max(0.12 * (top - bottom), 0.1)
    # Room for the note below the line 1/kappa, where nothing else is.
    bottom, top = bottom - margin * (3 if bottom == -kappa else 1), top + margin
    if certificate:
        bottom, top = _draw_band(axes, certificate, lags, bottom, top)
    axes.fill_between(lags, powers(low), powers(high), color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(lags, powers(middle), color=BLUE, linewidth=1.2, label="measured")
    for sign in (1, -1):
        axes.axhline(10.0 ** (sign * kappa), color=SOFT, linewidth=0.7, linestyle=":")
        text = "κ" if sign > 0 else "1/κ"
        axes.text(0.98, 10.0 ** (sign * kappa), text, transform=axes.get_yaxis_transform(),
                  ha="right", va="bottom" if sign > 0 else "top", color=SOFT)  # fmt: skip
    top += 0.45 * (top - bottom)  # room for the legend
    decades(axes, max(bottom, -DECADES), min(top, DECADES))
    axes.set(xlabel="lag (steps)", xlim=(0, max(lags.max(initial=0), 1)))
    bad = ~np.isfinite(np.asarray(diagnosis.gradient, np.float64))
    if bad.any():
        note(axes, f"not finite\nfrom lag {int(lags[bad][0])}", "middle")
    _mark_horizon(axes, diagnosis)
    axes.legend(loc="upper left", frameon=False, handlelength=1.4, borderaxespad=0.1,
                labelspacing=0.15)  # fmt: skip


def _draw_band(
    axes: "Axes", certificate: Certificate, lags: np.ndarray, bottom: float, top: float
) -> tuple[float, float]:
    """The certified corridor; return the limits of the axis with it, as far as it is near."""
    steps = np.linspace(0, max(lags.max(initial=0), 1), 101)
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(steps == 0, 0.0, steps * np.log10(max(certificate.lower, 0.0)))
        high = np.where(steps == 0, 0.0, steps * np.log10(certificate.upper))
    label = f"certified,\n{_short_norm(certificate)}"
    axes.fill_between(steps, powers(low), powers(high), facecolor="#e9edf2", linewidth=0,
                      edgecolor="none", label=label, zorder=0)  # fmt: skip
    for edge in (low, high):
        axes.plot(steps, powers(edge), color=INK, linewidth=0.8, linestyle="--", zorder=1)
    room = 0.06 * (top - bottom)
    if np.isfinite(low[-1]):
        bottom = min(bottom, max(low[-1] - room, bottom - _FLOOR))
    return bottom, max(top, min(high[-1] + room, top + _FLOOR))


def _short_norm(certificate: Certificate) -> str:
    norm = certificate.norm
    name = {"1": "1-norm", "2": "2-norm", "inf": "max norm"}[norm.kind]
    return name if norm.scale is None else f"scaled {name}"


def _mark_horizon(axes: "Axes", diagnosis: Any) -> None:
    horizon = float(diagnosis.horizon)
    bound = bool(diagnosis.horizon_is_bound)
    if not math.isfinite(horizon):
        text = "horizon ∞" if horizon > 0 else ""
    else:
        text = f"horizon {'≥ ' if bound else ''}{horizon:g}"
        if not bound:
            axes.axvline(horizon, color=RED, linewidth=0.9, linestyle="-.")
    note(axes, text)


def _exponents(values: Any) -> np.ndarray:
    """Powers of ten of numbers; a number that is not finite, or zero, is NaN."""
    values = np.asarray(values, np.float64)
    usable = np.isfinite(values) & (values > 0)
    return np.where(usable, np.log10(np.where(usable, values, 1.0)), np.nan)


# --- exponents and the trajectory --------------------------------------------------------------


def _draw_spectrum(axes: "Axes", diagnosis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title("Lyapunov exponents")
    values = np.ravel(np.asarray(diagnosis.lyapunov, np.float64))
    shown = np.sort(values[np.isfinite(values)])[::-1]
    shown = np.where(np.abs(shown) < _ROUNDING, 0.0, shown)
    axes.axhline(0, color=SOFT, linewidth=0.8, linestyle="--")
    axes.set(xlabel="index", ylabel="per step")
    if not shown.size:
        return empty(axes, "not finite" if values.size else "not measured")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    index = np.arange(1, shown.size + 1)
    for chosen, marker, colour in ((shown <= 0, "o", BLUE), (shown > 0, "^", RED)):
        axes.plot(index[chosen], shown[chosen], marker, color=colour, markersize=2.4,
                  linestyle="none")  # fmt: skip
    axes.plot(index, shown, color=LINE, linewidth=0.6, zorder=1)
    axes.set_xlim(0.5 - 0.02 * shown.size, shown.size + 0.5 + 0.02 * shown.size)
    low, high = min(shown.min(), 0.0), max(shown.max(), 0.0)
    margin = 0.12 * (high - low) or 0.1
    axes.set_ylim(low - margin, high + (2.2 if shown.size == values.size else 4.0) * margin)
    text = f"largest {shown[0]:.3g}"
    if shown.size < values.size:
        text += f"\n{values.size - shown.size} not finite"
    note(axes, text, "top right")


def _draw_trajectory(axes: "Axes", diagnosis: Any) -> None:
    axes.set_title("hidden trajectory")
    states = np.asarray(diagnosis.trajectory, np.float64)
    states = states.reshape(-1, *states.shape[-2:])
    finite = np.isfinite(states).all(axis=-1)
    # Up to the first step of each sequence that is not finite.
    clean = np.logical_and.accumulate(finite, axis=1).sum(axis=1)
    kept = [rows[:count] for rows, count in zip(states, clean, strict=True)]
    points = np.concatenate(kept)
    if len(points) < 2 or not points.shape[1]:
        return empty(axes, "no steps" if finite.all() else "not finite\nfrom step 0")
    if points.shape[1] == 1:
        axes.set(xlabel="step", ylabel="unit 1")
        _draw_paths(axes, [np.stack([np.arange(len(h)), h[:, 0]], axis=1) for h in kept])
    else:
        centre = points.mean(axis=0)
        _, sizes, directions = np.linalg.svd(points - centre, full_matrices=False)
        paths = [(h - centre) @ directions[:2].T for h in kept]
        # A jump at random is sqrt(2) times as long as a state is far from the middle.
        jumps = np.concatenate([np.diff(h, axis=0) for h in kept])
        spread = math.sqrt(float((sizes**2).sum()) / len(points))
        if np.sqrt((jumps**2).sum(axis=1).mean()) < _SMOOTH * spread and len(sizes) > 1:
            shares = sizes**2 / max(float((sizes**2).sum()), 1e-300)
            axes.set(xlabel=f"PC 1 ({shares[0]:.0%})", ylabel=f"PC 2 ({shares[1]:.0%})")
            _draw_paths(axes, paths)
        else:
            _draw_units(axes, max(kept, key=len), directions[0])
    if not finite.all():
        note(axes, f"not finite\nfrom step {int(np.argmin(finite.all(axis=0)))}", "middle")


def _draw_paths(axes: "Axes", paths: list[np.ndarray]) -> None:
    for path, line, colour in zip(paths[:3], ("-", "--", ":"), (BLUE, RED, INK), strict=False):
        x, y = path.T
        axes.plot(x, y, line, color=colour, linewidth=0.8, alpha=0.85)
        axes.plot(x[:1], y[:1], "o", color=colour, markersize=3.5, markerfacecolor="white")
        axes.plot(x[-1:], y[-1:], "s", color=colour, markersize=3.5)
    axes.margins(0.12)


def _draw_units(axes: "Axes", states: np.ndarray, direction: np.ndarray) -> None:
    """The units over time, those that go together side by side."""
    rows = states[:, np.argsort(direction)].T
    low, high = (f"{v:.2g}".replace("-", "\u2212") for v in (rows.min(), rows.max()))
    axes.set_title(f"units, {low} to {high}")
    # Dark to light without turning back: it can be read in grey.
    axes.imshow(rows, aspect="auto", cmap="cividis", interpolation="nearest", origin="lower")
    axes.set(xlabel="step", ylabel="unit, sorted")
    axes.set_yticks([])
