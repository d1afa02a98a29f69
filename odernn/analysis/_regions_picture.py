"""Stability regions of the methods, and their order stars, each on one sheet."""

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._method import METHODS, AbstractMethod
from .._results import InputError, unknown_name
from ._figure import BLUE, COLUMN, INK, LINE, PAGE, RED, SHADE, SOFT, figure_into
from ._growth import LINEAR, TOLERANCE, Alike, Growth, families, merged, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 6
_BAR, _LETTERS, _PLOT, _TICKS = 0.15, 0.12, 0.88, 0.22
"""Heights in inches: the name of the family, a line of text, the plot, its tick labels."""
_HEAD, _LINE_OF_FOOT = 0.5, 0.13
_STARS = ("euler", "heun", "kutta3", "rk4", "dormandprince5", "backwardeuler")
_STARS += ("implicitmidpoint", "gauss2", "radauiia3")
_HEADING = (
    "Filled: a step on y' = λy does not grow, |R(z)| ≤ 1, z = dt λ (Re z across, Im z up).  "
    "p order;  r, s: it does not grow on [-r, 0] and [-is, is]."
)
Methods = Mapping[str, AbstractMethod] | Iterable[str | AbstractMethod] | None


def draw_stability_regions(path: str | Path, methods: Methods = None, *, grid: int = 96) -> None:
    """Draw where a step of each method does not grow, ``|R(z)| <= 1``, on one sheet.

    R is the growth of a step on ``y' = lambda y``, ``z = dt lambda``. Methods that grow alike share
    a panel. Where a method treats two parts of a field in two ways, z belongs to the one that it
    treats explicitly; a dashed outline shows the region with a linear part ``dt mu = -2``.

    **Arguments**: ``path``, an .svg or .png file; ``methods``, names or methods, or a dict of
    methods by name; None is ``odernn.METHODS``; ``grid``, points along each side of a panel.
    Raises ``InputError`` for another suffix, a name that is not known, or no methods.
    """
    with figure_into(path, PAGE, 1.0, layout=None) as figure:
        alike = families(_named(methods, METHODS))
        rows = [alike[i : i + _COLUMNS] for i in range(0, len(alike), _COLUMNS)]
        lines = [max(len(_lines(entry.names)) for entry in row) for row in rows]
        heights = [_BAR + (n + 1) * _LETTERS + 0.06 + _PLOT + _TICKS for n in lines]
        notes = _notes(alike)
        foot = _LINE_OF_FOOT * len(notes) + 0.1
        height = _HEAD + sum(heights) + foot
        figure.set_size_inches(PAGE, height)
        place = functools.partial(_text, figure, height)
        place(0.1, 0.16, "Stability regions", size=9, weight="bold")
        place(0.1, 0.32, _HEADING)
        top = _HEAD
        for row, count, tall in zip(rows, lines, heights, strict=True):
            _draw_row(figure, height, top, row, count, _windows(alike), grid)
            top += tall
        for number, note in enumerate(notes):
            place(0.1, top + 0.1 + number * _LINE_OF_FOOT, note)


def draw_order_star(
    path: str | Path, methods: Methods = _STARS, *, reach: float = 5.0, grid: int = 120
) -> None:
    """Draw the order stars of methods: where a step grows more than the solution does.

    Dark where ``|R(z)| > |exp(z)|``. A method of order p has p + 1 dark and p + 1 light sectors at
    the origin. Of a Runge-Kutta method, crosses are the poles of R and circles its zeros.

    **Arguments**: ``path``, an .svg or .png file; ``methods``, names or methods, or a dict of
    methods by name; ``reach``, the largest |Re z| and |Im z|; ``grid``, points along each side of a
    panel. Raises ``InputError`` for another suffix, a name that is not known, no methods, or a
    ``reach`` that is not positive.

    Source: Wanner, Hairer, Norsett, "Order stars and stability theorems", BIT 18 (1978).
    """
    if not (reach > 0 and math.isfinite(reach)):
        raise InputError(f"reach = {reach!r}: give a positive size of the panels, 5.0 say.")
    with figure_into(path, COLUMN, 1.0) as figure:
        named = _named(methods, {name: METHODS[name] for name in _STARS})
        across = min(3, len(named))
        down = -(-len(named) // across)
        figure.set_size_inches(COLUMN, 0.24 + 1.34 * down * (3 / across) ** 0.8)
        figure.suptitle("Order stars: dark where |R(z)| > |exp z|", fontsize=7, x=0.02, ha="left")
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes, (name, method) in zip(panels.flat, named.items(), strict=False):
            _draw_star(axes, method, reach, grid)
            axes.set_title(f"{shown(name, method)}\norder {method.order}")
        for axes in panels.flat[len(named) :]:
            axes.set_visible(False)


def fill_region(
    axes: "Axes", growth: Growth, x: tuple[float, float], y: tuple[float, float], grid: int
) -> None:
    """Shade where ``|R(z)| <= 1`` in a window, with its outline."""
    # Odd, so that the axes are on the grid.
    across, up = (np.linspace(*span, grid | 1) for span in (x, y))
    z = across + 1j * up[:, None]
    size = np.ma.masked_invalid(growth.size(z))
    axes.contourf(across, up, size, levels=[-60.0, TOLERANCE], colors=[SHADE])
    axes.contour(across, up, size, levels=[TOLERANCE], colors=[INK], linewidths=0.8)
    if growth.parts:
        dashed: dict[str, Any] = {"colors": [RED], "linewidths": 0.8, "linestyles": ["--"]}
        outline = np.ma.masked_invalid(growth.size(z, LINEAR))
        axes.contour(across, up, outline, levels=[TOLERANCE], **dashed)


def mark_segments(axes: "Axes", growth: Growth, reach: float) -> None:
    """Draw the parts of the two axes where a step does not grow, for a region without interior."""
    steps = np.linspace(-reach, reach, 2001)
    for direction in (1.0, 1j):
        inside = growth.size(steps * direction) <= 1e-6
        inside[len(steps) // 2] = True  # the origin, where rounding decides
        line = np.where(inside, steps, np.nan)
        flat = np.where(inside, 0.0, np.nan)
        x, y = (line, flat) if direction == 1.0 else (flat, line)
        axes.plot(x, y, color=BLUE, linewidth=2.2, solid_capstyle="butt", zorder=3)


def _named(methods: Methods, default: Mapping[str, AbstractMethod]) -> dict[str, AbstractMethod]:
    if methods is None:
        return dict(default)
    if isinstance(methods, str | AbstractMethod):
        methods = [methods]
    found: dict[str, AbstractMethod] = {}
    pairs: Any = methods.items() if isinstance(methods, Mapping) else (("", m) for m in methods)
    for name, method in pairs:
        if isinstance(method, str):
            if method.lower() not in METHODS:
                raise unknown_name("method", method, METHODS)
            name, method = name or method.lower(), METHODS[method.lower()]
        if not isinstance(method, AbstractMethod):
            raise InputError(f"methods: {method!r} is none; give methods or their names, rk4 say.")
        found[name or type(method).__name__] = method
    if not found:
        raise InputError("methods is empty: give at least one method, or its name.")
    return found


def _windows(alike: Sequence[Alike]) -> dict[int, float]:
    """A scale for each panel, a round number: the family's own where the panel fits it."""

    def own(entry: Alike) -> float:
        middle = _middle(entry)
        left, right = entry.left / (1 - middle), entry.right / (1 + middle)
        # What the rays saw is short of the truth by up to the distance between two of them.
        wanted = (1.05 if entry.bounded else 1.25) * max(left, right, entry.top)
        scale = 2.0 ** math.ceil(math.log2(max(wanted, 0.05)))
        return 0.75 * scale if wanted <= 0.75 * scale else scale

    scales = {id(entry): own(entry) for entry in alike}
    shared: dict[tuple[str, bool], list[float]] = {}
    for entry in alike:
        shared.setdefault((entry.family, entry.bounded), []).append(scales[id(entry)])
    for entry in alike:
        alongside = sorted(shared[entry.family, entry.bounded])
        common = alongside[math.ceil(0.6 * len(alongside)) - 1]
        if common / 3 <= scales[id(entry)] < common:
            scales[id(entry)] = common
    return scales


def _middle(entry: Alike) -> float:
    """Real part of the middle of a panel, for a window of size one."""
    if entry.thin or not entry.bounded:
        return 0.0
    return -0.25 if entry.growth.parts else -0.5


def _draw_row(
    figure: "Figure",
    height: float,
    top: float,
    row: Sequence[Alike],
    lines: int,
    windows: dict[int, float],
    grid: int,
) -> None:
    wide = (PAGE - 0.16) / _COLUMNS
    for column, entry in enumerate(row):
        left = 0.08 + column * wide
        place = functools.partial(_text, figure, height, left + 0.02)
        if column == 0 or row[column - 1].family != entry.family:
            count = sum(other.family == entry.family for other in row)
            _bar(figure, height, left, top, count * wide - 0.04, entry.family)
        low = top + _BAR + 0.02
        for line in _lines(entry.names):
            low += _LETTERS
            place(low - 0.015, line, weight="bold")
        place(low + _LETTERS - 0.015, _summary(entry))
        low = top + _BAR + 0.04 + (lines + 1) * _LETTERS + 0.02
        box = (left + 0.22, height - low - _PLOT, wide - 0.3, _PLOT)
        axes = figure.add_axes((box[0] / PAGE, box[1] / height, box[2] / PAGE, box[3] / height))
        _draw_panel(axes, entry, windows[id(entry)], grid)


def _draw_panel(axes: "Axes", entry: Alike, window: float, grid: int) -> None:
    if entry.bounded and entry.left > 4 * entry.top and not entry.thin:
        # Long and thin: the two axes have scales of their own.
        x, y = (-1.08 * entry.left, 0.12 * entry.left), (-1.9 * entry.top, 1.3 * entry.top)
        axes.set_xticks([-float(f"{entry.left:.1g}"), 0.0])
        axes.set_yticks([-float(f"{entry.top:.1g}"), float(f"{entry.top:.1g}")])
        axes.text(0.04, 0.04, "stretched", transform=axes.transAxes, color=SOFT)
    else:
        middle = _middle(entry) * window
        x, y = (middle - window, middle + window), (-window, window)
        half = max(t for k in range(-3, 5) for t in (10.0**k, 2 * 10.0**k, 5 * 10.0**k)
                   if k == -3 or t <= 0.67 * window)  # fmt: skip
        far = -2 * half if -2 * half > x[0] else -half
        axes.set_xticks([far, 0.0] if middle else [-half, 0.0, half])
        axes.set_yticks([-half, half])
    axes.axhline(0, color=LINE, linewidth=0.5, zorder=2.5)
    axes.axvline(0, color=LINE, linewidth=0.5, zorder=2.5)
    if entry.thin:
        mark_segments(axes, entry.growth, window)
    else:
        fill_region(axes, entry.growth, x, y, grid)
    axes.set(xlim=x, ylim=y)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")


def _draw_star(axes: "Axes", method: AbstractMethod, reach: float, grid: int) -> None:
    line = np.linspace(-reach, reach, grid | 1)
    z = line + 1j * line[:, None]
    excess = np.ma.masked_invalid(Growth(method).size(z) - z.real)
    axes.contourf(line, line, excess, levels=[0.0, 200.0], colors=["#8fa3b8"])
    axes.contour(line, line, excess, levels=[0.0], colors=[INK], linewidths=0.6)
    axes.axhline(0, color=LINE, linewidth=0.5)
    axes.axvline(0, color=LINE, linewidth=0.5)
    for points, marker in zip(poles_and_zeros(method), ("x", "o"), strict=True):
        style: dict[str, Any] = {"markerfacecolor": "white"} if marker == "o" else {}
        axes.plot(np.real(points), np.imag(points), marker, color=INK, markersize=3.2, **style)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    half = float(f"{0.7 * reach:.1g}")
    axes.set_xticks([-half, 0.0, half])
    axes.set_yticks([-half, 0.0, half])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")


def poles_and_zeros(method: AbstractMethod) -> tuple[np.ndarray, np.ndarray]:
    """Return the poles and zeros of R of a Runge-Kutta method; none of another method.

    ``R(z) = det(I - z A + z 1 b^T) / det(I - z A)``: the inverses of the eigenvalues of A, and of
    A - 1 b^T.
    """
    tableau = getattr(method, "tableau", None)
    if tableau is None or not all(hasattr(tableau, name) for name in ("a", "b")):
        return np.empty(0, complex), np.empty(0, complex)
    a, b = (np.array([*v], np.float64) for v in (tableau.a, tableau.b))
    poles, zeros = (
        np.empty(0, complex) if tableau.explicit and k == 0 else _inverses(m)
        for k, m in enumerate((a, a - b))
    )
    # What is a pole and a zero is neither.
    apart = [np.abs(p - zeros).min(initial=np.inf) > 1e-4 for p in poles]
    return poles[np.array(apart, bool)], np.array(
        [z for z in zeros if np.abs(z - poles).min(initial=np.inf) > 1e-4], complex
    )


def _inverses(matrix: np.ndarray) -> np.ndarray:
    # An eigenvalue zero of multiplicity k comes out as large as a root of rounding.
    values = np.linalg.eigvals(matrix).astype(complex)
    return 1 / values[np.abs(values) > 1e-3]


def _summary(entry: Alike) -> str:
    method, low, high = entry.method, min(entry.orders), max(entry.orders)
    order = f"{low}" if low == high else f"{low}-{high}"
    return f"p {order}  r {_short(method.real_interval)}  s {_short(method.imaginary_interval)}"


def _short(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


def _lines(names: Sequence[str]) -> list[str]:
    """Names in lines that fit a panel, broken between names, or before a capital of a long one."""
    room = (PAGE - 0.16) / _COLUMNS - 0.14
    titles = merged(names)
    lines = [""]
    for title, comma in zip(titles, ["," for _ in titles[1:]] + [""], strict=True):
        words = [title + comma]
        if _width(words[0]) > room:
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words[0]).split()
        for number, word in enumerate(words):
            longer = lines[-1] + (" " if lines[-1] and number == 0 else "") + word
            if lines[-1] and _width(longer) > room:
                lines.append(word)
            else:
                lines[-1] = longer
    return lines


@functools.cache
def _width(text: str) -> float:
    """How wide bold letters of 7 points are, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight="bold")
    return TextPath((0, 0), text, size=7, prop=font).get_extents().width / 72


def _notes(alike: Sequence[Alike]) -> list[str]:
    """What the reader must know of the panels that are there."""
    notes = []
    if any(entry.thin for entry in alike):
        notes.append(
            "Thick lines: the step does not grow on parts of the axes only. Symplectic methods: on "
            "q'' = λ² q, an oscillation for imaginary λ."
        )
    if any(entry.growth.parts for entry in alike):
        notes.append(
            "IMEX, exponential, splitting: z is the part that is treated explicitly. Filled: "
            f"alone; dashed: with a linear part dt μ = {LINEAR:g}."
        )
    if any(entry.family == "Lie group" for entry in alike):
        notes.append("Lie group methods and Adaptive follow this equation exactly.")
    return notes


def _text(figure: "Figure", height: float, x: float, y: float, text: str, **style: Any) -> None:
    figure.text(x / PAGE, 1 - y / height, text, **style)


def _bar(figure: "Figure", height: float, x: float, y: float, width: float, text: str) -> None:
    from matplotlib.patches import Rectangle

    corner = (x / PAGE, 1 - (y + _BAR) / height)
    figure.add_artist(
        Rectangle(corner, width / PAGE, _BAR / height, facecolor="#e4e9ef", edgecolor="none")
    )
    _text(figure, height, x + 0.03, y + 0.115, text, color=INK)
