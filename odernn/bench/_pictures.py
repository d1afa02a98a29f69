"""The pictures of a benchmark: the metric by cell, and against what it costs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis._figure import BLUE, GREEN, INK, LINE, PAGE, RED, SOFT, empty, figure_into
from ..tasks import Task
from ._store import OK, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vPX<>*ph"
_COLOURS = (BLUE, RED, GREEN, INK, SOFT)
_NAMES = {"accuracy": "test accuracy", "mse": "test mean squared error"}


def draw_metric(rows: Sequence[Row], tasks: Mapping[str, Task], path: Path) -> None:
    """One panel a task: a dot for each seed, a bar at the mean, a line for each cell.

    Arguments:
        rows: lines of results.csv.
        tasks: by their names in these lines.
        path: the .svg or .png file.
    """
    final = [row for row in rows if row["role"] == "final"]
    cells = list(dict.fromkeys(row["cell"] for row in final))
    names = list(dict.fromkeys(row["task"] for row in final))
    columns = min(2, len(names))
    down = -(-len(names) // columns)
    height = down * (0.55 + 0.17 * len(cells))
    with figure_into(path, PAGE, max(height, 1.2)) as figure:
        panels = figure.subplots(down, columns, squeeze=False)
        for place, axes in enumerate(panels.flat):
            if place >= len(names):
                axes.remove()
                continue
            found = [row for row in final if row["task"] == names[place]]
            _dots(axes, found, cells, tasks[names[place]], labels=place % columns == 0)


def _dots(axes: "Axes", rows: list[Row], cells: list[str], task: Task, *, labels: bool) -> None:
    axes.set_title(task.name, loc="left")
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.set_yticks(range(len(cells)), cells if labels else [""] * len(cells))
    axes.grid(axis="y", color=LINE, linewidth=0.3)
    if task.baseline is not None and task.baseline[0] > 0:
        axes.axvline(task.baseline[0], color=LINE, linestyle=":", linewidth=0.8)
    for height, cell in enumerate(cells):
        mine = [row for row in rows if row["cell"] == cell]
        values = [row["test_metric"] for row in mine if row["status"] == OK]
        axes.plot(values, [height] * len(values), "o", color=BLUE, markersize=3, alpha=0.6, mew=0)
        if values:
            middle = math.fsum(values) / len(values)
            axes.plot([middle], [height], "|", color=INK, markersize=8, markeredgewidth=1.2)
        lost = len(mine) - len(values)
        if lost:
            text = f"{lost} of {len(mine)} failed"
            axes.annotate(
                text, (1, height), xycoords=("axes fraction", "data"), xytext=(-2, 0),
                textcoords="offset points", ha="right", va="center", color=RED, zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
    found = [row["test_metric"] for row in rows if row["status"] == OK]
    if task.metric == "mse" and _wide(found):
        axes.set_xscale("log")
        _label(axes.xaxis, found)
    axes.set_xlabel(_NAMES[task.metric])
    axes.spines[["top", "right"]].set_visible(False)


def draw_cost(lines: Sequence[Row], tasks: Mapping[str, Task], path: Path) -> None:
    """Two panels a task: the mean metric against training time and against parameters.

    Arguments:
        lines: of summary.csv.
        tasks: by their names in these lines.
        path: the .svg or .png file.
    """
    cells = list(dict.fromkeys(line["cell"] for line in lines))
    names = list(dict.fromkeys(line["task"] for line in lines))
    legend = -(-len(cells) // 5)
    axis = {"training_ms": "training time of a sequence, ms", "parameters": "parameters"}
    with figure_into(path, PAGE, 0.3 + 0.15 * legend + 1.8 * len(names)) as figure:
        panels = figure.subplots(len(names), 2, squeeze=False)
        shown: dict[str, Any] = {}
        for row, name in zip(panels, names, strict=True):
            task = tasks[name]
            found = [
                line for line in lines if line["task"] == name and line["test_metric"] is not None
            ]
            for axes, (column, label) in zip(row, axis.items(), strict=True):
                for line in found:
                    shown[line["cell"]] = _point(axes, line, column, cells.index(line["cell"]))
                axes.set_xlabel(label)
                axes.spines[["top", "right"]].set_visible(False)
                if not found:
                    empty(axes, "all trainings failed")
                    continue
                costs = [line[column] for line in found]
                if _wide(costs):
                    axes.set_xscale("log")
                    _label(axes.xaxis, costs)
                else:
                    axes.set_xlim(0, 1.08 * max(costs))
                if task.baseline is not None and task.baseline[0] > 0:
                    axes.axhline(task.baseline[0], color=LINE, linestyle=":", linewidth=0.8)
                metrics = [line["test_metric"] for line in found]
                if task.metric == "mse" and _wide(metrics):
                    axes.set_yscale("log")
                    _label(axes.yaxis, metrics)
            row[0].set_title(name, loc="left")
            row[0].set_ylabel(_NAMES[task.metric])
        if shown:
            figure.legend(
                list(shown.values()), list(shown), frameon=False, ncols=5, handletextpad=0.3,
                loc="outside upper center",
            )  # fmt: skip


def _point(axes: "Axes", line: Row, column: str, index: int) -> Any:
    """A cell's mean, and a bar from its worst to its best seed."""
    mean = line["test_metric"]
    low, high = line["test_metric_min"], line["test_metric_max"]
    colour = _COLOURS[index % len(_COLOURS)]
    return axes.errorbar(
        [line[column]], [mean], [[max(mean - low, 0.0)], [max(high - mean, 0.0)]],
        fmt=_MARKERS[index % len(_MARKERS)], color=colour, markersize=4, elinewidth=0.6,
        markeredgewidth=0,
    )  # fmt: skip


def _wide(values: list[float]) -> bool:
    """Whether numbers differ so much that only a logarithmic scale shows them."""
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def _label(axis: Any, values: list[float]) -> None:
    """A logarithmic axis with few numbers: powers of ten, with 2 and 5 between if they are few."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    few = max(values) < 300 * min(values)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=12))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
