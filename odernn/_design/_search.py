"""From requirements to ranked cells, by analysis and without training."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import TYPE_CHECKING, Any

import jax

from .._results import InputError
from ._candidate import Candidate, has_measured, measured
from ._kinds import Kind, conflict, kinds
from ._requirements import Requirements, check_channels

if TYPE_CHECKING:
    from ..tasks import Task
    from ..train import Config

Progress = Callable[[str, int, int], None]
"""Called with what is looked at next, how many are done and how many there are."""

_KEPT = 20
"""Cells whose programs are kept in memory."""


@dataclasses.dataclass(frozen=True, eq=False)
class Design:
    """What was found for some requirements, the best first.

    Attributes:
        requirements: what was asked for.
        candidates: all cells that have it, in the order in which they are recommended.
        front: those that no other one beats in all of: what they recall and explain, gradient in
            the band, parameters, work.
        skipped: why others are not among them, by their names.
        trials: short trainings, if there were any (`halved`).
        rates: the learning rate that was best in them, by the names of the cells.
    """

    requirements: Requirements
    candidates: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    skipped: dict[str, str]
    trials: tuple[Any, ...] = ()
    rates: dict[str, float] = dataclasses.field(default_factory=dict)

    def halved(self, task: "Task", config: "Config | None" = None, **options: Any) -> "Design":
        """Order the first candidates by short trainings: successive halving over cells and rates.

        All train for one epoch; the best third of what was tried goes on to three times as many,
        and so on (Jamieson and Talwalkar 2016; Li et al. 2018 without waiting for each other).
        What is compared is the metric of the validation part; test data are not looked at.

        Arguments:
            task: the data.
            config: how to train otherwise (batch size, decay, ...).
            options: `keep`, how many candidates take part (6); `epochs` of the longest training
                (9); `rates`, learning rates that each is tried with; `seed`; `backend`, "optuna"
                in this process, or "ray" on the cores or machines that Ray has, at the `address`
                of a running cluster or in a local one; `progress`, as of `design`.

        Returns the design with these candidates in front, in their new order, and `trials`.

        Raises:
            InputError: the extra is not installed; data with other channels than were designed
                for; no training came to an end.
        """
        from ._halving import halved

        return halved(self, task, config, **options)

    @property
    def best(self) -> Candidate:
        """The first recommendation."""
        return self.candidates[0]


def design(
    requirements: Requirements,
    *,
    task: "Task | None" = None,
    cells: Iterable[str] | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Design:
    """Find cells that have what a task requires, and rank them by what is measured of them.

    Every network of the zoo is looked at, with its own method and with those that add what is
    asked for, in the largest size within the budgets. What shapes and theorems say (budgets, n-t
    class, certificates for all parameter values, whether a step can be undone) decides first; then
    each cell that is left is drawn three times, initialised for the horizon (`analysis.initialise`)
    and measured; the draw in the middle stands for it. Measured are the gradient at the horizon,
    how many past input values the output holds (`analysis.recall`), and with data what the output
    tells of their targets: the share of the variance that a linear read-out, fitted to the training
    part, explains in the validation part. Nothing else is trained; test data are not looked at.

    First come cells whose gradient at the horizon is in [1/10, 10]; of these, nonlinear ones come
    before those that are affine in the state (a linear filter, unless "parallel" is asked for);
    then counts the error of that read-out, in whole decibels; then what they recall from the far
    half of the horizon, then the work of a step.

    Arguments:
        requirements: what the task needs.
        task: data that the cells are for, if there are some.
        cells: names of networks to look at; None: all.
        key: of the weights and the noise.
        progress: is told how far it is.

    Raises:
        InputError: no cell has all that is asked for: says which two requirements exclude each
            other, and what is near them; an unknown name; data with other channels.

    >>> from odernn import Requirements, design
    >>> found = design(Requirements(1, horizon=50, parameters=300), cells=["rnn", "scornn"])
    >>> found.best.name
    'scoRNN'
    """
    report = progress or (lambda name, done, total: None)
    report("networks", 0, 1)
    if task is not None:
        check_channels(requirements, task)
    known = list(kinds(requirements, cells))
    asked = requirements.conditions()
    fitting = [kind for kind in known if all(kind.has(name) for name in asked)]
    if not fitting:
        raise conflict(known, requirements)
    skipped = {
        kind.title: "has not "
        + ", ".join(text for name, text in asked.items() if not kind.has(name))
        for kind in known
        if kind not in fitting
    }
    key = jax.random.key(0) if key is None else key
    found = _all_measured(fitting, key, task, report)
    for name in ("irregular", "oscillating"):
        if name in requirements.must:
            lacking = {c.name for c in found if not has_measured(c, name)}
            skipped |= dict.fromkeys(lacking, f"is measured not to be {name}")
            found = [c for c in found if c.name not in lacking]
    if not found:
        raise InputError(
            f"none of {len(fitting)} cells that have the rest was measured to be "
            f"{' and '.join(sorted(requirements.must & {'irregular', 'oscillating'}))}: leave it "
            "out, or ask for shorter intervals."
        )
    ranked = sorted(found, key=lambda c: c.rank, reverse=True)
    return Design(requirements, tuple(ranked), tuple(pareto(ranked)), skipped)


def _all_measured(
    fitting: Sequence[Kind], key: Any, task: "Task | None", report: Progress
) -> list[Candidate]:
    """Measure on all cores: most of the time goes into compiling, which uses one."""
    keys = jax.random.split(key, len(fitting))
    found: list[Candidate] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, candidate in enumerate(pool.map(measured, fitting, keys, repeat(task))):
            found.append(candidate)
            report(candidate.name, done + 1, len(fitting))
            if done % _KEPT == _KEPT - 1:
                jax.clear_caches()  # programs that nobody calls again take all memory maps
    return found


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other candidate beats, in their order."""

    def value(c: Candidate) -> tuple[float, ...]:
        told = round(c.explained or 0.0, 2)
        return (c.in_band, told, round(c.memory, 1), -c.parameters, -c.work)

    def beaten(c: Candidate) -> bool:
        mine = value(c)
        return any(
            all(a >= b for a, b in zip(value(other), mine, strict=True)) and value(other) != mine
            for other in candidates
        )

    return [c for c in candidates if not beaten(c)]
