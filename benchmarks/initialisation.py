"""Do gradients reach a wanted horizon at the start, in every network? Does that help to train?

    XLA_FLAGS=--xla_backend_optimization_level=0 python benchmarks/initialisation.py --parts reach
    python benchmarks/initialisation.py [--quick] [--out runs/initialisation] [--parts training]

Reach: every network of the zoo as it is drawn and after `odernn.analysis.initialise`, on white
noise. Training: adding and copy memory over 200 steps, networks as they are drawn and initialised
on inputs of the task, with the same batches and the same optimiser. Most of the first part is
compilation of programs that run once, hence the flag; the second part runs faster without it, and
stores both.

Finished parts are kept as lines of JSON in --out, so an interrupted comparison goes on where it
was; change the settings and the folder together.
"""

import argparse
import dataclasses
import math
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _machine import describe, store, table
from qunn_learning import drawn
from rich.console import Console
from rich.progress import track
from stable_training import Kept

import odernn
from odernn import tasks, zoo
from odernn.analysis import Initialised, initialise
from odernn.train._loss import Batch, outputs
from odernn.zoo._network import size_for

KAPPA = 10.0


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is done."""

    units: int = 16
    horizons: tuple[int, ...] = (10, 100, 1000)
    hidden: int = 32
    length: int = 200
    batch: int = 16
    rate: float = 0.01
    updates: int = 1000
    seeds: int = 3


QUICK = Size(4, (5, 20), 4, 20, 4, 0.005, 10, 2)
NETWORKS = {n.name: n for n in (zoo.LSTM, zoo.GRU, zoo.CTRNN, zoo.coRNN, zoo.LEM)}
TASKS = {"adding": tasks.adding, "copy": tasks.copy}


# --- Reach ---------------------------------------------------------------------------------------


def reached(name: str, size: Size) -> dict:
    """Initialise one network for every horizon; return what was found and what it took."""
    network = zoo.CELLS[name]
    cell = network(2, size_for(network.field, size.units), key=jax.random.key(0))
    rows = []
    for horizon in size.horizons:
        began = time.process_time()
        found = initialise(cell, horizon, kappa=KAPPA, key=jax.random.key(1))
        between = time.process_time()
        initialise(cell, horizon, kappa=KAPPA, key=jax.random.key(1))
        times = {"first": between - began, "again": time.process_time() - between}
        rows.append(times | described(found))
    return {"rows": rows, "flags": os.environ.get("XLA_FLAGS", "no flags")}


def described(found: Initialised) -> dict:
    names = ("change", "freedom", "before", "gradient", "solved", "reason")
    return {name: getattr(found, name) for name in names}


def reach_text(records: dict[str, dict], size: Size) -> str:
    """A row for every network, and how many are where."""
    header = ["network"]
    header += [part for h in size.horizons for part in (f"before, {h}", f"after, {h}")]
    header += [f"what is changed for {size.horizons[-1]}"]
    rows = []
    for name, record in records.items():
        row = [zoo.CELLS[name].name]
        for found in record["rows"]:
            after = f"{found['gradient']:.2g}"
            row += [f"{found['before']:.2g}", after if found["solved"] else f"**{after}**"]
        last = record["rows"][-1]
        rows.append([*row, last["change"] + (f"; {last['reason']}" if last["reason"] else "")])
    flags = ", ".join(dict.fromkeys(record["flags"] for record in records.values()))
    text = [table(header, rows), "", f"Times of one core, with {flags}.", ""]
    for at, horizon in enumerate(size.horizons):
        found = [record["rows"][at] for record in records.values()]
        before = sum(1 / KAPPA <= one["before"] <= KAPPA for one in found)
        after = sum(one["solved"] for one in found)
        each = [1000 * one["again"] for one in found]
        first = [one["first"] for one in found]
        kinds = [one["freedom"] for one in found if one["solved"] and one["freedom"]]
        used = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds)))
        text.append(
            f"- Horizon {horizon}: {before} of {len(found)} networks are in the band as they are "
            f"drawn, {after} after `initialise` ({used}). A call took {np.median(first):.1f} s "
            f"({max(first):.1f} s at most) with compilation, {np.median(each):.0f} ms "
            f"({max(each):.0f} ms) without."
        )
    return "\n".join(text)


# --- Training ------------------------------------------------------------------------------------


def new_models(
    case: tuple[str, str, bool], task: tasks.Task, size: Size
) -> tuple[list[odernn.Model], list[Initialised]]:
    """One model for each seed, and how its cell was initialised, if it was."""
    _, network, designed = case
    models, found = [], []
    for seed in range(size.seeds):
        a, b, c = jax.random.split(jax.random.key(seed), 3)
        cell = NETWORKS[network](task.input_size, size.hidden, key=a)
        if designed:
            xs = jnp.asarray(drawn(task, 2, c).inputs)
            found.append(initialise(cell, size.length, xs, kappa=KAPPA, key=c))
            cell = found[-1].cell
        readout: Any = odernn.EachStep if task.per_step else odernn.LastStep
        models.append(
            odernn.Model([odernn.Layer(cell)], readout(size.hidden, task.output_size, key=b))
        )
    return models, found


def trained(case: tuple[str, str, bool], size: Size) -> dict:
    """Train one network with all seeds; return the losses at the end and the guess to beat."""
    task = TASKS[case[0]](length=size.length, train_size=1)
    models, found = new_models(case, task, size)
    parts = [eqx.partition(model, odernn.trained(model)) for model in models]
    rest = parts[0][1]
    keys = jnp.stack([jax.random.key(seed) for seed in range(size.seeds)])
    if all(eqx.tree_equal(rest, other) is True for _, other in parts):
        weights = jax.tree.map(lambda *a: jnp.stack(a), *(weights for weights, _ in parts))
        finals = losses(task, size, weights, rest, keys)
    else:
        # Step sizes or other fixed numbers differ between the seeds.
        one = [jax.tree.map(lambda a: a[None], weights) for weights, _ in parts]
        rests = [rest for _, rest in parts]
        each = [losses(task, size, w, r, k[None]) for w, r, k in zip(one, rests, keys, strict=True)]
        finals = jnp.concatenate(each)
    finals = np.asarray(finals, float).tolist()
    guess: Any = task.baseline if case[0] == "adding" else task.loss_baseline
    return {"losses": finals, "guess": guess[0], "found": [described(one) for one in found]}


@eqx.filter_jit
def losses(task: tasks.Task, size: Size, weights: Any, rest: Any, keys: Any) -> Any:
    """Train models side by side; return their mean losses over the last tenth of the updates."""
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(size.rate))

    def loss(weights: Any, batch: Batch) -> Any:
        predicted = outputs(eqx.combine(weights, rest), batch)
        if task.kind == "regression":
            return jnp.mean((predicted - batch.targets) ** 2)
        entropy = optax.softmax_cross_entropy_with_integer_labels
        return jnp.mean(entropy(predicted, jnp.asarray(batch.targets)))

    def train(weights: Any, key: Any) -> Any:
        def update(carry: Any, number: Any) -> tuple[Any, Any]:
            weights, state = carry
            batch = drawn(task, size.batch, jax.random.fold_in(key, number + 1))
            value, slope = jax.value_and_grad(loss)(weights, batch)
            change, state = adam.update(slope, state)
            return (optax.apply_updates(weights, change), state), value

        start = (weights, adam.init(weights))
        values = jax.lax.scan(update, start, jnp.arange(size.updates))[1]
        return jnp.mean(values[-max(1, size.updates // 10) :])

    return jax.vmap(train)(weights, keys)


def training_text(records: dict[tuple[str, str, bool], dict]) -> str:
    """Losses of networks as they are drawn beside those that were initialised."""
    header = ["task", "network", "guess", "as drawn", "initialised", "ratio", "what was changed"]
    rows = []
    for task, network in {(case[0], case[1]): None for case in records}:
        plain, designed = (records[task, network, flag] for flag in (False, True))
        a, b = (np.array(record["losses"]) for record in (plain, designed))
        changes = dict.fromkeys(one["change"] or "nothing" for one in designed["found"])
        ratio = f"{math.exp(np.log(b).mean() - np.log(a).mean()):.2f}"
        rows.append(
            [
                task,
                network,
                f"{plain['guess']:.3g}",
                spread(a),
                spread(b),
                ratio,
                "; ".join(changes),
            ]
        )
    return table(header, rows)


def spread(values: np.ndarray) -> str:
    return f"{values.mean():.3g} ({values.min():.3g} to {values.max():.3g})"


REACH = """
Mean gradient at the lag, before and after, of networks of {units} units and two inputs, on two
sequences of white noise; the band is [0.1, 10]; bold: outside. A gradient is a geometric mean over
random directions, so that slow units outweigh fast ones.
"""
TRAINING = """
Mean squared error (adding) and cross-entropy (copy), mean over the last tenth of {updates} updates
and over {seeds} seeds (smallest to largest), {length} steps, {hidden} units, batches of {batch},
Adam with a rate of {rate}, clipped at 1. Initialised for a lag of {length} on two sequences of the
task. "Guess" is what a constant answer, or one without memory, costs. Ratio below one: initialised
is better.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Initial values by design.")
    parser.add_argument("--quick", action="store_true", help="tiny, nothing is stored")
    parser.add_argument("--out", type=Path, default=Path("runs/initialisation"))
    parser.add_argument("--parts", nargs="+", choices=("reach", "training"))
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    folder = options.out / "quick" if options.quick else options.out
    folder.mkdir(parents=True, exist_ok=True)
    parts = options.parts or ["reach", "training"]
    console = Console(stderr=True)
    text = f"# Initialisation\n\n{describe('jax', 'equinox')}"
    if "reach" in parts:
        names = list(zoo.CELLS)[:: 13 if options.quick else 1]
        done = Kept(folder / "reach.jsonl", [size.units, size.horizons])
        records = {
            name: done(name, partial(reached, name, size))
            for name in track(names, "reach", console=console)
        }
        about = REACH.strip().format(units=size.units)
        text += f"\n\n## Reach\n\n{about}\n\n{reach_text(records, size)}"
    if "training" in parts:
        cases = [(t, n, flag) for t in TASKS for n in NETWORKS for flag in (False, True)]
        done = Kept(folder / "training.jsonl", list(dataclasses.astuple(size)[2:]))
        found = {
            case: done(case, partial(trained, case, size))
            for case in track(cases, "training", console=console)
        }
        about = TRAINING.strip().format(**dataclasses.asdict(size))
        text += f"\n\n## Training\n\n{about}\n\n{training_text(found)}"
    if options.quick or len(parts) < 2:
        print(text)
    else:
        store("initialisation", text)


if __name__ == "__main__":
    main()
