"""A network of qubits on the command line, from training to the pictures."""

import csv
import io
import json

import jax
import numpy as np
import pytest

import odernn
from odernn import zoo
from odernn._cli import main
from odernn.analysis import certify, diagnose, find_fixed_points, lyapunov_spectrum
from odernn.train import Config

SMALL = ["--cell", "qunn", "--qubits", "2", "--memory", "2", "--epochs", "1", "--batch-size", "16"]
QUICK = ["--qubits", "2", "--input-size", "1", "--steps", "6", "--sequences", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run without feedback."""
    folder = tmp_path_factory.mktemp("runs") / "adding"
    data = ["--train-size", "16", "--length", "5", "--out", str(folder)]
    assert main(["train", "adding", *SMALL, *data]) == 0
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A CSV file with one column."""
    path = tmp_path_factory.mktemp("series") / "wave.csv"
    path.write_text("wave\n" + "\n".join(f"{np.sin(k / 5):.4f}" for k in range(60)) + "\n")
    return path


@pytest.fixture(scope="module")
def forecast(tmp_path_factory, series):
    """A run of two layers with feedback, which reads past states."""
    folder = tmp_path_factory.mktemp("runs") / "wave"
    flags = ["--feedback", "--layers", "2", "--sharing", "global", "--features", "1"]
    data = ["--target", "wave", "--length", "8", "--out", str(folder)]
    assert main(["train", str(series), *SMALL, *flags, *data]) == 0
    return folder


def words(capsys) -> str:
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def json_of(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def qunn(key, **options) -> odernn.Cell:
    return zoo.QUNN(1, 2, key=key, **options)


# --- train, evaluate, predict ------------------------------------------------------------------


def test_options_reach_the_field(run, forecast):
    field = odernn.load(run).layers[0].cell.field
    assert (field.qubits, field.memory, field.feedback) == (2, 2, False)
    model = odernn.load(forecast)
    for layer in model.layers:
        field = layer.cell.field
        assert (field.memory, field.feedback, field.sharing, field.features) == (
            2,
            True,
            "global",
            1,
        )
        assert isinstance(layer.cell.method, odernn.Delayed)
    seen = 3 * 2 - 1
    assert [layer.hidden_size for layer in model.layers] == [seen, seen]
    assert model.layers[1].input_size == model.readout.input_size == seen


def test_a_run_can_be_repeated_from_its_configuration(forecast, here):
    stored = Config.from_toml(forecast / "config.toml")
    assert (stored.hidden_size, stored.qubits, stored.memory, stored.feedback) == (None, 2, 2, True)
    assert stored.method == type(zoo.QUNN.method).__name__.lower()  # not the one put around it
    flags = ["--config", str(forecast / "config.toml"), "--out", "again"]
    assert main(["train", stored.task, *flags]) == 0
    first, second = (
        json.loads((folder / "result.json").read_text()) for folder in (forecast, here / "again")
    )
    assert first["test_loss"] == second["test_loss"]
    assert first["method"] == type(zoo.QUNN.method).__name__


def test_both_directions(key):
    config = Config(task="adding", cell="qunn", qubits=2, layers=2, bidirectional=True)
    model = odernn.train._build.build_model(config, odernn.train.get_task(config), key)
    seen = 3 * 2 - 1
    assert [layer.hidden_size for layer in model.layers] == [2 * seen, 2 * seen]
    assert model.readout.input_size == 2 * seen


def test_evaluate_and_predict(run, forecast, series, capsys):
    found = json_of(capsys, "evaluate", str(run))
    assert found["test_loss"] == json.loads((run / "result.json").read_text())["test_loss"]
    assert main(["predict", str(forecast), str(series)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 60
    assert all(np.isfinite(float(list(row.values())[-1])) for row in rows)


def test_what_train_says_it_trains(here, capsys):
    flags = ["--train-size", "16", "--length", "3", "--cell", "qunn", "--epochs", "1"]
    assert main(["train", "adding", *flags, "--encoding", "fixed", "--out", "plain"]) == 0
    out = words(capsys)
    assert "network qunn, 1 x 6 qubits" in out and "method LieTrotter" in out
    assert Config.from_toml(here / "plain" / "config.toml").qubits == 6
    assert odernn.load(here / "plain").layers[0].cell.field.encoding == "fixed"


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["network", "run"])
def test_classify(name, run, capsys):
    assert main(["classify", "qunn" if name == "network" else str(run)]) == 0
    assert "0-1" in capsys.readouterr().out


# --- certify -----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--memory", "4"], ["--method", "commutatorfree4"]])
def test_a_unitary_step_is_an_isometry_whatever_the_parameters(more, capsys):
    (cell,) = json_of(capsys, "certify", "qunn", *more)["cells"].values()
    assert (cell["kind"], cell["lower"], cell["upper"]) == ("isometry", 1, 1)
    assert cell["structural"] and cell["horizon_is_infinite"]


def test_a_trained_one_is_one_too(run, capsys):
    assert main(["certify", str(run)]) == 0
    out = words(capsys)
    assert "in this norm gradients neither grow nor vanish" in out
    assert "all parameter values" in out and "PauliHamiltonian + LieTrotter, dt = 1" in out


@pytest.mark.parametrize(
    "options", [{}, {"real": True}, {"memory": 3}, {"memory": 3, "real": True}]
)
def test_with_feedback_it_is_said_why_there_is_no_certificate(options, key):
    cell = qunn(key, feedback=True, **options)
    found = certify(cell)
    assert found.kind == "none"
    assert found.assumptions == (f"no theorem applies: {cell.field.certified.source}.",)


def test_why_and_nothing_to_try(forecast, capsys):
    for target in (["qunn", "--feedback", "--memory", "2"], [str(forecast)]):
        assert main(["certify", *target]) == 0
        out = words(capsys)
        assert "certificate none" in out and "with feedback" in out and " try " not in out
        assert "complex" not in out and "PauliHamiltonian + LieTrotter" in out


def test_a_method_that_does_not_keep_the_norm_is_not_certified(key, capsys):
    assert main(["certify", "qunn", "--method", "rk4"]) == 0
    out = words(capsys)
    assert "certificate none" in out and "a step of RK4 is not known to" in out
    midpoint = odernn.replace(qunn(key), method=odernn.ImplicitMidpoint(), dt=20.0)
    assert certify(midpoint).kind == "isometry"
    for cell, kept in ((midpoint, True), (odernn.replace(midpoint, method=odernn.RK4()), False)):
        xs = jax.random.normal(key, (20, 1))
        _, y = odernn.Layer(cell)(xs)
        assert (abs(float(np.linalg.norm(y)) - 1) < 1e-9) is kept


# --- diagnose and eye --------------------------------------------------------------------------


@pytest.mark.parametrize("real", [False, True])
def test_gradients_of_a_unitary_step_are_carried_as_they_are(real, key):
    cell, xs = qunn(key, real=real, memory=2), jax.random.normal(key, (12, 1))
    found = diagnose(cell, xs, advice=False)
    np.testing.assert_allclose(found.gradient, 1, rtol=1e-12)
    np.testing.assert_allclose(found.lyapunov, 0, atol=1e-12)
    np.testing.assert_allclose(abs(found.eigenvalues), 1, rtol=1e-12)
    assert found.horizon == 12 and found.size == 2 * 2**2
    # The state zero, which the step leaves as it is, is no state of norm 1.
    assert found.fixed_points == ()
    np.testing.assert_allclose(lyapunov_spectrum(cell, xs=xs), 0, atol=1e-12)


@pytest.mark.parametrize("real", [False, True])
def test_with_feedback_of_past_states_all_is_measured(real, key):
    cell = qunn(key, real=real, memory=2, feedback=True)
    found = diagnose(cell, jax.random.normal(key, (6, 1)), advice=False)
    assert found.finite and found.size == 2 * 2**2 + 2  # and the last <Z> of both qubits
    assert found.field_eigenvalues is None and found.outside is None
    assert not np.allclose(found.norms, 1)


def test_a_state_at_rest_is_found_and_zero_is_none(key):
    cell = qunn(key)
    still = jax.tree.map(lambda a: 0 * a, cell)  # nothing turns: every state stays
    starts = cell.initial_state()[None]
    (found,) = find_fixed_points(still, np.zeros(1), starts)
    np.testing.assert_allclose(found.state, starts[0])
    assert find_fixed_points(cell, np.zeros(1), starts) == ()


def test_diagnose_by_name_in_words(capsys):
    assert main(["diagnose", "qunn", *QUICK]) == 0
    out = words(capsys)
    assert "at least 6 steps" in out and "gradient 1 over 6 steps (1 to 1)" in out
    assert "inputs: 1, qubits: 2" in out


def test_eyes(run, forecast, here, capsys):
    few = ["--steps", "5", "--sequences", "2"]
    assert main(["eye", str(run), *few]) == 0
    assert main(["eye", str(forecast), *few, "--out", "past.svg"]) == 0
    names = ["eye-adding.svg", "past-layers-0.svg", "past-layers-1.svg"]
    assert capsys.readouterr().out.split() == names
    assert all("PauliHamiltonian" in (here / name).read_text() for name in names)


# --- what cannot be used -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden-size", "4"], "--hidden-size is 4, but the size of QUNN is --qubits: what the"),
        (["--hidden-size", "4", "--qubits", "3"], "follows from it, 8 numbers of 3 qubits."),
        (["--cell", "lstm", "--memory", "4"], "--memory is 4, but LSTM does not take it: leave it"),
        (["--cell", "gru", "--qubits", "3"], "--qubits is 3, but GRU does not take it"),
        (["--cell", "gru", "--feedback"], "--feedback is True, but GRU does not take it"),
        (["--cell", "gru", "--sharing", "site"], "or take qunn."),
        (["--qubits", "1"], "--qubits is 1, it must be at least 2."),
        (["--qubits", "60"], "qubits = 60: a state has 2^60 amplitudes"),
        (["--memory", "0"], "--memory is 0, it must be at least 1."),
        (["--features", "0"], "--features is 0, it must be at least 1."),
        (["--sharing", "all"], "invalid choice 'all' for argument '--sharing'"),
        (["--encoding", "all"], "invalid choice 'all' for argument '--encoding'"),
    ],
)
@pytest.mark.parametrize("command", ["train", "certify"])
def test_complaints_are_one_line(command, arguments, message, here, capsys):
    if command == "train":
        arguments = ["adding", *([] if "--cell" in arguments else ["--cell", "qunn"]), *arguments]
    elif "--cell" in arguments:
        arguments = arguments[1:]
    else:
        arguments = ["qunn", *arguments]
    assert main([command, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("odernn: ") and err.count("\n") == 1 and message in err
    assert list(here.iterdir()) == []


def test_a_trained_network_has_its_own_options(run, capsys):
    assert main(["certify", str(run), "--memory", "3"]) == 2
    assert "--memory is for a network of the zoo" in capsys.readouterr().err


def test_a_certificate_cannot_be_kept_where_there_is_none(capsys):
    assert main(["train", "adding", *SMALL, "--feedback", "--keep-certified"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "cannot be kept certified" in err


# --- the network itself ------------------------------------------------------------------------


def test_a_network_matches_its_cells_with_and_without_past_states(key):
    for options in ({}, {"memory": 2}, {"memory": 2, "feedback": True}):
        assert zoo.QUNN.matches(qunn(key, **options))
    assert not zoo.QUNN.matches(qunn(key, memory=2, feedback=True, method=odernn.Strang()))
    assert not zoo.LSTM.matches(qunn(key))


def test_the_size_of_a_network_has_a_name(key):
    assert zoo.QUNN(1, qubits=3, key=key).field.qubits == 3
    assert zoo.LSTM(1, hidden_size=3, key=key).hidden_size == 3
    for network, name in ((zoo.QUNN, "qubits"), (zoo.LSTM, "hidden_size")):
        with pytest.raises(odernn.InputError, match=f"its size is missing, give {name}."):
            network(1, key=key)
    with pytest.raises(odernn.InputError, match="its size is given twice"):
        zoo.QUNN(1, 2, qubits=2, key=key)
    with pytest.raises(odernn.InputError, match="unknown argument of QUNN 'qubit'"):
        zoo.QUNN(1, 2, qubit=2, key=key)
