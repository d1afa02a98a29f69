"""Measurements inside training: every so many steps, but never more than a share of the time."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .._model import Model

SHARE = 0.05
"""Largest share of the time that measurements may take."""

SEQUENCES = 8
"""Sequences of the validation part that are looked at, always the same ones."""


def measure(model: Model, inputs: Any) -> dict[str, float]:
    """Return what is measured of a model on sequences of shape (batch, time, input)."""
    from ..analysis._diagnose import quick_diagnosis

    return quick_diagnosis(model, inputs)


class Diagnosis:
    """Measures a model in training and keeps the rows.

    Arguments:
        every: gradient steps between two measurements; stretched if these take too long.
        inputs: sequences to measure on, the first few are used.
        write: keeps the newest of all rows.
        say: tells the user.
        clock: seconds.
    """

    def __init__(
        self,
        every: int,
        inputs: np.ndarray,
        write: Callable[[list[dict[str, float]]], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._every, self._inputs = every, inputs[:SEQUENCES]
        self._write, self._say, self._clock = write, say, clock
        self._since: tuple[float, int] | None = None
        self._warm = False

    def step(self, rows: list[dict[str, float]], step: int, model: Callable[[], Model]) -> bool:
        """Measure after a gradient step if it is time to, and add a row; say whether it was.

        A resumed run has the rows in its checkpoint and goes on from their last step.
        """
        if self._since is None:  # the first step is spent compiling
            self._since = self._clock(), step
        every = int(rows[-1]["every"]) if rows else self._every
        if step < (rows[-1]["step"] if rows else 0) + every:
            return False
        started = self._clock()
        found = measure(model(), self._inputs)
        seconds = self._clock() - started
        # The first measurement is mostly compilation.
        if self._warm and step > self._since[1]:
            every = self._stretched(every, seconds, (started - self._since[0], step))
        self._warm, self._since = True, (self._clock(), step)
        rows.append({"step": step, **found, "every": every})
        self._write(rows)
        return True

    def _stretched(self, every: int, seconds: float, since: tuple[float, int]) -> int:
        """The interval that keeps measurements of so many seconds within their share."""
        assert self._since is not None
        each = since[0] / (since[1] - self._since[1])
        needed = math.ceil(seconds / (SHARE * each) / every) * every if each > 0 else every
        if needed > every:
            self._say(
                f"a measurement takes {seconds:.2g} s and a step {each:.2g} s: measuring every "
                f"{needed} steps instead of {every}, to spend at most {SHARE:.0%} of the time."
            )
        return max(every, needed)
