"""`odernn design`: from a file to configurations that train."""

import dataclasses
import json
import re

import numpy as np
import pytest

from odernn._cli import main
from odernn.train import Config, fit

FEW = ["--cells", "rnn,scornn", "--parameters", "300"]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "sales.csv"
    rng = np.random.default_rng(0)
    sales = np.sin(2 * np.pi * np.arange(300) / 20) + 0.1 * rng.standard_normal(300)
    rows = [f"{value:.4f},{noise:.4f}" for value, noise in zip(sales, rng.random(300), strict=True)]
    path.write_text("sales,price\n" + "\n".join(rows))
    return path


@pytest.fixture(scope="module")
def designed(series, tmp_path_factory):
    out = tmp_path_factory.mktemp("design") / "found"
    data = ["--data", str(series), "--target", "sales"]
    assert main(["design", *data, *FEW, "--out", str(out)]) == 0
    return out


def test_a_file_is_enough(designed):
    assert sorted(p.name for p in designed.iterdir())[-2:] == ["design.svg", "reasons.txt"]
    # The period is the horizon: gradients have to cross it.
    assert re.search("gradient at (20|21) steps", (designed / "reasons.txt").read_text())


def test_its_configuration_trains(designed, tmp_path):
    (first,) = designed.glob("1-*.toml")
    config = Config.from_toml(first)
    assert config.initial_horizon in (20, 21) and config.target == "sales"
    result = fit(dataclasses.replace(config, epochs=1, out=tmp_path / "run"))
    assert result.parameters <= 300


def test_json_is_one_object(capsys):
    assert main(["design", "--input-size", "1", "--horizon", "20", *FEW, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {c["cell"] for c in said["candidates"]} == {"rnn", "scornn"}
    assert said["requirements"]["horizon"] == 20


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "what for? Name data with --data"),
        (["--input-size", "1", "--must", "fast"], "unknown property 'fast'"),
        (["--input-size", "1", "--must", "unitary,contracting", "--cells", "rnn,scornn,lru"],
         "contracting conflicts with unitary"),
        (["--input-size", "1", "--trials", "2"], "--trials needs data"),
        (["--input-size", "1", "--most", "0"], "--most is 0"),
        (["--data", "nothere.csv"], "nothere.csv"),
        (["--data", "adding", "--input-size", "2"], "--input-size follows from the data"),
        (["--data", "addng"], "unknown task 'addng': did you mean 'adding'"),
        (["--input-size", "1", "--horizon", "-3"], "horizon = -3"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, said, capsys):
    assert main(["design", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_folder_that_exists_is_kept(tmp_path, capsys):
    assert main(["design", "--input-size", "1", "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_short_trainings_choose_a_rate(tmp_path, capsys):
    data = ["--data", "adding", "--length", "8", "--cells", "rnn", "--parameters", "60"]
    out = tmp_path / "found"
    assert main(["design", *data, "--trials", "1", "--epochs", "1", "--out", str(out)]) == 0
    assert "RNN, rate 0.005" in capsys.readouterr().out
    assert Config.from_toml(out / "1-rnn.toml").learning_rate in (0.02, 0.005, 0.001)
