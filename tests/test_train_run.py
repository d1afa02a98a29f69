"""Whole runs: what they leave, that they repeat, stop, go on and refuse."""

import csv
import dataclasses
import errno
import io
import json
import shutil
import signal

import jax
import numpy as np
import pytest
from rich.console import Console

import odernn
from odernn import InputError, RunFailed
from odernn._storage import load
from odernn.train import Config, Interrupted, RunResult, evaluate, fit, predict
from odernn.train import _folder as folders
from odernn.train._loop import COLUMNS, Trainer

pytestmark = pytest.mark.usefixtures("compiled_programs_are_kept")

TINY = Config(
    task="adding", cell="rnn", length=4, train_size=40, hidden_size=4, batch_size=16, epochs=3
)
FILES = {"config.toml", "metrics.csv", "curves.png", "result.json", "checkpoints"}
MODEL = {"model.json", "model.safetensors"}


def tiny(folder, **changes) -> Config:
    return dataclasses.replace(TINY, out=folder, **changes)


def outcome(folder) -> dict:
    """Everything a repetition must reproduce to the last bit."""
    result = json.loads((folder / "result.json").read_text())
    del result["seconds"]
    return result | {
        name: (folder / name).read_bytes()
        for name in ("metrics.csv", "model.safetensors", "model.json")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunResult:
    """A finished run; read it, change only copies."""
    return fit(tiny(tmp_path_factory.mktemp("runs") / "finished"))


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished.folder, tmp_path / "copy")


# --- What a run leaves ---------------------------------------------------------------------------


def test_a_run_leaves_its_folder(finished):
    folder = finished.folder
    assert {path.name for path in folder.iterdir()} == FILES | MODEL
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["train_loss"]) for row in rows] == [r["train_loss"] for r in finished.rows]
    assert rows[-1]["step"] == "9"
    result = json.loads((folder / "result.json").read_text())
    assert result["test_metric"] == finished.test_metric
    assert (result["format"], result["odernn"]) == (1, odernn.__version__)
    assert (result["n"], result["t"]) == (1, 1)
    assert result["parameters"] == odernn.parameter_count(finished.model)


def test_the_saved_model_is_the_best_one(finished):
    loaded = load(finished.folder)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(finished.model), strict=True):
        np.testing.assert_array_equal(a, b)
    best = min(finished.rows, key=lambda row: row["validation_metric"])
    assert finished.best_epoch == best["epoch"]
    measured = evaluate(finished.folder)
    assert measured["validation_metric"] == best["validation_metric"]
    assert measured["test_metric"] == finished.test_metric
    assert measured["test_loss"] == finished.test_loss


def test_its_configuration_repeats_it(finished, tmp_path):
    again = dataclasses.replace(
        Config.from_toml(finished.folder / "config.toml"), out=tmp_path / "again"
    )
    assert outcome(fit(again).folder) == outcome(finished.folder)


def test_another_seed_differs(finished, tmp_path):
    assert fit(tiny(tmp_path / "x", seed=1, epochs=1)).test_loss != finished.test_loss


def test_the_default_folder_has_the_first_free_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/adding-rnn-1").mkdir(parents=True)
    (tmp_path / "runs/adding-rnn-3").mkdir()
    assert str(folders.create(dataclasses.replace(TINY, out=None), "adding")) == (
        "runs/adding-rnn-2"
    )


def test_progress_is_plain_lines_without_a_terminal(tmp_path):
    text = io.StringIO()
    fit(tiny(tmp_path / "x", epochs=2), console=Console(file=text, width=60))
    lines = text.getvalue().splitlines()
    assert any(line.startswith("epoch 2/2  loss") and "sequences/s" in line for line in lines)
    for word in ("Leaky", "Euler", "1-1 (n-t)", "parameters", "test mse", "guessing the mean"):
        assert word in text.getvalue()
    assert "\x1b" not in text.getvalue()


def test_progress_is_a_bar_on_a_terminal(tmp_path):
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True)
    fit(tiny(tmp_path / "x", epochs=1), console=console)
    assert "epoch 1/1" in text.getvalue()
    assert "━" in text.getvalue()


def test_a_step_is_compiled_once(tmp_path, monkeypatch):
    traced = []
    step = Trainer._one_step

    def count(self, *arguments):
        traced.append("step")
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_one_step", count)
    assert TINY.train_size % TINY.batch_size  # the last batch is a short one
    fit(tiny(tmp_path / "x"))
    assert traced == ["step"]


# --- Options -----------------------------------------------------------------------------------


def test_patience_stops_early_and_keeps_the_best(tmp_path, monkeypatch):
    metrics = iter([0.5, 0.4, 0.6, 0.7, 0.8, 0.9])
    monkeypatch.setattr(Trainer, "_validate_part", lambda self, weights: (1.0, next(metrics)))
    result = fit(tiny(tmp_path / "x", epochs=6, patience=2))
    assert len(result.rows) == 4
    assert result.best_epoch == 2


def test_equal_metrics_are_decided_by_the_loss(tmp_path, monkeypatch):
    values = iter([(1.0, 0.5), (0.8, 0.5), (0.9, 0.5)])
    monkeypatch.setattr(Trainer, "_validate_part", lambda self, weights: next(values))
    assert fit(tiny(tmp_path / "x")).best_epoch == 2


def test_averaged_weights_are_those_validated_and_saved(tmp_path, finished):
    result = fit(tiny(tmp_path / "x", average=0.9))
    train = [row["train_loss"] for row in result.rows]
    assert train == [row["train_loss"] for row in finished.rows]  # training itself is the same
    assert result.rows[0]["validation_loss"] != finished.rows[0]["validation_loss"]
    assert evaluate(result.folder)["test_loss"] == result.test_loss


def test_dropout_layers_and_per_step_targets(tmp_path):
    options = {"task": "copy", "length": 1, "dropout": 0.5, "label_smoothing": 0.1, "layers": 2}
    result = fit(tiny(tmp_path / "a", **options, epochs=1, bidirectional=True))
    same = fit(tiny(tmp_path / "b", **options, epochs=1, bidirectional=True))
    assert result.metric == "accuracy"
    assert outcome(result.folder) == outcome(same.folder)


def test_a_small_training_set_makes_one_batch(tmp_path):
    result = fit(tiny(tmp_path / "x", train_size=3, epochs=1))
    assert result.rows[0]["step"] == 1


# --- Stopped and continued -----------------------------------------------------------------------


@pytest.mark.parametrize("at", [2, 3, 8])
def test_ctrl_c_saves_and_the_run_goes_on_as_if_nothing_happened(
    tmp_path, monkeypatch, finished, at
):
    count = Trainer._count

    def press(self, *arguments):
        count(self, *arguments)
        if self.position.step == at:
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "x"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_count", press)
        with pytest.raises(Interrupted, match=rf"stopped at step {at} .*--resume {folder}"):
            fit(tiny(folder))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(InputError, match="incomplete, the run has not finished: continue it with"):
        evaluate(folder)
    assert outcome(fit(resume=folder).folder) == outcome(finished.folder)


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path, finished):
    folder = folders.create(tiny(tmp_path / "x"), "adding")
    assert outcome(fit(resume=folder).folder) == outcome(finished.folder)


def test_a_run_killed_at_the_very_end_only_writes_what_is_missing(copied, finished):
    (copied / "result.json").unlink()
    (copied / "model.json").unlink()
    (copied / "metrics.csv").write_text("spoiled")
    (copied / "curves.png").write_bytes(b"")
    result = fit(resume=copied)
    assert outcome(copied) == outcome(finished.folder)
    assert result.seconds > 0


# --- Failures ----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    folder = tmp_path / "x"
    with pytest.raises(RunFailed) as error:
        fit(tiny(folder, learning_rate=1e200, warmup=0.0))
    text = str(error.value)
    for part in ("not finite at step", "last finite loss", "gradient norm", "--learning-rate"):
        assert part in text
    assert "it is 1e+200" in text
    assert "\n" not in text
    assert not (folder / "result.json").exists()


def test_the_last_good_checkpoint_stays(tmp_path, monkeypatch):
    count = Trainer._count

    def spoil(self, total, norm):
        bad = self.position.step == 4
        count(self, total, float("inf") if bad else norm)

    monkeypatch.setattr(Trainer, "_count", spoil)
    folder = tmp_path / "x"
    with pytest.raises(RunFailed) as error:
        fit(tiny(folder))
    text = str(error.value)
    assert "the gradient is not finite at step 5 (epoch 2)" in text
    assert "gradient norm inf" in text
    assert text.endswith("The checkpoint of epoch 1 stays.")
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["3"]


@pytest.mark.parametrize("name", ["metrics.csv", "result.json", "config.toml"])
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch, finished, name):
    folder, calls = tmp_path / "x", []
    write = folders.write_file

    def full(path, content):
        calls.append(path.name)
        if path.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_file", full)
        with pytest.raises(RunFailed, match="no space left on the device") as error:
            fit(tiny(folder))
    assert "\n" not in str(error.value)
    if name == "result.json":
        assert outcome(fit(resume=folder).folder) == outcome(finished.folder)


def test_a_full_disk_while_training_keeps_the_checkpoint(tmp_path, monkeypatch, finished):
    append, folder = folders.append_row, tmp_path / "x"

    def full(run, row):
        if row["epoch"] == 2:
            with folders.saving(run):
                (run / "metrics.csv").write_text("epoch,st")  # what was written until then
                raise OSError(errno.ENOSPC, "No space left on device")
        append(run, row)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "append_row", full)
        with pytest.raises(RunFailed, match=r"the last checkpoint is intact.*--resume"):
            fit(tiny(folder))
    assert outcome(fit(resume=folder).folder) == outcome(finished.folder)


# --- Refused -----------------------------------------------------------------------------------


def test_an_existing_folder_is_not_touched(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=f"--out {folder} exists already"):
        fit(tiny(folder))
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "changes", [{"cell": "ltsm"}, {"task": "addding"}, {"epochs": 0}, {"method": "rk5"}]
)
def test_nothing_is_made_for_a_configuration_that_is_refused(tmp_path, changes):
    with pytest.raises(InputError):
        fit(tiny(tmp_path / "x", **changes))
    assert not (tmp_path / "x").exists()


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        fit(tiny(tmp_path / "file/x"))


def test_no_configuration_and_no_run_is_refused():
    with pytest.raises(InputError, match="nothing to train"):
        fit()


def test_a_finished_run_is_not_resumed(finished):
    with pytest.raises(InputError, match="has finished, there is nothing to resume"):
        fit(resume=finished.folder)


def test_a_resumed_run_keeps_its_configuration(copied):
    (copied / "result.json").unlink()
    with pytest.raises(InputError, match="a resumed run keeps its configuration"):
        fit(tiny(None, epochs=9), resume=copied)
    fit(tiny(None), resume=copied)


def test_changed_data_are_noticed(copied, monkeypatch):
    (copied / "result.json").unlink()
    monkeypatch.setattr("odernn.train._run._fingerprint", lambda task: 1)
    with pytest.raises(InputError, match="the data of task adding changed"):
        fit(resume=copied)


@pytest.mark.parametrize("use", [evaluate, lambda run: fit(resume=run)])
def test_folders_that_are_no_runs_are_refused(tmp_path, use):
    with pytest.raises(InputError, match="there is no run folder"):
        use(tmp_path / "none")
    with pytest.raises(InputError, match=r"incomplete, it has no config.toml: delete it"):
        use(tmp_path)


@pytest.mark.parametrize("missing", ["metrics.csv", "model.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(copied, missing):
    (copied / missing).unlink()
    with pytest.raises(InputError, match=f"incomplete, it has no {missing}: train again"):
        evaluate(copied)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_a_spoiled_result_is_refused(copied, text):
    (copied / "result.json").write_text(text)
    with pytest.raises(InputError, match="cannot be read: train again"):
        evaluate(copied)


def test_other_versions_are_refused(copied):
    result = json.loads((copied / "result.json").read_text())
    (copied / "result.json").write_text(json.dumps(result | {"format": 2, "odernn": "9.9"}))
    with pytest.raises(InputError, match=r"has format 2 \(odernn 9.9\), this version reads"):
        evaluate(copied)
    (copied / "result.json").unlink()
    text = (copied / "config.toml").read_text()
    (copied / "config.toml").write_text(text.replace("format = 1", "format = 2"))
    with pytest.raises(InputError, match="reads format 1: use that version"):
        fit(resume=copied)


# --- Prediction ----------------------------------------------------------------------------------


def test_predictions_are_the_models_outputs(finished):
    inputs = np.random.default_rng(0).random((300, 4, 2), dtype=np.float32)
    found = predict(finished.folder, inputs)
    direct = jax.vmap(finished.model)(inputs)
    np.testing.assert_allclose(found, direct, rtol=1e-6)
    shorter = predict(finished.folder, inputs[:3], lengths=np.array([2, 3, 4]))
    np.testing.assert_allclose(shorter[0], finished.model(inputs[0, :2]), rtol=1e-6)


def test_probabilities_and_units(copied):
    path = copied / "model.json"
    stored = json.loads(path.read_text())
    about = stored["metadata"]
    assert about["channels"] == ["number", "marker"]
    about["scaling"] = {"mean": [1.0, 2.0], "std": [2.0, 4.0]}
    about["target_scaling"] = {"mean": [10.0], "std": [3.0]}
    path.write_text(json.dumps(stored))
    inputs = np.ones((2, 4, 2), np.float32)
    model = load(copied)
    expected = 10 + 3 * jax.vmap(model)((inputs - np.array([1, 2])) / np.array([2, 4]))
    np.testing.assert_allclose(predict(copied, inputs), expected, rtol=1e-6)
    about["kind"] = "classification"
    path.write_text(json.dumps(stored))
    np.testing.assert_allclose(predict(copied, inputs).sum(axis=-1), 1)


@pytest.mark.parametrize(
    ("inputs", "options", "part"),
    [
        (np.ones((2, 4, 3)), {}, "give (sequences, time, 2), the channels are number, marker"),
        (np.ones((4, 2)), {}, "inputs have the shape (4, 2)"),
        (np.ones((0, 4, 2)), {}, "inputs have the shape (0, 4, 2)"),
        (np.ones((1, 0, 2)), {}, "length 0"),
        (np.full((1, 4, 2), np.nan), {}, "4 steps with nan or infinite values, the first in"),
        (np.ones((1, 4, 2)), {"mask": np.ones((1, 3))}, "mask has the shape (1, 3)"),
        (np.ones((1, 4, 2)), {"lengths": np.array([5])}, "between 1 and 4"),
        (np.ones((1, 4, 2)), {"times": np.array([[0, 1, 1, 2]])}, "increase strictly"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(finished, inputs, options, part):
    with pytest.raises(InputError) as error:
        predict(finished.folder, inputs, **options)
    assert part in str(error.value)
