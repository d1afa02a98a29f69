"""Does the first recommended design beat LSTM, GRU, coRNN and LEM at their defaults?

    python benchmarks/design.py [copy-100 ... pendulum-irregular] [--budget 240]

For each task all networks of the zoo are looked at, untrained. The first recommendation is left as
it is and trained beside the four others by `odernn.bench`: equal parameters, and equal time for
the search of a rate and five trainings. What is done is kept under --runs, and a second start goes
on; results/design.md is written of all tasks that are there.
"""

import argparse
import csv
import math
from pathlib import Path
from typing import Any

from _dots import Dot, draw_panels
from _machine import IMAGES, RESULTS, describe, store, stored, table
from rich.console import Console

from odernn import Requirements, design, tasks
from odernn.bench import Plan, bench
from odernn.zoo import CELLS

TASKS = (
    *("copy-100", "copy-200", "copy-400"),
    *("fhn-250-irregular", "lorenz-irregular", "pendulum-irregular"),
)
DEFAULTS = ("lstm", "gru", "cornn", "lem")
ROWS = RESULTS / "design.csv"
COLUMNS = (
    *("task", "cell", "network", "metric", "test_metric", "test_metric_std", "test_metric_min"),
    *("test_metric_max", "test_loss", "test_loss_std", "trained", "failed", "learning_rate"),
    *("parameters", "size", "updates", "training_ms", "seconds", "budget"),
)
PARTS = ("", "_min", "_max")


def recommended(name: str, parameters: int, folder: Path) -> tuple[Path, str]:
    """The configuration of the first design for a task, and its name; found once."""
    path, reasons = folder / "design.toml", folder / "design.txt"
    if not path.exists():
        task = tasks.get(name)
        with Console(stderr=True).status(name) as status:
            found = design(
                Requirements.of_task(task, parameters=parameters),
                task=task,
                progress=lambda cell, done, many: status.update(f"{name}: {done} of {many}"),
            )
        lines = [f"{c.name}: {'; '.join(c.reasons())}" for c in found.candidates[:20]]
        reasons.write_text("\n".join(lines) + "\n", encoding="utf-8")
        path.write_text(found.best.config(task=name).to_toml(), encoding="utf-8")
    return path, reasons.read_text(encoding="utf-8").split(":", 1)[0]


def compared(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train the design and the defaults on a task; a line for each cell."""
    folder = options.runs / name
    folder.mkdir(parents=True, exist_ok=True)
    path, network = recommended(name, options.parameters, folder)
    plan = Plan(
        tasks=(name,),
        cells=(str(path), *DEFAULTS),
        seeds=options.seeds,
        budget=options.budget,
        parameters=options.parameters,
        trials=3,
        out=folder / "bench",
    )
    found = bench(plan, console=Console(stderr=True)).summary
    return [
        {"network": network if r["cell"] == "design" else r["cell"], "budget": options.budget} | r
        for r in found
    ]


def keep(name: str, rows: list[dict[str, Any]]) -> None:
    """Put the lines of a task in the place of those that are there."""
    others = [row for row in stored(ROWS) if row["task"] != name]
    with ROWS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(others + rows)


def report() -> None:
    """Write the table and draw the picture of all lines."""
    rows, lines, panels, errors = stored(ROWS), [], {}, set()
    for name in [n for n in TASKS if any(r["task"] == n for r in rows)]:
        mine = {r["cell"]: r for r in rows if r["task"] == name}
        title = f"{name}, {mine['design']['metric']}"
        panels[title] = {
            CELLS[cell].name if cell in CELLS else cell: Dot(
                *(float(row[f"test_metric{part}"]) for part in PARTS)
            )
            for cell in ("design", *DEFAULTS)
            if (row := mine[cell])["test_metric"]
        }
        if mine["design"]["metric"] != "accuracy":
            errors.add(title)
        own = mine["design"]
        results = [_result(mine[cell]) for cell in ("design", *DEFAULTS)]
        budget = f"{float(own['budget']):g} s"
        lines.append([name, own["metric"], budget, own["network"], *results, str(_place(mine))])
    header = ["task", "metric", "time", "design", "its result", *DEFAULTS, "place of the design"]
    seeds = ", ".join(sorted({row["trained"] for row in rows}))
    most = max(int(row["parameters"]) for row in rows)
    text = f"{describe('jax', 'odernn')}\n\nTest part, mean and standard deviation over {seeds} "
    text += f"seeds, at most {most:,} parameters. The time of one core is for each cell on each "
    text += "task: three rates with one seed, then the trainings.\n"
    draw_panels(IMAGES / "design-benchmark.svg", panels, "design", errors)
    store("design", f"{text}\n{table(header, lines)}")


def _result(row: dict[str, Any]) -> str:
    if not row["test_metric"]:
        return "failed"
    return f"{float(row['test_metric']):.3g} ± {float(row['test_metric_std'] or 0):.2g}"


def _place(rows: dict[str, dict[str, Any]]) -> int:
    """Of the design, 1 for the best; what failed comes last."""
    sign = -1 if rows["design"]["metric"] == "accuracy" else 1

    def order(cell: str) -> float:
        value = rows[cell]["test_metric"]
        return sign * float(value) if value else math.inf

    return 1 + sum(order(cell) < order("design") for cell in DEFAULTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("tasks", nargs="*", default=TASKS, metavar="TASK")
    parser.add_argument("--parameters", type=int, default=3000)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds for a cell on a task")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs/design"))
    parser.add_argument("--draw", action="store_true", help="picture and table of what is there")
    options = parser.parse_args()
    for name in () if options.draw else options.tasks:
        keep(name, compared(name, options))
    report()


if __name__ == "__main__":
    main()
