"""Successive halving: short trainings of the best candidates on the user's own data."""

import contextlib
import dataclasses
import importlib.util
import io
import logging
import math
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax

from .._results import InputError, RunFailed
from ..tasks import Task
from ..train import Config, Interrupted, build_model
from ..train._loop import Observer, Position, Trainer
from ._requirements import check_channels
from ._search import Design, Progress

RATES = (0.02, 0.005, 0.001)
REDUCTION = 3
"""Of so many trials one goes on to the next, longer training."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A short training: of which candidate, with which rate, and how good it was when it ended."""

    name: str
    learning_rate: float
    epochs: int
    metric: float
    note: str = ""


Report = Callable[[int, float], bool]
"""Told the epoch and the metric of validation; says whether to stop."""


class _Reporting(Observer):
    def __init__(self, report: Report):
        self.report, self.stopped, self.last, self.epochs = report, False, math.nan, 0

    def epoch(self, position: Position, row: dict[str, float]) -> None:
        self.last, self.epochs = row["validation_metric"], position.epoch
        self.stopped = self.report(position.epoch, self.last)


def short_training(config: Config, task: Task, report: Report) -> tuple[float, int, str]:
    """Train until the end or until told to stop: last metric of validation, epochs, what failed."""
    seen = _Reporting(report)
    config = config.settled(one_label=task.kind == "classification" and not task.per_step)
    try:
        model = build_model(config, task, jax.random.key(config.seed))
        Trainer(config, task, model).run(lambda row: None, seen, lambda: seen.stopped)
    except Interrupted:
        pass
    except RunFailed as error:
        return seen.last, seen.epochs, str(error)
    return seen.last, seen.epochs, ""


def check_installed(backend: Literal["optuna", "ray"]) -> None:
    """Refuse a backend that is not installed.

    Raises:
        InputError: names the extra that brings it.
    """
    if importlib.util.find_spec(backend) is None:
        name, extra = {"optuna": ("Optuna", "design"), "ray": ("Ray", "cluster")}[backend]
        raise InputError(f"short trainings need {name} here: pip install 'odernn[{extra}]'.")


def halved(
    found: Design,
    task: Task,
    config: Config | None = None,
    *,
    keep: int = 6,
    epochs: int = 9,
    rates: Sequence[float] = RATES,
    seed: int = 0,
    backend: Literal["optuna", "ray"] = "optuna",
    address: str | None = None,
    progress: Progress | None = None,
) -> Design:
    """Do what `Design.halved` says."""
    check_installed(backend)
    config = Config(task=task.name) if config is None else config
    check_channels(found.requirements, task)
    taking = found.candidates[:keep]
    configs = {
        (c.name, rate): dataclasses.replace(
            config, **c.network, epochs=epochs, learning_rate=rate, seed=seed
        )
        for c in taking
        for rate in rates
    }
    run = _with_optuna if backend == "optuna" else partial(_with_ray, address=address)
    larger = task.metric == "accuracy"
    trials = run(configs, task, larger, epochs, progress or (lambda *_: None))
    ended = [t for t in trials if not t.note and math.isfinite(t.metric)]
    if not ended:
        raise InputError(f"no short training came to an end: {trials[0].note or 'nothing tried'}")
    best = {
        c.name: (max if larger else min)(mine, key=lambda t: t.metric)
        for c in taking
        if (mine := [t for t in ended if t.name == c.name])
    }
    order = sorted(
        (c for c in taking if c.name in best), key=lambda c: best[c.name].metric, reverse=larger
    )
    rest = [c for c in found.candidates if c not in order]
    return dataclasses.replace(
        found,
        candidates=(*order, *rest),
        trials=tuple(trials),
        rates={name: trial.learning_rate for name, trial in best.items()},
    )


def _with_optuna(
    configs: dict[tuple[str, float], Config],
    task: Task,
    larger: bool,
    epochs: int,
    progress: Progress,
) -> list[Trial]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    keys, done = list(configs), []
    study = optuna.create_study(
        direction="maximize" if larger else "minimize",
        sampler=optuna.samplers.GridSampler({"number": range(len(keys))}, seed=0),
        pruner=optuna.pruners.SuccessiveHalvingPruner(
            min_resource=1, reduction_factor=REDUCTION, min_early_stopping_rate=0
        ),
    )

    def objective(trial: Any) -> float:
        name, rate = keys[trial.suggest_int("number", 0, len(keys) - 1)]
        progress(f"{name}, rate {rate:g}", len(done), len(keys))

        def report(epoch: int, metric: float) -> bool:
            trial.report(metric, epoch)
            return trial.should_prune()

        metric, ended, note = short_training(configs[name, rate], task, report)
        done.append(Trial(name, rate, ended, metric, note))
        if note or not math.isfinite(metric):
            raise optuna.TrialPruned
        return metric

    study.optimize(objective, n_trials=len(keys))
    progress("", len(keys), len(keys))
    return done


def _with_ray(
    configs: dict[tuple[str, float], Config],
    task: Task,
    larger: bool,
    epochs: int,
    progress: Progress,
    *,
    address: str | None,
) -> list[Trial]:
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    keys = list(configs)

    def objective(given: dict[str, Any]) -> None:
        name, rate = keys[given["number"]]

        def report(epoch: int, metric: float) -> bool:
            tune.report({"metric": metric, "epoch": epoch, "note": ""})
            return False  # the scheduler ends a trial by itself

        _, ended, note = short_training(configs[name, rate], task, report)
        if note:
            worst = -math.inf if larger else math.inf
            tune.report({"metric": worst, "epoch": ended, "note": note})

    # Ray would keep a folder of results in the user's home.
    results_folder = tempfile.TemporaryDirectory()
    started = not ray.is_initialized()
    if started:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        mode = "max" if larger else "min"
        tuner = tune.Tuner(
            objective,
            param_space={"number": tune.grid_search(list(range(len(keys))))},
            tune_config=tune.TuneConfig(
                metric="metric",
                mode=mode,
                scheduler=ASHAScheduler(
                    time_attr="epoch", max_t=epochs, grace_period=1, reduction_factor=REDUCTION
                ),
            ),
            run_config=tune.RunConfig(verbose=0, storage_path=results_folder.name),
        )
        with contextlib.redirect_stdout(io.StringIO()):  # it draws a box of its own
            results = tuner.fit()
    finally:
        results_folder.cleanup()
        if started:
            ray.shutdown()
    found = []
    for result in results:
        name, rate = keys[(result.config or {})["number"]]
        said = result.metrics or {}
        note = str(result.error or said.get("note", ""))
        found.append(
            Trial(name, rate, int(said.get("epoch", 0)), float(said.get("metric", math.nan)), note)
        )
    progress("", len(keys), len(keys))
    return found
