"""Train, evaluate and predict: the three things done with a run folder."""

import contextlib
import dataclasses
import platform
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np

from .. import tasks
from .._cell import TrainedStep
from .._method import METHODS
from .._model import Model, parameter_count
from .._results import InputError
from .._storage import save
from ..analysis._certificate import Certificate
from ..tasks import Task
from ..zoo._network import undelayed
from . import _folder as folders
from ._build import build_model, first_cell
from ._checkpoint import Checkpoints
from ._config import Config
from ._curves import plot_curves
from ._diagnosis import Diagnosis
from ._keep import Keeper, for_training
from ._loop import Arrays, Interrupted, Position, Trainer

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, the best model and what the run measured."""

    folder: Path
    config: Config
    model: Model
    metric: str
    test_loss: float
    test_metric: float
    best_epoch: int
    rows: tuple[dict[str, float], ...]
    parameters: int
    seconds: float
    certificates: Mapping[str, Certificate] = dataclasses.field(default_factory=dict)
    """What is certified of the model, by the place of the cell; empty without keep_certified."""


def fit(
    config: Config | None = None,
    *,
    resume: str | Path | None = None,
    console: "Console | None" = None,
) -> RunResult:
    """Train a model as `config` says and leave a run folder; or continue the run in `resume`.

    The same configuration gives the same numbers on the same machine, and so does a run that
    was killed at any moment and resumed.

    Arguments:
        config: what to train; None when resuming, as the run folder holds it.
        resume: folder of a run that was stopped.
        console: a rich console to report to; None reports nothing.

    Raises:
        InputError: the configuration, the data or the run folder cannot be used.
        RunFailed: the loss or gradient is not finite, or the disk is full.
        Interrupted: Ctrl-C, after saving.
    """
    from rich.console import Console

    from ._progress import Display, show_end, show_start

    console = console or Console(quiet=True)
    folder = None if resume is None else Path(resume)
    config = _config_to_use(config, folder)
    config.check()
    task = get_task(config)
    config = config.settled(one_label=task.kind == "classification" and not task.per_step)
    model = build_model(config, task, jax.random.key(config.seed))
    config = with_step(config, model)
    trainer = Trainer(config, task, model, keeper_for(config, task, model))
    if folder is None:
        folder = folders.create(config, task.name)
    checkpoints = Checkpoints(folder / folders.CHECKPOINTS)
    data = _fingerprint(task)
    if resume is not None:
        _restore(trainer, checkpoints, data)
    folders.write_rows(folder, trainer.position.rows, certified=config.keep_certified)
    folders.write_diagnoses(folder, trainer.position.diagnoses)
    if config.diagnose:
        trainer.diagnosis = Diagnosis(
            config.diagnose,
            task.validation.inputs,
            partial(folders.write_diagnoses, folder),
            partial(console.print, highlight=False, soft_wrap=True),
        )
    show_start(console, config, task, model, str(folder))

    def keep(row: dict[str, float] | None) -> None:
        if row is not None:
            folders.append_row(folder, row)
        position = trainer.position
        notes = {"format": folders.FORMAT, "data": data, "position": dataclasses.asdict(position)}
        checkpoints.save(position.step, trainer.arrays, notes)

    with _interruptible() as stop:
        try:
            steps, position = trainer.steps_per_epoch, trainer.position
            length = _length(task)
            with Display(console, config, task.metric, steps, position, length) as display:
                trainer.run(keep, display, stop)
        except Interrupted:
            raise Interrupted(
                f"stopped at step {trainer.position.step} (epoch {trainer.position.epoch + 1}) and "
                f"saved: continue with `odernn train --resume {folder}`."
            ) from None
    result = _finish(trainer, folder)
    show_end(console, _summary(result, task))
    return result


def _length(task: Task) -> int:
    return task.training(0).inputs.shape[1]


def keeper_for(config: Config, task: Task, model: Model) -> Keeper | None:
    """What keeps the model certified for inputs in the range of the data."""
    if not config.keep_certified:
        return None
    parts = [task.training(0), task.validation]
    if any(part.times is not None for part in parts):
        raise InputError(
            f"--keep-certified: the sequences of {task.name} have time stamps, and a certificate "
            "is about one step size; leave it out."
        )
    values = [part.inputs.reshape(-1, task.input_size) for part in parts]
    inputs = np.min([v.min(0) for v in values], 0), np.max([v.max(0) for v in values], 0)
    return for_training(model, inputs, _length(task))


def with_step(config: Config, model: Model) -> Config:
    """The configuration with the method and the step size that the cell has of its own accord.

    A method that has no name stays the cell's own: LTC's substeps, say.
    """
    cell = first_cell(model)
    dt = cell.dt.initial if isinstance(cell.dt, TrainedStep) else cell.dt
    own = undelayed(cell.method)
    names = (name for name, method in METHODS.items() if eqx.tree_equal(method, own))
    method = next(names, None) if config.method is None else config.method
    return dataclasses.replace(config, method=method, dt=dt)


def get_task(config: Config) -> Task:
    """The task that a configuration names.

    Raises:
        InputError: unknown task (with the nearest names), or data that cannot be used.
    """
    return tasks.get(
        config.task,
        seed=config.seed,
        length=config.length,
        train_size=config.train_size,
        target=config.target,
        horizon=config.horizon,
        mask_missing=config.mask_missing,
    )


def placed(config: Config) -> Config:
    """The configuration with the whole path of its file: it finds its data from everywhere."""
    if Path(config.task.lower().removesuffix("-irregular")).suffix not in (".csv", ".ts"):
        return config
    return dataclasses.replace(config, task=str(Path(config.task).absolute()))


def _config_to_use(config: Config | None, folder: Path | None) -> Config:
    """The given configuration, or the one of the run to continue."""
    config = None if config is None else placed(config)
    if folder is None:
        if config is None:
            raise InputError("nothing to train: give a configuration, or a run to resume.")
        return config
    stored = folders.read_config(folder)
    if folders.finished(folder):
        raise InputError(
            f"run {folder} has finished, there is nothing to resume: look at it with `odernn "
            f"evaluate {folder}`, or repeat it with `--config {folder / folders.CONFIG}`."
        )
    wanted = {} if config is None else dataclasses.asdict(dataclasses.replace(config, out=None))
    if any(v is not None and v != getattr(stored, k) for k, v in wanted.items()):
        raise InputError(
            f"a resumed run keeps its configuration, {folder / folders.CONFIG}: leave out the "
            "other options, or start a new run with --config and the changes."
        )
    return stored


def _restore(trainer: Trainer, checkpoints: Checkpoints, data: int) -> None:
    """Put the trainer where the newest checkpoint left it; without one, at the beginning."""
    found = checkpoints.newest(trainer.arrays)
    if found is None:
        return
    arrays, notes = found
    if notes.get("format") != folders.FORMAT:
        raise InputError(
            f"checkpoint in {checkpoints.folder} has format {notes.get('format')!r}, this version "
            f"reads format {folders.FORMAT}: resume with the version that began the run."
        )
    if notes["data"] != data:
        raise InputError(
            f"the data of task {trainer.task.name} changed since {checkpoints.folder.parent} "
            "began: bring the old data back, or start a new run."
        )
    trainer.restore(Arrays(*arrays), Position(**notes["position"]))


def _fingerprint(task: Task) -> int:
    """A checksum of the data, to notice that a resumed run would go on with other data."""
    code = 0
    for part in (task.training(0), task.validation):
        for array in (part.inputs, part.targets):
            code = zlib.crc32(np.ascontiguousarray(array).tobytes(), code)
    return code


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets a flag, given as a function; a second Ctrl-C stops at once.

    Signals belong to the main thread: elsewhere the flag stays down.
    """
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def stop() -> bool:
        return pressed

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _finish(trainer: Trainer, folder: Path) -> RunResult:
    """Test the best model and write the rest of the run folder, the result last."""
    config, task, position = trainer.config, trainer.task, trainer.position
    model = trainer.model(trainer.arrays.best)
    test_loss, test_metric = trainer.evaluate(task.test, trainer.arrays.best)
    best = position.rows[position.best_epoch - 1]
    with folders.saving(folder):
        save(model, folder, describe_task(config, task))
        plot_curves(
            position.rows,
            task.metric,
            folder / folders.CURVES,
            best_epoch=position.best_epoch,
            baseline=task.baseline,
        )
    cell = first_cell(model)
    certificates = {} if trainer.keeper is None else trainer.keeper.certificates(model)
    folders.write_result(
        folder,
        {
            "task": task.name,
            "metric": task.metric,
            "test_metric": test_metric,
            "test_loss": test_loss,
            "validation_metric": best["validation_metric"],
            "validation_loss": best["validation_loss"],
            "best_epoch": position.best_epoch,
            "epochs": position.epoch,
            "steps": position.step,
            "cell": config.cell,
            "field": type(cell.field).__name__,
            "method": type(undelayed(cell.method)).__name__,
            "n": cell.n,
            "t": cell.t,
            "parameters": parameter_count(model),
            **_described(certificates, _length(task)),
            "seconds": round(position.seconds, 3),
            "versions": _versions(),
        },
    )
    return RunResult(
        folder=folder,
        config=config,
        model=model,
        metric=task.metric,
        test_loss=test_loss,
        test_metric=test_metric,
        best_epoch=position.best_epoch,
        rows=tuple(position.rows),
        parameters=parameter_count(model),
        seconds=position.seconds,
        certificates=certificates,
    )


def _described(certificates: Mapping[str, Certificate], steps: int) -> dict[str, Any]:
    """The certificate of the cell with the largest rate, and those of all cells if several."""
    if not certificates:
        return {}
    worst = max(certificates, key=lambda place: certificates[place].upper)
    found = {"cell": worst, **certificates[worst].to_dict(), "steps": steps}
    found["growth"] = certificates[worst].corridor(steps)[1]
    if len(certificates) > 1:
        found["cells"] = {place: c.to_dict() for place, c in certificates.items()}
    return {"certificate": found}


def describe_task(config: Config, task: Task) -> dict[str, Any]:
    """What has to travel with a model so that it can be used on new data without the task."""
    return {
        "task": task.name,
        "kind": task.kind,
        "per_step": task.per_step,
        "metric": task.metric,
        "input_size": task.input_size,
        "output_size": task.output_size,
        "classes": None if task.classes is None else list(task.classes),
        "channels": list(task.channels),
        "scaling": None if task.scaling is None else task.scaling.to_dict(),
        "target": task.target,
        "target_scaling": None if task.target_scaling is None else task.target_scaling.to_dict(),
        "differences": task.target is not None,
        "time_unit": task.time_unit,
        "horizon": config.horizon,
        "mask_missing": config.mask_missing,
    }


def _summary(result: RunResult, task: Task) -> dict[str, str]:
    best = result.rows[result.best_epoch - 1]
    rows = {f"test {task.metric}": f"{result.test_metric:.4g}"}
    if task.baseline is not None:
        value, name = task.baseline
        rows[f"for comparison, {name}"] = f"{value:.4g}"
    for place, certificate in result.certificates.items():
        steps = _length(task)
        rows[f"certificate, {place}"] = (
            f"gradients grow at most {certificate.upper:.6g} times a step, "
            f"{certificate.corridor(steps)[1]:.4g} times in {steps} steps ({certificate.norm}; "
            f"{certificate.region}). {certificate.theorem}"
        )
    return rows | {
        f"validation {task.metric}": f"{best['validation_metric']:.4g}",
        "best epoch": f"{result.best_epoch} of {len(result.rows)}",
        "parameters": f"{result.parameters:,}",
        "time": f"{result.seconds:.1f} s",
        "run folder": str(result.folder),
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "equinox": eqx.__version__,
        "numpy": np.__version__,
        "device": jax.devices()[0].device_kind,
    }
