"""The configuration of a run: ranges, TOML and back."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from odernn import InputError
from odernn.train import FORMAT, Config
from odernn.train._config import CELL_OPTIONS


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("hidden_size", 0, "--hidden-size is 0, it must be at least 1"),
        ("qubits", 1, "--qubits is 1, it must be at least 2"),
        ("memory", 0, "--memory is 0, it must be at least 1"),
        ("memory", 10**9, "--memory is 1000000000, it must be at most 10000"),
        ("features", 0, "--features is 0, it must be at least 1"),
        ("layers", 0, "--layers"),
        ("epochs", -1, "--epochs is -1"),
        ("batch_size", 0, "--batch-size"),
        ("hidden_size", 10**12, "--hidden-size is 1000000000000, it must be at most 100000"),
        ("layers", 10**6, "--layers is 1000000, it must be at most 1000"),
        ("length", 0, "--length is 0, it must be at least 1"),
        ("train_size", 0, "--train-size"),
        ("horizon", 0, "--horizon"),
        ("patience", -1, "--patience is -1, it must be at least 0"),
        ("learning_rate", 0.0, "--learning-rate is 0.0, it must be positive and finite"),
        ("learning_rate", float("nan"), "--learning-rate is nan"),
        ("dt", -0.5, "--dt is -0.5, it must be positive"),
        ("dt", float("inf"), "--dt is inf"),
        ("weight_decay", -1.0, "--weight-decay is -1.0, it must be 0 or more"),
        ("gradient_clip", float("inf"), "--gradient-clip"),
        ("dropout", 1.0, "--dropout is 1.0, it must be at least 0 and below 1"),
        ("label_smoothing", -0.1, "--label-smoothing"),
        ("average", 1.0, "--average"),
        ("warmup", float("nan"), "--warmup"),
        ("seed", -1, "--seed is -1"),
        ("seed", 2**32, "--seed"),
        ("task", "", "no task given"),
    ],
)
def test_values_out_of_range_are_refused(field, value, part):
    config = dataclasses.replace(Config(task="digits"), **{field: value})
    with pytest.raises(InputError) as error:
        config.check()
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_defaults_are_valid():
    Config(task="digits").check()


@pytest.mark.parametrize(
    "given",
    [
        {"target": 'a"b', "dt": 0.25, "mask_missing": True, "length": 9},
        {"cell": "qunn", "qubits": 5, "memory": 3, "sharing": "global", "feedback": True},
        {"cell": "qunn", "encoding": "trained", "features": 2, "feedback": False},
    ],
)
def test_toml_and_back(given, tmp_path):
    config = Config(task="x.csv", **given)
    path = tmp_path / "run.toml"
    path.write_text(config.to_toml())
    assert Config.from_toml(path) == config


def test_toml_has_every_value_but_the_folder():
    config = Config(task="digits", out=Path("somewhere")).settled(one_label=True)
    stored = tomllib.loads(config.to_toml())
    names = {field.name for field in dataclasses.fields(Config)}
    left_out = {"out", "method", "dt", "interpolation", "length", "train_size", "target"}
    left_out.add("initial_horizon")
    others = set(CELL_OPTIONS) - {"hidden_size"}  # of another cell, or the cell's own
    assert names - stored.keys() == left_out | others


def test_whole_numbers_serve_as_floats(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('task = "adding"\ndt = 1\nout = "here"\n')
    config = Config.from_toml(path)
    assert isinstance(config.dt, float)
    assert config.out == Path("here")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("hiden_size = 3", "unknown key 'hiden_size': did you mean 'hidden_size'?"),
        ("hidden-size = 3", "did you mean 'hidden_size'?"),
        ("qqqq = 3", "known keys: task"),
        ('epochs = "many"', "epochs is 'many', it must be of type int"),
        ("epochs = true", "epochs is True, it must be of type int"),
        ("epochs = 1.5", "must be of type int"),
        ("bidirectional = 1", "must be of type bool"),
        ('readout = "first"', "one of 'auto', 'last', 'mean', 'each'"),
        ('sharing = "none"', "sharing is 'none', it must be one of 'global', 'site'"),
        ("feedback = 1", "feedback is 1, it must be of type bool"),
        ("epochs = ", "not valid TOML"),
        (f'format = {FORMAT + 1}\nodernn = "9.9"', "(odernn 9.9), this version reads format"),
    ],
)
def test_bad_toml_is_refused_in_one_line(tmp_path, text, part):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        Config.from_toml(path)
    assert part in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read configuration"):
        Config.from_toml(tmp_path / "none.toml")
    with pytest.raises(InputError, match="cannot read configuration"):
        Config.from_toml(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not valid TOML"):
        Config.from_toml(tmp_path / "binary.toml")


def test_what_is_left_open_is_settled_for_the_task():
    left = Config(task="digits", cell="coRNN", dropout=0.5)
    one, none = left.settled(one_label=True), left.settled(one_label=False)
    assert (one.learning_rate, one.weight_decay, one.average) == (0.02, 0.1, 0.98)
    assert (none.learning_rate, none.weight_decay, none.average) == (0.005, 0.0, 0.0)
    assert one.dropout == none.dropout == 0.5  # what is given stays
    assert Config(task="adding", cell="lstm").settled(one_label=False).learning_rate == 0.005
    assert one.settled(one_label=False) == one


def test_a_layer_has_64_units_or_amplitudes_if_no_size_is_given():
    units, qubits = (
        Config(task="adding", cell=cell).settled(one_label=False) for cell in ("GRU", "QUNN")
    )
    assert units.cell_options == {"hidden_size": 64}
    assert 2 ** qubits.cell_options.pop("qubits") == 64
    assert Config(task="adding", cell="qunn", qubits=3).settled(one_label=True).qubits == 3
