"""A design in words, as a table and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis._figure import BLUE, INK, LINE, PAGE, RED, SOFT, figure_into
from ._candidate import Candidate
from ._search import Design

if TYPE_CHECKING:
    from rich.table import Table

_NAMED = 8


def table(design: Design, most: int = 10) -> "Table":
    """The best candidates, a line each; a star marks those that no other one beats."""
    from rich.table import Table

    steps = design.requirements.steps
    found = Table(
        title=f"{len(design.candidates)} cells for {steps:,} steps", title_justify="left",
        title_style="bold",
    )  # fmt: skip
    found.add_column("cell", overflow="fold")
    for name in ("size", "n-t", "gradient", "recalls", "parameters", "work"):
        found.add_column(name, justify="right")
    found.add_column("initialised by", overflow="fold")
    for candidate in design.candidates[:most]:
        shape = candidate.kind.shape
        mark = "*" if candidate in design.front else ""
        found.add_row(
            candidate.name + mark,
            str(candidate.kind.size),
            f"{shape.n}-{shape.t}",
            f"{candidate.initial.gradient:.3g}",
            f"{candidate.memory:.1f}",
            f"{candidate.parameters:,}",
            f"{candidate.work:,}",
            candidate.initial.change or "nothing",
        )
    return found


def explained(candidate: Candidate) -> str:
    """A candidate's reasons, a line each."""
    title = f"{candidate.name}, {candidate.kind.size} {_units(candidate)}"
    return "\n".join([title, *(f"  {reason}" for reason in candidate.reasons())])


def _units(candidate: Candidate) -> str:
    from ..zoo._network import size_name

    name = size_name(candidate.kind.network.field)
    return "units" if name == "hidden_size" else name


def draw(design: Design, path: str | Path) -> None:
    """Draw the gradient at the horizon, what is recalled, parameters and work of all candidates.

    Raises:
        InputError: another suffix than .svg or .png.
    """
    steps = design.requirements.steps
    with figure_into(path, PAGE, 3.0) as figure:
        first, second = figure.subplots(1, 2)
        _scatter(first, design, "parameters", "parameters, read-out included")
        _scatter(second, design, "work", "work of a step (multiplications; a function counts as 8)")
        first.set_ylabel(f"input values recalled\nfrom {-(-steps // 2):,} to {steps:,} steps ago")
        handles, labels = first.get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=4)


def _scatter(axes: Any, design: Design, name: str, label: str) -> None:
    groups = (
        ("gradient at the horizon in [1/10, 10]", True, False, {"color": SOFT, "marker": "o"}),
        ("not beaten by any other", True, True, {"color": BLUE, "marker": "o"}),
        ("gradient outside", False, None, {"color": RED, "marker": "x"}),
    )
    for title, in_band, front, look in groups:
        some = [
            c
            for c in design.candidates
            if c.in_band == in_band and (front is None or (c in design.front) == front)
        ]
        axes.plot(
            [getattr(c, name) for c in some], [c.memory for c in some], linestyle="none",
            markersize=4, label=title, zorder=3, **look,
        )  # fmt: skip
    best = design.best
    axes.plot(getattr(best, name), best.memory, "o", markersize=8, markerfacecolor="none",
              color=INK, label="recommended")  # fmt: skip
    for candidate in design.candidates[:_NAMED]:
        axes.annotate(
            candidate.name, (getattr(candidate, name), candidate.memory), xytext=(4, 3),
            textcoords="offset points", fontsize=6, color=INK,
        )  # fmt: skip
    axes.set(xscale="log", xlabel=label)
    top = max((c.memory for c in design.candidates), default=1.0)
    axes.set_ylim(-0.03 * max(top, 1), 1.08 * max(top, 1))
    axes.axhline(0, color=LINE, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    values = np.array([getattr(c, name) for c in design.candidates], float)
    axes.set_xlim(values.min() / 1.5, values.max() * 2)
