"""A run killed by the operating system at the worst moments goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys

import pytest

# Runs in processes of their own, which kill themselves: nothing can be cleaned up.
SCRIPT = """
import dataclasses, os, signal, sys, threading
from pathlib import Path
from odernn.train import Config, fit
from odernn.train._loop import Trainer

folder, moment = Path(sys.argv[1]), sys.argv[2]
config = Config(
    task="adding", cell="rnn", length=4, train_size=40, hidden_size=4, batch_size=16, epochs=6,
    average=0.5, dropout=0.1, out=folder,
)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(step):
    count = Trainer._count
    def count_and_die(self, *arguments):
        count(self, *arguments)
        if self.position.step == step:
            die()
    Trainer._count = count_and_die

def die_while_saving(step):
    def watch():
        while True:
            for path in (folder / "checkpoints").glob("*tmp*"):
                if int(path.name.split(".")[0]) >= step:
                    die()
    threading.Thread(target=watch, daemon=True).start()

kind, _, step = moment.partition(":")
if kind == "step":
    die_at(int(step))
if kind == "saving":
    die_while_saving(int(step))
fit(resume=folder) if folder.exists() else fit(config)
if kind == "compare":  # the same run, never stopped, in the same surroundings
    fit(dataclasses.replace(config, out=folder.with_name("whole")))
"""


def run(folder, moment: str) -> int:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder.with_name("programs")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), moment],
        env=environment | cache,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    return result.returncode


@pytest.mark.slow
def test_killed_at_any_moment_the_same_numbers_come_out(tmp_path):
    folder = tmp_path / "killed"
    checkpoints = folder / "checkpoints"

    assert run(folder, "step:2") == -signal.SIGKILL  # before the first checkpoint
    assert not checkpoints.exists()
    assert run(folder, "saving:6") == -signal.SIGKILL  # inside the second
    assert (checkpoints / "3").is_dir() and not (checkpoints / "6").exists()
    assert run(folder, "step:11") == -signal.SIGKILL  # inside an epoch, after checkpoints
    assert (checkpoints / "9").is_dir()
    assert run(folder, "compare") == 0

    whole = tmp_path / "whole"
    for name in ("metrics.csv", "model.safetensors", "model.json", "config.toml"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", *map(str, range(1, 7))]
