"""Checkpoints: complete or absent, and the same bits back."""

import errno

import jax
import numpy as np
import orbax.checkpoint
import pytest

from odernn import InputError, RunFailed
from odernn.train._checkpoint import Checkpoints


def arrays(rng):
    return {
        "weights": [rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=5)],
        "count": np.array(7, np.int32),
        "average": None,
        "odd": np.array([np.nan, -0.0, 5e-324, np.inf]),
    }


def same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in leaves)


def test_the_same_bits_come_back(tmp_path, rng):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    stored, notes = arrays(rng), {"loss": 0.1 + 0.2, "tiny": 5e-324, "rows": [{"epoch": 1}]}
    assert checkpoints.newest(stored) is None
    checkpoints.save(3, stored, notes)
    found, found_notes = checkpoints.newest(jax.tree.map(np.zeros_like, stored))
    assert same(found, stored)
    assert found["weights"][0].shape == (3, 4)
    assert found_notes == notes


def test_the_newest_is_used_and_old_ones_go(tmp_path, rng):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 9, 10, 11):
        checkpoints.save(step, arrays(rng), {"step": step})
    assert checkpoints.steps() == [10, 11]
    assert checkpoints.newest(arrays(rng))[1] == {"step": 11}
    checkpoints.save(11, arrays(rng), {"step": "again"})
    assert checkpoints.newest(arrays(rng))[1] == {"step": 11}


def test_unfinished_ones_are_not_seen_and_are_removed(tmp_path, rng):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, arrays(rng), {"step": 1})
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "part").write_text("x")
    assert checkpoints.newest(arrays(rng))[1] == {"step": 1}
    checkpoints.save(2, arrays(rng), {"step": 2})
    assert not unfinished.exists()
    assert checkpoints.newest(arrays(rng))[1] == {"step": 2}


def spoil(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_spoiled_one_gives_way_to_the_one_before(tmp_path, rng):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, arrays(rng), {"step": 1})
    checkpoints.save(2, arrays(rng), {"step": 2})
    spoil(tmp_path / "2")
    assert checkpoints.newest(arrays(rng))[1] == {"step": 1}
    spoil(tmp_path / "1")
    with pytest.raises(InputError, match=r"no checkpoint in .* can be used"):
        checkpoints.newest(arrays(rng))


def test_arrays_of_another_model_are_refused(tmp_path, rng):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, arrays(rng), {})
    for other in (
        arrays(rng) | {"odd": np.zeros(3)},
        arrays(rng) | {"odd": np.zeros(5)},
        arrays(rng) | {"odd": np.zeros(4, np.float32)},
        arrays(rng) | {"odd": np.zeros(4, np.complex64)},
    ):
        with pytest.raises(InputError, match="no checkpoint in") as error:
            checkpoints.newest(other)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device"),
    ],
)
def test_a_full_disk_leaves_the_last_one(tmp_path, rng, monkeypatch, problem):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, arrays(rng), {"step": 1})

    def fail(self, directory, *_, **__):
        (directory.parent / f"{directory.name}.orbax-checkpoint-tmp").mkdir()
        raise problem

    monkeypatch.setattr(orbax.checkpoint.Checkpointer, "save", fail)
    with pytest.raises(RunFailed) as error:
        checkpoints.save(2, arrays(rng), {"step": 2})
    text = str(error.value)
    assert "no space left on the device; the checkpoint of step 1 is intact" in text
    assert f"--resume {tmp_path}" in text
    assert [path.name for path in checkpoints.folder.iterdir()] == ["1"]
    assert checkpoints.newest(arrays(rng))[1] == {"step": 1}
