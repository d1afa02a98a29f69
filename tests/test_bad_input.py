"""Bad input from the command line: one clear line, exit code 2, nothing overwritten."""

import errno
import hashlib
import json
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
import odernn.train
from odernn import InputError
from odernn._cli import main
from odernn._storage import save

TINY = ["--cell", "rnn", "--hidden-size", "3", "--epochs", "1", "--batch-size", "8"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder):
    """All files with their content, all folders and links by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(here, capsys):
    """Check that a command is refused as bad input, and that no file changed."""

    def check(arguments, *parts, code=2, unchanged=True):
        before = everything(here)
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        assert err.startswith("odernn: ") and err.endswith("\n") and err.count("\n") == 1, err
        assert "Traceback" not in out + err
        assert len(err) < 700, "too long for one line"
        for part in parts:
            assert re.search(part, err), f"{part!r} is not in {err!r}"
        if unchanged:
            assert everything(here) == before
        return err

    return check


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on sequences of one channel; a copy for each test is `run`."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    flags = ["--length", "4", "--train-size", "8", "--out", str(folder)]
    assert main(["train", "adding", *TINY, *flags]) == 0
    return folder


@pytest.fixture
def run(finished, here):
    for path in finished.rglob("*"):
        target = here / "run" / path.relative_to(finished)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
    return here / "run"


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digist"], "unknown task 'digist': did you mean 'digits'"),
        (["Basicmotion"], "unknown task 'Basicmotion': did you mean 'BasicMotions'"),
        (["zzz"], "unknown task 'zzz'.*digits"),
        (["digits", "--cell", "ltsm"], "unknown cell 'ltsm': did you mean 'lstm'"),
        (["digits", "--cell", "CoRN"], "unknown cell 'CoRN': did you mean 'cornn'"),
        (["digits", "--method", "rk5"], "unknown method 'rk5': did you mean 'rkc5' or 'rk4'"),
        (["digits", "--cell", "gru", "--method", "gaussseideleuler"], "GaussSeidelEuler.*Gated"),
    ],
)
def test_unknown_names(arguments, message, refused):
    refused(["train", *arguments, "--out", "x"], message)


def test_unknown_key_in_the_configuration(here, refused):
    (here / "run.toml").write_text('task = "digits"\nhiden_size = 3\n')
    refused(["train", "--config", "run.toml"], "unknown key 'hiden_size'.*'hidden_size'")
    (here / "run.toml").write_text('task = "digits"\nepochs = "many"\n')
    refused(["train", "--config", "run.toml"], "epochs is 'many'")
    (here / "run.toml").write_text("task =")
    refused(["train", "--config", "run.toml"], "run.toml is not valid TOML")
    refused(["train", "--config", "other.toml"], "other.toml: No such file")
    refused(["train", "--config", "."], "Is a directory")


# --- CSV files ---------------------------------------------------------------------------------

ROWS = [f"{i},{i * i}" for i in range(40)]


def put(row, text):
    rows = list(ROWS)
    rows[row] = text
    return "\n".join(["a,b", *rows])


BAD_CSV = [
    ("", "file.csv is empty"),
    ("\n\n", "file.csv is empty"),
    ("a,b\n", "column names but no rows"),
    ("1,2\n3,4\n", "its first line has to be column names"),
    ("a,a\n1,2\n", "2 columns named 'a'"),
    (put(9, "9,lots"), r"'lots' at row 10 \(line 11\), column 'b'"),
    (put(9, '9,"1,5"'), r"'1,5' at row 10 \(line 11\), column 'b': use a decimal point"),
    (put(9, "9,nan"), r"1 missing value.*row 10 \(line 11\), column 'b'.*--mask-missing"),
    (put(9, "9,"), r"1 missing value.*row 10"),
    (put(9, "inf,-inf"), r"2 infinite value.*row 10.*column 'a'.*--mask-missing"),
    (put(9, "9,81,1"), r"3 cells in row 10 \(line 11\), but 2 column names"),
    (put(9, "9,\x80".encode().decode("latin-1")), "row 10"),
    ("a,b\n" + "\n".join(ROWS[:3]), "has 3 row.* needs at least"),
    ("a,b\nx,y\n", "no column with numbers"),
]


@pytest.mark.parametrize(("text", "message"), BAD_CSV)
def test_csv_to_train_on(text, message, here, refused):
    (here / "file.csv").write_text(text)
    refused(["train", "file.csv", "--target", "b", *TINY, "--out", "x"], "file.csv", message)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target", "bb"], "no column 'bb': did you mean 'b'"),
        ([], "2 numeric columns"),
        (["--target", "b", "--horizon", "0"], "--horizon is 0"),
        (["--target", "b", "--horizon", "39"], "has 40 row.* needs at least"),
        (["--target", "b", "--length", "39"], "length is 39"),
        (["--target", "b", "--length", "0"], "--length is 0"),
    ],
)
def test_options_of_csv_files(flags, message, here, refused):
    (here / "file.csv").write_text("\n".join(["a,b", *ROWS]))
    refused(["train", "file.csv", *flags, *TINY, "--out", "x"], message)


def test_csv_that_is_none(here, refused):
    refused(["train", "file.csv", "--target", "b"], "no file .*file.csv")
    (here / "files.csv").write_text("a,b\n1,2\n")
    refused(["train", "file.csv", "--target", "b"], "did you mean '.*files.csv'")
    (here / "folder.csv").mkdir()
    refused(["train", "folder.csv", "--target", "b"], "folder.csv: Is a directory")
    (here / "binary.csv").write_bytes(b"a,b\n\xff\xfe\x00")
    refused(["train", "binary.csv", "--target", "b"], "binary.csv is not UTF-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[(text, message) for text, message in BAD_CSV if "needs at least" not in message],
        ("a,b,c\n1,2,3\n", r"3 channels \('a', 'b', 'c'\).*reads 2 channels \('value', 'marker'\)"),
        ("value\n1\n", r"1 channel \('value'\).*reads 2 channels.*add 'marker'"),
        ("marker,Value\n1,2\n", "add 'value'"),
    ],
)
def test_csv_to_predict(text, message, here, run, refused):
    channels = odernn.load_metadata(run)["channels"]
    assert len(channels) == 2
    message = message.replace("value'", f"{channels[0]}'").replace("marker'", f"{channels[1]}'")
    text = text.replace("value", channels[0]).replace("marker", channels[1])
    (here / "file.csv").write_text(text)
    refused(["predict", run, "file.csv", "--out", "out.csv"], "file.csv", message)


def test_predictions_overwrite_nothing(here, run, refused):
    (here / "in.csv").write_text("a,b\n1,2\n")
    (here / "out.csv").write_text("precious")
    refused(["predict", run, "missing.csv"], "no file missing.csv")
    refused(["predict", run, "in.csv", "--out", "out.csv"], "--out out.csv exists already")
    refused(["predict", run, "in.csv", "--out", "in.csv"], "--out in.csv exists already")
    refused(["predict", run, "in.csv", "--out", "no/where.csv"], "no/where.csv cannot be written")


# --- sequences, steps and times ----------------------------------------------------------------


@pytest.mark.parametrize("task", ["adding", "copy"])
def test_length_zero(task, refused):
    refused(["train", task, "--length", "0", "--out", "x"], "--length is 0")


def test_sequences_of_length_zero(here, refused):
    head = "@problemName x\n@timestamps false\n@univariate true\n@classLabel true a b\n@data\n"
    (here / "x.ts").write_text(head + "1,2,3:a\n:b\n")
    refused(["train", "x.ts", *TINY, "--out", "x"], "x.ts")


def test_times_that_do_not_increase(here, refused):
    head = "@problemName x\n@timestamps true\n@univariate true\n@classLabel true a b\n@data\n"
    good, bad = "(0,1),(1,2),(2,3)", "(0,1),(2,2),(1,3)"
    (here / "x.ts").write_text(head + f"{good}:a\n{bad}:b\n" * 10)
    refused(["train", "x.ts", *TINY, "--out", "x"], "x.ts.*times that do not increase at step 3")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,1\n1,2\n1,3", r"the time at row 3 \(line 4\), column 'time' is not later"),
        ("0,1\nnan,2\n2,3", "1 missing value.*row 2"),
        ("0,1\ninf,2\n2,3", "1 infinite value.*row 2"),
        ("0,1\nsoon,2\n2,3", "'soon' at row 2"),
    ],
)
def test_times_to_predict(rows, message, here, refused):
    run = a_run_on_time_stamps(here / "run")
    (here / "in.csv").write_text("time,x\n" + rows)
    refused(["predict", run, "in.csv"], message)
    (here / "in.csv").write_text("x\n1\n2\n")
    refused(["predict", run, "in.csv"], "no column 'time'.*trained on time stamps")


def a_run_on_time_stamps(folder):
    key = jax.random.key(0)
    layer = odernn.Layer(odernn.zoo.RNN(1, 3, key=key), odernn.Scan())
    about = {
        **{"kind": "regression", "per_step": False, "input_size": 1, "output_size": 1},
        **{"channels": ["x"], "classes": None, "scaling": None, "target": None},
        **{"target_scaling": None, "time_unit": 2.0, "horizon": 1, "mask_missing": False},
    }
    save(odernn.Model([layer], odernn.LastStep(3, 1, key=key)), folder, about)
    (folder / "config.toml").write_text(odernn.train.Config(task="x").to_toml())
    (folder / "metrics.csv").write_text("")
    (folder / "result.json").write_text(json.dumps({"format": odernn.train.FORMAT}))
    return folder


@pytest.mark.parametrize("dt", ["0", "-1", "nan", "inf", "-inf", "1e-400"])
def test_step_size(dt, refused):
    refused(["train", "digits", f"--dt={dt}", "--out", "x"], "--dt is .*, it must be positive")


@pytest.mark.parametrize(
    "flags",
    [
        "--hidden-size 0",
        "--hidden-size -3",
        "--hidden-size 2.5",
        "--layers 0",
        "--epochs 0",
        "--batch-size 0",
        "--learning-rate 0",
        "--learning-rate nan",
        "--gradient-clip -1",
        "--dropout 1",
        "--patience -1",
        "--seed -1",
        "--train-size 0",
    ],
)
def test_numbers_out_of_range(flags, refused):
    refused(["train", "digits", *flags.split(), "--out", "x"], flags.split()[0])


def test_arrays_that_do_not_fit():
    """Masks, lengths and times are no files: the library refuses them itself."""
    layer = odernn.Layer(odernn.zoo.RNN(2, 3, key=jax.random.key(0)), odernn.Scan())
    xs = jnp.ones((5, 2))
    wrong = [
        ({"mask": np.ones(4, bool)}, "mask is bool of shape .4,."),
        ({"mask": np.ones(5)}, "mask is float64"),
        ({"length": np.array([3])}, "length is int64 of shape .1,."),
        ({"length": 6}, "length must be between 1"),
        ({"times": np.arange(4.0)}, "times has the shape .4,."),
        ({"times": np.array([0.0, 1, 1, 2, 3])}, "times must be finite and strictly increasing"),
        ({"times": np.array([0.0, 1, np.nan, 2, 3])}, "times must be finite"),
        ({"initial_state": jnp.ones(4)}, "initial_state has the structure .4,."),
    ]
    for options, message in wrong:
        with pytest.raises(InputError, match=message):
            layer(xs, **options)
    for inputs, message in [(jnp.ones((5, 3)), "takes one sequence"), (xs[:0], "no steps")]:
        with pytest.raises(InputError, match=message):
            layer(inputs)


# --- run folders -------------------------------------------------------------------------------


def test_a_folder_that_exists(here, run, refused):
    for flags in (["--out", "run"], ["--out", "run/model.json"]):
        refused(["train", "adding", *TINY, *flags], "exists already|cannot be made")
    (here / "empty").mkdir()
    refused(["train", "adding", *TINY, "--out", "empty"], "--out empty exists already")
    (here / "file").write_text("precious")
    refused(["train", "adding", *TINY, "--out", "file"], "exists already")
    refused(["train", "adding", *TINY, "--out", "file/below"], "--out file/below cannot be made")


COMMANDS = [["evaluate", "run"], ["predict", "run", "in.csv"], ["train", "--resume", "run"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_folder_that_is_no_run(command, here, refused):
    (here / "in.csv").write_text("a,b\n1,2\n")
    refused(command, "there is no run folder run")
    (here / "run").mkdir()
    refused(command, "run folder run is incomplete, it has no config.toml")
    (here / "run" / "config.toml").write_text("\x00")
    refused(command, "run/config.toml is not valid TOML")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_run_of_another_version(command, here, run, refused):
    (here / "in.csv").write_text("a,b\n1,2\n")
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("format = 1", "format = 99"))
    refused(command, "format 99", "format 1")


@pytest.mark.parametrize("command", COMMANDS[:2], ids=lambda command: command[0])
@pytest.mark.parametrize("name", ["result.json", "model.json", "model.safetensors", "metrics.csv"])
def test_an_incomplete_run(command, name, here, run, refused):
    (here / "in.csv").write_text("a,b\n1,2\n")
    (run / name).unlink()
    refused(command, "run folder run is incomplete", name if name != "result.json" else "--resume")


def test_a_finished_run_is_not_resumed(run, refused):
    refused(["train", "--resume", "run"], "run has finished, there is nothing to resume")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2, "odernn": "9"}', "\x80"])
def test_a_spoiled_result(content, run, refused):
    (run / "result.json").write_text(content)
    refused(["evaluate", "run"], "result.json")


# --- model files -------------------------------------------------------------------------------


def truncate(run):
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def edit(change):
    def apply(run):
        document = json.loads((run / "model.json").read_text())
        change(document)
        (run / "model.json").write_text(json.dumps(document))

    return apply


def field(document):
    return document["model"]["arguments"]["layers"]["tuple"][0]["arguments"]["cell"]["arguments"][
        "field"
    ]


@pytest.mark.parametrize("command", COMMANDS[:2], ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "model.safetensors.*truncated"),
        (lambda run: (run / "model.json").write_text("no"), "model.json is not valid JSON"),
        (lambda run: (run / "model.json").write_text("[" * 10**5), "too deeply nested"),
        (edit(lambda d: d.update(format=7)), "of format '7'"),
        (edit(lambda d: field(d).update({"class": "os.system"})), "unknown class 'os.system'"),
        (edit(lambda d: field(d)["arguments"].update(hidden_size=4)), "puts out 4"),
        (edit(lambda d: field(d)["arguments"].update(hidden_size=10**12)), "more numbers than"),
        (edit(lambda d: d["arrays"].popitem()), "is missing"),
        (edit(lambda d: d.update(model=field(d))), "does not belong|is missing|has the shape"),
    ],
)
def test_hostile_model_files(command, damage, message, here, run, refused):
    (here / "in.csv").write_text("a,b\n1,2\n")
    damage(run)
    refused(command, message)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.clear(),
        lambda about: about.update(kind="magic"),
        lambda about: about.update(channels=3),
        lambda about: about.update(channels=["time", "a", "b"]),
        lambda about: about.update(classes=[1], kind="classification"),
        lambda about: about.update(classes=["x", "y", "z"], kind="classification"),
        lambda about: about.update(scaling={"mean": ["x"], "std": [1]}),
        lambda about: about.update(target_scaling=[]),
        lambda about: about.update(time_unit="x"),
        lambda about: about.update(time_unit=0.0),
        lambda about: about.update(per_step=True),
    ],
)
def test_hostile_metadata(change, here, run, refused):
    (here / "in.csv").write_text("time,a,b\n1,1,2\n2,1,2\n")
    edit(lambda document: change(document["metadata"]))(run)
    refused(["predict", run, "in.csv"])


# --- disk full ---------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_disk_full_while_training(failing, here, refused, monkeypatch):
    (here / "other").write_text("precious")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    arguments = ["train", "adding", *TINY, "--length", "4", "--train-size", "8", "--out", "new"]
    refused(arguments, "cannot save to new: no space left", code=1, unchanged=False)
    monkeypatch.undo()
    assert (here / "other").read_text() == "precious"
    assert not list(here.rglob("*.tmp"))


def test_disk_full_while_predicting(here, run, refused, monkeypatch):
    (here / "in.csv").write_text("a,b\n1,2\n")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused(["predict", run, "in.csv", "--out", "out.csv"], "out.csv cannot be written", code=1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_disk_full_behind_the_terminal(capsys, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["--version"]) == 1
        monkeypatch.undo()
    err = capsys.readouterr().err
    assert err == "odernn: No space left on device. Make room and try again.\n"
