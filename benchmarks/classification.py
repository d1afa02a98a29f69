"""How well do certified networks classify, against LSTM-FCN, ROCKET and 1-NN-DTW?

    pip install 'odernn[aeon]' tensorflow sktime
    python benchmarks/classification.py [--sets GunPoint ...] [--ways dtw rocket ...] [--seeds 3]
                                        [--seconds 30] [--again]

All classification sets that aeon brings, with their own split. Lines go to
results/classification.csv; what is there is not run again unless with --again, so that it can be
stopped and go on; results/classification.md is written of the last line of each. aeon has no
LSTM-FCN and no recurrent classifier, so it is sktime's; without tensorflow and sktime it is left
out. Its 2000 epochs take minutes for a small set and hours for a large one: it ends after
--seconds of the processor, but not before 300 updates.
"""

import argparse
import csv
import dataclasses
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from _dots import Dot, draw_rows
from _machine import IMAGES, RESULTS, describe, store, stored, table
from aeon.classification.convolution_based import RocketClassifier
from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier
from aeon.datasets import load_from_ts_file
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.model_selection import StratifiedShuffleSplit

import odernn
from odernn import Requirements, RunFailed, design
from odernn.analysis import certify
from odernn.interop.sklearn import ODERNNClassifier
from odernn.tasks._aeon import bundled

ROWS, TRIED = RESULTS / "classification.csv", RESULTS / "classification_tried.csv"
COLUMNS = ("set", "way", "seed", "accuracy", "seconds", "note")
UPDATES = 300
"""Of LSTM-FCN, at least."""
CERTIFIED = ("scornn", "contractingcornn", "contractingrnn", "mingru")
ANY = ("gru", "lem", "cornn")
"""Networks to choose from: certified for all values of their parameters, and others."""
PARAMETERS = 2500
"""Of a cell, at most."""
STEPS = 40
"""Windows that a longer sequence is read in, about."""
BATCH, TRAINED = 16, 400
"""Sequences in an update, and updates."""
SPLITS = 2
"""Times that the training part is split, two thirds to one third, to choose a network."""


class Data(NamedTuple):
    """A data set: sequences (channels, time) with their classes, in aeon's own two parts."""

    name: str
    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray


class Result(NamedTuple):
    """What a way of classifying does on a data set."""

    accuracy: float
    note: str = ""


def read(name: str) -> Data:
    """A data set that aeon brings."""
    file = bundled()[name]
    parts = [load_from_ts_file(str(file.with_name(f"{name}_{p}.ts"))) for p in ("TRAIN", "TEST")]
    return Data(name, *parts[0], *parts[1])


def majority(data: Data, seed: int) -> Result:
    classes, counts = np.unique(data.y, return_counts=True)
    return Result(float(np.mean(data.y_test == classes[counts.argmax()])))


def dtw(data: Data, seed: int) -> Result:
    peer = KNeighborsTimeSeriesClassifier(distance="dtw", n_neighbors=1)
    return Result(peer.fit(data.X, data.y).score(data.X_test, data.y_test))


def rocket(data: Data, seed: int) -> Result:
    peer = RocketClassifier(random_state=seed)
    return Result(peer.fit(data.X, data.y).score(data.X_test, data.y_test))


def lstm_fcn(data: Data, seed: int, seconds: float) -> Result:
    if isinstance(data.X, list):
        raise ValueError("unequal lengths")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    from sktime.classification.deep_learning.lstmfcn import LSTMFCNClassifier

    class Peer(LSTMFCNClassifier):
        # Its check of what is installed does not know tensorflow-cpu.
        _tags = {"python_dependencies": None}  # noqa: RUF012

    class Ending(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.began, self.updates = time.process_time(), 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.updates += 1

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            spent = time.process_time() - self.began
            self.model.stop_training = spent > seconds and self.updates >= UPDATES

    peer = Peer(batch_size=16, random_state=seed, callbacks=[Ending()])
    peer.fit(data.X, data.y)
    epochs = len(peer.history.epoch)
    found = np.argmax(peer.model_.predict(data.X_test.transpose(0, 2, 1), verbose=0), axis=1)
    accuracy = float(np.mean(peer.classes_[found] == data.y_test))
    return Result(accuracy, f"{epochs} epochs, {epochs * -(-len(data.y) // 16)} updates")


# --- Ours --------------------------------------------------------------------------------------


def windows(X: Any, width: int, shift: int) -> Any:
    """Sequences with a window of so many samples as the channels of a step."""
    if isinstance(X, list):
        return [windows(one[None], width, shift)[0] for one in X]
    if X.shape[2] < width:
        X = np.pad(X, ((0, 0), (0, 0), (0, width - X.shape[2])), mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(X, width, axis=2)[:, :, ::shift]
    return views.transpose(0, 1, 3, 2).reshape(len(X), X.shape[1] * width, -1)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is chosen for a data set by its training part."""

    cell: str
    hidden_size: int
    shift: int
    width: int
    layers: int = 2
    readout: str = "mean"
    learning_rate: float | None = None

    def read(self, X: Any) -> Any:
        """Sequences as the network reads them."""
        return windows(X, self.width, self.shift)

    def fitted(self, X: Any, y: np.ndarray, seed: int) -> ODERNNClassifier:
        """Trained on all sequences that are given, in both directions."""
        network = ODERNNClassifier(
            cell=self.cell,
            hidden_size=self.hidden_size,
            layers=self.layers,
            bidirectional=True,
            readout=self.readout,
            learning_rate=self.learning_rate,
            batch_size=BATCH,
            epochs=-(-TRAINED // -(-len(y) // BATCH)),
            random_state=seed,
        )
        return network.fit(self.read(X), y)

    def others(self) -> Iterator["Choice"]:
        """What is tried next, each a change of one thing."""
        yield dataclasses.replace(self, learning_rate=0.01)
        yield dataclasses.replace(self, readout="last")
        yield dataclasses.replace(self, width=2 * self.width if self.shift > 1 else 1)
        yield dataclasses.replace(self, layers=1)

    def __str__(self) -> str:
        rate = "" if self.learning_rate is None else f", rate {self.learning_rate:g}"
        return (
            f"{odernn.zoo.CELLS[self.cell].name}, {self.layers} x {self.hidden_size} units, "
            f"{self.width} samples every {self.shift}, {self.readout}{rate}"
        )


@cache
def sizes(cells: tuple[str, ...], must: frozenset[str]) -> dict[str, int]:
    """Units of each cell that has what it must, in the order of `design`."""
    wanted = Requirements(16, 10, horizon=STEPS, parameters=PARAMETERS, must=must)
    found = design(wanted, cells=cells).candidates
    return {c.network["cell"]: c.network["hidden_size"] for c in found if c.kind.method is None}


@cache
def chosen(name: str, cells: tuple[str, ...], must: frozenset[str]) -> Choice:
    """The network with the least Brier score on parts of the training data.

    First the cell, then one thing after another. Test data are not looked at.
    """
    data = read(name)
    longest = max(one.shape[1] for one in data.X)
    shift = max(1, round(longest / STEPS))
    units = sizes(cells, must)
    tried = [Choice(cell, units[cell], shift, 4 * shift) for cell in units]
    best = min(tried, key=partial(score, data))
    for index in range(len(list(best.others()))):
        best = min(best, list(best.others())[index], key=partial(score, data))
    return best


def score(data: Data, choice: Choice) -> float:
    """The mean Brier score on the thirds that are left out of the training part, kept in a file."""
    key = (data.name, str(choice))
    for row in stored(TRIED):
        if (row["set"], row["choice"]) == key:
            return float(row["brier"])
    found, began = [], time.process_time()
    splitter = StratifiedShuffleSplit(SPLITS, test_size=1 / 3, random_state=0)
    for seed, (a, b) in enumerate(splitter.split(np.zeros(len(data.y)), data.y)):
        try:
            network = choice.fitted(_rows(data.X, a), data.y[a], seed)
        except RunFailed:
            found.append(float("inf"))
            break
        right = data.y[b][:, None] == network.classes_
        answer = network.predict_proba(choice.read(_rows(data.X, b)))
        found.append(np.mean(np.sum((answer - right) ** 2, axis=1)))
    value = float(np.mean(found))
    values = (*key, f"{value:.4f}", f"{time.process_time() - began:.1f}")
    keep(TRIED, dict(zip(("set", "choice", "brier", "seconds"), values, strict=True)))
    return value


def _rows(X: Any, index: np.ndarray) -> Any:
    return [X[i] for i in index] if isinstance(X, list) else X[index]


def ours(cells: tuple[str, ...], must: frozenset[str], data: Data, seed: int) -> Result:
    choice = chosen(data.name, cells, must)
    network = choice.fitted(data.X, data.y, seed)
    accuracy = network.score(choice.read(data.X_test), data.y_test)
    found = [
        certify(side.cell)
        for layer in network.model_.layers
        for side in (layer.forward, layer.backward)
    ]
    holds = all(c and c.upper <= 1 + 1e-9 for c in found)
    theorem = found[0].theorem.split(";")[0] if holds else "not certified"
    count = odernn.parameter_count(network.model_)
    rate = max(c.upper for c in found)
    return Result(accuracy, f"{choice} | {count} | {theorem} | {rate:.6g}")


WAYS: dict[str, Any] = {
    "majority": majority,
    "dtw": dtw,
    "rocket": rocket,
    "lstm-fcn": lstm_fcn,
    "certified": partial(ours, CERTIFIED, frozenset({"certified"})),
    "any": partial(ours, ANY, frozenset()),
}
ONCE = ("majority", "dtw")
"""What does not depend on a seed."""


def run(data: Data, way: str, seed: int, **given: Any) -> dict[str, Any]:
    """A line of what was measured; the seconds are of the processor, for fit and prediction."""
    began = time.process_time()
    try:
        result = WAYS[way](data, seed, **given)
    except ValueError as error:
        result = Result(float("nan"), f"refused: {error}".split("\n")[0].strip())
    spent = time.process_time() - began
    values = (data.name, way, seed, f"{result.accuracy:.4f}", f"{spent:.1f}", result.note)
    return dict(zip(COLUMNS, values, strict=True))


def keep(path: Path, row: dict[str, Any]) -> None:
    """Add a line to those that are there."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


# --- Tables ------------------------------------------------------------------------------------

TITLES = {
    "majority": "majority",
    "dtw": "1-NN-DTW",
    "rocket": "ROCKET",
    "lstm-fcn": "LSTM-FCN",
    "any": "odernn, any",
    "certified": "odernn, certified",
}
MARKS = {"dtw": "s", "rocket": "^", "lstm-fcn": "v", "any": "o", "certified": "D"}


METHOD = f"""Test accuracy on aeon's own split; mean ± standard deviation of several seeds.
odernn: bidirectional layers of cells with at most {PARAMETERS:,} parameters each (of one that reads
16 channels), on windows of samples, {TRAINED} updates. The cell, then rate, read-out, windows and
layers by the Brier score of thirds left out of the training part ({SPLITS} splits; scores in
classification_tried.csv); "choice" says how many were tried. "after training" is what
`analysis.certify` says of all cells after training, the largest rate of all seeds beside it.
Peers at their defaults, but LSTM-FCN: batches of 16 for more updates, and ended long before its
2000 epochs. Seconds are of the processor; the machine was shared."""


def rows_of(lines: list[dict[str, Any]], name: str, way: str) -> list[dict[str, Any]]:
    return [r for r in lines if (r["set"], r["way"]) == (name, way)]


def accuracies_of(lines: list[dict[str, Any]], name: str, way: str) -> list[float]:
    return [float(r["accuracy"]) for r in rows_of(lines, name, way)]


def mean(lines: list[dict[str, Any]], name: str, way: str) -> float:
    found = accuracies_of(lines, name, way)
    return float(np.mean(found)) if found else float("nan")


def cell_of(lines: list[dict[str, Any]], name: str, way: str) -> str:
    """Mean and standard deviation over seeds, or why there is none."""
    found = accuracies_of(lines, name, way)
    if not found:
        return "-"
    if not np.isfinite(found).all():
        return "refused"
    spread = f" ± {np.std(found, ddof=1):.3f}" if len(found) > 1 else ""
    return f"{np.mean(found):.3f}{spread}"


def described(name: str) -> list[str]:
    data = read(name)
    lengths = {one.shape[1] for one in (*data.X, *data.X_test)}
    steps = f"{min(lengths)} to {max(lengths)}" if len(lengths) > 1 else str(*lengths)
    cases = f"{len(data.y)} / {len(data.y_test)}"
    return [name, cases, f"{steps} x {data.X[0].shape[0]}", str(len(set(data.y)))]


def accuracies(lines: list[dict[str, Any]], names: list[str], ways: list[str]) -> str:
    header = ["set", "cases", "steps x channels", "classes", *(TITLES[way] for way in ways)]
    rows = [described(name) + [cell_of(lines, name, way) for way in ways] for name in names]
    return table(header, rows)


def dots(lines: list[dict[str, Any]], name: str) -> dict[str, Dot]:
    """What there is of a set: the mean and the range of the seeds."""
    found = {}
    for way in MARKS:
        values = accuracies_of(lines, name, way)
        if np.isfinite(values).all() and values:
            found[TITLES[way]] = Dot(float(np.mean(values)), min(values), max(values))
    return found


def against(lines: list[dict[str, Any]], names: list[str], way: str) -> list[str]:
    """How the certified networks stand against another way, where both have an answer."""
    pairs = [(mean(lines, name, "certified"), mean(lines, name, way)) for name in names]
    gaps = [round(ours - other, 4) for ours, other in pairs if np.isfinite(ours + other)]
    counts = [sum(g > 0 for g in gaps), sum(g == 0 for g in gaps), sum(g < 0 for g in gaps)]
    return [TITLES[way], *map(str, counts), f"{np.mean(gaps):+.3f}", f"{np.median(gaps):+.3f}"]


def networks(lines: list[dict[str, Any]], names: list[str], way: str) -> str:
    header = [
        "set",
        "network",
        "parameters",
        "after training",
        "rate at most",
        "s to fit",
        "choice",
    ]
    rows = []
    for name in names:
        mine = rows_of(lines, name, way)
        if not mine:
            continue
        choice, count, *_ = mine[0]["note"].split(" | ")
        theorems = sorted({r["note"].split(" | ")[2] for r in mine})
        rate = max(float(r["note"].split(" | ")[3]) for r in mine)
        cells = [odernn.zoo.CELLS[cell].name for cell in WAYS[way].args[0]]
        tried = [
            r for r in stored(TRIED) if r["set"] == name and r["choice"].split(",")[0] in cells
        ]
        spent = np.mean([float(r["seconds"]) for r in mine])
        trials = f"{len(tried)} in {sum(float(r['seconds']) for r in tried):.0f} s"
        values = (name, choice, f"{int(count):,}", ", ".join(theorems), f"{rate:.4g}")
        rows.append([*values, f"{spent:.0f}", trials])
    return table(header, rows)


def seconds(lines: list[dict[str, Any]], names: list[str]) -> str:
    ways = ("dtw", "rocket", "lstm-fcn")
    rows = []
    for name in names:
        found = [rows_of(lines, name, way) for way in ways]
        times = [
            f"{np.mean([float(r['seconds']) for r in mine]):.1f}"
            if mine and "refused" not in mine[0]["note"]
            else "-"
            for mine in found
        ]
        rows.append([name, *times, found[-1][0]["note"] if found[-1] else "-"])
    return table(["set", *(f"{TITLES[way]}, s" for way in ways), "LSTM-FCN was trained for"], rows)


def report() -> None:
    """Write the tables of all lines."""
    lines = list({(r["set"], r["way"], r["seed"]): r for r in stored(ROWS)}.values())
    ways = [way for way in TITLES if any(r["way"] == way for r in lines)]
    names = [name for name in bundled() if any(r["set"] == name for r in lines)]
    others = [way for way in ways if way != "certified"]
    text = describe("odernn", "jax", "aeon", *(p for p in ("sktime", "keras") if find_spec(p)))
    text += f"\n\n{METHOD}\n\n"
    text += accuracies(lines, names, ways) + "\n\n"
    header = ["certified against", "better", "equal", "worse", "mean difference", "median"]
    text += table(header, [against(lines, names, way) for way in others])
    for way in ("certified", "any"):
        if way in ways:
            text += f"\n\n{TITLES[way]}:\n\n" + networks(lines, names, way)
    marks = {TITLES[way]: mark for way, mark in MARKS.items() if way in ways}
    rows = {name: dots(lines, name) for name in names}
    path = IMAGES / "classification.svg"
    draw_rows(path, rows, TITLES["certified"], marks, "test accuracy")
    store("classification", f"{text}\n\nSeconds of the processor:\n\n{seconds(lines, names)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    sets = [name for name in bundled() if name not in ("CardanoSentiment", "Covid3Month")]
    parser.add_argument("--sets", nargs="+", default=sets)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="of LSTM-FCN")
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module=r"sktime|skbase|aeon|keras")
    there = {(r["set"], r["way"], int(r["seed"])) for r in stored(ROWS)}
    asked = [
        (name, way, seed)
        for way in options.ways
        for name in options.sets
        for seed in range(1 if way in ONCE else options.seeds)
        if options.again or (name, way, seed) not in there
    ]
    # Trainings of one shape share their programs.
    jax.config.update("jax_compilation_cache_dir", str(Path(tempfile.gettempdir(), "odernn-jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(asked))
        for name, way, seed in asked:
            progress.update(bar, description=f"{name}, {way}, seed {seed}")
            if isinstance(WAYS[way], partial):
                chosen(name, *WAYS[way].args)  # not part of the seconds
            given = {"seconds": options.seconds} if way == "lstm-fcn" else {}
            try:
                row = run(read(name), way, seed, **given)
            except ImportError as error:
                print(f"{way} is left out: {error}")
                progress.advance(bar)
                continue
            keep(ROWS, row)
            print(*row.values(), sep="\t", flush=True)
            progress.advance(bar)
    report()


if __name__ == "__main__":
    main()
