"""What a benchmark leaves beside its lines: summary.csv, results.md and pictures."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from .._files import write_file
from .._results import RunFailed
from ..tasks import Task
from ._machine import describe
from ._pictures import draw_cost, draw_metric
from ._plan import Plan
from ._store import OK, RESULTS, Row
from ._summary import COLUMNS, summary

_WHAT = """\
Mean ± standard deviation over the seeds, of the test part; best mean first. Rate: the learning \
rate that validation chose, † at the edge of those tried, where a better one may lie beyond. \
Updates: gradient steps of each training. Time: of one sequence, of a batch in training, of the \
test part in inference, compilation not included. Memory: of the compiled gradient step with its \
batch, states and weights, as the compiler counts it; not that of the process.
"""


def write_report(
    plan: Plan, folder: Path, rows: Sequence[Row], tasks: Sequence[Task], *, pictures: bool
) -> None:
    """Write the tables, and perhaps the pictures, of all lines that are there.

    Raises:
        RunFailed: they cannot be written.
    """
    lines = summary(rows)
    known = {task.name: task for task in tasks}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines
    )
    try:
        write_file(folder / "summary.csv", text.getvalue().encode())
        write_file(folder / "results.md", _markdown(plan, rows, lines, known).encode())
        for kind in ("svg", "png") if pictures else ():
            draw_metric(rows, known, folder / f"metric.{kind}")
            draw_cost(lines, known, folder / f"cost.{kind}")
    except OSError as error:
        raise RunFailed(f"cannot write to {folder}: {error.strerror}.") from error


def table(lines: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table of one task, the best mean first."""
    metric = lines[0]["metric"]
    header = [
        *("cell", metric, "loss", "rate", "parameters", "size", "updates"),
        *("training, ms", "inference, ms", "memory, MB", "failed"),
    ]
    sign = -1 if metric == "accuracy" else 1

    def rank(line: Row) -> float:
        return float("inf") if line["test_metric"] is None else sign * line["test_metric"]

    return header, [
        [
            line["cell"],
            _spread(line, "test_metric"),
            _spread(line, "test_loss"),
            _number(line["learning_rate"]) + (" †" if line["rate_at_edge"] else ""),
            f"{line['parameters']:,}",
            str(line["size"]),
            "-" if line["updates"] is None else f"{line['updates']:,}",
            *(_number(line[k]) for k in ("training_ms", "inference_ms", "memory_mb")),
            f"{line['failed']} of {line['failed'] + line['trained']}" if line["failed"] else "",
        ]
        for line in sorted(lines, key=rank)
    ]


def by_task(lines: Sequence[Row]) -> dict[str, list[Row]]:
    """The lines of each task."""
    found: dict[str, list[Row]] = {}
    for line in lines:
        found.setdefault(line["task"], []).append(line)
    return found


def _markdown(plan: Plan, rows: Sequence[Row], lines: Sequence[Row], tasks: dict[str, Task]) -> str:
    rates = ", ".join(f"{rate:g}" for rate in plan.rates)
    budget = (
        f"{plan.share * plan.trainings:g} s of training and validation for each cell on each task, "
        f"{plan.share:.3g} s a training, turned into updates by timing {plan.every} of them"
        if plan.updates is None
        else f"{plan.updates} updates a training, in rounds of at most {plan.every}"
    )
    about = describe()
    commits = sorted({row["commit"] for row in rows if row["commit"]})
    about |= {"commit": ", ".join(commits)} if commits else {}
    about |= {
        "budget": budget,
        "learning rates": f"{rates}; seed 0, chosen by the validation metric",
        "final trainings": f"{plan.seeds}, with seeds 1 to {plan.seeds}",
        "parameters": f"the largest size of at most {plan.parameters:,}",
        "batch": f"{plan.batch_size} sequences, the same for all cells",
        "stopping": f"after {plan.patience} validations without a better one"
        if plan.patience
        else "never before the end; the weights of the best validation are tested",
    }
    parts = ["# Benchmark", "\n".join(f"- {name}: {text}" for name, text in about.items())]
    for name, found in by_task(lines).items():
        header, cells = table(found)
        parts += [f"## {name}", _guess(tasks[name]), _table(header, cells)]
        failed = [row for row in rows if row["task"] == name and row["status"] != OK]
        if failed:
            parts.append("\n".join(_failure(row) for row in failed))
    parts += [_WHAT.rstrip(), f"All trainings: [{RESULTS}]({RESULTS})."]
    parts.append("![Metric by cell, a dot a seed](metric.svg)")
    parts.append("![Metric against time and parameters](cost.svg)")
    return "\n\n".join(part for part in parts if part) + "\n"


def _guess(task: Task) -> str:
    if task.baseline is None:
        return ""
    value, name = task.baseline
    return f"For comparison, {name}: {task.metric} {value:.4g}."


def _failure(row: Row) -> str:
    rate = "" if row["learning_rate"] is None else f", rate {row['learning_rate']:g}"
    return f"- {row['cell']}, {row['role']}{rate}, seed {row['seed']}: {row['status']}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spread(line: Row, name: str) -> str:
    if line[name] is None:
        return "-"
    std = line[f"{name}_std"]
    return f"{line[name]:.4g}" + ("" if std is None else f" ± {std:.2g}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
