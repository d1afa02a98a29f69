"""The picture of a run: loss and metric by epoch."""

from collections.abc import Sequence
from pathlib import Path


def plot_curves(
    rows: Sequence[dict],
    metric: str,
    path: Path,
    *,
    best_epoch: int | None = None,
    baseline: tuple[float, str] | None = None,
) -> None:
    """Draw the training and validation loss (logarithmic) and the validation metric into `path`.

    The certified rate per step is drawn beside them if it varies.

    Arguments:
        rows: one dict per epoch, with the columns of metrics.csv.
        metric: name of the validation metric, for the axis.
        path: the .png to write.
        best_epoch: epoch of the saved model, marked by a dot.
        baseline: a metric to compare with, and its name.
    """
    # The object-oriented interface: pyplot would keep the figure and choose a back-end globally.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    certified = [row["certified_upper"] for row in rows if "certified_upper" in row]
    varies = bool(certified) and max(certified) - min(certified) > 1e-4
    figure = Figure(figsize=(13 if varies else 9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right, *more = figure.subplots(1, 3 if varies else 2)
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 3 else ""  # a line through one point cannot be seen
    for column, label, colour in (
        ("train_loss", "training", "#4477aa"),
        ("validation_loss", "validation", "#ee6677"),
    ):
        left.plot(epochs, [row[column] for row in rows], label=label, color=colour, marker=marker)
    if all(row["train_loss"] > 0 and row["validation_loss"] > 0 for row in rows):
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        left.yaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("loss")
    left.legend(frameon=False)

    values = [row["validation_metric"] for row in rows]
    right.plot(epochs, values, color="#ee6677", marker=marker, label="validation")
    best = [row for row in rows if row["epoch"] == best_epoch]
    if best:
        value = best[0]["validation_metric"]
        right.plot([best_epoch], [value], "o", color="#222222", label=f"saved model: {value:.4g}")
    if baseline is not None:
        value, name = baseline
        label = f"{name}: {value:.4g}"
        right.axhline(value, color="#999999", linestyle="--", linewidth=1, label=label)
    right.set_ylabel({"accuracy": "accuracy", "mse": "mean squared error"}.get(metric, metric))
    right.legend(frameon=False)
    for axes in more:
        axes.plot(epochs, certified, color="#228833", marker=marker)
        axes.set_ylabel("certified growth per step, at most")
    for axes in (left, right, *more):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=150, format="png")
