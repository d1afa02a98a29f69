"""Benchmarks in the library: what is trained with what, what is kept, and what is made of it."""

import csv
import dataclasses
import json
import math
import subprocess
import sys
import xml.etree.ElementTree

import jax
import numpy as np
import pytest

from odernn import InputError, RunFailed, parameter_count, tasks
from odernn.bench import Plan, _bench, _machine, _store, _training, bench
from odernn.bench._plan import contestant, seconds, sized
from odernn.bench._summary import best_rate, summary
from odernn.train import Config, Interrupted, build_model

EXPLODES = "cornn:dt=1e25"
SMALL = {
    "tasks": ("adding-8",),
    "cells": ("rnn", EXPLODES),
    "seeds": 2,
    "updates": 7,
    "every": 3,
    "trials": 2,
    "parameters": 60,
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A benchmark that was really run."""
    return bench(Plan(**SMALL, out=tmp_path_factory.mktemp("bench") / "b"))


class Fake:
    """In place of training: the metric is the distance of the rate from 0.005, and the seed."""

    def __init__(self):
        self.calls: list[tuple] = []
        self.stop_after = math.inf

    def __call__(self, config, task, steps, report, *, test):
        if len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((task.name, config.cell, config.learning_rate, config.seed))
        report(1.0)
        metric = abs(math.log(config.learning_rate / 0.005)) + config.seed / 100
        found = dict.fromkeys(("validation_metric", "validation_loss"), metric)
        if test:
            found |= {"test_metric": metric + 1, "test_loss": metric + 2, "inference_ms": 0.5}
        total = config.epochs * steps
        return found | {"updates": total, "best_update": total, "training_ms": 2.0,
                        "memory_mb": 3.0, "seconds": 4.0}  # fmt: skip


@pytest.fixture
def fake(monkeypatch):
    fake = Fake()
    monkeypatch.setattr(_training, "train", fake)
    monkeypatch.setattr(_bench, "write_report", lambda *a, **_: None)
    return fake


def plan(tmp_path, **changes):
    cells = ("rnn", "gru")
    return Plan(**SMALL | {"cells": cells, "trials": 3, "out": tmp_path / "b"} | changes)


# --- A real one --------------------------------------------------------------------------------


def test_every_training_is_a_line(done):
    keys = [(row["cell"], row["role"], row["seed"]) for row in done.rows]
    roles = [("search", 0), ("search", 0), ("final", 1), ("final", 2)]
    assert keys == [(cell, *role) for cell in SMALL["cells"] for role in roles]
    with (done.folder / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8 and lines[2]["test_metric"] == f"{done.rows[2]['test_metric']:.6g}"
    for row in done.rows[:4]:
        assert row["status"] == "ok" and row["metric"] == "mse"
        # 7 updates in rounds of at most 3: three of two.
        assert row["updates"] == row["planned"] == 6 and row["best_update"] in (2, 4, 6)
        assert row["training_ms"] > 0 and row["seconds"] > 0
        assert (row["test_metric"] is None) == (row["role"] == "search")
    assert {row["learning_rate"] for row in done.rows[:2]} == {0.0005, 0.05}
    best = min(done.rows[:2], key=lambda row: row["validation_metric"])["learning_rate"]
    assert {row["learning_rate"] for row in done.rows[2:4]} == {best}
    assert done.rows[2]["test_metric"] != done.rows[3]["test_metric"]


def test_a_training_that_fails_is_a_result(done):
    search, final = done.rows[4:6], done.rows[6:]
    assert {row["status"] for row in search} == {"failed: loss is not finite at step 1"}
    assert {row["status"] for row in final} == {"failed: no learning rate trained"}
    assert all(row["test_metric"] is None and row["updates"] is None for row in done.rows[4:])
    line = done.summary[1]
    assert (line["cell"], line["failed"], line["trained"]) == (EXPLODES, 2, 0)
    assert line["test_metric"] is None


def test_the_summary_is_of_the_lines(done):
    line, final = done.summary[0], done.rows[2:4]
    values = np.array([row["test_metric"] for row in final])
    assert line["test_metric"] == pytest.approx(values.mean())
    assert line["test_metric_std"] == pytest.approx(values.std(ddof=1))
    assert (line["test_metric_min"], line["test_metric_max"]) == (values.min(), values.max())
    assert line["rate_at_edge"] and line["failed"] == 0
    assert line["seconds"] == pytest.approx(sum(row["seconds"] for row in done.rows[:4]))
    with (done.folder / "summary.csv").open(newline="") as file:
        assert [found["cell"] for found in csv.DictReader(file)] == list(SMALL["cells"])


def test_memory_and_parameters_are_those_of_the_model(done):
    for row in done.rows:
        config = Config(task="adding", cell="rnn", hidden_size=row["size"])
        model = build_model(config, tasks.adding(length=8), jax.random.key(0))
        if row["cell"] == "rnn":
            assert row["parameters"] == parameter_count(model) <= 60
            # Weights, two moments and the best weights, and a batch, at the least.
            assert row["memory_mb"] * 1e6 > 3 * 8 * row["parameters"] + 32 * 8 * 2 * 4


def test_the_report_says_what_was_done(done):
    text = (done.folder / "results.md").read_text()
    for words in (
        "## adding-8", "guessing the mean: mse 0.1667", "- machine: ", "jax ", "- commit: ",
        "7 updates a training", "0.0005, 0.05; seed 0", "| rnn |", "2 of 2",
        f"- {EXPLODES}, search, rate 0.0005, seed 0: failed: loss is not finite at step 1",
    ):  # fmt: skip
        assert words in text, words
    for name in ("metric", "cost"):
        assert (done.folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        xml.etree.ElementTree.parse(done.folder / f"{name}.svg")


def test_the_same_numbers_again(done, tmp_path):
    """Stopped after the second training, and continued: the same numbers but for the times."""
    folder = tmp_path / "again"
    folder.mkdir()
    for name in ("settings.json", "results.csv"):
        content = (done.folder / name).read_bytes()
        if name == "results.csv":
            content = b"".join(content.splitlines(keepends=True)[:3]) + b"adding-8,rnn,fin"
        (folder / name).write_bytes(content)
    again = bench(Plan(**SMALL | {"cells": SMALL["cells"]}, out=folder))
    same = [k for k in _store.COLUMNS if not k.endswith("_ms") and k not in ("seconds", "commit")]
    for one, two in zip(done.rows, again.rows, strict=True):
        assert {k: one[k] for k in same} == {k: two[k] for k in same}


# --- What is trained, and what is kept ---------------------------------------------------------


def test_the_best_rate_is_trained_with_other_seeds(fake, tmp_path):
    bench(plan(tmp_path))
    tried = [("adding-8", "rnn", rate, 0) for rate in (0.0005, 0.005, 0.05)]
    assert fake.calls[:5] == [*tried, ("adding-8", "rnn", 0.005, 1), ("adding-8", "rnn", 0.005, 2)]
    assert len(fake.calls) == 10


def test_one_rate_needs_no_search(fake, tmp_path):
    found = bench(plan(tmp_path, trials=1))
    assert [call[2:] for call in fake.calls] == [(0.005, 1), (0.005, 2)] * 2
    assert not found.summary[0]["rate_at_edge"]


@pytest.mark.parametrize("stopped", [0, 1, 4, 7])
def test_it_goes_on_where_it_was_stopped(fake, tmp_path, stopped):
    fake.stop_after = stopped
    with pytest.raises(Interrupted, match=f"{stopped} of 10 trainings are in .*same command"):
        bench(plan(tmp_path))
    fake.stop_after = math.inf
    bench(plan(tmp_path))
    assert len(fake.calls) == len(set(fake.calls)) == 10
    bench(plan(tmp_path))
    assert len(fake.calls) == 10


def test_a_folder_belongs_to_one_process(fake, tmp_path):
    pytest.importorskip("fcntl")
    bench(plan(tmp_path))
    hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); input()"
    command = [sys.executable, "-c", hold, tmp_path / "b" / "settings.json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(InputError, match="is in use by another benchmark: wait for it to end"):
            bench(plan(tmp_path))
        process.communicate(b"\n")
    bench(plan(tmp_path))


def test_a_line_that_was_being_written_is_done_again(fake, tmp_path):
    first = bench(plan(tmp_path))
    file = tmp_path / "b" / "results.csv"
    whole = file.read_bytes()
    for cut in (1, 20):
        file.write_bytes(whole[:-cut])
        fake.calls.clear()
        assert bench(plan(tmp_path)).rows == first.rows
        assert len(fake.calls) == 1 and file.read_bytes() == whole


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"seeds": 3}, "holds a benchmark with seeds = 2, now it is 3"),
        ({"updates": None, "budget": 9.0}, r"with budget = null, now it is 9\.0"),
        ({"cells": ("rnn", "lstm")}, r'with cells = \{.*"gru".*now it is \{.*"lstm"'),
        ({"cells": ("rnn", "gru:dt=0.5")}, r'with cells = .*"dt": 0\.5'),
        ({"tasks": ("adding-9",)}, "with tasks = .*adding-8.*adding-9"),
    ],
)
def test_other_settings_are_refused(fake, tmp_path, changes, match):
    bench(plan(tmp_path))
    with pytest.raises(InputError, match=match):
        bench(plan(tmp_path, **changes))
    assert len(fake.calls) == 10


def test_folders_that_are_no_benchmark_are_refused(fake, tmp_path):
    folder = tmp_path / "b"
    folder.mkdir()
    bench(plan(tmp_path, trials=1))  # an empty one will do
    settings = folder / "settings.json"
    written = json.loads(settings.read_text())
    settings.write_text(json.dumps(written | {"format": 9}))
    with pytest.raises(InputError, match="has format 9.*reads format 1"):
        bench(plan(tmp_path, trials=1))
    settings.write_text("{")
    with pytest.raises(InputError, match=r"settings.json cannot be read"):
        bench(plan(tmp_path, trials=1))
    settings.unlink()
    with pytest.raises(InputError, match="exists and is no benchmark"):
        bench(plan(tmp_path, trials=1))
    with pytest.raises(InputError, match="x.txt cannot be used"):
        (tmp_path / "x.txt").write_text("")
        bench(plan(tmp_path, out=tmp_path / "x.txt"))


def test_a_spoiled_line_is_named(fake, tmp_path):
    bench(plan(tmp_path, trials=1))
    file = tmp_path / "b" / "results.csv"
    file.write_text(file.read_text().replace(",0.005,", ",abc,", 1))
    with pytest.raises(InputError, match=r"results.csv line 2 cannot be read"):
        bench(plan(tmp_path, trials=1))
    file.write_text("a,b\n")
    with pytest.raises(InputError, match="other columns"):
        bench(plan(tmp_path, trials=1))


def test_a_full_disk_stops_it(fake, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_store.os, "fsync", full)
    monkeypatch.setattr(_store, "write_file", lambda path, content: path.write_bytes(content))
    with pytest.raises(RunFailed, match=r"cannot write .*results.csv: no space left"):
        bench(plan(tmp_path))


# --- Budgets -----------------------------------------------------------------------------------


def test_time_becomes_updates_once(fake, tmp_path, monkeypatch):
    paces = []

    def pace(trainer):
        paces.append(trainer.config.cell)
        return _training.Pace(0.1, 0.2)

    monkeypatch.setattr(_training, "pace", pace)
    fake.stop_after = 2
    timed = {"updates": None, "budget": 10.0}
    with pytest.raises(Interrupted):
        bench(plan(tmp_path, **timed))
    fake.stop_after = math.inf
    monkeypatch.setattr(_training, "pace", None)  # would fail if it were called for rnn again
    with pytest.raises(TypeError):
        bench(plan(tmp_path, **timed))
    monkeypatch.setattr(_training, "pace", pace)
    found = bench(plan(tmp_path, **timed))
    # 10 s for five trainings: 2 s each; 3 updates and a validation take 0.5 s.
    assert {row["updates"] for row in found.rows} == {12}
    assert paces == ["rnn", "gru"]


def test_a_budget_that_is_too_small_is_a_result(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(_training, "pace", lambda trainer: _training.Pace(1.0, 2.0))
    found = bench(plan(tmp_path, updates=None, budget=10.0, cells=("rnn",)))
    text = "failed: a training has 2 s and 3 updates take 5 s"
    assert all(row["status"].startswith(text) for row in found.rows[:3]) and not fake.calls


def test_pace_measures_something(key):
    task = tasks.adding(length=8, train_size=40)
    config = Config(task="adding", cell="rnn", hidden_size=3, learning_rate=1e-3, epochs=1)
    found = _training.pace(_training.new_trainer(config, task, 2))
    assert 0 < found.step < 10 and 0 < found.validation < 10


def test_rounds_are_a_stream_of_shuffled_epochs():
    data = tasks.adding(length=8, train_size=20).training(0)

    def rows(rounds, count):
        return np.concatenate([rounds(index).inputs for index in range(count)])

    stream = rows(_training.Rounds(lambda epoch: data, 6, 0), 10)
    assert len(stream) == 60
    everything = {row.tobytes() for row in data.inputs}
    for start in (0, 20, 40):  # each pass has every sequence once
        passed = [row.tobytes() for row in stream[start : start + 20]]
        assert set(passed) == everything and len(passed) == 20
    assert not np.array_equal(stream[:20], stream[20:40])
    # The same stream, whatever a round is and wherever one begins.
    np.testing.assert_array_equal(stream, rows(_training.Rounds(lambda epoch: data, 30, 0), 2))
    third = _training.Rounds(lambda epoch: data, 6, 0)(2)
    np.testing.assert_array_equal(stream[12:18], third.inputs)
    assert not np.array_equal(stream, rows(_training.Rounds(lambda epoch: data, 6, 1), 10))


# --- Cells and sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "most"),
    [("lstm:layers=2", 150), ("urnn", 150), ("qunn", 80), ("gru:bidirectional=true", 150)],
)
def test_the_largest_size_of_no_more_parameters(name, most):
    task = tasks.adding(length=8)
    config, size, count = sized(contestant(name), task, most)
    option = "qubits" if name == "qunn" else "hidden_size"
    assert getattr(config, option) == size

    def parameters(number):
        changed = dataclasses.replace(config, **{option: number})
        return parameter_count(build_model(changed, task, jax.random.key(0)))

    assert parameters(size) == count <= most < parameters(size + (2 if name == "urnn" else 1))


def test_a_size_that_is_given_stays():
    config, size, count = sized(contestant("lstm:hidden_size=7"), tasks.adding(length=8), 10)
    assert config.hidden_size == size == 7 and count > 10


def test_options_of_a_cell():
    player = contestant("CoRNN:dt=0.1:method=rk4:layers=2:train-dt=true")
    config = player.config
    assert (config.cell, config.dt, config.method) == ("cornn", 0.1, "rk4")
    assert (config.layers, config.train_dt, player.sized) == (2, True, False)
    assert player.to_dict() == {
        "cell": "cornn", "dt": 0.1, "method": "rk4", "layers": 2, "train_dt": True,
    }  # fmt: skip


def test_a_configuration_file_is_a_cell(tmp_path):
    config = Config(task="digits", cell="lem", hidden_size=9, dt=0.3, epochs=3, learning_rate=1.0)
    (tmp_path / "mine.toml").write_text(config.to_toml())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text(config.to_toml())
    for path, name in (("mine.toml", "mine"), ("run/config.toml", "run")):
        player = contestant(str(tmp_path / path))
        assert player.name == name and player.to_dict() == {"cell": "lem", "dt": 0.3}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("ltsm", "unknown cell 'ltsm': did you mean 'lstm'"),
        ("cornn:dtt=1", "unknown option of cell cornn 'dtt': did you mean 'dt'"),
        ("cornn:epochs=1", "unknown option of cell cornn 'epochs'"),
        ("cornn:dt", "write options as NAME:OPTION=VALUE, not 'dt'"),
        ("cornn:dt=fast", "dt is 'fast', it must be of type float"),
        ("lstm:hidden_size=0", "--hidden-size is 0, it must be at least 1"),
        ("nothing.toml", "cannot read configuration nothing.toml"),
    ],
)
def test_cells_that_are_refused(text, match):
    with pytest.raises(InputError, match=match):
        contestant(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("lstm:qubits=3", "cell lstm:qubits=3 on task adding: --qubits is 3, but LSTM"),
        ("lstm:method=strang", "cell lstm:method=strang on task adding: "),
        ("lstm", "--parameters is 5, but the smallest has 18: give at least that"),
    ],
)
def test_cells_that_do_not_fit_are_refused_before_training(text, match):
    with pytest.raises(InputError, match=match):
        sized(contestant(text), tasks.adding(length=8), 5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tasks": ()}, "no tasks given"),
        ({"cells": ("rnn", "RNN")}, "cells has 'rnn' twice"),
        ({"seeds": 0}, "--seeds is 0, it must be at least 1"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"patience": -1}, "--patience is -1, it must be at least 0"),
        ({"budget": 1.0}, "--budget and --updates"),
        ({"updates": None, "budget": math.nan}, "--budget is nan s"),
        ({"tasks": ("addin-8",)}, "unknown task 'addin-8'"),
        ({"tasks": ("a/x.csv", "b/x.csv")}, "two files are called 'x.csv'"),
    ],
)
def test_plans_that_are_refused(fake, tmp_path, changes, match):
    with pytest.raises(InputError, match=match):
        bench(plan(tmp_path, **changes))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("text", ["10", "10 min", "-3s", "m", "1h30m", ""])
def test_times_that_are_none(text):
    with pytest.raises(InputError, match="give a time as 600s, 10m or 2h"):
        seconds(text)


def test_times():
    assert [seconds(text) for text in ("600s", "10m", "2h", "0.5H")] == [600, 600, 7200, 1800]


# --- Summaries ---------------------------------------------------------------------------------


def line(rate, metric, loss=1.0, status="ok", name="accuracy"):
    return {"learning_rate": rate, "validation_metric": metric, "validation_loss": loss,
            "status": status, "metric": name}  # fmt: skip


def test_the_best_rate():
    assert best_rate([line(1, 0.5), line(2, 0.9), line(3, 0.7)], (1, 2, 3)) == 2
    assert best_rate([line(1, 0.5, name="mse"), line(2, 0.9, name="mse")], (1, 2)) == 1
    assert best_rate([line(1, 0.9, 0.3), line(2, 0.9, 0.2)], (1, 2)) == 2
    assert best_rate([line(1, 0.9, status="failed: x"), line(2, 0.1)], (1, 2)) == 2
    assert best_rate([line(1, None, status="failed: x")], (1, 2)) is None
    assert best_rate([], (7,)) == 7


def test_a_summary_of_one_seed_has_no_spread(fake, tmp_path):
    found = bench(plan(tmp_path, seeds=1))
    assert found.summary[0]["test_metric_std"] is None
    assert not found.summary[0]["rate_at_edge"]
    assert summary([]) == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RunFailed("the loss is not finite at step 3 (epoch 2): loss nan. Try"),
         "loss is not finite at step 3"),
        (MemoryError(), "out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "out of memory"),
        (RuntimeError("Newton did not converge\nmore"), "Newton did not converge"),
    ],
)  # fmt: skip
def test_reasons(error, text):
    assert _training.reason(error) == text


def test_no_git_is_no_failure(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    _machine.commit.cache_clear()
    try:
        assert _machine.commit() == ""
        assert _machine.describe()["commit"] == "unknown (not a checkout)"
    finally:
        _machine.commit.cache_clear()
