"""Run a benchmark: search a learning rate, train with it, and go on where it stopped."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from .. import tasks
from .._results import InputError, RunFailed
from ..tasks import Task
from ..train import Config, Interrupted
from . import _training as training
from ._machine import commit
from ._plan import Contestant, Plan, contestant, sized
from ._progress import Bar
from ._report import write_report
from ._store import OK, Row, Store
from ._summary import BenchResult, best_rate, summary

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class _Pair:
    """A cell on a task: everything that its trainings share."""

    task: Task
    text: str
    player: Contestant
    config: Config
    size: int
    parameters: int


def bench(plan: Plan, *, console: "Console | None" = None) -> BenchResult:
    """Compare cells on tasks, each with the same budget, and leave a folder of results.

    For each task and cell the learning rate with the best validation metric is searched, then
    there are `seeds` trainings with it. All cells see the same batches. Each training that is
    done is a line of results.csv at once; the same plan goes on with the first that is missing,
    whenever it was stopped. A training that fails, its loss not finite, say, is a result.

    Arguments:
        plan: what to compare, and how.
        console: a rich console to report to; None reports nothing.

    Returns:
        The lines, and their summary.

    Raises:
        InputError: the plan or its folder cannot be used; before anything is trained.
        RunFailed: the disk is full.
        Interrupted: Ctrl-C; what is done is kept.
    """
    plan.check()
    players = [contestant(text) for text in plan.cells]
    for names in ([player.name for player in players], [_name(text) for text in plan.tasks]):
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"two files are called {name!r} in tables: rename one.")
    pairs = [
        _Pair(task, text, player, *sized(player, task, plan.parameters))
        for text in plan.tasks
        for task in [_task(text, 0)]
        for player in players
    ]
    with (
        Store(plan.out, _settings(plan, players)) as store,
        Bar(console, len(pairs) * plan.trainings, len(store.rows)) as bar,
    ):
        try:
            for pair in pairs:
                _train_pair(plan, pair, store, bar)
                every = [p.task for p in pairs]
                write_report(plan, plan.out, store.rows, every, pictures=pair is pairs[-1])
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped: {len(store.rows)} of {len(pairs) * plan.trainings} trainings are in "
                f"{plan.out}; the same command goes on."
            ) from None
    return BenchResult(plan.out, tuple(store.rows), tuple(summary(store.rows)))


def _task(text: str, seed: int) -> Task:
    return dataclasses.replace(tasks.get(text, seed=seed), name=_name(text))


def _name(text: str) -> str:
    """What tables call a task: its name, or that of its file."""
    return Path(text).name


def _settings(plan: Plan, players: list[Contestant]) -> dict[str, Any]:
    values = dataclasses.asdict(plan)
    del values["out"]
    values["tasks"] = list(plan.tasks)
    values["cells"] = {player.name: player.to_dict() for player in players}
    return values


def _train_pair(plan: Plan, pair: _Pair, store: Store, bar: Bar) -> None:
    """All trainings of a cell on a task that are not there yet."""
    key = {"task": pair.task.name, "cell": pair.player.name}
    jobs: list[tuple[str, float | None, int]] = []
    if len(plan.rates) > 1:
        jobs += [("search", rate, 0) for rate in plan.rates]
    jobs += [("final", None, seed) for seed in range(1, plan.seeds + 1)]
    steps = None
    for role, rate, seed in jobs:
        done = {"role": role, "seed": seed} | ({} if rate is None else {"learning_rate": rate})
        if store.find(**key, **done):
            continue
        if rate is None:
            rate = best_rate(store.find(**key, role="search"), plan.rates)
        row: Row = {
            **(key | done),
            "learning_rate": rate,
            "metric": pair.task.metric,
            "parameters": pair.parameters,
            "size": pair.size,
            "commit": commit(),
        }
        bar.begin(pair.task.name, pair.player.name, role, rate, seed)
        try:
            if rate is None:
                raise RunFailed("no learning rate trained")
            if steps is None:
                steps = _planned(plan, pair, store.find(**key))
            row["planned"] = steps[0] * steps[1]
            row |= _trained(plan, pair, rate, seed, steps, bar.share, test=role == "final")
            row["status"] = OK
        except training.FAILURES as error:
            row["status"] = f"failed: {training.reason(error)}"
        store.append(row)
        bar.end(store.rows[-1])
    # Hundreds of programs would stay in memory.
    jax.clear_caches()


def _planned(plan: Plan, pair: _Pair, done: list[Row]) -> tuple[int, int]:
    """Rounds, and gradient steps of a round.

    Of a budget of time these are found by timing some steps, once for a cell on a task.

    Raises:
        RunFailed: the budget is too small for one round.
    """
    if plan.updates is not None:
        rounds = -(-plan.updates // plan.every)
        return rounds, plan.updates // rounds
    planned = next((row["planned"] for row in done if row["planned"]), None)
    if planned is not None:
        return planned // plan.every, plan.every
    config = dataclasses.replace(
        pair.config, task=pair.text, epochs=1, batch_size=plan.batch_size, learning_rate=1e-3
    )
    found = training.pace(training.new_trainer(config, pair.task, plan.every))
    takes = plan.every * found.step + found.validation
    rounds = math.floor(plan.share / takes)
    if rounds < 1:
        raise RunFailed(
            f"a training has {plan.share:.3g} s and {plan.every} updates take {takes:.3g} s; a "
            "larger --budget or a smaller --every is needed"
        )
    return rounds, plan.every


def _trained(
    plan: Plan,
    pair: _Pair,
    rate: float,
    seed: int,
    steps: tuple[int, int],
    report: Callable[[float], None],
    *,
    test: bool,
) -> dict[str, Any]:
    config = dataclasses.replace(
        pair.config,
        task=pair.text,
        epochs=steps[0],
        batch_size=plan.batch_size,
        learning_rate=rate,
        patience=plan.patience,
        seed=seed,
    )
    return training.train(config, _task(pair.text, seed), steps[1], report, test=test)
