"""A design in words, as a table and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis._figure import BLUE, GREEN, INK, LINE, PAGE, RED, SHADE, SOFT, figure_into
from ..zoo._network import size_name
from ._candidate import Candidate
from ._search import Design

if TYPE_CHECKING:
    from rich.table import Table

_LINES, _NAMED = 5, 10
"""Candidates with a line, and with a name."""


def table(design: Design, most: int = 10) -> "Table":
    """The best candidates, a line each; a star marks those that no other one beats."""
    from rich.table import Table

    steps = design.requirements.steps
    found = Table(
        title=f"{len(design.candidates)} cells for {steps:,} steps", title_justify="left",
        title_style="bold",
    )  # fmt: skip
    found.add_column("cell", overflow="fold")
    data = any(candidate.explained is not None for candidate in design.candidates)
    told = ("explains",) if data else ()
    for name in ("size", "n-t", "gradient", *told, "recalls", "parameters", "work"):
        found.add_column(name, justify="right")
    for candidate in design.candidates[:most]:
        shape = candidate.kind.shape
        mark = "*" if candidate in design.front else ""
        found.add_row(
            candidate.name + mark,
            str(candidate.kind.size),
            f"{shape.n}-{shape.t}",
            f"{candidate.initial.gradient:.3g}",
            *([f"{100 * (candidate.explained or 0):.1f} %"] if data else []),
            f"{candidate.memory:.1f}",
            f"{candidate.parameters:,}",
            f"{candidate.work:,}",
        )
    return found


def explained(candidate: Candidate) -> str:
    """A candidate's reasons, a line each."""
    title = f"{candidate.name}, {candidate.kind.size} {_units(candidate)}"
    return "\n".join([title, *(f"  {reason}" for reason in candidate.reasons())])


def _units(candidate: Candidate) -> str:
    name = size_name(candidate.kind.network.field)
    return "units" if name == "hidden_size" else name


def draw(design: Design, path: str | Path) -> None:
    """Draw what the first candidates recall at each lag, and all candidates against their work.

    Raises:
        InputError: another suffix than .svg or .png.
    """
    with figure_into(path, PAGE, 2.6) as figure:
        first, second = figure.subplots(1, 2)
        _draw_memory(first, design)
        _draw_costs(second, design)
        for axes in (first, second):
            axes.spines[["top", "right"]].set_visible(False)


def _draw_memory(axes: Any, design: Design) -> None:
    steps = design.requirements.steps
    for number, candidate in enumerate(design.candidates[:_LINES]):
        axes.plot(
            candidate.recall.lags, np.clip(candidate.recall.share, 0, 1), label=candidate.name,
            color=(INK, BLUE, RED, SOFT, GREEN)[number], linestyle="-" if number < 3 else "--",
        )  # fmt: skip
    axes.axvspan(max(steps / 2, 1), steps, color=SHADE, alpha=0.4, linewidth=0)
    axes.set(xscale="log", ylim=(-0.02, 1.05), xlabel="lag (input steps)")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("share of a signal that is recalled")
    axes.legend(frameon=False, loc="upper right")


def _draw_costs(axes: Any, design: Design) -> None:
    """What is recalled against work, areas by parameters; names where there is room."""
    most = max(c.parameters for c in design.candidates)
    top = max(1.0, *(c.memory for c in design.candidates))
    for front, colour, label in ((False, LINE, "other"), (True, BLUE, "no other is better in all")):
        some = [c for c in design.candidates if (c in design.front) == front]
        axes.scatter(
            [c.work for c in some], [c.memory for c in some],
            s=[4 + 26 * c.parameters / most for c in some],
            c=[colour if c.in_band else RED for c in some], label=label, linewidth=0, zorder=3,
        )  # fmt: skip
    named: list[Candidate] = []
    for candidate in design.candidates:
        near = any(
            abs(c.memory - candidate.memory) < 0.06 * top and 0.4 < c.work / candidate.work < 2.5
            for c in named
        )
        if not near and len(named) < _NAMED:
            named.append(candidate)
            axes.annotate(
                candidate.name, (candidate.work, candidate.memory), xytext=(4, 2.5),
                textcoords="offset points", fontsize=6, color=INK,
            )  # fmt: skip
    work = [c.work for c in design.candidates]
    axes.set(xscale="log", xlim=(min(work) / 1.6, max(work) * 3), ylim=(-0.04 * top, 1.1 * top))
    axes.set_xlabel("work of a step (multiplications; a function counts as 8)")
    steps = design.requirements.steps
    axes.set_ylabel(f"values recalled, {-(-steps // 2):,} to {steps:,} steps ago")
    axes.legend(frameon=False, loc="upper right")
