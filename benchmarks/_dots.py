"""Pictures of results: who is where, a dot for each, with the range of its seeds."""

from pathlib import Path
from typing import NamedTuple

from odernn.analysis._figure import LINE, PAGE, RED, SOFT, figure_into


class Dot(NamedTuple):
    """A result: the mean, and the lowest and highest of the seeds."""

    mean: float
    low: float
    high: float


def draw_panels(
    path: Path, panels: dict[str, dict[str, Dot]], ours: str, logarithmic: set[str]
) -> None:
    """A panel for each task, a line in it for each cell; ours in colour."""
    rows = -(-len(panels) // 3)
    with figure_into(path, PAGE, 0.2 + 1.1 * rows) as figure:
        places = figure.subplots(rows, 3, squeeze=False).ravel()
        for number, (axes, (title, dots)) in enumerate(zip(places, panels.items(), strict=False)):
            for row, (name, dot) in enumerate(dots.items()):
                colour = RED if name == ours else SOFT
                axes.plot([dot.low, dot.high], [row, row], color=colour, linewidth=0.8)
                marker = "D" if name == ours else "o"
                axes.plot([dot.mean], [row], color=colour, marker=marker, markersize=3.5)
            axes.set_title(title, loc="left")
            axes.set_yticks(range(len(dots)), list(dots) if number % 3 == 0 else [""] * len(dots))
            axes.set_ylim(len(dots) - 0.5, -0.5)
            axes.grid(axis="y", color=LINE, linewidth=0.3, alpha=0.5)
            if title in logarithmic:
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter("")
            else:
                axes.set_xlim(-0.03, 1.03)
        for axes in places[len(panels) :]:
            axes.remove()


def draw_rows(
    path: Path, rows: dict[str, dict[str, Dot]], ours: str, marks: dict[str, str], label: str
) -> None:
    """A line for each set, a mark in it for each way; ours in colour."""
    with figure_into(path, PAGE, 0.7 + 0.19 * len(rows)) as figure:
        axes = figure.subplots()
        for way, marker in marks.items():
            colour = RED if way == ours else SOFT
            own = [(row, dots[way]) for row, dots in enumerate(rows.values()) if way in dots]
            axes.hlines(
                [row for row, _ in own], [d.low for _, d in own], [d.high for _, d in own],
                color=colour, linewidth=0.8, zorder=2 + (way == ours),
            )  # fmt: skip
            axes.plot(
                [d.mean for _, d in own], [row for row, _ in own], marker, color=colour,
                markersize=4.5, markerfacecolor=RED if way == ours else "none",
                markeredgewidth=0.8, label=way, zorder=3 + (way == ours),
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", color=LINE, linewidth=0.3, alpha=0.5)
        axes.set_xlabel(label)
        figure.legend(loc="outside upper center", ncols=len(marks), frameon=False)
