"""`odernn bench` as a shell would call it; what is trained is tested in test_bench.py."""

import pytest

from odernn._cli import main
from odernn.bench import _training
from tests.test_bench import Fake

ARGUMENTS = ["bench", "adding-8,adding-9", "copy-2", "--cells", "rnn", "--updates", "4"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fake(monkeypatch):
    fake = Fake()
    monkeypatch.setattr(_training, "train", fake)
    return fake


def test_help(capsys):
    assert main(["bench", "--help"]) == 0
    out = capsys.readouterr().out
    for word in ("TASKS", "--cells", "--budget", "--updates", "--parameters", "--trials", "--out"):
        assert word in out
    assert main([]) == 0
    assert "bench TASKS" in capsys.readouterr().out


def test_tables_and_files(fake, here, capsys):
    arguments = [*ARGUMENTS, "--seeds", "1", "--trials", "2", "--parameters", "300"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "runs/bench: results.md" in out
    for name in ("adding-8", "adding-9", "copy-2"):
        assert name in out
    assert "9 of 9 done" in err and "validation mse" in err
    files = {path.name for path in (here / "runs" / "bench").iterdir()}
    assert files == {
        "settings.json", "results.csv", "summary.csv", "results.md",
        "metric.svg", "metric.png", "cost.svg", "cost.png",
    }  # fmt: skip
    assert main(arguments) == 0
    assert len(fake.calls) == 9


def test_ctrl_c_says_how_to_go_on(fake, capsys):
    fake.stop_after = 3
    assert main([*ARGUMENTS, "--out", "x"]) == 130
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("odernn: stopped: 3 of 30 trainings are in x; the same command goes on.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digist", "--cells", "lstm"], "unknown task 'digist': did you mean 'digits'"),
        (["digits", "--cells", "ltsm"], "unknown cell 'ltsm': did you mean 'lstm'"),
        (["digits", "--cells", "lstm", "--budget", "10"], "--budget is '10': give a time as"),
        (["digits", "--cells", ","], "no cells given"),
        (["digits"], "missing from odernn bench: --cells"),
        (["digits", "--cells", "lstm", "--sedes", "3"], "--sedes"),
    ],
)
def test_errors_in_one_line(arguments, words, here, capsys):
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1 and words in err
    assert not (here / "runs").exists()
