"""Many trainings as few numbers: the best rate of a search, mean and spread over the seeds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ._store import OK, Row

COLUMNS = (
    *("task", "cell", "metric", "trained", "failed", "test_metric", "test_metric_std"),
    *("test_metric_min", "test_metric_max", "test_loss", "test_loss_std", "learning_rate"),
    *("rate_at_edge", "parameters", "size", "updates", "training_ms", "inference_ms"),
    *("memory_mb", "seconds"),
)
"""Columns of summary.csv."""


@dataclass(frozen=True)
class BenchResult:
    """What a benchmark found.

    Arguments:
        folder: where it is kept.
        rows: a dict for each training, with the columns of results.csv; None where there is
            nothing.
        summary: a dict for each cell on each task, with the columns of summary.csv.
    """

    folder: Path
    rows: tuple[Row, ...]
    summary: tuple[Row, ...]


def better(row: Row) -> tuple[float, float]:
    """What is smaller for the better training in validation."""
    sign = -1 if row["metric"] == "accuracy" else 1
    return sign * row["validation_metric"], row["validation_loss"]


def best_rate(search: Iterable[Row], rates: Sequence[float]) -> float | None:
    """The rate with the best validation metric, of equals that with the lower loss.

    Without a search it is the only rate; None if no training succeeded.
    """
    if len(rates) == 1:
        return rates[0]
    trained = [row for row in search if row["status"] == OK]
    return min(trained, key=better)["learning_rate"] if trained else None


def summary(rows: Sequence[Row]) -> list[Row]:
    """A line for each cell on each task, in the order in which they were trained."""
    pairs = dict.fromkeys((row["task"], row["cell"]) for row in rows if row["role"] == "final")
    return [_summed([row for row in rows if (row["task"], row["cell"]) == pair]) for pair in pairs]


def _summed(rows: list[Row]) -> Row:
    final = [row for row in rows if row["role"] == "final"]
    trained = [row for row in final if row["status"] == OK]
    tried = [row["learning_rate"] for row in rows if row["role"] == "search"]
    rate = final[0]["learning_rate"]
    found: Row = {
        **{name: final[0][name] for name in ("task", "cell", "metric", "parameters", "size")},
        "learning_rate": rate,
        "rate_at_edge": bool(tried) and rate in (min(tried), max(tried)),
        "trained": len(trained),
        "failed": len(final) - len(trained),
    }
    for name in ("test_metric", "test_loss"):
        values = np.array([row[name] for row in trained])
        found[name] = float(values.mean()) if len(values) else None
        found[f"{name}_std"] = float(values.std(ddof=1)) if len(values) > 1 else None
    values = [row["test_metric"] for row in trained]
    found["test_metric_min"] = min(values, default=None)
    found["test_metric_max"] = max(values, default=None)
    for name in ("updates", "training_ms", "inference_ms", "memory_mb"):
        numbers = [row[name] for row in trained if row[name] is not None]
        middle = float(np.median(numbers)) if numbers else None
        found[name] = round(middle) if name == "updates" and middle is not None else middle
    found["seconds"] = math.fsum(row["seconds"] or 0.0 for row in rows)
    return found
