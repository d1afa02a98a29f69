"""The periodic table of recurrent networks as a picture."""

import functools
import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .._files import write_file
from .._results import InputError
from ._table import (
    ABOUT_N,
    ABOUT_T,
    CERTIFICATES,
    FAMILIES,
    Layout,
    Tile,
    layout_of,
    periodic_table,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 900.0
"""Width of the picture; all lengths are pixels of a picture that wide."""
_SHAPE = 0.94
"""Height of a tile for its width."""
_MARGIN, _SIDE, _GAP, _INNER, _TOP, _FOOT = 16.0, 42.0, 7.0, 3.5, 108.0, 164.0
_INK, _SOFT, _LINE, _PANEL, _PLAIN = "#1f2933", "#616e7c", "#cbd2d9", "#f3f5f8", "#ffffff"
_CAPTIONS = {
    "n = 0": "affine in the state",
    "n = 1": "one nonlinearity in a step",
    "n = 2": "two, nested",
    "n = 3": "three",
    "n = 4": "four",
    "n ≥ 4": "four or more",
}


def draw_table(path: str | Path, tiles: Sequence[Tile] | None = None) -> None:
    """Draw the table, of the whole zoo by default, as a picture: an .svg or .png file.

    Raises ``InputError`` for another suffix.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise InputError(f"path = {path}: the table is a picture; name an .svg or a .png file.")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tiles = periodic_table() if tiles is None else tiles
    layout = layout_of(tiles)
    sheet = _sheet(layout)
    style: Any = {"svg.hashsalt": "odernn", "svg.fonttype": "path", "font.family": ["DejaVu Sans"]}
    with matplotlib.rc_context(style):
        # The object-oriented interface: pyplot would choose a back-end globally.
        figure = Figure(figsize=(_WIDTH / 100, sheet.height / 100), facecolor=_PLAIN)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, _WIDTH), ylim=(sheet.height, 0))
        axes.set_axis_off()
        _draw_frame(axes, sheet, layout)
        for row, groups in zip(sheet.rows, layout.groups, strict=True):
            for column, group in zip(sheet.columns, groups, strict=True):
                _draw_group(axes, sheet, row, column, group)
        _draw_legend(axes, sheet, tiles)
        saved = io.BytesIO()
        # The same table is the same file: no date in it.
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(saved, dpi=200, format=kind, metadata=metadata)
    data = saved.getvalue()
    # Lengths of one or more need no more than two decimals: a quarter of the file.
    write_file(path, re.sub(rb"([1-9]\d*\.\d\d)\d+", rb"\1", data) if kind == "svg" else data)


class Sheet(NamedTuple):
    """Where things are on the picture."""

    tile: float
    tall: float
    columns: list[tuple[float, int]]  # left edge, tiles side by side
    rows: list[tuple[float, int]]  # top edge, tiles one below the other
    height: float

    def span(self, count: int) -> float:
        """Width of so many tiles side by side."""
        return count * (self.tile + _INNER) + _INNER

    def rise(self, count: int) -> float:
        """Height of so many tiles one below the other."""
        return count * (self.tall + _INNER) + _INNER


def _sheet(layout: Layout) -> Sheet:
    """Put so many tiles side by side that the picture is not much higher than wide."""
    columns, counts = len(layout.columns), [[len(g) for g in row] for row in layout.groups]
    for total in range(max(9, columns), max(12, columns + 1)):
        widths, depths = _packed(counts, total)
        room = _WIDTH - 2 * _MARGIN - _SIDE - (columns - 1) * _GAP - columns * _INNER
        tile = room / total - _INNER
        tall = _SHAPE * tile
        height = _TOP + _FOOT + sum(n * (tall + _INNER) + _INNER + _GAP for n in depths)
        if height < _WIDTH:
            break
    sheet = Sheet(tile, tall, [], [], height)
    left, top = _MARGIN + _SIDE, _TOP
    for width in widths:
        sheet.columns.append((left, width))
        left += sheet.span(width) + _GAP
    for depth in depths:
        sheet.rows.append((top, depth))
        top += sheet.rise(depth) + _GAP
    return sheet


def _packed(counts: list[list[int]], total: int) -> tuple[tuple[int, ...], list[int]]:
    """Tiles side by side in each column, ``total`` in all, and one below the other in each row."""

    def used(widths: tuple[int, ...]) -> list[list[int]]:
        return [[-(-n // w) for n, w in zip(row, widths, strict=True)] for row in counts]

    def cost(widths: tuple[int, ...]) -> tuple[int, int, int]:
        """How high it is, how much of that is used, how unevenly empty space is spread."""
        lines = used(widths)
        widest = map(max, zip(*counts, strict=True))
        spare = (max(0, w - n) for w, n in zip(widths, widest, strict=True))
        return (
            sum(max(1, *row, 0) for row in lines),
            sum(map(sum, lines)),
            sum(n * n for n in spare),
        )

    splits = itertools.combinations(range(1, total), len(counts[0]) - 1)
    options = (tuple(b - a for a, b in itertools.pairwise((0, *cuts, total))) for cuts in splits)
    widths = min(options, key=cost)
    return widths, [max(1, *row, 0) for row in used(widths)]


def _draw_frame(axes: "Axes", sheet: Sheet, layout: Layout) -> None:
    """The title, and what the columns and the rows are."""
    _box(axes, 5, 5, _WIDTH - 10, sheet.height - 10, _PLAIN, edge=_LINE, radius=10)
    _write(axes, _MARGIN + 6, 36, "The periodic table of recurrent networks", 20, weight="bold")
    count = f"{sum(len(group) for row in layout.groups for group in row)} networks"
    _write(axes, _WIDTH - _MARGIN - 6, 36, count, 13, _SOFT, at="right")
    text = f"A network is a field, a method and a step size.  {ABOUT_N}  {ABOUT_T}"
    _write(axes, _MARGIN + 6, 57, text, 9.5, _SOFT, width=_WIDTH - 2 * _MARGIN - 12)
    for title, (left, count) in zip(layout.columns, sheet.columns, strict=True):
        width, middle = sheet.span(count), left + sheet.span(count) / 2
        _write(axes, middle, _TOP - 19, title, 13, weight="bold", at="center")
        text = _CAPTIONS.get(title, "")
        _write(axes, middle, _TOP - 7, text, 8, _SOFT, at="center", width=width)
    for title, (top, count) in zip(layout.rows, sheet.rows, strict=True):
        middle = top + sheet.rise(count) / 2
        _write(axes, _MARGIN + _SIDE - 8, middle + 4, title, 13, weight="bold", at="right")


def _draw_group(
    axes: "Axes",
    sheet: Sheet,
    row: tuple[float, int],
    column: tuple[float, int],
    tiles: Sequence[Tile],
) -> None:
    (top, down), (left, across) = row, column
    _box(axes, left, top, sheet.span(across), sheet.rise(down), _PANEL, radius=7)
    for place, tile in enumerate(tiles):
        x = left + _INNER + place % across * (sheet.tile + _INNER)
        y = top + _INNER + place // across * (sheet.tall + _INNER)
        _draw_tile(axes, x, y, sheet.tile, tile)


def _draw_tile(axes: "Axes", x: float, y: float, wide: float, tile: Tile) -> None:
    unit, tall = wide / 66, _SHAPE * wide
    colour, fill = FAMILIES[tile.family], CERTIFICATES.get(tile.certificate or "", _PLAIN)
    corner, bar = 4 * unit, 3.6 * unit
    _box(axes, x, y, wide, tall, colour, radius=corner)
    _box(axes, x + bar, y, wide - bar, tall, fill, radius=corner, left=0.0)
    _box(axes, x, y, wide, tall, "none", edge=_LINE, radius=corner)
    inner, middle = wide - bar - 4 * unit, x + (wide + bar) / 2
    top, size = y + 8.2 * unit, 5.6 * unit
    _write(axes, x + bar + 2.5 * unit, top, f"{tile.n}-{tile.t}", size, colour, weight="bold")
    _write(axes, x + wide - 2.8 * unit, top, str(tile.year), size, _SOFT, at="right")
    lines, large = _fitted(tile.name, inner, 11 * unit, 21 * unit)
    first = y + 24 * unit + (0.37 - 0.53 * (len(lines) - 1)) * large
    for number, line in enumerate(lines):
        place = first + 1.06 * large * number
        _write(axes, middle, place, line, large, weight="bold", at="center")
    step = f"dt = {tile.dt:g}{', implicit' if tile.implicit else ''}"
    details = ((tile.method, _SOFT), (step, _SOFT), (tile.parameters, _INK))
    for number, (text, ink) in enumerate(reversed(details)):
        low = y + tall - (4.2 + 7.2 * number) * unit
        _write(axes, middle, low, text, 5.8 * unit, ink, at="center", width=inner)


def _draw_legend(axes: "Axes", sheet: Sheet, tiles: Sequence[Tile]) -> None:
    """What the parts and the colours of a tile mean."""
    top, left = sheet.height - _FOOT + 14, _MARGIN + _SIDE
    example = next((tile for tile in tiles if tile.name == "LSTM"), tiles[0])
    wide, unit = 112.0, 112 / 66
    _draw_tile(axes, left, top + 14, wide, example)
    _heading(axes, left, top, "A tile")
    low = top + 14 + _SHAPE * wide
    notes = (
        (top + 14 + 8.2 * unit, "class n-t; year of the paper"),
        (top + 14 + 25 * unit, "name, as in odernn.zoo"),
        (low - 18.6 * unit, "method that integrates the field"),
        (low - 11.4 * unit, "step size, in steps of the input"),
        (low - 4.2 * unit, "parameters, h hidden units, i inputs (* h = 64, i = 1)"),
    )
    for y, text in notes:
        axes.plot((left + wide + 3, left + wide + 12), (y - 3, y - 3), color=_LINE, linewidth=0.7)
        _write(axes, left + wide + 16, y, text, 8.5)
    left += 332
    _heading(axes, left, top, "Edge: the field")
    found = [family for family in FAMILIES if any(tile.family == family for tile in tiles)]
    for number, family in enumerate(found):
        x, y = left + 140 * (number // 4), top + 26 + 18 * (number % 4)
        _box(axes, x, y - 9, 4, 12, FAMILIES[family], radius=1.5)
        _write(axes, x + 10, y, family, 8.5)
    left += 290
    kinds = [kind for kind in CERTIFICATES if any(tile.certificate == kind for tile in tiles)]
    fills = [(kind, CERTIFICATES[kind]) for kind in kinds]
    if not fills:
        return
    if any(tile.certificate is None for tile in tiles):
        fills.append(("not examined", _PLAIN))
    _heading(axes, left, top, "Fill: what is certified of a step")
    for number, (kind, fill) in enumerate(fills):
        y = top + 26 + 18 * number
        _box(axes, left, y - 9, 15, 12, fill, edge=_LINE, radius=2)
        _write(axes, left + 20, y, kind, 8.5)


def _heading(axes: "Axes", x: float, y: float, text: str) -> None:
    _write(axes, x, y + 4, text, 9.5, weight="bold")


# --- drawing -----------------------------------------------------------------------------------


def _box(
    axes: "Axes",
    x: float,
    y: float,
    width: float,
    height: float,
    fill: str,
    *,
    edge: str = "none",
    radius: float,
    left: float | None = None,
) -> None:
    """A rectangle with round corners, those on the left with a radius of their own."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    r, s = radius, radius if left is None else left
    right, low = x + width, y + height
    corners = (
        ((right - r, y), (right, y), (right, y + r)),
        ((right, low - r), (right, low), (right - r, low)),
        ((x + s, low), (x, low), (x, low - s)),
        ((x, y + s), (x, y), (x + s, y)),
    )
    codes = [Outline.MOVETO, *(Outline.LINETO, Outline.CURVE3, Outline.CURVE3) * 4]
    outline = Outline([(x + s, y), *(point for corner in corners for point in corner)], codes)
    axes.add_patch(PathPatch(outline, facecolor=fill, edgecolor=edge, linewidth=0.5, clip_on=False))


def _write(
    axes: "Axes",
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str = _INK,
    *,
    weight: str = "normal",
    at: str = "left",
    width: float | None = None,
) -> None:
    """Write text on a base line; ``size`` in pixels, less where ``width`` is not enough."""
    if width is not None and text:
        size = min(size, width / _length(text, weight))
    style: Any = {"ha": at, "va": "baseline", "color": colour, "weight": weight}
    axes.text(x, y, text, fontsize=0.72 * size, **style)


@functools.cache
def _length(text: str, weight: str) -> float:
    """How long a text of size one is."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight=weight)
    return TextPath((0, 0), text, size=100, prop=font).get_extents().width / 100


_WORD = re.compile(
    r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[A-Z])(?=[A-Z][a-z])"
    r"|(?<=[a-z])(?<!u)(?=(RNN|LSTM|GRU)$)|(?<=[a-z])(?=uRNN$)"
)
"""Where a new word begins in a name."""


def _fitted(name: str, width: float, size: float, height: float) -> tuple[list[str], float]:
    """Lines for a name, broken where it begins a new word, and the largest size that fits."""
    places = [found.start() for found in _WORD.finditer(name)]
    options = []
    for count in range(3):
        for cuts in itertools.combinations(places, count):
            edges = (0, *cuts, len(name))
            options.append([name[a:b] for a, b in itertools.pairwise(edges)])

    def fits(lines: list[str]) -> float:
        widest = max(_length(line, "bold") for line in lines)
        # Some space at the sides, unless the letters would be too small.
        best = min(max(0.93 * width / widest, 0.7 * size), width / widest)
        return min(size, best, height / (1.06 * len(lines) - 0.2))

    def merit(lines: list[str]) -> tuple[bool, float]:
        # Letters that can be read, then fewer lines where they are nearly as large.
        return fits(lines) >= 0.63 * size, fits(lines) - 0.06 * size * len(lines)

    best = max(options, key=merit)
    return best, fits(best)
