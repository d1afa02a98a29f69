"""`odernn classify` and `odernn table`."""

import sys

import pytest

import odernn
from odernn import zoo
from odernn._cli import main

STEPS = """
import jax
import jax.numpy as jnp
import odernn

def step(h, x):
    return h + 0.1 * jnp.tanh(h + jnp.sum(x))

def two(y, x):
    h, v = y
    v = v + 0.1 * jnp.tanh(h) + jnp.sum(x)
    return h + 0.1 * v, v

cell = odernn.zoo.LEM(3, 4, key=jax.random.key(0))
number = 3
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test runs in a folder of its own, with a module that nobody has imported yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / f"steps_{tmp_path.name}.py").write_text(STEPS)
    (tmp_path / f"broken_{tmp_path.name}.py").write_text("1 / 0\n")
    return tmp_path


def shown(capsys):
    """The cells of the last row of a table."""
    row = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")][-1]
    return [part.strip() for part in row.strip("│").split("│")]


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("step", [], ["1-1", ""]),
        ("two", ["--state", "8", "8"], ["1-2", ""]),
        ("cell", [], ["2-2", "2-2"]),
    ],
)
def test_classify_what_a_module_holds(name, flags, expected, here, capsys):
    assert main(["classify", f"steps_{here.name}:{name}", *flags]) == 0
    assert shown(capsys)[1:] == expected


def test_classify_a_network_by_its_name(capsys):
    assert main(["classify", "GRU"]) == 0
    assert shown(capsys) == ["GRU", "2-1", "2-1"]


def test_classify_the_cells_of_a_saved_model(here, key, capsys):
    layers = [
        odernn.Layer(zoo.RNN(2, 3, key=key)),
        odernn.Layer(zoo.LSTM(3, 3, method=odernn.RK4(), key=key)),
    ]
    odernn.save(odernn.Model(layers, odernn.LastStep(3, 2, key=key)), here / "model")
    assert main(["classify", "model"]) == 0
    out = capsys.readouterr().out
    assert "layers.0.cell" in out and "layers.1.cell" in out
    assert out.count("4-2") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steps:step"], "steps cannot be imported (ModuleNotFoundError"),
        (["broken:step"], "cannot be imported (ZeroDivisionError: division by zero)"),
        (["HERE:stp"], "unknown name in HERE 'stp': did you mean 'step'"),
        (["HERE:number"], "give a Cell, a Layer"),
        (["HERE:two"], "fails on a state of size 8 and an input of size 3"),
        (["HERE:step", "--state", "0"], "--state is (0,): give sizes of at least 1"),
        (["nothing"], "nothing is no folder, no module:name and no network"),
    ],
)
def test_classify_complains_in_one_line(arguments, message, here, capsys):
    module = f"steps_{here.name}"
    target = arguments[0].replace("HERE", module).replace("broken", f"broken_{here.name}")
    assert main(["classify", target, *arguments[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.replace("HERE", module) in line


def test_table_in_the_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["table"]) == 0
    out = capsys.readouterr().out
    assert all(network.name in out for network in zoo.CELLS.values())


def test_table_as_a_picture_overwrites_nothing(here, capsys):
    assert main(["table", "--out", "table.png"]) == 0
    assert (here / "table.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["table", "--out", "table.png"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["table", "--out", "table.gif"]) == 2
    assert ".svg" in capsys.readouterr().err
    assert not (here / "table.gif").exists()
