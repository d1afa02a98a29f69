"""`odernn certify`, `odernn diagnose` and `odernn eye`, with small networks."""

import json
import re
import sys

import jax
import numpy as np
import pytest

import odernn
import odernn.analysis._certify
import odernn.analysis._diagnose
import odernn.analysis._regions_picture
import odernn.analysis._sweep
from odernn import InputError, zoo
from odernn._certified_layers import certify_layers, fed_with
from odernn._cli import main
from odernn._target import Sequences, _observed, in_order, the_longest
from odernn.tasks import Dataset

STEPS = """
import jax.numpy as jnp
import odernn, jax

def step(h, x):
    return 0.5 * jnp.tanh(h + jnp.sum(x))

model = odernn.Model(
    [odernn.Layer(odernn.zoo.RNN(2, 2, key=jax.random.key(0)))],
    odernn.LastStep(2, 1, key=jax.random.key(1)),
)
number = 3
"""
TINY = ["--hidden-size", "2", "--input-size", "1"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test runs in a folder of its own, with a module that nobody has imported yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / f"steps_{tmp_path.name}.py").write_text(STEPS)
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two layers."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    flags = ["--cell", "rnn", "--hidden-size", "2", "--layers", "2", "--epochs", "1"]
    data = ["--train-size", "16", "--length", "6", "--batch-size", "16"]
    assert main(["train", "adding", *flags, *data, "--out", str(folder)]) == 0
    return folder


def json_of(capsys, *arguments, code=0):
    """What a command prints with --json; nothing else may be there."""
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def two_layers(key):
    keys = jax.random.split(key, 4)
    both = [odernn.Layer(zoo.RNN(1, 2, key=k)) for k in keys[:2]]
    layers = [odernn.Bidirectional(*both), odernn.Layer(zoo.RNN(4, 2, key=keys[2]))]
    return odernn.Model(layers, odernn.LastStep(2, 1, key=keys[3]))


# --- certify -----------------------------------------------------------------------------------


def test_certify_a_network_says_that_its_weights_are_random(capsys):
    assert main(["certify", "RNN", *TINY]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(len(line) <= 80 for line in out.splitlines())
    words = " ".join(out.replace("│", " ").split())
    assert "random weights (seed 0), inputs: 1, units: 2" in words
    assert "a trained network may have another certificate" in words
    assert "Leaky + Euler, dt = 1" in words and "gradients never grow" in words


def test_without_a_certificate_the_reason_is_shown_and_what_may_help(capsys):
    assert main(["certify", "lstm", *TINY, "--region", "all", "--norm", "inf"]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "certificate none" in out and "no theorem applies" in out and "--input-bound B" in out
    arguments = ["certify", "lstm", *TINY, "--region", "all", "--norm", "inf", "--horizon", "2"]
    assert main(arguments) == 1
    assert "is not certified: no theorem applies." in capsys.readouterr().err


def test_certify_says_what_holds_after_training(capsys):
    assert main(["certify", "selectiverotationrnn", *TINY]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "all parameter values" in out and "it holds after training, too" in out


def test_a_horizon_takes_whatever_theorem_gives_it(capsys):
    # The certificate for all parameter values is one from above only.
    found = json_of(capsys, "certify", "scornn", *TINY, "--horizon", "1000")
    cell = found["cells"]["cell"]
    assert cell["horizon_is_infinite"] and cell["horizon_is_certified"]
    assert cell["lower"] == pytest.approx(1) and not cell["structural"]


def test_certify_a_horizon_that_is_not_certified_is_exit_code_1(capsys):
    arguments = ["certify", "rnn", *TINY, "--norm", "2", "--horizon", "7"]
    assert main([*arguments, "--json"]) == 1
    out, err = capsys.readouterr()
    cell = json.loads(out)["cells"]["cell"]
    assert not cell["horizon_is_certified"] and cell["norm"] == "2-norm"
    assert cell["corridor"] == [cell["lower"] ** 7, pytest.approx(cell["upper"] ** 7)]
    (line,) = err.splitlines()
    assert line.startswith("odernn: a horizon of 7 steps")
    assert f"multiply a gradient by {cell['lower'] ** 7:.4g} to {cell['upper'] ** 7:.4g}." in line


def test_kappa_moves_the_horizon(capsys):
    far = {}
    for kappa in ("2", "100"):
        found = json_of(capsys, "certify", "s5", *TINY, "--kappa", kappa)
        cell = found["cells"]["cell"]
        far[kappa] = cell["horizon"]
        worst = max(-np.log(cell["lower"]), np.log(cell["upper"]))
        assert far[kappa] == pytest.approx(np.log(float(kappa)) / worst, abs=1)
    assert far["2"] < far["100"]


def test_step_size_and_method_in_place_of_the_network_s_own(capsys):
    assert main(["certify", "rnn", *TINY, "--dt", "0.25", "--method", "BackwardEuler"]) == 0
    assert "Leaky + BackwardEuler, dt = 0.25" in capsys.readouterr().out


def test_every_theorem_is_shown_on_request(capsys):
    found = json_of(capsys, "certify", "rnn", *TINY, "--all", "--input-bound", "1")
    theorems = found["cells"]["cell"]["theorems"]
    assert len(theorems) > 3
    upper = [each["upper"] for each in theorems]
    assert upper == sorted(upper) and "inputs in [-1, 1]" in found["cells"]["cell"]["region"]
    assert main(["certify", "rnn", *TINY, "--all", "--input-bound", "1"]) == 0
    out = capsys.readouterr().out
    assert "by every theorem" in out and "Lipschitz bound" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_certify_each_cell_of_a_run(run, capsys):
    found = json_of(capsys, "certify", str(run), "--region", "data")
    assert list(found["cells"]) == ["layers.0", "layers.1"] and found["notes"] == []
    first, second = found["cells"].values()
    assert "16 sequences (training data of adding) fill" in first["region"]
    assert first["region"].endswith("inputs in [0, 1]")
    # The second reads what the first puts out, which are its states but the initial one.
    states = [float(end) for end in re.findall(r"y in \[(.*?), (.*?)\]", first["region"])[0]]
    inputs = [float(end) for end in re.findall(r"inputs in \[(.*?), (.*?)\]", second["region"])[0]]
    assert states == [min(inputs[0], 0), max(inputs[1], 0)]


def test_time_stamps_are_named_as_left_out(run, here, capsys):
    for name in ("model.json", "model.safetensors", "config.toml", "metrics.csv", "result.json"):
        (here / name).write_bytes((run / name).read_bytes())
    about = json.loads((here / "model.json").read_text())
    about["metadata"]["time_unit"] = 2.0
    (here / "model.json").write_text(json.dumps(about))
    (note,) = json_of(capsys, "certify", ".", "--norm", "inf", "--region", "all")["notes"]
    assert "time stamps are left out" in note


def test_certify_a_saved_model_and_an_imported_one(here, capsys):
    target = f"steps_{here.name}:model"
    cells = json_of(capsys, "certify", target, "--region", "all", "--norm", "2")["cells"]
    assert list(cells) == ["layers.0"]
    odernn.save(zoo.RNN(2, 2, key=jax.random.key(0)), here / "saved")
    saved = json_of(capsys, "certify", "saved", "--region", "all", "--norm", "2")["cells"]["cell"]
    assert saved == cells["layers.0"]


# --- what the layers are fed with --------------------------------------------------------------


def test_layers_get_the_data_that_they_read(key, rng):
    model = two_layers(key)
    inputs, lengths = rng.normal(size=(3, 5, 1)), np.array([5, 3, 4])
    places, layers, read = zip(*fed_with(model, inputs, lengths), strict=True)
    assert places == ("layers.0.forward", "layers.0.backward", "layers.1")
    for n, length in enumerate(lengths):
        xs = inputs[n, :length]
        np.testing.assert_array_equal(read[0][n, :length], xs)
        np.testing.assert_array_equal(read[1][n, :length], xs[::-1])
        hs = np.concatenate([layers[0](xs)[0], layers[1](xs)[0]], axis=-1)
        np.testing.assert_allclose(read[2][n, :length], hs, rtol=1e-9)
        for each in read:  # the last input is held
            np.testing.assert_array_equal(each[n, length:], each[n, [length - 1] * (5 - length)])


def test_boxes_of_data_are_those_of_the_trajectories(key, rng):
    model = two_layers(key)
    data = Sequences(rng.normal(size=(3, 5, 1)), np.array([5, 5, 5]), "training data")
    found = certify_layers(model, region="data", data=data)
    for (_, layer, read), each in zip(fed_with(model, *data[:2]), found, strict=True):
        states = [
            np.zeros((3, 1, 2)),
            jax.vmap(lambda x, c=layer.cell: odernn.Layer(c)(x)[0])(read),
        ]
        states = np.concatenate(states, axis=1)
        np.testing.assert_allclose(each.region.state_lower, states.min(axis=(0, 1)), rtol=1e-9)
        np.testing.assert_allclose(each.region.state_upper, states.max(axis=(0, 1)), rtol=1e-9)
        assert each.certificate.region == each.region.text


def test_a_layer_above_is_fed_with_what_is_reached_below(key, rng):
    model = two_layers(key)
    found = certify_layers(model, region="reachable", bound=0.5)
    assert [each.place for each in found] == ["layers.0.forward", "layers.0.backward", "layers.1"]
    assert "(what the layer below puts out)" in found[2].certificate.region
    assert "below" not in found[0].certificate.region
    xs = rng.uniform(-0.5, 0.5, size=(50, 30, 1))
    hs = np.asarray(jax.vmap(lambda x: model.layers[0](x)[0])(xs))
    low, high = found[2].region.input_lower, found[2].region.input_upper
    assert (low <= hs.min(axis=(0, 1))).all() and (hs.max(axis=(0, 1)) <= high).all()
    # Not all that tanh can give: the bound of the inputs has come through.
    assert (high - low < 1.99).all()


def test_of_all_states_the_inputs_above_are_unbounded(key):
    _, _, top = certify_layers(two_layers(key), region="all", bound=0.5)
    assert np.isinf(top.region.input_upper).all()


def test_a_trained_start_is_no_initial_state(key):
    cell = zoo.RNN(1, 2, key=key)
    layer = odernn.Layer(cell, initial_state=np.array([5.0, 5.0]))
    for region in ("reachable", "data"):
        data = Sequences(np.zeros((1, 2, 1)), np.array([2]), "")
        with pytest.raises(InputError, match="starts from a state of its own"):
            certify_layers(layer, region=region, data=data)
    (found,) = certify_layers(layer)
    assert np.isinf(found.region.state_upper).all()


def test_steps_that_were_not_observed_are_left_out():
    inputs = np.arange(8, dtype=np.float32).reshape(2, 4, 1)
    mask = np.array([[True, False, True, True], [False, True, True, False]])
    data = Dataset(inputs, np.zeros(2, np.int32), np.array([4, 2], np.int32), mask)
    found = _observed(data, "training", "task")
    np.testing.assert_array_equal(found.lengths, [3, 1])
    np.testing.assert_array_equal(found.inputs[:, :, 0], [[0, 2, 3, 3], [5, 5, 5, 5]])
    np.testing.assert_array_equal(in_order(inputs, np.array([4, 2]), True)[1, :, 0], [5, 4, 4, 4])


def test_the_longest_sequences_are_cut_to_one_length():
    inputs = np.arange(12.0).reshape(3, 4, 1)
    data = Sequences(inputs, np.array([2, 4, 3]), "data")
    found = the_longest(data, 2, 100)
    np.testing.assert_array_equal(found.inputs, inputs[[1, 2], :3])
    assert found.text == "data, the longest sequences, cut to 3 steps"
    same = the_longest(data._replace(lengths=np.array([4, 4, 4])), 2, 2)
    np.testing.assert_array_equal(same.inputs, inputs[:2, :2])
    assert same.text == "data"


# --- diagnose ----------------------------------------------------------------------------------


def test_diagnose_a_network_on_random_inputs(capsys):
    assert main(["diagnose", "s5", *TINY, "--steps", "5", "--sequences", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and all(len(line) <= 80 for line in out.splitlines())
    words = " ".join(out.replace("│", " ").split())
    assert "random (standard normal, seed 0), not those of a task" in words
    assert "random weights" in words and "2 sequences x 5 steps (a measurement" in words


def test_diagnose_a_function_of_yours(here, capsys):
    target = f"steps_{here.name}:step"
    flags = ["--input-size", "3", "--state", "2", "--steps", "6"]
    found = json_of(capsys, "diagnose", target, *flags)
    cell = found["cells"]["cell"]
    assert cell["size"] == 2 and cell["steps"] == 6 and cell["advice"] == []
    assert max(cell["gradient"]) < 0.5001


def test_diagnose_reads_the_validation_data_of_a_run(run, monkeypatch, capsys):
    seen = {}

    def measure(step, xs, **options):
        seen.update(options, step=step, xs=np.asarray(xs))
        raise InputError("enough")

    monkeypatch.setattr(odernn.analysis._diagnose, "diagnose", measure)
    flags = ["--horizon", "4", "--sequences", "3", "--steps", "5", "--kappa", "3"]
    assert main(["diagnose", str(run), *flags]) == 2
    task = odernn.train.get_task(odernn.train.Config.from_toml(run / "config.toml"))
    np.testing.assert_array_equal(seen["xs"], task.validation.inputs[:3, :5])
    assert isinstance(seen["step"], odernn.Model)
    wanted = {"horizon": 4, "kappa": 3.0, "sequences": 3, "steps": 5, "advice": True}
    assert wanted.items() <= seen.items()


# --- eye ---------------------------------------------------------------------------------------


def test_eye_of_a_run_is_a_picture_for_each_layer_and_overwrites_nothing(run, here, capsys):
    assert main(["eye", str(run), "--sequences", "2"]) == 0
    names = ["eye-tiny-layers-0.svg", "eye-tiny-layers-1.svg"]
    assert capsys.readouterr().out.split() == names
    assert all((here / name).read_text().startswith("<?xml") for name in names)
    assert main(["eye", str(run)]) == 2
    assert "eye-tiny-layers-0.svg exists already" in capsys.readouterr().err


def test_order_stars_of_one_method(here, capsys):
    assert main(["eye", "--order-stars", "--method", "rk4"]) == 0
    assert capsys.readouterr().out == "order-stars.svg\n"
    assert (here / "order-stars.svg").is_file()


def test_stability_regions(monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(
        odernn.analysis._regions_picture, "draw_stability_regions", lambda *a: drawn.append(a)
    )
    assert main(["eye", "--regions"]) == 0
    assert main(["eye", "--regions", "--method", "rk4", "--out", "a.png"]) == 0
    assert capsys.readouterr().out.split() == ["stability-regions.svg", "a.png"]
    assert [[str(path), *more] for path, *more in drawn] == [
        ["stability-regions.svg"],
        ["a.png", ["rk4"]],
    ]


def test_sweep_of_every_layer(run, monkeypatch, capsys):
    drawn, certified = [], []

    def certify(cell):
        certified.append(cell.dt)
        return odernn.analysis.Certificate(
            0.5, 1.0, odernn.analysis.Norm("2"), "say so", (), "", False, cell.dt
        )

    monkeypatch.setattr(odernn.analysis._certify, "certify", certify)
    monkeypatch.setattr(
        odernn.analysis._sweep, "draw_horizon_sweep", lambda *a, **o: drawn.append((a, o))
    )
    assert main(["eye", str(run), "--sweep", "--sequences", "3", "--kappa", "5"]) == 0
    assert capsys.readouterr().out.split() == [
        "sweep-tiny-layers-0.svg",
        "sweep-tiny-layers-1.svg",
    ]
    for (_, cell, xs, dts), options in drawn:
        assert xs.shape == (3, 6, cell.input_size) and cell.dt in dts
        assert options == {"kappa": 5.0, "certified": [(dt, 2) for dt in dts]}
    assert certified == [*drawn[0][0][3], *drawn[1][0][3]]


# --- what cannot be used -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["certify"], "missing from odernn certify: RUN|CELL"),
        (["diagnose"], "missing from odernn diagnose: RUN|CELL"),
        (["eye"], "what to draw is missing"),
        (["certify", "gruu"], "gruu is no folder, no module:name and no network: did you mean gru"),
        (["certify", "tinny"], "did you mean tiny"),
        (["certify", "tiny"], "tiny/model.json does not exist"),
        (["certify", "gru", "--horizon", "0"], "--horizon is 0, it must be at least 1."),
        (["certify", "gru", "--kappa", "1"], "--kappa is 1, it must be above 1"),
        (["certify", "gru", "--norm", "3"], "invalid choice '3' for argument '--norm'"),
        (["certify", "gru", "--region", "data"], "GRU is no run folder"),
        (["certify", "gru", "--method", "rk5"], "unknown method 'rk5': did you mean"),
        (["certify", "gru", "--method", "stormerverlet"], "StormerVerlet"),
        (["certify", "gru", "--dt", "-1"], "--dt is -1, it must be positive"),
        (["certify", "gru", "--input-bound", "-1"], "--input-bound is -1, it must be 0 or more"),
        (["certify", "gru", "--input-bound", "1", "--region", "data"], "the data bound the inputs"),
        (["certify", "gru", "--hidden-size", "0"], "--hidden-size is 0, it must be at least 1"),
        (["certify", "tiny", "--hidden-size", "4"], "--hidden-size is for a network of the zoo"),
        (["certify", "HERE:number"], "no cell is in what was given, of type int"),
        (["certify", "HERE:model", "--hidden-size", "4"], "--hidden-size is for a network of"),
        (["certify", "HERE:stp"], "did you mean 'step'"),
        (["certify", "HERE:step", "--dt", "1"], "has no cell, whose they could be"),
        (["diagnose", "HERE:step"], "give the size of its inputs, --input-size 3 say"),
        (["diagnose", "HERE:step", "--input-size", "1", "--state", "0"], "--state is (0,)"),
        (["diagnose", "HERE:number", "--input-size", "1"], "step is a int"),
        (["diagnose", "gru", "--steps", "0"], "--steps is 0, it must be at least 1."),
        (["diagnose", "gru", "--horizon", "0"], "--horizon is 0, it must be at least 1."),
        (["diagnose", "gru", "--steps", "3", "--horizon", "4"], "only 3 steps are looked at"),
        (["diagnose", "gru", "--out", "a.gif"], "name an .svg or a .png file"),
        (["eye", "gru", "--out", "no/a.svg"], "there is no folder no"),
        (["eye", "gru", "--regions"], "--regions draws methods, not gru"),
        (["eye", "--regions", "--order-stars"], "are pictures of their own"),
        (["eye", "--order-stars", "--out", "a.gif"], "name an .svg or a .png file"),
    ],
)
def test_complaints_are_one_line(arguments, message, here, capsys):
    (here / "tiny").mkdir()
    module = f"steps_{here.name}"
    assert main([each.replace("HERE", module) for each in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert [path.name for path in here.glob("*.svg")] == []


def test_runs_that_cannot_be_used(run, here, capsys):
    assert main(["diagnose", str(run), "--horizon", "9"]) == 2
    assert "only 6 steps are looked at: ask for a shorter one" in capsys.readouterr().err
    for name in ("model.json", "model.safetensors", "config.toml"):
        (here / name).write_bytes((run / name).read_bytes())
    assert main(["certify", "."]) == 2
    assert "the run has not finished" in capsys.readouterr().err
    for name in ("metrics.csv", "result.json"):
        (here / name).write_bytes((run / name).read_bytes())
    text = (here / "config.toml").read_text()
    (here / "config.toml").write_text(text.replace('task = "adding"', 'task = "gone.csv"'))
    for command in (["certify", ".", "--region", "data"], ["diagnose", "."], ["eye", "."]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert "gone.csv" in err and err.count("\n") == 1
    (here / "config.toml").write_text(text.replace('task = "adding"', 'task = "copy"'))
    assert main(["diagnose", "."]) == 2
    assert "the data changed since the run" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["certify", "diagnose", "eye"])
def test_help(command, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: odernn {command}" in out and "--kappa" in out
    assert main([]) == 0
    assert f"  {command} TARGET" in capsys.readouterr().out
