"""The command line, mostly in this process: `main([...])` as a shell would call it."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import odernn
import odernn.train
from odernn import InputError, RunFailed
from odernn._cli import main
from odernn._storage import save
from odernn.tasks._csv import read_table
from odernn.zoo._network import size_for

TINY = ["--cell", "rnn", "--hidden-size", "3", "--epochs", "1", "--batch-size", "16"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A CSV file with a date, a load around 1000 and a temperature."""
    path = tmp_path_factory.mktemp("series") / "load.csv"
    phase = np.arange(120) / 5
    rows = zip(1000 + 50 * np.sin(phase), 10 + 5 * np.cos(phase), strict=True)
    lines = [f"day {i},{load:.3f},{warmth:.3f}" for i, (load, warmth) in enumerate(rows)]
    path.write_text("date,load,temperature\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "digits", *TINY, "--train-size", "16", "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def forecast_run(tmp_path_factory, series):
    run = tmp_path_factory.mktemp("runs") / "forecast"
    flags = ["--target", "load", "--horizon", "3", "--length", "16", "--out", str(run)]
    assert main(["train", str(series), *TINY, *flags]) == 0
    return run


def rows_of(text):
    return list(csv.reader(io.StringIO(text)))


# --- help and parsing --------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help(arguments, capsys):
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("train TASK", "evaluate RUN", "predict RUN", "list"))


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"odernn {odernn.__version__}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", ["TASK", "--hidden-size", "Units per layer", "--config", "--resume", "rk4"]),
        ("evaluate", ["RUN", "--json"]),
        ("predict", ["RUN", "FILE", "--out", "--mask-missing", "sequence"]),
        ("list", ["fields"]),
    ],
)
def test_help_of_a_command(command, words, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: odernn {command}" in out
    assert all(word in out for word in words)


def test_every_option_of_the_configuration_is_a_flag(capsys):
    main(["train", "--help"])
    out = capsys.readouterr().out
    for name in odernn.train.Config.__dataclass_fields__:
        assert name == "task" or f"--{name.replace('_', '-')}" in out, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "digits"], "unknown command 'trian': did you mean 'train'?"),
        (["--verbose"], "unknown command '--verbose'"),
        (["train", "digits", "--epoch", "3"], "did you mean --epochs? See `odernn train --help`."),
        (["train", "digits", "--epochs", "many"], "error parsing --epochs: invalid literal"),
        (["train", "digits", "--epochs"], "missing value for argument '--epochs'"),
        (["train", "digits", "--readout", "all"], "invalid choice 'all' for argument '--readout'"),
        (["train", "digits", "adding"], "unrecognized options: adding"),
        (["train"], "no task given"),
        (["evaluate"], "missing from odernn evaluate: RUN. See `odernn evaluate --help`."),
        (["predict", "x"], "missing from odernn predict: FILE."),
        (["list", "tasks"], "unrecognized options: tasks"),
    ],
)
def test_parse_errors_are_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("odernn: ") and err.count("\n") == 1
    assert message in err


# --- list --------------------------------------------------------------------------------------


def test_list(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    cells = {row.split()[1]: row.split()[2:] for row in out.splitlines() if row.startswith("│")}
    assert {"digits", "digits-permuted", "adding", "copy"} <= cells.keys()
    assert set(odernn.zoo.CELLS) | set(odernn.METHODS) <= cells.keys()
    assert {"Leaky", "Antisymmetric", "Oscillator", "Gated"} <= cells.keys()
    assert cells["rk4"][:4] == ["│", "4", "│", "4"]
    assert cells["euler"][:4] == ["│", "1", "│", "1"]
    for name, make in odernn.zoo.CELLS.items():
        size = size_for(make.field, 64)
        cell = eqx.filter_eval_shape(lambda m=make, s=size: m(1, s, key=jax.random.key(0)))
        *_, n, _, t, _, _count, _ = cells[name]
        assert (n, t) == (str(cell.n), str(cell.t)), name
    units = 64
    assert cells["rnn"][-2] == f"{units * units + 2 * units:,}"
    assert cells["lstm"][-2] == f"{4 * (units * units + 2 * units):,}"


# --- train -------------------------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch):
    """What `train` hands to `fit`, without training."""
    calls = []
    monkeypatch.setattr(
        odernn.train,
        "fit",
        lambda config=None, *, resume=None, console: calls.append(config or resume),
    )
    return calls


def test_flags_become_the_configuration(given):
    flags = "--cell gru --hidden-size 5 --dt 0.5 --method rk4 --bidirectional --out some/run"
    assert main(["train", "adding", *flags.split(), "--seed=7"]) == 0
    (config,) = given
    assert config == odernn.train.Config(
        task="adding",
        cell="gru",
        hidden_size=5,
        dt=0.5,
        method="rk4",
        bidirectional=True,
        out=Path("some/run"),
        seed=7,
    )
    assert type(config) is odernn.train.Config


def test_flags_come_before_the_file(given, here):
    stored = odernn.train.Config(task="copy", cell="gru", epochs=3, dt=0.5, bidirectional=True)
    (here / "run.toml").write_text(stored.to_toml())
    assert main(["train", "--config", "run.toml"]) == 0
    assert main(["train", "--config", "run.toml", "--epochs", "40", "--no-bidirectional"]) == 0
    assert main(["train", "adding", "--config=run.toml", "--dt", "None"]) == 0
    first, second, third = given
    assert first == stored
    # 40 is the default, and still an explicit choice.
    assert (second.task, second.cell, second.epochs, second.bidirectional) == (
        *("copy", "gru"),
        *(40, False),
    )
    assert (third.task, third.epochs, third.dt) == ("adding", 3, None)


def test_resume_takes_nothing_else(given, capsys):
    assert main(["train", "--resume", "runs/a"]) == 0
    assert given == [Path("runs/a")]
    for more in (["digits"], ["--epochs", "3"], ["--config", "x.toml"], ["--out", "y"]):
        assert main(["train", "--resume", "runs/a", *more]) == 2
        assert "takes no other options" in capsys.readouterr().err
    assert len(given) == 1


def test_a_run_and_its_repetition(digits_run, here, capsys):
    assert (digits_run / "result.json").is_file()
    capsys.readouterr()
    assert main(["train", "--config", str(digits_run / "config.toml"), "--out", "again"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    for name in ("metrics.csv", "model.safetensors", "config.toml"):
        assert (here / "again" / name).read_bytes() == (digits_run / name).read_bytes()


# --- evaluate ----------------------------------------------------------------------------------


def test_evaluate(digits_run, capsys):
    assert main(["evaluate", str(digits_run), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    result = json.loads((digits_run / "result.json").read_text())
    assert measured["test_metric"] == pytest.approx(result["test_metric"])
    assert main(["evaluate", str(digits_run)]) == 0
    out = capsys.readouterr().out
    assert "test metric" in out and f"{measured['test_metric']:.6g}" in out


# --- predict -----------------------------------------------------------------------------------


def digits_file(path, names=("sequence", "pixel"), lengths=(64, 64)):
    """Two sequences whose rows alternate."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        print(*names, sep=",", file=file)
        for step in range(max(lengths)):
            for label, length in zip("ba", lengths, strict=True):
                if step < length:
                    print(*[label] * (len(names) - 1), f"{rng.random():.4f}", sep=",", file=file)


def test_predict_classes(digits_run, here, capsys):
    digits_file(here / "in.csv", lengths=(64, 50))
    assert main(["predict", str(digits_run), "in.csv"]) == 0
    header, *rows = rows_of(capsys.readouterr().out)
    assert header == ["sequence", "label", "probability"]
    assert [row[0] for row in rows] == ["b", "a"]
    assert all(row[1] in set("0123456789") for row in rows)
    assert all(0.1 <= float(row[2]) <= 1 for row in rows)
    # The same as the library gives for the first sequence alone.
    table = read_table("in.csv")
    pixels = [float(p) for s, p in table.rows if s == "b"]
    expected = odernn.train.predict(digits_run, np.array(pixels)[None, :, None])[0]
    assert float(rows[0][2]) == pytest.approx(expected.max(), rel=1e-4)
    assert int(rows[0][1]) == expected.argmax()


def test_predict_takes_a_single_sequence_and_other_names(digits_run, here, capsys):
    digits_file(here / "in.csv", names=("grey",), lengths=(64, 0))
    assert main(["predict", str(digits_run), "in.csv"]) == 0
    header, row = rows_of(capsys.readouterr().out)
    assert header == ["sequence", "label", "probability"] and row[0] == "1"


def test_predict_forecasts_in_the_units_of_the_file(forecast_run, series, here, capsys):
    # Another order of columns, and a stamp that is carried over.
    lines = [line.split(",") for line in series.read_text().splitlines()]
    shuffled = [f"{c},{a if n else 'time'},{b}" for n, (a, b, c) in enumerate(lines)]
    (here / "in.csv").write_text("\n".join(shuffled))
    assert main(["predict", str(forecast_run), "in.csv"]) == 0
    header, *rows = rows_of(capsys.readouterr().out)
    assert header == ["time", "load+3"]
    assert [row[0] for row in rows] == [line[0] for line in lines[1:]]
    values = np.array([float(row[1]) for row in rows])
    assert len(values) == 120 and (values > 900).all() and (values < 1100).all()
    table = read_table(series)
    inputs, _ = table.values(("load", "temperature"))
    expected = odernn.train.predict(forecast_run, inputs[None])[0, :, 0]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_predict_forecasts_from_columns_of_the_same_names_only(forecast_run, here, capsys):
    (here / "in.csv").write_text("price,volume\n1000,10\n1001,11\n")
    assert main(["predict", str(forecast_run), "in.csv"]) == 2
    assert "reads 2 channels ('load', 'temperature')" in capsys.readouterr().err


def test_predict_masks_missing_values_on_request(forecast_run, here, capsys):
    (here / "in.csv").write_text("load,temperature\n1000,10\n,11\n1020,nan\n1010,9\n")
    assert main(["predict", str(forecast_run), "in.csv"]) == 2
    assert "2 missing value(s)" in capsys.readouterr().err
    assert main(["predict", str(forecast_run), "in.csv", "--mask-missing"]) == 0
    header, *rows = rows_of(capsys.readouterr().out)
    assert header == ["load+3"]
    # The state is held, and the present value with it: the answer stays.
    assert rows[0] == rows[1] == rows[2] != rows[3]


def test_predict_begins_each_sequence_anew(forecast_run, here, capsys):
    apart = {"a": "1000,10\n1020,11\n", "b": ",9\n500,9\n,\n"}
    both = "a,1000,10\nb,,9\na,1020,11\nb,500,9\nb,,\n"
    answers = {}
    for name, text in apart.items():
        (here / "in.csv").write_text("load,temperature\n" + text)
        assert main(["predict", str(forecast_run), "in.csv", "--mask-missing"]) == 0
        answers[name] = [row for (row,) in rows_of(capsys.readouterr().out)[1:]]
    (here / "in.csv").write_text("sequence,load,temperature\n" + both)
    assert main(["predict", str(forecast_run), "in.csv", "--mask-missing"]) == 0
    _, *rows = rows_of(capsys.readouterr().out)
    assert {name: [row[1] for row in rows if row[0] == name] for name in "ab"} == answers
    # There is no forecast before the first value, and none from another sequence's.
    first, second, third = answers["b"]
    assert first == "nan" and second == third and float(second) < 800


def test_a_forecast_of_an_earlier_version_is_refused(forecast_run, here, capsys):
    run = here / "run"
    shutil.copytree(forecast_run, run)
    about = json.loads((run / "model.json").read_text())
    del about["metadata"]["differences"]
    (run / "model.json").write_text(json.dumps(about))
    (here / "in.csv").write_text("load,temperature\n1000,10\n")
    for command in (["predict", str(run), "in.csv"], ["evaluate", str(run)]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert "forecasts values, as earlier versions did" in err and err.count("\n") == 1


def test_predict_writes_a_new_file_only(digits_run, here, capsys):
    digits_file(here / "in.csv")
    assert main(["predict", str(digits_run), "in.csv", "--out", "out.csv"]) == 0
    assert capsys.readouterr().out == ""
    assert len(rows_of((here / "out.csv").read_text())) == 3
    assert sorted(p.name for p in here.iterdir()) == ["in.csv", "out.csv"]


def a_run(folder, *, classes=None, per_step=False, target=None, time_unit=None, outputs=2):
    """A run folder whose model was not trained: what `predict` reads, and nothing else."""
    keys = jax.random.split(jax.random.key(0))
    readout = odernn.EachStep if per_step else odernn.LastStep
    model = odernn.Model(
        [odernn.Layer(odernn.zoo.RNN(1, 3, key=keys[0]), odernn.Scan())],
        readout(3, outputs, key=keys[1]),
    )
    about = {
        "kind": "classification" if classes else "regression",
        "per_step": per_step,
        "input_size": 1,
        "output_size": outputs,
        "channels": ["x"],
        "classes": classes,
        "scaling": None,
        "target": target,
        "target_scaling": None,
        "time_unit": time_unit,
        "horizon": 1,
        "mask_missing": False,
    }
    save(model, folder, about)
    (folder / "config.toml").write_text(odernn.train.Config(task="x").to_toml())
    (folder / "metrics.csv").write_text("")
    (folder / "result.json").write_text(json.dumps({"format": odernn.train.FORMAT}))
    return folder


def test_predict_classes_at_each_step(here, capsys):
    run = a_run(here / "run", classes=["no", "yes"], per_step=True)
    (here / "in.csv").write_text("x,sequence\n1,a\n2,b\n3,a\n")
    assert main(["predict", str(run), "in.csv"]) == 0
    header, *rows = rows_of(capsys.readouterr().out)
    assert header == ["sequence", "label", "probability"]
    assert [row[0] for row in rows] == ["a", "b", "a"]
    assert {row[1] for row in rows} <= {"no", "yes"}


@pytest.mark.parametrize(("outputs", "names"), [(1, ["value"]), (2, ["value 1", "value 2"])])
def test_predict_values(outputs, names, here, capsys):
    run = a_run(here / "run", outputs=outputs)
    (here / "in.csv").write_text("x\n1\n2\n")
    assert main(["predict", str(run), "in.csv"]) == 0
    header, *rows = rows_of(capsys.readouterr().out)
    assert header == ["sequence", *names] and len(rows) == 1


def test_predict_reads_time_stamps_where_training_did(here, capsys):
    run = a_run(here / "run", time_unit=10.0, outputs=1)
    # Whether stamps begin at 0 or in the year 2024 makes no difference, their intervals do.
    for name, start, step in (("a", 0, 10), ("b", 1.7e9, 10), ("c", 0, 5)):
        rows = "".join(f"{start + step * k},{k}\n" for k in range(4))
        (here / f"{name}.csv").write_text("time,x\n" + rows)
        assert main(["predict", str(run), f"{name}.csv"]) == 0
    first, second, third = capsys.readouterr().out.split("sequence,value\n")[1:]
    assert first == second != third


# --- what ends a command -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (InputError("bad\ninput \x1b[31m"), 2, "odernn: bad input [31m"),
        (RunFailed("not finite"), 1, "odernn: not finite"),
        (KeyboardInterrupt("saved in x"), 130, "odernn: saved in x"),
        (KeyboardInterrupt(), 130, "odernn: stopped."),
        (odernn.train.Interrupted("saved"), 130, "odernn: saved"),
        (
            OSError(28, "No space left on device", "x"),
            1,
            "odernn: x: No space left on device. Make",
        ),
        (PermissionError(13, "Permission denied", "x"), 1, "odernn: x: Permission denied."),
        (MemoryError(), 1, "odernn: out of memory: take a smaller --hidden-size"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 1, "odernn: out of memory"),
    ],
)
def test_exit_codes(raised, code, message, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise raised

    monkeypatch.setattr(odernn.train, "fit", fail)
    assert main(["train", "digits"]) == code
    err = capsys.readouterr().err
    assert err.startswith(message) and err.count("\n") == 1 and "\x1b" not in err


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(odernn.train, "fit", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["train", "digits"])


def odernn_process(*arguments, **options):
    command = [sys.executable, "-m", "odernn", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_a_reader_that_leaves_is_no_error():
    process = odernn_process("list")
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err == ""


def test_help_does_not_import_what_it_does_not_need():
    code = """
import sys
from odernn._cli import main
assert main([]) == 0
heavy = {"tyro", "rich", "optax", "orbax", "sklearn", "matplotlib", "safetensors.torch"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_stops_a_run_that_can_be_resumed(here):
    flags = ["--train-size", "32", "--epochs", "100000", "--out", "run"]
    process = odernn_process("train", "adding", *TINY[:4], *flags)
    try:
        until = time.monotonic() + 120
        while not list(here.glob("run/checkpoints/[0-9]*")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.startswith("odernn: stopped at step") and err.count("\n") == 1
    assert "odernn train --resume run" in err
