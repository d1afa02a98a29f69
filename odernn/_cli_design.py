"""`odernn design`: from what a task needs to ranked cells and configurations that train them."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from ._arguments import parse
from ._cli_network import FLAG, at_least_one, counted
from ._results import InputError

_EXPLAINED = 3


@dataclasses.dataclass(frozen=True)
class _Design:
    """Say what a task needs; see which networks have it, why, and how to train them.

    Every network of the zoo is looked at by analysis, without training: budgets, n-t class,
    theorems for all parameter values, the gradient at the horizon after initialisation, what its
    output recalls. With --data the needs are measured from data, and so is what the output of an
    untrained network tells of their targets; with --trials the best are then trained for a short
    while on them.
    """

    data: str | None = None
    """A task of `odernn list`, a .csv or a .ts file, to measure the needs from."""
    target: str | None = None
    """Column to forecast (.csv)."""
    ahead: int = 1
    """Rows ahead to forecast (.csv)."""
    mask_missing: Annotated[bool, FLAG] = False
    """Let missing values pass in a file."""
    length: int | None = None
    """Inputs of a sequence: of generated tasks, windows of a .csv file, or of what is asked for."""
    input_size: int | None = None
    """Channels of the inputs, without --data."""
    output_size: int | None = None
    """Numbers or classes of an output, without --data (1)."""
    horizon: float | None = None
    """How far back gradients have to reach, in input steps, or in the unit of --step."""
    step: float = 1.0
    """Time between two inputs."""
    fastest: float | None = None
    """Shortest period that matters, in the unit of --step."""
    slowest: float | None = None
    """Longest period that matters."""
    intervals: tuple[float, float] | None = None
    """Shortest and longest time between two inputs."""
    parameters: int = 10_000
    """Trained numbers, read-out included, at most."""
    operations: int | None = None
    """Multiply-adds of a step, at most."""
    state: int | None = None
    """Numbers that are carried from step to step, at most."""
    must: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A property, or several with commas between: certified, contracting, irregular, oscillating,
    parallel, reversible, streaming, unitary."""
    n: int | None = None
    """Nonlinearities nested in a step, exactly."""
    t: int | None = None
    """Blocks of hidden size in the state, exactly."""
    use: Literal["batch", "latency"] = "batch"
    """Whether a sequence of many or a single step should be cheap."""
    cells: str | None = None
    """Networks to look at, with commas between; all by default."""
    trials: int = 0
    """So many candidates are trained for a short while on the data (successive halving)."""
    epochs: int = 9
    """Epochs of the longest short training."""
    cluster: Annotated[bool, FLAG] = False
    """Run the short trainings with Ray, on all cores or on a cluster."""
    address: str | None = None
    """Of a running Ray cluster."""
    seed: int = 0
    """Seed of the weights, the noise and the short trainings."""
    most: int = 10
    """Candidates to show."""
    json: Annotated[bool, FLAG] = False
    """Print JSON instead of a table."""
    out: Path | None = None
    """New folder for a picture, the reasons, and a configuration of each candidate shown."""


def design(arguments: list[str]) -> None:
    """`odernn design`.

    Raises:
        InputError: requirements that exclude each other, names or options that cannot be used.
    """
    options = parse(_Design, "design", arguments)
    for flag in ("most", "epochs", "ahead"):
        at_least_one(f"--{flag}", getattr(options, flag))
    if options.out is not None and options.out.exists():
        raise InputError(f"--out {options.out} exists already: choose another folder or delete it.")
    if options.data is None and (options.trials or options.target):
        flag = "--trials" if options.trials else "--target"
        raise InputError(f"{flag} needs data: name them with --data.")
    from ._design import Requirements
    from ._design import design as search
    from ._design._scales import required, scales
    from .train import Config, get_task
    from .train._run import placed

    backend = "ray" if options.cluster else "optuna"
    if options.trials:
        from ._design._halving import check_installed

        check_installed(backend)
    config = Config(
        task=options.data or "",
        target=options.target,
        horizon=options.ahead,
        mask_missing=options.mask_missing,
        length=options.length,
        seed=options.seed,
    )
    config = placed(config)
    needs, task = _given(options), None
    if options.data is None:
        requirements, measured = Requirements(**needs), None
    else:
        config.check()
        task = get_task(config)
        measured = scales(task.training(0))
        requirements = required(task, measured, **needs)
    cells = None if options.cells is None else [c.strip() for c in options.cells.split(",")]
    with counted() as report:
        key = jax.random.key(options.seed)
        found = search(requirements, task=task, cells=cells, key=key, progress=report)
        if options.trials and task is not None:
            found = found.halved(
                task,
                config,
                keep=options.trials,
                epochs=options.epochs,
                backend=backend,
                address=options.address,
                seed=options.seed,
                progress=report,
            )
    _show(found, options, measured)
    if options.out is not None:
        _write(found, options, config)


def _given(options: _Design) -> dict[str, Any]:
    """The requirements that were given."""
    names = (
        *("input_size", "output_size", "horizon", "length", "fastest", "slowest", "intervals"),
        *("operations", "state", "n", "t"),
    )
    values = {name: getattr(options, name) for name in names}
    found = {name: value for name, value in values.items() if value is not None}
    if options.must:
        found["must"] = frozenset(p for text in options.must for p in text.split(",") if p)
    found |= {"step": options.step, "parameters": options.parameters, "use": options.use}
    if options.data is None:
        if "input_size" not in found:
            raise InputError("what for? Name data with --data, or give --input-size and --horizon.")
        return found
    for flag in ("input_size", "output_size"):
        if found.pop(flag, None) is not None:
            raise InputError(f"--{flag.replace('_', '-')} follows from the data: leave it out.")
    found.pop("length", None)  # that of the data
    return found


def _show(found: Any, options: _Design, measured: Any) -> None:
    from rich.console import Console

    from ._design._report import explained, table

    if options.json:
        print(json.dumps(_plain(found, options, measured), allow_nan=False))
        return
    console = Console(highlight=False, markup=False)
    if measured is not None:
        for title, text in measured.described().items():
            console.print(f"  {title:<12}{text}")
        console.print(f"  {'horizon':<12}{found.requirements.steps:,} steps")
    console.print(table(found, options.most))
    for trial in found.trials:
        failed = f", {trial.note}" if trial.note else ""
        console.print(
            f"  {trial.name}, rate {trial.learning_rate:g}: {trial.metric:.4g} after "
            f"{trial.epochs} epochs{failed}",
            soft_wrap=True,
        )
    for candidate in found.candidates[:_EXPLAINED]:
        console.print(explained(candidate), soft_wrap=True)


def _plain(found: Any, options: _Design, measured: Any) -> dict[str, Any]:
    """A design as plain values."""

    def finite(value: float) -> float | None:
        return float(value) if abs(value) < float("inf") else None

    def entry(c: Any) -> dict[str, Any]:
        return {
            "cell": c.kind.name,
            "method": c.kind.method,
            "size": c.kind.size,
            "n": c.kind.shape.n,
            "t": c.kind.shape.t,
            "gradient": finite(c.initial.gradient),
            "recalls": c.memory,
            "explained": c.explained,
            "parameters": c.parameters,
            "multiply_adds": c.kind.cost.multiply_adds,
            "functions": c.kind.cost.functions,
            "state": c.kind.cost.state,
            "front": c in found.front,
            "reasons": c.reasons(),
        }

    asked = dataclasses.asdict(found.requirements)
    asked["must"] = sorted(found.requirements.must)
    trials = [dataclasses.asdict(t) | {"metric": finite(t.metric)} for t in found.trials]
    return {
        "requirements": asked,
        "data": None if measured is None else dataclasses.asdict(measured),
        "candidates": [entry(c) for c in found.candidates[: options.most]],
        "skipped": found.skipped,
        "trials": trials,
    }


def _write(found: Any, options: _Design, config: Any) -> None:
    """Leave a picture, the reasons, and a configuration of each candidate in a new folder."""
    from ._design._report import draw, explained
    from ._files import write_file

    assert options.out is not None
    options.out.mkdir(parents=True)
    draw(found, options.out / "design.svg")
    shown = found.candidates[: options.most]
    text = "\n\n".join(explained(c) for c in shown) + "\n"
    write_file(options.out / "reasons.txt", text.encode())
    for number, candidate in enumerate(shown, start=1):
        values = {
            name: getattr(config, name)
            for name in ("task", "target", "horizon", "mask_missing", "length", "seed")
        }
        one = candidate.config(**values, learning_rate=found.rates.get(candidate.name))
        name = f"{number}-{candidate.name.lower().replace(' + ', '-')}.toml"
        write_file(options.out / name, one.to_toml().encode())
    if not options.json:
        print(options.out)
