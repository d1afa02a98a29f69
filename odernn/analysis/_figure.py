"""What the figures share: letters, colours that also differ in grey, and how a file is written."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._files import write_file
from .._results import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE, SHADE = "#1f2933", "#52606d", "#9aa5b1", "#c9d6e4"
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
"""Of Okabe and Ito's colours; lines differ in style, too."""
COLUMN, PAGE = 3.4, 7.0
"""Widths in inches: one column of a paper, and both."""
DECADES = 250.0
"""Powers of ten beyond which a number is drawn at the edge."""
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "odernn",
    "svg.fonttype": "path",
    "font.family": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.pad": 1.5,
    "ytick.major.pad": 1.5,
    "axes.labelpad": 2,
    "axes.titlepad": 3,
    "axes.unicode_minus": True,
    "lines.linewidth": 1,
    "path.simplify": True,
}


@contextlib.contextmanager
def figure_into(
    path: str | Path, width: float, height: float, layout: Any = "constrained"
) -> Iterator["Figure"]:
    """A white figure of so many inches that is written into an .svg or .png file at the end.

    The same drawing is the same file, and the file is replaced in one step. Raises ``InputError``
    for another suffix, before anything is drawn.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise InputError(f"path = {path}: this is a picture; name an .svg or a .png file.")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        # The object-oriented interface: pyplot would choose a back-end globally.
        figure = Figure(figsize=(width, height), facecolor="white", layout=layout)
        FigureCanvasAgg(figure)
        yield figure
        saved = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(saved, dpi=900 / COLUMN, format=kind, metadata=metadata)
    data = saved.getvalue()
    # Lengths of one or more need no more than two decimals: much of the file.
    write_file(path, re.sub(rb"([1-9]\d*\.\d\d)\d+", rb"\1", data) if kind == "svg" else data)


def powers(exponents: np.ndarray) -> np.ndarray:
    """Return powers of ten that a logarithmic axis can show; NaN stays."""
    return 10.0 ** np.clip(exponents, -DECADES, DECADES)


def decades(axes: "Axes", low: float, high: float) -> None:
    """Make the vertical axis logarithmic from 10^low to 10^high, with few ticks."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0**high)
    first, last = int(np.ceil(low - 1e-9)), int(np.floor(high + 1e-9))
    apart = max(1, -(-(last - first) // 4))
    ticks = np.arange(apart * -(-first // apart), last + 1, apart)
    axes.yaxis.set_major_locator(FixedLocator([10.0**k for k in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())


def note(axes: "Axes", text: str, where: str = "low right") -> None:
    """Write into a panel, on white: in a corner, "low left" say, or in the "middle"."""
    x, y, across, up = {
        "low left": (0.03, 0.03, "left", "bottom"),
        "low right": (0.97, 0.03, "right", "bottom"),
        "top right": (0.97, 0.97, "right", "top"),
        "middle": (0.5, 0.5, "center", "center"),
    }[where]
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    style: dict[str, Any] = {"ha": across, "va": up, "bbox": box, "zorder": 5}
    axes.text(x, y, text.replace("-", "\u2212"), transform=axes.transAxes, **style)


def empty(axes: "Axes", text: str) -> None:
    """Say why a panel has nothing to show."""
    note(axes, text, "middle")
    axes.set_xticks([])
    axes.set_yticks([])
