"""What a run needs to go on after it was killed, written so that a kill never spoils it."""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._results import InputError, RunFailed

_KEPT = 2  # the newest, and the one before in case a disk fault spoils the newest
_TEMPORARY = "orbax-checkpoint-tmp"  # in the names Orbax gives to unfinished checkpoints


class Checkpoints:
    """Checkpoints of a run, one folder per step number, complete or absent.

    Orbax writes under a temporary name and renames at the end, so a process killed while saving
    leaves the previous checkpoint as the newest. All arrays of one dtype are joined into one and
    the notes become bytes: that writes three times faster than one file set per array.
    """

    def __init__(self, folder: Path):
        self.folder = folder.absolute()

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def save(self, step: int, arrays: Any, notes: dict) -> None:
        """Write a checkpoint, then delete those no longer needed.

        Raises:
            RunFailed: it cannot be written (disk full); earlier checkpoints are intact.
        """
        import orbax.checkpoint as ocp

        if step in self.steps():  # stopped again before the first step after a resume
            return
        content = _join(arrays) | {"notes": _to_bytes(notes)}
        try:
            with _quiet(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as writer:
                writer.save(self.folder / str(step), args=ocp.args.PyTreeSave(content))
        except (OSError, ValueError, RuntimeError) as error:
            self._remove_unfinished()
            raise RunFailed(self._cannot_save(step, error)) from error
        self._remove_unfinished()
        for old in self.steps()[:-_KEPT]:
            shutil.rmtree(self.folder / str(old), ignore_errors=True)

    def newest(self, like: Any) -> tuple[Any, dict] | None:
        """Arrays (in the structure of `like`) and notes of the newest readable checkpoint.

        Raises:
            InputError: there are checkpoints, but none can be read or fits `like`.
        """
        steps = self.steps()
        problem: Exception | None = None
        for step in reversed(steps):
            try:
                return self._restore(step, like)
            except Exception as error:  # a spoiled file can make Orbax raise almost anything
                problem = error
        if problem is None:
            return None
        reason = str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__
        raise InputError(
            f"no checkpoint in {self.folder} can be used ({reason}): start a new run from the "
            "config.toml beside it."
        ) from problem

    def _restore(self, step: int, like: Any) -> tuple[Any, dict]:
        import orbax.checkpoint as ocp

        names = [*_join(like), "notes"]
        restore = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
        with _quiet(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            content = reader.restore(
                self.folder / str(step), args=ocp.args.PyTreeRestore(restore_args=restore)
            )
        notes = json.loads(content.pop("notes").tobytes())
        return _split(content, like), notes

    def _remove_unfinished(self) -> None:
        for path in self.folder.glob(f"*{_TEMPORARY}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _cannot_save(self, step: int, error: Exception) -> str:
        text = str(error)
        full = "No space left" in text or "RESOURCE_EXHAUSTED" in text
        reason = "no space left on the device" if full else text.splitlines()[0][:200]
        steps = self.steps()
        kept = f"the checkpoint of step {steps[-1]} is intact" if steps else "none was saved before"
        return (
            f"cannot save the checkpoint of step {step} in {self.folder}: {reason}; {kept}. Make "
            f"room, then continue with `odernn train --resume {self.folder.parent}`."
        )


def _join(arrays: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree, flattened and joined by dtype."""
    groups: dict[str, list[np.ndarray]] = {}
    for leaf in jax.tree.leaves(arrays):
        leaf = np.asarray(leaf)
        groups.setdefault(leaf.dtype.name, []).append(leaf.reshape(-1))
    return {name: np.concatenate(parts) for name, parts in groups.items()}


def _split(content: dict[str, np.ndarray], like: Any) -> Any:
    """The inverse of `_join`, in the structure of `like`."""
    leaves, structure = jax.tree.flatten(like)
    position = dict.fromkeys(content, 0)
    result = []
    for leaf in leaves:
        name, size = np.dtype(leaf.dtype).name, leaf.size
        part = content[name][position[name] : position[name] + size]
        if part.size != size:
            raise ValueError("it holds fewer numbers than the model has")
        result.append(part.reshape(leaf.shape))
        position[name] += size
    if any(position[name] != array.size for name, array in content.items()):
        raise ValueError("it holds more numbers than the model has")
    return structure.unflatten(result)


def _to_bytes(notes: dict) -> np.ndarray:
    return np.frombuffer(json.dumps(notes).encode(), np.uint8)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax's log lines out of the user's terminal; its errors are raised as well."""
    logger = logging.getLogger("absl")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
