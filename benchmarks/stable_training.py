"""Does training explode without a certificate, and never with one? Does the horizon predict memory?

    nice python benchmarks/stable_training.py [--quick] [--out runs/stable-training]
                                              [--parts explosion memory]

Explosion: copy memory and adding over long sequences, six networks, with and without
`keep_certified`, at three learning rates, Adam, no clipping. A run fails if its loss or gradient is
not finite or the global norm of the gradient is above 1000 at any update. Memory: the horizon of
the gradient before training against the largest lag that is learnt in a fixed number of updates.

Finished parts are kept as lines of JSON in --out, so an interrupted comparison goes on where it
was; change the settings and the folder together.
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _machine import IMAGES, describe, store, table
from rich.console import Console
from rich.progress import track

import odernn
from odernn import fields, tasks, zoo
from odernn.analysis import certify, quick_diagnosis
from odernn.train import keep_certified
from odernn.train._keep import KAPPA, Keeper

IMAGE = IMAGES / "stable_training.svg"
LIMIT = 1000.0
"""A global gradient norm that counts as exploded."""
RATES = (0.001, 0.01, 0.1)
NETWORKS = {
    n.name: n for n in (zoo.RNN, zoo.GRU, zoo.LSTM, zoo.AntisymmetricRNN, zoo.coRNN, zoo.LEM)
}
TASKS = {"copy": tasks.copy, "adding": tasks.adding}


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is done."""

    hidden: int = 16
    batch: int = 8
    seeds: int = 5
    chunk: int = 10
    updates: tuple[tuple[int, int], ...] = ((500, 120), (2000, 50))
    """Lengths and the gradient steps taken on each."""
    lags: tuple[int, ...] = (5, 10, 20, 40, 80, 160, 320)
    recall_updates: int = 300
    recall_batch: int = 16
    recall_seeds: int = 3
    measured: int = 1000


QUICK = Size(8, 4, 2, 2, ((30, 4),), (3, 6), 20, 8, 2, 50)


class Case(NamedTuple):
    """One program of the first part: all learning rates and seeds run in it side by side."""

    task: str
    length: int
    network: str
    kept: bool


# --- Explosion -----------------------------------------------------------------------------------


def explosion(size: Size, folder: Path) -> list[dict]:
    """Return one record for each case, computed or read."""
    cases = [
        Case(task, length, network, kept)
        for length, _ in size.updates
        for task in TASKS
        for network in NETWORKS
        for kept in (True, False)
    ]
    settings = [size.hidden, size.batch, size.seeds, size.updates, RATES]
    done = Kept(folder / "explosion.jsonl", settings)
    for case in track(cases, "explosion", console=Console(stderr=True)):
        done(case, partial(trained, case, size))
    return [done.records[json.dumps(case)] for case in cases]


def trained(case: Case, size: Size) -> dict:
    """Train with every rate and seed; return what was seen, lists of rates of seeds."""
    task = TASKS[case.task](length=case.length, train_size=1)
    updates = dict(size.updates)[case.length]
    steps = task.test.inputs.shape[1]
    # The same weights and data for every rate.
    models = eqx.filter_vmap(partial(new_model, NETWORKS[case.network], task, size.hidden))(
        jnp.stack([jax.random.key(seed) for seed in range(size.seeds)])
    )
    one = new_model(NETWORKS[case.network], task, size.hidden, jax.random.key(0))
    # A rate of one would leave an antisymmetric unit next to no weights.
    bound = KAPPA ** (1 / steps) if isinstance(cell_of(one).field, fields.Antisymmetric) else 1.0
    keeper = Keeper(one, inputs=(0.0, 1.0), bound=bound)
    weights = eqx.filter(models, odernn.trained(models))
    _, static = eqx.partition(one, odernn.trained(one))
    weights = jax.tree.map(lambda a: jnp.tile(a, (len(RATES),) + (1,) * (a.ndim - 1)), weights)
    if case.kept:
        weights = jax.jit(jax.vmap(keeper.weights))(weights)
    keep = keep_certified(one, inputs=(0.0, 1.0), bound=bound) if case.kept else optax.identity()
    advance = updates_of(partial(slope_of, task, static), keep, size)
    state = jax.vmap(optax.scale_by_adam().init)(weights)
    draw = [
        dataclasses.replace(task.training, size=size.batch, seed=seed) for seed in range(size.seeds)
    ]
    count, seen, uppers = len(RATES) * size.seeds, [], []
    for start in range(0, updates, size.chunk):
        numbers = range(start, min(start + size.chunk, updates))
        data = [[each(number) for each in draw] for number in numbers]
        xs = jnp.asarray(np.array([[d.inputs for d in row] for row in data]))
        ys = jnp.asarray(np.array([[d.targets for d in row] for row in data]))
        lanes = [jax.tree.map(lambda a, i=i: a[i], weights) for i in range(count)]
        uppers.append([keeper.upper(eqx.combine(lane, static)) for lane in lanes])
        weights, state, now = advance(weights, state, xs, ys)
        seen.append(jax.tree.map(np.asarray, now))
    losses, norms, gains = (np.concatenate(part) for part in zip(*seen, strict=True))
    record = summary(losses, norms, gains, np.array(uppers), (len(RATES), size.seeds))
    guess = task.baseline[0] if case.task == "adding" else task.loss_baseline[0]
    return record | {"bound": bound, "guess": guess}


def summary(
    losses: np.ndarray, norms: np.ndarray, gains: np.ndarray, uppers: np.ndarray, shape: tuple
) -> dict:
    """What is kept of a case; arrays have the shape (updates, lanes)."""
    broken = ~np.isfinite(losses + norms)
    bad = broken | (norms > LIMIT)
    exploded = broken | ~(gains <= LIMIT)
    parts = {
        "not_finite": broken.any(axis=0),
        "large": bad.any(axis=0),
        "exploded": exploded.any(axis=0),
        "first_large": np.where(bad.any(axis=0), bad.argmax(axis=0), -1),
        "first_exploded": np.where(exploded.any(axis=0), exploded.argmax(axis=0), -1),
    }
    record = {name: value.reshape(shape).tolist() for name, value in parts.items()}
    numbers = {
        "loss_at_start": losses[0],
        "loss": losses[-10:].mean(axis=0),
        "norm": _largest(norms),
        "gain": _largest(gains),
        "upper": _largest(uppers),
    }
    return record | {name: plain(value.reshape(shape)) for name, value in numbers.items()}


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest over time; what is no number counts as infinite."""
    return np.where(np.isnan(values), np.inf, values).max(axis=0)


def plain(values: np.ndarray) -> list:
    """Numbers for JSON; what is not finite becomes None."""
    flat = [float(v) if math.isfinite(v) else None for v in np.ravel(values)]
    return np.array(flat, object).reshape(np.shape(values)).tolist()


def updates_of(slope: Callable, keep: optax.GradientTransformation, size: Size) -> Callable:
    """Return a compiled function that makes some updates of all lanes."""
    rates = jnp.repeat(jnp.asarray(RATES), size.seeds)
    lanes = jnp.tile(jnp.arange(size.seeds), len(RATES))
    adam = optax.scale_by_adam()

    def one(weights: Any, state: Any, rate: Any, xs: Any, ys: Any) -> tuple[Any, ...]:
        loss, gradient, gain = slope(weights, xs, ys)
        direction, state = adam.update(gradient, state)
        change = jax.tree.map(lambda a: -rate.astype(a.dtype) * a, direction)
        change, _ = keep.update(change, keep.init(weights), weights)
        seen = loss, optax.global_norm(gradient), gain
        return optax.apply_updates(weights, change), state, seen

    @partial(jax.jit, donate_argnums=(0, 1))
    def advance(weights: Any, state: Any, xs: Any, ys: Any) -> tuple[Any, ...]:
        def turn(carry: Any, data: Any) -> tuple[Any, Any]:
            xs, ys = data
            weights, state, seen = jax.vmap(one)(*carry, rates, xs[lanes], ys[lanes])
            return (weights, state), seen

        (weights, state), seen = jax.lax.scan(turn, (weights, state), (xs, ys))
        return weights, state, seen

    return advance


def slope_of(task: tasks.Task, static: Any, weights: Any, xs: Any, ys: Any) -> tuple[Any, ...]:
    """Return the loss of a batch, its gradient, and the gain on the way back through time.

    The gain is the largest ``|dL/dy_k| / sum_{j >= k} |dL/dh_j|`` of all steps k and sequences: the
    gradient that a state has against all that the read-out has put in from there on.
    """
    # A zero added to every state: its gradient is the state's own.
    start = cell_of(eqx.combine(weights, static)).initial_state()
    zeros = jax.tree.map(lambda a: jnp.zeros((*xs.shape[:2], *a.shape), a.dtype), start)

    def run(weights: Any, zeros: Any) -> Any:
        cell = cell_of(eqx.combine(weights, static))

        def one(xs: Any, zeros: Any) -> Any:
            def step(y: Any, data: Any) -> tuple[Any, Any]:
                u, zero = data
                y = jax.tree.map(jnp.add, cell.step(y, u), zero)
                return y, cell.output(y)

            return jax.lax.scan(step, cell.initial_state(), (jax.vmap(cell.drive)(xs), zeros))[1]

        return jax.vmap(one)(xs, zeros)

    def read(weights: Any, hs: Any) -> Any:
        predicted = jax.vmap(eqx.combine(weights, static).readout)(hs)
        if task.kind == "classification":
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(predicted, ys))
        return jnp.mean((predicted - ys) ** 2)

    hs, pull = jax.vjp(run, weights, zeros)
    loss, (outer, given) = jax.value_and_grad(read, argnums=(0, 1))(weights, hs)
    inner, states = pull(given)
    squares = [jnp.sum(a**2, axis=-1) for a in jax.tree.leaves(states)]
    put_in = jnp.cumsum(jnp.linalg.norm(given, axis=-1)[:, ::-1], axis=1)[:, ::-1]
    tiny = jnp.finfo(put_in.dtype).tiny
    gain = jnp.max(jnp.sqrt(sum(squares)) / jnp.maximum(put_in, tiny))
    return loss, jax.tree.map(jnp.add, outer, inner), gain


def new_model(network: Any, task: tasks.Task, hidden: int, key: Any) -> odernn.Model:
    """An untrained model of one layer."""
    a, b = jax.random.split(key)
    readout = odernn.EachStep if task.per_step else odernn.LastStep
    layer = odernn.Layer(network(task.input_size, hidden, key=a))
    return odernn.Model([layer], readout(hidden, task.output_size, key=b))


def cell_of(model: odernn.Model) -> odernn.Cell:
    """The cell of a model of one layer."""
    layer = model.layers[0]
    assert isinstance(layer, odernn.Layer)
    return layer.cell


class Kept:
    """Records in a file of JSON lines: what is there is not computed again."""

    def __init__(self, path: Path, settings: list):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.read_text().endswith("\n"):
            path.write_text(path.read_text() + "\n")
        self.path, self.settings = path, json.dumps(settings)
        self.records: dict[str, dict] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                record = json.loads(line)
            except ValueError:  # cut off while it was written
                continue
            if record["settings"] == self.settings:
                self.records[record["case"]] = record

    def __call__(self, case: Any, compute: Callable[[], dict]) -> dict:
        """Return the record of a case."""
        name = json.dumps(case)
        if name not in self.records:
            began = time.perf_counter()
            record = {"case": name, "settings": self.settings} | compute()
            record["seconds"] = time.perf_counter() - began
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            self.records[name] = record
        return self.records[name]


# --- Memory --------------------------------------------------------------------------------------

SYMBOLS, RECALL_RATES, SOLVED = 4, (0.003, 0.03), 0.9


def variants(hidden: int, key: Any) -> dict[str, odernn.Cell]:
    """Cells with short and long memories, by names of which the first word is the network."""
    inputs = SYMBOLS + 1

    def made(network: str, dt: float | None = None, **options: Any) -> odernn.Cell:
        cell = NETWORKS[network](inputs, hidden, key=key)
        field = type(cell.field)(inputs, hidden, key=key, **options) if options else cell.field
        return odernn.Cell(field, cell.method, cell.dt if dt is None else dt)

    def scaled(cell: odernn.Cell, factor: float) -> odernn.Cell:
        return eqx.tree_at(lambda c: c.field.weight, cell, factor * cell.field.weight)

    def shifted(cell: odernn.Cell, bias: float) -> odernn.Cell:
        # The second gate is the one that keeps the memory, in a GRU as in an LSTM.
        new = cell.field.bias.at[hidden : 2 * hidden].add(bias)
        return eqx.tree_at(lambda c: c.field.bias, cell, new)

    found = {f"RNN weights x {g:g}": scaled(made("RNN"), g) for g in (0.5, 1.0, 1.7)}
    found |= {f"RNN dt = {dt:g}": made("RNN", dt) for dt in (0.3, 0.1, 0.03, 0.01)}
    for network in ("GRU", "LSTM"):
        found |= {f"{network} bias + {b:g}": shifted(made(network), b) for b in (0.0, 2.0, 4.0)}
    found |= {
        f"AntisymmetricRNN gamma = {gamma:g}, dt = {dt:g}": made(
            "AntisymmetricRNN", dt, gamma=gamma
        )
        for gamma, dt in ((0.01, 0.1), (0.01, 0.03), (0.01, 0.01), (0.3, 0.1), (1.0, 0.1))
    }
    found |= {
        f"coRNN epsilon = {epsilon:g}, dt = {dt:g}": made("coRNN", dt, epsilon=epsilon)
        for epsilon, dt in ((1.0, 0.2), (0.1, 0.2), (1.0, 0.05), (0.1, 0.02))
    }
    return found | {f"LEM dt = {dt:g}": made("LEM", dt) for dt in (1.0, 0.3, 0.1, 0.03)}


def memory(size: Size, folder: Path) -> list[dict]:
    """Return one record for each variant, computed or read."""
    settings = [size.hidden, size.lags, size.recall_updates, size.recall_batch, size.recall_seeds]
    settings += [size.measured, RECALL_RATES]
    done = Kept(folder / "memory.jsonl", settings)
    names = list(variants(size.hidden, jax.random.key(0)))
    return [
        done(name, partial(remembered, name, size))
        for name in track(names, "memory", console=Console(stderr=True))
    ]


def remembered(name: str, size: Size) -> dict:
    """Measure and certify the horizon of new networks, then learn lag after lag."""
    keys = [jax.random.key(seed) for seed in range(size.recall_seeds)]
    models, horizons, certified = [], [], []
    for key in keys:
        a, b = jax.random.split(key)
        cell = variants(size.hidden, a)[name]
        readout = odernn.LastStep(size.hidden, SYMBOLS, key=b)
        models.append(odernn.Model([odernn.Layer(cell)], readout))
        xs, _ = recall(jax.random.fold_in(key, 1), 2, size.measured)
        horizons.append(quick_diagnosis(models[-1], xs)["horizon"])
        region = odernn.analysis.reachable(cell, (0.0, 1.0))
        certified.append(certify(cell, region).horizon())
    learnt = np.zeros((len(RECALL_RATES), len(keys)), int)
    accuracies, failures = {}, 0
    for lag in size.lags:
        found = learn(models, lag, size)
        accuracies[str(lag)] = found.tolist()
        learnt = np.where(found >= SOLVED, lag, learnt)
        failures = 0 if (found >= SOLVED).any() else failures + 1
        if failures == 2:
            break
    return {
        "horizon": horizons,
        "certified": plain(np.array(certified, float)),
        "learnt": learnt.tolist(),
        "accuracy": accuracies,
    }


def recall(key: Any, batch: int, lag: int) -> tuple[Any, Any]:
    """One symbol, then noise: which symbol was it, so many steps later?"""
    a, b = jax.random.split(key)
    symbols = jax.random.randint(a, (batch,), 0, SYMBOLS)
    noise = jax.random.uniform(b, (batch, lag + 1, 1))
    first = jnp.zeros((batch, lag + 1, SYMBOLS)).at[:, 0].set(jax.nn.one_hot(symbols, SYMBOLS))
    return jnp.concatenate([first, noise], axis=-1), symbols


def learn(models: list[odernn.Model], lag: int, size: Size) -> np.ndarray:
    """Train every model with every rate; return accuracies on new data, (rates, models)."""
    weights = [eqx.filter(model, odernn.trained(model)) for model in models]
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *weights)
    _, static = eqx.partition(models[0], odernn.trained(models[0]))
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())

    def predicted(weights: Any, xs: Any) -> Any:
        return jax.vmap(eqx.combine(weights, static))(xs)

    def loss(weights: Any, xs: Any, ys: Any) -> Any:
        scores = predicted(weights, xs)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, ys))

    @jax.jit
    def train(weights: Any, rate: Any, key: Any) -> Any:
        def update(carry: Any, number: Any) -> tuple[Any, None]:
            weights, state = carry
            data = recall(jax.random.fold_in(key, number), size.recall_batch, lag)
            direction, state = adam.update(jax.grad(loss)(weights, *data), state)
            change = jax.tree.map(lambda a: -rate.astype(a.dtype) * a, direction)
            return (optax.apply_updates(weights, change), state), None

        numbers = jnp.arange(size.recall_updates)
        weights, _ = jax.lax.scan(update, (weights, adam.init(weights)), numbers)[0]
        xs, ys = recall(jax.random.fold_in(key, size.recall_updates), 256, lag)
        right = jnp.argmax(predicted(weights, xs), axis=-1) == ys
        return jnp.mean(right, dtype=jnp.float32)

    keys = jnp.stack([jax.random.key(seed) for seed in range(len(models))])
    by_seed = jax.vmap(train, in_axes=(0, None, 0))
    both = jax.vmap(by_seed, in_axes=(None, 0, None))
    return np.asarray(both(stacked, jnp.asarray(RECALL_RATES), keys))


# --- Results -------------------------------------------------------------------------------------


def centre(values: list, least: float = 1.0) -> float:
    """The geometric mean; what is below ``least``, or no number, counts as that."""
    numbers = [least if v is None or not v > least else v for v in values]
    return float(np.exp(np.mean(np.log(numbers))))


def lag_of(record: dict, rate: int | None = None) -> float:
    """The geometric mean over seeds of the largest lag learnt, at one rate or the better one."""
    learnt = np.array(record["learnt"])
    return centre(list(learnt.max(axis=0) if rate is None else learnt[rate]))


def correlation(a: list[float], b: list[float]) -> str:
    """Spearman's rank correlation."""
    from scipy.stats import spearmanr

    return f"{spearmanr(a, b).statistic:.2f}" if len(a) > 2 else "too few"


def draw(records: list[dict], size: Size, path: Path) -> None:
    """Draw the lag learnt at each rate against the two horizons."""
    from odernn.analysis._figure import BLUE, COLUMN, GREEN, INK, LINE, PAGE, RED, SOFT, figure_into

    looks = [("o", BLUE), ("s", RED), ("^", GREEN), ("D", INK), ("v", SOFT), ("P", "#CC79A7")]
    styles = dict(zip(NETWORKS, looks, strict=True))
    with figure_into(path, PAGE, 1.45 * COLUMN) as figure:
        panels = figure.subplots(len(RECALL_RATES), 2, sharex=True, sharey=True)
        for row, rate in enumerate(RECALL_RATES):
            for axes, kind in zip(panels[row], ("horizon", "certified"), strict=True):
                far = [
                    centre([size.measured if v is None else v for v in r[kind]]) for r in records
                ]
                shown = [i for i, v in enumerate(far) if kind == "horizon" or v > 1]
                for i in shown:
                    network = json.loads(records[i]["case"]).split()[0]
                    marker, colour = styles[network]
                    axes.plot(
                        *(far[i], lag_of(records[i], row), marker),
                        **{"color": colour, "markersize": 4.5, "markeredgecolor": "white"},
                        **{"markeredgewidth": 0.4, "zorder": 3, "label": network},
                    )
                ends = [1, size.measured]
                axes.plot(ends, ends, color=LINE, linewidth=0.7, linestyle="--", zorder=1)
                rank = correlation(
                    [far[i] for i in shown], [lag_of(records[i], row) for i in shown]
                ).replace("-", "\u2212")
                what = "measured" if kind == "horizon" else "certified"
                axes.set_title(
                    f"{what}, rate {rate}: rank correlation {rank}, {len(shown)} networks",
                    loc="left",
                )
        for axes in panels[:, 0]:
            axes.set_ylabel("largest lag learnt (steps)")
        for axes, what in zip(panels[-1], ("measured", "certified"), strict=True):
            axes.set_xlabel(f"{what} horizon before training (steps)")
        corner = panels[0, 0]
        corner.set(xscale="log", yscale="log")
        corner.set(xlim=(0.8, 1.3 * size.measured), ylim=(0.8, 1.4 * size.lags[-1]))
        handles, labels = panels[0, 0].get_legend_handles_labels()
        shown = dict(zip(labels, handles, strict=True))
        panels[1, 1].legend(shown.values(), shown.keys(), frameon=False, loc="lower right")


def counted(record: dict, name: str) -> str:
    """Runs of all, at each learning rate."""
    return " ".join(str(sum(row)) for row in record[name])


def number(value: float) -> str:
    return "not finite" if math.isinf(value) else f"{value:.3g}"


def most(record: dict, name: str) -> str:
    """The largest of all runs."""
    values = [math.inf if v is None else v for row in record[name] for v in row]
    top = max(values)
    return f"{top:.7g}" if name == "upper" and top < 1.1 else number(top)


def explosion_text(records: list[dict], size: Size) -> str:
    """The table of the first part."""
    header = [
        *("task", "T", "network", "certificate kept", "exploded", "norm above 1000"),
        *("not finite", "loss / guess", "largest norm", "largest gain", "largest certified rate"),
    ]
    rows = []
    for record in records:
        case = Case(*json.loads(record["case"]))
        losses = [[math.inf if v is None else v for v in row] for row in record["loss"]]
        best = min(float(np.median(row)) for row in losses)
        rows.append(
            [
                *(case.task, str(case.length), case.network, "yes" if case.kept else "no"),
                *(counted(record, k) for k in ("exploded", "large", "not_finite")),
                number(best / record["guess"]),
                *(most(record, k) for k in ("norm", "gain", "upper")),
            ]
        )
    lines = [table(header, rows), "", "Runs of each kind, all tasks, lengths, rates and seeds:", ""]
    for kept in (True, False):
        those = [r for r in records if Case(*json.loads(r["case"])).kept is kept]
        total = len(those) * len(RATES) * size.seeds
        counts = [int(sum(np.sum(r[k]) for r in those)) for k in KINDS]
        which = [
            ", ".join(sorted({Case(*json.loads(r["case"])).network for r in those if np.any(r[k])}))
            for k in KINDS
        ]
        said = ", ".join(
            f"{KINDS[k]} {c}" + (f" ({names})" if names else "")
            for k, c, names in zip(KINDS, counts, which, strict=True)
        )
        gain = max(math.inf if v is None else v for r in those for row in r["gain"] for v in row)
        lines.append(
            f"- {'certificate kept' if kept else 'not kept'}: {total} runs; {said}; the largest "
            f"gain is {number(gain)}."
        )
    return "\n".join(lines)


KINDS = {"exploded": "exploded", "large": "norm above 1000", "not_finite": "not finite"}


def memory_text(records: list[dict], size: Size) -> str:
    """The table of the second part."""
    header = ["network", "measured horizon", "certified horizon"]
    header += [f"largest lag learnt, seeds, rate {rate}" for rate in RECALL_RATES]
    rows = []
    measured = [centre(r["horizon"]) for r in records]
    proved = [centre([size.measured if v is None else v for v in r["certified"]]) for r in records]
    for record, far, sure in zip(records, measured, proved, strict=True):
        rows.append(
            [
                json.loads(record["case"]),
                f"at least {far:.0f}" if far >= size.measured else f"{far:.0f}",
                "none" if sure <= 1 else f"{sure:.0f}",
                *(" ".join(map(str, row)) for row in record["learnt"]),
            ]
        )
    some = [i for i, value in enumerate(proved) if value > 1]
    kinds: list[tuple[str, int | None]] = [("better rate", None)]
    kinds += [(f"rate {rate}", i) for i, rate in enumerate(RECALL_RATES)]
    ranks = []
    for name, rate in kinds:
        lags = [lag_of(r, rate) for r in records]
        both = [correlation(measured, lags)]
        both.append(correlation([proved[i] for i in some], [lags[i] for i in some]))
        ranks.append([name, *both])
    first = f"measured horizon ({len(records)} networks)"
    second = f"certified horizon, where it is above one step ({len(some)})"
    return (
        "Rank correlation (Spearman) of the learnt lag:\n\n"
        f"{table(['lag learnt at', first, second], ranks)}\n\n{table(header, rows)}"
    )


HEAD = """
{machine}

What is fixed: {hidden} hidden units, one layer, float32, Adam (0.9, 0.999) without clipping,
{seeds} seeds, batches of {batch}, learning rates {rates}; {updates}. Every seed has its own initial
weights and data, the same ones for all rates, with and without a certificate. With a certificate,
`keep_certified` projects the initial weights and follows every update, for inputs in [0, 1] and a
rate of at most 1 per step (antisymmetric network: 10^(1/steps), as at 1 it would have next to no
weights). What is not answered: other optimisers, clipping, larger networks, longer training.
Finished runs are kept: some may be of an earlier commit than this text.
"""


def head(size: Size) -> str:
    """What was done, on which machine."""
    updates = ", ".join(f"{count} updates at T = {length}" for length, count in size.updates)
    return HEAD.strip().format(
        machine=describe("jax", "optax", "odernn"),
        hidden=size.hidden,
        seeds=size.seeds,
        batch=size.batch,
        rates=", ".join(map(str, RATES)),
        updates=updates,
    )


WHAT = """
**Exploded**: the loss or the gradient is not finite, or the gain is above 1000 at some update. The
gain is what a certificate is about: the gradient of the loss with respect to a state, divided by
the sum of the gradients that the read-out has put in from that step on, in the 2-norm; the largest
of all steps, sequences and updates. **Norm above 1000**: not finite, or the global norm of the
gradient of all weights is above 1000 at some update; no certificate of the steps excludes that, as
this gradient is a sum over all steps and proportional to states and errors (an antisymmetric unit
adds up its inputs, so that both get large). Both are numbers of runs out of
{seeds} at the three rates. **Loss / guess**: the median loss of the last 10 updates, at the best
rate, against that of a network without memory. **Certified rate**: the bound of the theorem that
`keep_certified` uses, in its norm, the largest seen every {chunk} updates.
"""

RECALL = """
One of {symbols} symbols at the first step, then noise in [0, 1]; asked for after the last step. A
lag is learnt if {updates} updates (Adam, batches of {batch}, gradients clipped at norm 1, rates
{rates}) lead to an accuracy of {solved} on 256 new sequences; lags {lags}, {seeds} seeds,
up to the second lag in a row that no run learns; 0: none. Before training, the measured
horizon is the largest lag at which a gradient is within a factor of 10 (over {measured} steps of
the same kind of input, geometric mean over the seeds), and the certified horizon the number of
steps for which a certificate promises that, on inputs in [0, 1] and reachable states.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--out", type=Path, default=Path("runs/stable-training"))
    parser.add_argument("--parts", nargs="+", default=["explosion", "memory"])
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    image = options.out / IMAGE.name if options.quick else IMAGE
    text = head(size)
    if "explosion" in options.parts:
        what = WHAT.strip().format(seeds=size.seeds, chunk=size.chunk)
        found = explosion_text(explosion(size, options.out), size)
        text += f"\n\n## Explosion\n\n{what}\n\n{found}"
    if "memory" in options.parts:
        records = memory(size, options.out)
        draw(records, size, image)
        what = RECALL.strip().format(
            symbols=SYMBOLS,
            updates=size.recall_updates,
            batch=size.recall_batch,
            rates=", ".join(map(str, RECALL_RATES)),
            solved=SOLVED,
            lags=", ".join(map(str, size.lags)),
            seeds=size.recall_seeds,
            measured=size.measured + 1,
        )
        text += f"\n\n## Memory\n\n{what}\n\n{memory_text(records, size)}"
    if options.quick or len(options.parts) < 2:
        print(text)
    else:
        store("stable_training", text)


if __name__ == "__main__":
    main()
