"""What data say of the times in them: intervals, correlation, periods, what is missing."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ..tasks import Dataset, Task
from ._requirements import Requirements

_SEQUENCES = 200
"""Sequences that are looked at."""
_FINER = 8
"""Frequencies between two of a Fourier series, to find a period that does not fit into it."""


@dataclasses.dataclass(frozen=True)
class Scales:
    """Times in a data set, in input steps, of its training part.

    Attributes: ``length``, steps of the longest sequence; ``intervals``, the shortest, the median
    and the longest time between two inputs; ``missing``, the share of steps that were not
    observed; ``correlation``, the lag at which the autocorrelation has fallen to 1/e, the median
    over channels and sequences; ``period``, of the strongest line of the spectrum, of the channel
    where it is longest; None where none stands out of red noise in most sequences.
    """

    length: int
    intervals: tuple[float, float, float]
    missing: float
    correlation: float
    period: float | None

    @property
    def irregular(self) -> bool:
        """Whether intervals differ by more than a tenth."""
        low, _, high = self.intervals
        return high > 1.1 * low

    def described(self) -> dict[str, str]:
        """In words, by titles."""
        low, middle, high = self.intervals
        return {
            "sequences": f"up to {self.length} steps",
            "intervals": f"{low:.3g} to {high:.3g} steps, median {middle:.3g}"
            if self.irregular
            else "regular",
            "missing": f"{100 * self.missing:.3g} % of the steps",
            "correlation": f"falls to 1/e in {self.correlation:.3g} steps",
            "period": "none stands out" if self.period is None else f"{self.period:.3g} steps",
        }


def scales(data: Dataset) -> Scales:
    """Measure the times in a data set.

    >>> import numpy as np
    >>> from odernn.tasks import Dataset
    >>> wave = np.sin(2 * np.pi * np.arange(200) / 25)[None, :, None].astype(np.float32)
    >>> found = scales(Dataset(wave, np.zeros(1, np.int32)))
    >>> round(found.period), found.missing
    (25, 0.0)
    """
    data = data[:_SEQUENCES]
    count, steps, _ = data.inputs.shape
    lengths = np.full(count, steps) if data.lengths is None else data.lengths
    inside = np.arange(steps) < lengths[:, None]
    observed = inside if data.mask is None else inside & data.mask
    missing = 1 - observed.sum() / inside.sum()
    spans = np.concatenate(
        [_spans(data.times, row, inside) for row in range(count)] or [np.ones(1)]
    )
    spans = spans if spans.size else np.ones(1)
    middle = float(np.median(spans))
    correlations, periods = [], []
    for channel in range(data.inputs.shape[2]):
        found = [
            _of_series(row[:length, channel].astype(np.float64), there[:length])
            for row, length, there in zip(data.inputs, lengths, observed, strict=True)
        ]
        correlations += [c for c, _ in found if c is not None]
        strong = [p for _, p in found if p is not None]
        if len(strong) > count / 2:
            periods.append(float(np.median(strong)))
    return Scales(
        length=int(lengths.max()),
        intervals=(float(spans.min()), middle, float(spans.max())),
        missing=float(missing),
        correlation=float(np.median(correlations or [1.0])),
        period=max(periods, default=None),
    )


def required(task: Task, found: Scales | None = None, **given: Any) -> Requirements:
    """Do what `Requirements.of_task` says, with scales that are known or are measured."""
    found = scales(task.training(0)) if found is None else found
    step = given.get("step", 1.0)
    horizon = float(found.length)
    if task.per_step:
        horizon = min(horizon, max(found.period or 0.0, 3 * found.correlation, 2.0))
    if task.target_mask is not None:
        horizon = float(found.length)
    usual: dict[str, Any] = {
        "input_size": task.input_size,
        "output_size": task.output_size,
        "horizon": math.ceil(horizon) * step,
        "length": found.length,
        "per_step": task.per_step,
    }
    if found.irregular:
        low, _, high = found.intervals
        usual["intervals"] = (low * step, high * step)
        usual["must"] = frozenset({"irregular"})
    return Requirements(**{**usual, **given})


def _spans(
    times: np.ndarray | None,
    row: int,
    inside: Bool[np.ndarray, "n time"],
) -> Float[np.ndarray, " spans"]:
    """Times between the inputs of a sequence, observed or not."""
    if times is None:
        return np.ones(max(int(inside[row].sum()) - 1, 0))
    return np.diff(times[row][inside[row]].astype(np.float64))


def _of_series(
    values: Float[np.ndarray, " time"], there: Bool[np.ndarray, " time"]
) -> tuple[float | None, float | None]:
    """Correlation time and period of one channel; None where it is constant."""
    steps = np.arange(len(values))
    if there.sum() < 4:
        return None, None
    # What is missing is drawn as a straight line: short gaps do not move a period.
    values = np.interp(steps, steps[there], values[there])
    values = values - values.mean()
    power = np.abs(np.fft.rfft(values, 2 * len(values))) ** 2
    correlation = np.fft.irfft(power)[: len(values)]
    if correlation[0] <= 1e-12 * len(values):
        return None, None
    low = np.flatnonzero(correlation / correlation[0] < np.exp(-1))
    lag = float(low[0]) if low.size else float(len(values))
    # Red noise has most power at long periods: its spectrum is made flat first (lag-one residuals).
    flat = values[1:] - correlation[1] / correlation[0] * values[:-1]
    count = len(flat)
    power = np.abs(np.fft.rfft(flat * np.hanning(count + 2)[1:-1], _FINER * count)) ** 2
    power[: 2 * _FINER] = 0  # as long as the series
    peak = int(power.argmax())
    # Of noise the largest of so many is about log(count) means; a mean is a median / log 2.
    usual = np.median(power[2 * _FINER :]) / np.log(2) if count > 8 else np.inf
    strong = power[peak] > (np.log(count) + 6) * usual
    return lag, _FINER * count / peak if peak and strong else None
