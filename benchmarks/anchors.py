"""Are published results met, with the recipes that their authors give?

    python benchmarks/anchors.py [adding fitzhugh-nagumo copy] [--seed 0]

Each anchor is trained until its goal is met or its updates are spent, and ends as lines of
results/anchors.csv; results/anchors.md is written of all lines that are there.
"""

import argparse
import csv
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _machine import RESULTS, describe, store, stored, table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import odernn
from odernn import tasks, zoo
from odernn.tasks import Task
from odernn.train._loss import batches, outputs, sums

ROWS = RESULTS / "anchors.csv"
COLUMNS = ("anchor", "seed", "update", "train_loss", "test_loss", "seconds", "parameters")


@dataclasses.dataclass(frozen=True)
class Anchor:
    """A published result: what is trained, how, and what is to be reached."""

    title: str
    make: Callable[[int], Task]
    cell: Callable[[Task, Any], odernn.Cell]
    optimiser: Callable[[Any], optax.GradientTransformation]
    batch: int
    updates: int
    every: int
    goal: float
    """Of the loss on the test part (mean squared error, or mean cross entropy of all steps)."""
    source: str
    root: bool = False
    """Compare the root of the loss."""
    within: int | None = None
    """The updates that the goal allows, where more are made to see when it would be met."""
    kaiming: bool = True
    """Start the read-out's weight from Kaiming's normal distribution, as LEM's authors do."""


def adam(rate: Any) -> Callable[[Any], optax.GradientTransformation]:
    return lambda model: optax.adam(rate)


def two_rates(rate: float, rotation: float) -> Callable[[Any], optax.GradientTransformation]:
    """RMSprop with a smaller rate for the matrix that a rotation is made of."""

    def build(model: Any) -> optax.GradientTransformation:
        def name(path: Any, leaf: Any) -> str:
            return "rotation" if jax.tree_util.keystr(path).endswith(".field.weight") else "rest"

        weights = eqx.filter(model, odernn.trained(model))
        labels = jax.tree_util.tree_map_with_path(name, weights)
        assert "rotation" in jax.tree.leaves(labels)
        # PyTorch's RMSprop: decay 0.99, epsilon outside of the root.
        rules = {
            "rotation": optax.rmsprop(rotation, decay=0.99, eps_in_sqrt=False),
            "rest": optax.rmsprop(rate, decay=0.99, eps_in_sqrt=False),
        }
        return optax.multi_transform(rules, lambda _: labels)  # a model can be called, too

    return build


ANCHORS = {
    "adding": Anchor(
        "LEM, adding, T = 2000: error below 0.05 within 2,000 updates",
        lambda seed: tasks.adding(length=2000, train_size=5000, seed=seed),
        lambda task, key: zoo.LEM(task.input_size, 128, dt=0.0242, key=key),
        adam(2.6e-3),
        *(50, 3000, 100, 0.05),
        "Rusch et al. 2022: Adam 2.6e-3, batch 50, dt 0.0242, 128 units, no clipping, Kaiming's "
        "initial read-out",
        within=2000,
    ),
    "adding-faster": Anchor(
        "LEM, adding, the same goal",
        lambda seed: tasks.adding(length=2000, train_size=5000, seed=seed),
        lambda task, key: zoo.LEM(task.input_size, 128, dt=0.0242, key=key),
        lambda model: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(5.2e-3)),
        *(50, 3000, 100, 0.05),
        "ours: the same, but twice the rate, and gradients clipped at a norm of 1",
        within=2000,
    ),
    "fitzhugh-nagumo": Anchor(
        "LEM, FitzHugh-Nagumo: L2 at most 2.5e-3 with at most 1,300 parameters",
        lambda seed: tasks.get("fhn"),
        lambda task, key: zoo.LEM(task.input_size, 16, dt=1.0, key=key),
        adam(9.04e-3),
        *(32, 1600, 100, 2.5e-3),
        "Rusch et al. 2022: Adam 9.04e-3, batch 32, 400 epochs, dt 1, 16 units, Kaiming's initial "
        "read-out",
        root=True,
    ),
    "fitzhugh-nagumo-cosine": Anchor(
        "LEM, FitzHugh-Nagumo, the same goal",
        lambda seed: tasks.get("fhn"),
        lambda task, key: zoo.LEM(task.input_size, 16, dt=1.0, key=key),
        adam(optax.cosine_decay_schedule(0.06, 1600)),
        *(32, 1600, 100, 2.5e-3),
        "ours: the same, but a rate of 0.06 that falls to 0 along half a cosine",
        root=True,
    ),
    "copy": Anchor(
        "expRNN, copy, T = 1000: loss below a tenth of that without memory",
        lambda seed: tasks.copy(length=1000, train_size=5000, seed=seed),
        lambda task, key: zoo.expRNN(task.input_size, 190, key=key),
        two_rates(2e-4, 2e-5),
        *(128, 4000, 50, 0.0),
        "Lezcano-Casado and Martinez-Rubio 2019: RMSprop 2e-4, rotation 2e-5, batch 128, 190 "
        "units, Henaff's initial rotation, 4,000 updates",
        kaiming=False,
    ),
}


def train(name: str, seed: int, tick: Callable[[str], None]) -> list[tuple]:
    """Train an anchor until its goal is met; lines of what was measured."""
    anchor = ANCHORS[name]
    task = anchor.make(seed)
    a, b, c = jax.random.split(jax.random.key(seed), 3)
    readout: Any = odernn.EachStep if task.per_step else odernn.LastStep
    layer = odernn.Layer(anchor.cell(task, a))
    model = odernn.Model([layer], readout(layer.hidden_size, task.output_size, key=b))
    if anchor.kaiming:
        rows, columns = model.readout.weight.shape
        drawn = math.sqrt(2 / rows) * jax.random.normal(c, (rows, columns))
        model = eqx.tree_at(lambda m: m.readout.weight, model, drawn)
    weights, static = eqx.partition(model, odernn.trained(model))
    optimiser = anchor.optimiser(model)
    state = optimiser.init(weights)
    goal = goal_of(anchor)

    def loss(weights: Any, batch: Any) -> Any:
        total = sums(outputs(eqx.combine(weights, static), batch), batch, task)
        return total.loss / total.weight

    @jax.jit
    def update(weights: Any, state: Any, batch: Any) -> tuple:
        value, slope = jax.value_and_grad(loss)(weights, batch)
        with jax.numpy_dtype_promotion("standard"):
            change, state = optimiser.update(slope, state, weights)
        return optax.apply_updates(weights, change), state, value

    evaluate = jax.jit(loss)
    began, measured, recent = time.perf_counter(), [], []
    source = stream(task, anchor.batch, seed)
    for number in range(1, anchor.updates + 1):
        batch = next(source)
        weights, state, value = update(weights, state, batch)
        recent.append(float(value))
        tick(f"{name}: loss {recent[-1]:.3g}")
        if number % anchor.every and number != anchor.updates:
            continue
        tested = [
            (float(evaluate(weights, part)), float(part.weight.sum()))
            for part in batches(task.test, np.arange(len(task.test)), anchor.batch)
        ]
        found = float(np.average([v for v, _ in tested], weights=[w for _, w in tested]))
        found = float(jnp.sqrt(found)) if anchor.root else found
        spent = time.perf_counter() - began
        measured.append(
            (name, seed, number, np.mean(recent), found, spent, odernn.parameter_count(model))
        )
        print(
            f"{name}, {number}: {np.mean(recent):.4g}, test {found:.4g}, {spent:.0f} s", flush=True
        )
        recent = []
        if found <= goal or not np.isfinite(found):
            break
    return measured


def stream(task: Task, size: int, seed: int) -> Iterator[Any]:
    """Batches, epoch after epoch, each in an order of its own."""
    epoch = 0
    while True:
        data = task.training(epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(data))
        order = order[: len(data) // size * size]
        yield from batches(data, order, size)
        epoch += 1


def keep(rows: list[tuple]) -> None:
    """Add lines to those that are there."""
    new = not ROWS.exists()
    with ROWS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        for name, seed, number, loss, tested, spent, count in rows:
            writer.writerow(
                (name, seed, number, f"{loss:.5g}", f"{tested:.5g}", f"{spent:.0f}", count)
            )


def goal_of(anchor: Anchor) -> float:
    """The loss to reach."""
    if anchor.goal:
        return anchor.goal
    known = anchor.make(0).loss_baseline
    assert known is not None
    return known[0] / 10


def when(anchor: Anchor, met: dict[str, str] | None) -> str:
    """After how many updates the goal was met, and whether these are too many."""
    if met is None:
        return "no"
    number = int(met["update"])
    late = number > (anchor.within or anchor.updates)
    return f"after {number:,} updates" + ", too many" * late


def report() -> None:
    """Write the tables of all lines."""
    all_lines = stored(ROWS)
    rows, there = [], []
    for name, anchor in ANCHORS.items():
        goal = goal_of(anchor)
        mine = [r for r in all_lines if r["anchor"] == name]
        if mine:
            there.append([name, anchor.title, anchor.source])
        for seed in sorted({r["seed"] for r in mine}):
            lines = [r for r in mine if r["seed"] == seed]
            best = min(lines, key=lambda r: float(r["test_loss"]))
            met = next((r for r in lines if float(r["test_loss"]) <= goal), None)
            rows.append(
                [
                    *(name, seed, f"{int(best['parameters']):,}", f"{goal:.3g}"),
                    f"{float(best['test_loss']):.3g} at {int(best['update']):,}",
                    when(anchor, met),
                    f"{float(lines[-1]['seconds']):.0f} s",
                ]
            )
    header = ["anchor", "seed", "parameters", "goal", "best test loss", "met", "time"]
    text = f"{describe('jax', 'equinox', 'optax', 'odernn')}\n\nTrained until the goal is met or "
    text += (
        "the updates are spent; the test part is looked at for the goal only, and not chosen by. "
    )
    text += "L2 is the root of the mean squared error. Times were taken beside other work.\n\n"
    text += table(["anchor", "goal", "recipe"], there) + "\n\n" + table(header, rows)
    store("anchors", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("anchors", nargs="*", default=list(ANCHORS), metavar="ANCHOR")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        for name in options.anchors:
            bar = progress.add_task(name, total=ANCHORS[name].updates)

            def tick(text: str, bar: Any = bar) -> None:
                progress.update(bar, description=text, advance=1)

            keep(train(name, options.seed, tick))
    report()


if __name__ == "__main__":
    main()
