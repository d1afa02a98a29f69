"""How well does a QUNN learn with few parameters, against gated, oscillating and rotating units?

    nice python benchmarks/qunn_learning.py [--tasks adding-200 ...] [--cells lstm ...]
                                            [--sizes 50 150 ...] [--updates N] [--seeds 5] [--again]
    python benchmarks/qunn_learning.py --draw

All seeds and learning rates of one task, cell and size are trained side by side in one program,
with the same batches, and end as lines of results/qunn_learning.csv; what is there with the same
settings is not trained again, unless with --again. Runs of different --cells may go on at the same
time. --list says which sizes and how many parameters these are. --draw makes the picture and the
tables of all lines.
"""

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _machine import IMAGES, RESULTS, describe, store, stored, table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from scipy import special

import odernn
from odernn import fields, tasks, zoo
from odernn.tasks._generated import MEMORY as COPIED
from odernn.train._loss import Batch, batches, outputs

IMAGE = IMAGES / "qunn_learning.svg"
ROWS = RESULTS / "qunn_learning.csv"
RATES = (0.02, 0.005, 0.001)
CHUNK = 50
"""Updates in one call of a compiled program."""
SOLVED = 0.01
"""Squared error at which adding counts as solved."""
FEW = 500
"""Parameters below which the goal is set."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A task, and how much it is trained."""

    make: Callable[[], tasks.Task]
    title: str
    updates: int
    batch: int = 32
    sizes: tuple[int, ...] = (50, 150, 450, 2000)
    """Numbers of parameters; the largest shape that has no more is trained."""
    qubits: int = 5
    rates: tuple[float, ...] = RATES
    """Of a QUNN; all other cells have RATES."""
    memory: int = 1
    """The most qubits and lags of a QUNN: time grows with 2^qubits, lags and the length."""


SETTINGS = {
    "ItalyPowerDemand": Setting(
        partial(tasks.get, "ItalyPowerDemand"),
        "ItalyPowerDemand",
        600,
        sizes=(25, 50, 150, 450, 2000, 20000),
        qubits=6,
    ),
    "JapaneseVowels": Setting(
        partial(tasks.get, "JapaneseVowels"),
        "JapaneseVowels",
        600,
        sizes=(100, 150, 300, 450, 2000, 20000),
        qubits=6,
    ),
    "BasicMotions": Setting(
        partial(tasks.get, "BasicMotions"), "BasicMotions", 300, sizes=(50, 150, 450, 2000, 20000)
    ),
    "digits": Setting(
        tasks.digits, "digits", 600, sizes=(100, 150, 300, 450, 2000, 20000), qubits=8
    ),
    "digits-permuted": Setting(
        partial(tasks.digits, permuted=True),
        "permuted digits",
        600,
        sizes=(100, 150, 300, 450),
        qubits=8,
    ),
    "adding-200": Setting(
        partial(tasks.adding, length=200), "adding, T = 200", 800, sizes=(50, 450)
    ),
    "copy-200": Setting(partial(tasks.copy, length=200), "copy, T = 200", 1000, sizes=(450, 2000)),
    "adding-1000": Setting(
        partial(tasks.adding, length=1000),
        "adding, T = 1000",
        updates=8000,
        batch=50,
        sizes=(60, 150),
        qubits=4,
        rates=(0.001,),
    ),
}
QUBITS, MEMORY, FEATURES = (2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 4), (1, 2, 4, 8, 16)
"""What the shapes of a QUNN are chosen from."""
USUAL = 4
"""Qubits below which no shape is taken, unless none with so many is small enough."""
MOST_UNITS = 256

Shape = tuple[int, ...]
"""Hidden units; of a QUNN qubits, lags and features of the trained encoding."""


def qunn(input_size: int, shape: Shape, key: Any, **options: Any) -> odernn.Cell:
    qubits, memory, features = shape
    options = {"encoding": "trained", "sharing": "site"} | options
    return zoo.QUNN(input_size, qubits, memory=memory, features=features, key=key, **options)


def units(network: Any, input_size: int, shape: Shape, key: Any) -> odernn.Cell:
    return network(input_size, *shape, key=key)


CELLS: dict[str, Callable[[int, Shape, Any], odernn.Cell]] = {
    "QUNN global": partial(qunn, sharing="global"),
    "QUNN global feedback": partial(qunn, sharing="global", feedback=True),
    "QUNN site": qunn,
    "QUNN site feedback": partial(qunn, feedback=True),
    "QUNN site precessing": partial(qunn, precession=1.0),
    "QUNN linear": partial(qunn, encoding="linear"),
    "QUNN linear precessing": partial(qunn, encoding="linear", precession=1.0),
} | {n.name: partial(units, n) for n in (zoo.LSTM, zoo.GRU, zoo.coRNN, zoo.LEM, zoo.expRNN)}
NAMES = {name.lower().replace(" ", "-"): name for name in CELLS}
"""Cells as they are asked for."""


class Case(NamedTuple):
    """One program: all learning rates and seeds run in it side by side."""

    task: str
    cell: str
    size: int
    shape: Shape
    parameters: int


def rates_of(case: Case) -> tuple[float, ...]:
    return SETTINGS[case.task].rates if case.cell.startswith("QUNN") else RATES


# --- Shapes --------------------------------------------------------------------------------------


def new_model(cell: str, task: tasks.Task, shape: Shape, key: Any) -> odernn.Model:
    """An untrained model of one layer."""
    a, b = jax.random.split(key)
    readout: Any = odernn.EachStep if task.per_step else odernn.LastStep
    layer = odernn.Layer(CELLS[cell](task.input_size, shape, a))
    return odernn.Model([layer], readout(layer.hidden_size, task.output_size, key=b))


def count(cell: str, task: tasks.Task, shape: Shape) -> int:
    """Trained scalars, those that matter: of an expRNN's matrix the strict upper triangle."""
    model = eqx.filter_eval_shape(partial(new_model, cell, task, shape), jax.random.key(0))
    field = cell_of(model).field
    unread = 0
    if isinstance(field, fields.Orthogonal):
        unread = field.hidden_size * (field.hidden_size + 1) // 2
    return odernn.parameter_count(model) - unread


def cell_of(model: odernn.Model) -> odernn.Cell:
    """The cell of a model of one layer."""
    layer = model.layers[0]
    assert isinstance(layer, odernn.Layer)
    return layer.cell


@cache
def task_of(name: str) -> tasks.Task:
    return SETTINGS[name].make()


@cache
def counts(name: str, cell: str) -> dict[Shape, int]:
    """The parameters of every shape of a cell."""
    if cell.startswith("QUNN"):
        most = SETTINGS[name]
        chains = [(q, m) for q in QUBITS if q <= most.qubits for m in MEMORY if m <= most.memory]
        shapes = [(*chain, features) for chain in chains for features in FEATURES]
        return {shape: count(cell, task_of(name), shape) for shape in shapes}
    # A polynomial of second degree in the number of units: three values say all.
    points = [count(cell, task_of(name), (n,)) for n in (2, 4, 6)]
    law = np.rint(np.polyfit([2, 4, 6], points, 2) * 2) / 2
    return {(n,): round(float(np.polyval(law, n))) for n in range(1, MOST_UNITS)}


def cases(options: argparse.Namespace) -> list[Case]:
    """The cases asked for; a shape that two sizes have in common comes once.

    A size of which a cell's largest shape has less than 0.4 is left out.
    """
    found = []
    for name in options.tasks:
        for cell in [NAMES[asked] for asked in options.cells]:
            seen = set()
            for size in options.sizes or SETTINGS[name].sizes:
                known = counts(name, cell)
                # Of equal numbers the shape with fewer qubits and lags, which is faster.
                below = [
                    (n, [-a for a in s], s) for s, n in known.items() if 0.4 * size <= n <= size
                ]
                if cell.startswith("QUNN"):
                    below = [b for b in below if b[-1][0] >= USUAL] or below
                if below and (shape := max(below)[-1]) not in seen:
                    seen.add(shape)
                    found.append(Case(name, cell, size, shape, known[shape]))
    return found


# --- Training ------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Validation or test: one value for each seed and rate."""

    loss: np.ndarray
    metric: np.ndarray


class Result(NamedTuple):
    """What training gave, arrays of shape (seeds, rates), and what it took."""

    training: np.ndarray
    validation: Part
    test: Part
    compiled: float
    each: float


def drawn(task: tasks.Task, size: int, key: Any) -> Batch:
    """A batch, drawn inside the program as `odernn.tasks` draws it, or rows of the fixed data."""
    weight, steps = jnp.ones(size), task.test.inputs.shape[1]
    # Fields are named for NumPy's arrays; inside a program they are JAX's.
    make: Any = Batch
    if task.name == "adding":
        a, b, c = jax.random.split(key, 3)
        numbers = jax.random.uniform(a, (size, steps))
        first = jax.random.randint(b, (size,), 0, steps // 2)
        second = jax.random.randint(c, (size,), steps // 2, steps)
        at = jnp.arange(steps)
        marker = ((at == first[:, None]) | (at == second[:, None])).astype(numbers.dtype)
        total = jnp.sum(numbers * marker, axis=1, keepdims=True)
        return make(jnp.stack([numbers, marker], -1), total, weight, *[None] * 4)
    if task.name == "copy":
        blank, cue, asked = (
            task.output_size - 2,
            task.output_size - 1,
            COPIED,
        )
        symbols = jax.random.randint(key, (size, asked), 0, blank)
        read = jnp.full((size, steps), blank).at[:, :asked].set(symbols)
        read = read.at[:, steps - asked - 1].set(cue)
        answer = jnp.full((size, steps), blank).at[:, steps - asked :].set(symbols)
        inputs = jax.nn.one_hot(read, task.input_size)
        return make(inputs, answer, weight, *[None] * 4)
    data = task.training(0)
    rows = jax.random.permutation(key, len(data))[:size]
    names = ("lengths", "mask", "times", "target_mask")
    rest = [None if (a := getattr(data, name)) is None else jnp.asarray(a)[rows] for name in names]
    inputs, targets = jnp.asarray(data.inputs)[rows], jnp.asarray(data.targets)[rows]
    return make(inputs, targets, weight, *rest)


def trained(
    case: Case, updates: int, seeds: int, tick: Callable[[int], None] = lambda done: None
) -> Result:
    """Train with every seed and rate; validate and test what comes out at the end."""
    task = task_of(case.task)
    keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
    make = partial(new_model, case.cell, task, case.shape)
    models = eqx.filter_jit(eqx.filter_vmap(make))(
        jax.vmap(partial(jax.random.fold_in, data=0))(keys)
    )
    weights, rest = eqx.partition(models, odernn.trained(models))
    fixed, static = eqx.partition(rest, eqx.is_array)
    weights = jax.tree.map(lambda a: jnp.repeat(a[:, None], len(rates_of(case)), 1), weights)
    transform = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
    state = jax.vmap(jax.vmap(transform.init))(weights)
    size = batch_of(case.task)
    chunk = math.gcd(updates, CHUNK)

    def loss(weights: Any, fixed: Any, batch: Batch) -> Any:
        predicted = outputs(eqx.combine(weights, fixed, static), batch)
        if task.kind == "regression":
            return jnp.mean((predicted - batch.targets) ** 2)
        # Not of one-hot classes: jaxlib 0.10.2 on CPUs mixes up the lanes of that sum.
        entropy = optax.softmax_cross_entropy_with_integer_labels
        return jnp.mean(entropy(predicted, jnp.asarray(batch.targets)))

    def update(weights: Any, state: Any, rate: Any, fixed: Any, batch: Batch) -> tuple:
        value, slope = jax.value_and_grad(loss)(weights, fixed, batch)
        change, state = transform.update(slope, state)
        weights = jax.tree.map(lambda w, c: w - rate.astype(w.dtype) * c, weights, change)
        return weights, state, value

    @partial(jax.jit, donate_argnums=(0, 1))
    def advance(weights: Any, state: Any, start: Any) -> tuple:
        def turn(carry: Any, number: Any) -> tuple:
            # A batch belongs to a seed and an update; all cells and rates see the same ones.
            draws = jax.vmap(lambda key: drawn(task, size, jax.random.fold_in(key, number + 1)))
            rates = jnp.array(rates_of(case)) * (1 + jnp.cos(jnp.pi * number / updates)) / 2
            side = jax.vmap(jax.vmap(update, (0, 0, 0, None, None)), (0, 0, None, 0, 0))
            weights, state, value = side(*carry, rates, fixed, draws(keys))
            return (weights, state), value

        (weights, state), values = jax.lax.scan(turn, (weights, state), start + jnp.arange(chunk))
        return weights, state, jnp.mean(values, axis=0)

    marks, value = [time.perf_counter()], np.zeros(())
    for start in range(0, updates, chunk):
        weights, state, value = advance(weights, state, start)
        value = np.asarray(value)
        marks.append(time.perf_counter())
        tick(chunk)
    spent = np.diff(marks)
    each = float(spent[1:].mean() if len(spent) > 1 else spent[0]) / chunk
    parts = scores(task, weights, fixed, static)
    return Result(value, *parts, float(spent[0] - each * chunk), each)


def scores(task: tasks.Task, weights: Any, fixed: Any, static: Any) -> list[Part]:
    """Loss and metric of the validation and of the test part."""

    def one(weights: Any, fixed: Any, batch: Batch) -> Any:
        return outputs(eqx.combine(weights, fixed, static), batch)

    lanes = jax.jit(jax.vmap(jax.vmap(one, (0, None, None)), (0, 0, None)))
    parts = []
    for data in (task.validation, task.test):
        found = []
        for batch in batches(data, np.arange(len(data)), 128):
            there = batch.weight > 0
            predicted = np.asarray(lanes(weights, fixed, batch), np.float64)[:, :, there]
            found.append((measured(predicted, batch.targets[there], task), there.sum()))
        values, numbers = zip(*found, strict=True)
        parts.append(Part(*np.average(values, axis=0, weights=numbers)))
    return parts


def measured(predicted: np.ndarray, targets: np.ndarray, task: tasks.Task) -> Part:
    """Mean loss and metric of outputs of shape (seeds, rates, sequences, ...)."""
    if task.kind == "regression":
        error = np.mean((predicted - targets) ** 2, axis=(2, 3))
        return Part(error, error)
    likely = special.log_softmax(predicted, axis=-1)
    at = np.broadcast_to(targets[..., None], (*predicted.shape[:-1], 1))
    entropy = -np.take_along_axis(likely, at, axis=-1)[..., 0]
    right = predicted.argmax(-1) == targets
    if task.target_mask is not None:
        right = right[..., task.target_mask]
    each = tuple(range(2, right.ndim))
    return Part(entropy.mean(axis=each), right.mean(axis=each))


def batch_of(name: str) -> int:
    """The sequences of a batch: no more than there are."""
    training = task_of(name).training
    data = getattr(training, "data", None)
    return SETTINGS[name].batch if data is None else min(SETTINGS[name].batch, len(data))


# --- Lines of results ----------------------------------------------------------------------------

COLUMNS = (
    *("run", "task", "cell", "size", "shape", "parameters", "updates", "batch", "rate", "seed"),
    *("training_loss", "validation_loss", "validation", "test_loss", "test", "seconds"),
)


def latest(path: Path) -> dict[tuple[str, str, int], list[dict[str, str]]]:
    """The lines of each task, cell and size, those of the latest run."""
    found: dict[tuple[str, str, int], list[dict[str, str]]] = {}
    for row in stored(path):
        key = (row["task"], row["cell"], int(row["size"]))
        if found.get(key, [row])[0]["run"] != row["run"]:
            found[key] = []
        found.setdefault(key, []).append(row)
    return found


def lines(case: Case, updates: int, result: Result, seconds: float) -> list[tuple]:
    """The lines of a case, one for each seed and rate."""
    run = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    shape = "-".join(map(str, case.shape))
    common = (run, case.task, case.cell, case.size, shape, case.parameters, updates)
    values = (result.training, *result.validation, *result.test)
    return [
        (
            *(*common, batch_of(case.task), rate, seed),
            *(f"{value[seed, number]:.5g}" for value in values),
            f"{seconds:.0f}",
        )
        for seed in range(len(result.training))
        for number, rate in enumerate(rates_of(case))
    ]


def append(path: Path, rows: Iterable[tuple]) -> None:
    """Write the lines of a case in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    head = "" if path.exists() and path.stat().st_size else ",".join(COLUMNS) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(head + text)


def same(rows: list[dict[str, str]], case: Case, updates: int, seeds: int) -> bool:
    """Whether these lines are all there and of the same settings."""
    wanted = ("-".join(map(str, case.shape)), str(updates), str(batch_of(case.task)))
    found = {(row["shape"], row["updates"], row["batch"]) for row in rows}
    return found == {wanted} and len(rows) == seeds * len(rates_of(case))


def train_all(options: argparse.Namespace) -> None:
    """Train what is asked for and not there yet."""
    asked = cases(options)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        total = progress.add_task("cases", total=len(asked))
        for case in asked:
            updates = options.updates or SETTINGS[case.task].updates
            rows = latest(options.rows).get(case[:3], [])
            if options.again or not same(rows, case, updates, options.seeds):
                name = f"{case.task}, {case.cell}, {case.parameters}"
                bar = progress.add_task(name, total=updates)
                began = time.perf_counter()
                result = trained(case, updates, options.seeds, partial(progress.advance, bar))
                seconds = time.perf_counter() - began
                append(options.rows, lines(case, updates, result, seconds))
                progress.remove_task(bar)
                compiled, each = f"{result.compiled:.1f} s compiled", f"{1000 * result.each:.1f} ms"
                print(f"{name}: {seconds:.1f} s, {compiled}, {each} an update", flush=True)
                jax.clear_caches()
            progress.advance(total)


# --- Picture and tables --------------------------------------------------------------------------


class Point(NamedTuple):
    """A cell of one size at the rate that validation prefers."""

    cell: str
    size: int
    shape: str
    parameters: int
    rate: float
    values: np.ndarray

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.values))


def chosen(rows: list[dict[str, str]], task: tasks.Task) -> Point:
    """Take the rate with the best validation over the seeds; of equals that of the lower loss.

    Of copying the loss decides: a network that knows when to answer but not yet what has a lower
    accuracy at the answers than one that guesses symbols all the time.
    """

    def numbers(rate: str, name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows if row["rate"] == rate])

    def rank(rate: str) -> tuple[float, float]:
        metric, loss = (numbers(rate, name).mean() for name in ("validation", "validation_loss"))
        worse = loss if task.per_step else -metric if task.metric == "accuracy" else metric
        # What is not finite is worse than everything.
        first, second = (float(v) if math.isfinite(v) else math.inf for v in (worse, loss))
        return first, second

    best = min(dict.fromkeys(row["rate"] for row in rows), key=rank)
    row = rows[0]
    what = (row["cell"], int(row["size"]), row["shape"], int(row["parameters"]))
    return Point(*what, float(best), numbers(best, "test"))


def front(points: list[Point], task: tasks.Task) -> list[Point]:
    """The points that no other one with as few parameters is better than, by growing number."""
    sign = -1 if task.metric == "accuracy" else 1
    best, found = math.inf, []
    for point in sorted(points, key=lambda p: (p.parameters, sign * p.mean)):
        if sign * point.mean < best:
            best = sign * point.mean
            found.append(point)
    return found


def draw(points: dict[str, list[Point]], path: Path) -> None:
    """One panel a task: the metric on the test part against the trained parameters."""
    from odernn.analysis._figure import INK, LINE, PAGE, RED, SHADE, SOFT, figure_into

    looks: dict[str, tuple[str, str, str]] = {
        "QUNN global": ("o", RED, "white"),
        "QUNN global feedback": ("o", RED, RED),
        "QUNN site": ("s", RED, "white"),
        "QUNN site feedback": ("s", RED, RED),
        "QUNN site precessing": ("h", RED, "white"),
        "QUNN linear": ("*", RED, RED),
        "QUNN linear precessing": ("*", RED, "white"),
    }
    others = [cell for cell in CELLS if cell not in looks]
    greys = (INK, INK, SOFT, SOFT, LINE)
    looks |= {
        name: (marker, colour, colour)
        for name, marker, colour in zip(others, "^vDPX", greys, strict=True)
    }
    rows = -(-len(points) // 3)
    with figure_into(path, PAGE, 0.8 + 1.45 * rows) as figure:
        panels = figure.subplots(rows, 3, sharex=True, squeeze=False).ravel()
        for axes, (name, found) in zip(panels, points.items(), strict=False):
            task = task_of(name)
            best = front(found, task)
            axes.plot(
                [p.parameters for p in best] + [30000], [p.mean for p in best] + [best[-1].mean],
                drawstyle="steps-post", color=SHADE, linewidth=4, label="Pareto front", zorder=1,
            )  # fmt: skip
            if task.baseline:
                axes.axhline(task.baseline[0], color=LINE, linewidth=0.6, linestyle=":", zorder=0)
            for cell, (marker, colour, face) in looks.items():
                line = sorted((p for p in found if p.cell == cell), key=lambda p: p.parameters)
                if not line:
                    continue
                means = np.array([p.mean for p in line])
                low, high = (np.array([f(p.values) for p in line]) for f in (np.min, np.max))
                ours = cell.startswith("QUNN")
                axes.errorbar(
                    [p.parameters for p in line], means, [means - low, high - means],
                    color=colour, marker=marker, markersize=5 if marker == "*" else 3.2,
                    markerfacecolor=face, markeredgewidth=0.6, linewidth=0.7, elinewidth=0.5,
                    label=cell, zorder=4 if ours else 3,
                )  # fmt: skip
            axes.set_title(SETTINGS[name].title, loc="left")
            axes.set(xscale="log", xlim=(10, 30000))
            if task.metric == "mse":
                axes.set_yscale("log")
            else:
                axes.set_ylim(min(p.values.min() for p in found) - 0.03, 1.03)
        for axes in panels[len(points) :]:
            axes.remove()
        shown: dict[str, Any] = {}
        for axes in panels[: len(points)]:
            handles, labels = axes.get_legend_handles_labels()
            shown |= dict(zip(labels, handles, strict=True))
        order = [name for name in (*looks, "Pareto front") if name in shown]
        figure.legend(
            [shown[name] for name in order], order, frameon=False, loc="outside upper center",
            ncols=5, handlelength=1.8, columnspacing=1.2, labelspacing=0.25,
        )  # fmt: skip
        figure.supxlabel("trained parameters, read-out included", fontsize=7)
        figure.supylabel("test part: accuracy, or squared error (adding)", fontsize=7)


WHAT = """
{machine}

One layer and a linear read-out (of every step in copying, else of the last), float32, Adam (0.9,
0.999), gradients clipped at a global norm of 1, a rate that falls to 0 along half a cosine, nothing
else; rates {rates}, the same ones for all cells (in adding at T = 1000 QUNNs had the
smallest only), chosen over all seeds by the validation part (accuracy or squared error, of copying
cross entropy). A seed has its own initial weights and
batches, the batches the same for all cells and rates. The parameters are those after the last
update. **Sizes**: the largest shape with no more parameters than 50, 150, ..., unless it has less
than 0.4 times as many: hidden units, or qubits-lags-features of a QUNN with a trained encoding, of
at least {qubits} qubits (fewer where these don't fit), up to the qubits and lags that the table
says, and {features} features. Precessing: theta_X of the qubits starts spread over 0 to 1.
All parameters count, also those of the read-out; of an expRNN's matrix the half that is read.
Finished runs are kept: some may be of an earlier commit than this text. Not answered: other
optimisers, longer training, more layers.

{budget}

A line below: mean and standard deviation over the seeds on the test part; parameters (shape), rate.
Bold: on the Pareto front, no other cell is better with as few parameters.
"""


def report(path: Path, image: Path | None = None) -> None:
    """Draw the picture and write the tables of all lines that are there."""
    kept: dict[str, list[list[dict[str, str]]]] = {}
    for (name, _, _), rows in latest(path).items():
        kept.setdefault(name, []).append(rows)
    kept = {name: kept[name] for name in SETTINGS if name in kept}
    points = {name: [chosen(r, task_of(name)) for r in rows] for name, rows in kept.items()}
    budget = table(
        ["task", "updates", "batch", "seeds", "rates", "guess", "most qubits", "most lags"],
        [
            [
                SETTINGS[name].title,
                *(", ".join(sorted({r[0][c] for r in rows})) for c in ("updates", "batch")),
                ", ".join(sorted({str(len({row["seed"] for row in r})) for r in rows})),
                ", ".join(sorted({row["rate"] for r in rows for row in r}, reverse=True)),
                "" if (guess := task_of(name).baseline) is None else f"{guess[0]:.3f}",
                *(str(SETTINGS[name].qubits), str(SETTINGS[name].memory)),
            ]
            for name, rows in kept.items()
        ],
    )
    text = WHAT.strip().format(
        machine=describe("jax", "equinox", "optax", "odernn"),
        rates=", ".join(map(str, RATES)),
        qubits=USUAL,
        features=", ".join(map(str, FEATURES)),
        budget=budget,
    )
    text += f"\n\n## Below {FEW} parameters\n\n{summary(points)}"
    for name, found in points.items():
        text += f"\n\n## {SETTINGS[name].title}\n\n{sizes_table(found, task_of(name))}"
    own = path.resolve() == ROWS.resolve()
    draw(points, image or (IMAGE if own else path.with_suffix(".svg")))
    if own:
        store("qunn_learning", text)
    else:
        print(text)


def summary(points: dict[str, list[Point]]) -> str:
    """The front below FEW parameters, and who solves adding with the fewest."""
    rows = []
    for name, found in points.items():
        task = task_of(name)
        few = [p for p in found if p.parameters < FEW]
        best = front(few, task)
        ours = [p for p in best if p.cell.startswith("QUNN")]
        listed = "; ".join(f"{p.cell} {p.parameters}: {p.mean:.3g}" for p in best)
        rows.append([SETTINGS[name].title, listed, f"{len(ours)} of {len(best)}"])
    lines = [table(["task", "front, parameters: metric", "QUNN's"], rows)]
    for name, found in points.items():
        if task_of(name).metric == "mse":
            solved = [p for p in found if p.mean < SOLVED]
            least = min(solved, key=lambda p: p.parameters, default=None)
            said = "none" if least is None else f"{least.cell}, {least.parameters} parameters"
            lines.append(
                f"Mean error below {SOLVED} with the fewest, {SETTINGS[name].title}: {said}."
            )
    return "\n\n".join(lines)


def sizes_table(found: list[Point], task: tasks.Task) -> str:
    """A line for each cell, a column for each size."""
    best = {(p.cell, p.size) for p in front(found, task)}
    sizes = sorted({p.size for p in found})
    rows = []
    for cell in CELLS:
        entries = []
        for size in sizes:
            point = next((p for p in found if (p.cell, p.size) == (cell, size)), None)
            if point is None:
                entries.append("")
                continue
            value = f"{point.mean:.3g} ± {np.std(point.values):.1g}"
            value = f"**{value}**" if (cell, size) in best else value
            entries.append(f"{value}; {point.parameters:,} ({point.shape}), {point.rate:g}")
        if any(entries):
            rows.append([cell, *entries])
    return table(["cell", *(f"at most {size:,}" for size in sizes)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tasks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--cells", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--sizes", nargs="+", type=int, help="in place of each task's own")
    parser.add_argument("--updates", type=int, help="in place of each task's own")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="train what is there, too")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--list", action="store_true", help="what would be trained")
    parser.add_argument("--image", type=Path, help="in place of docs/images/qunn_learning.svg")
    parser.add_argument("--draw", action="store_true", help="picture and tables")
    options = parser.parse_args()
    if options.list:
        print(table(list(Case._fields), [[str(a) for a in case] for case in cases(options)]))
    elif options.draw:
        report(options.rows, options.image)
    else:
        train_all(options)


if __name__ == "__main__":
    main()
