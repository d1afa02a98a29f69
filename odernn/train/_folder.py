"""The run folder: what a run leaves on disk, and who may read it again."""

import contextlib
import csv
import errno
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._files import write_file
from .._results import InputError, RunFailed
from .._version import __version__
from ._config import FORMAT, Config
from ._loop import CERTIFIED, COLUMNS

CONFIG = "config.toml"
METRICS = "metrics.csv"
DIAGNOSTICS = "diagnostics.csv"
CURVES = "curves.png"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
_COMPLETE = (CONFIG, METRICS, RESULT, "model.json", "model.safetensors")


def create(config: Config, task_name: str) -> Path:
    """Make the run folder with its configuration inside.

    Raises:
        InputError: `--out` exists already, or cannot be made.
        RunFailed: the disk is full.
    """
    folder = _make(config.out) if config.out else _make_numbered(config, task_name)
    head = f'format = {FORMAT}\nodernn = "{__version__}"\n'
    with saving(folder):
        write_file(folder / CONFIG, (head + config.to_toml()).encode())
    return folder


def read_config(folder: Path) -> Config:
    """The configuration of a run.

    Raises:
        InputError: no such folder, not a run folder, or one of another version.
    """
    if not folder.is_dir():
        raise InputError(f"there is no run folder {folder}: give the folder that a run printed.")
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"run folder {folder} is incomplete, it has no {CONFIG}: delete it and train again."
        )
    return Config.from_toml(folder / CONFIG)


def read_result(folder: Path) -> dict[str, Any]:
    """The result of a finished run.

    Raises:
        InputError: the run is not finished, files are missing or spoiled, or another version
            wrote it.
    """
    read_config(folder)
    if not (folder / RESULT).is_file():
        raise InputError(
            f"run folder {folder} is incomplete, the run has not finished: continue it with "
            f"`odernn train --resume {folder}`."
        )
    missing = [name for name in _COMPLETE if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"run folder {folder} is incomplete, it has no {' and no '.join(missing)}: train "
            f"again with `odernn train --config {folder / CONFIG}`."
        )
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        written = result["format"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{folder / RESULT} cannot be read: train again with `odernn train --config "
            f"{folder / CONFIG}`."
        ) from error
    if written != FORMAT:
        raise InputError(
            f"{folder / RESULT} has format {written!r} (odernn {result.get('odernn')}), this "
            f"version reads format {FORMAT}: use that version, or train again."
        )
    return result


def finished(folder: Path) -> bool:
    """Whether the run has written its result, which comes last."""
    return (folder / RESULT).is_file()


def write_rows(folder: Path, rows: list[dict[str, float]], *, certified: bool = False) -> None:
    """Replace metrics.csv; a run that keeps its certificates has one more column."""
    columns = (*COLUMNS, CERTIFIED) if certified else COLUMNS
    _write_table(folder, METRICS, columns, rows)


def write_diagnoses(folder: Path, rows: list[dict[str, float]]) -> None:
    """Replace diagnostics.csv; without a row there is no such file."""
    if rows:
        _write_table(folder, DIAGNOSTICS, tuple(rows[0]), rows)
    else:
        (folder / DIAGNOSTICS).unlink(missing_ok=True)


def _write_table(
    folder: Path, name: str, columns: tuple[str, ...], rows: list[dict[str, float]]
) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with saving(folder):
        write_file(folder / name, text.getvalue().encode())


def append_row(folder: Path, row: dict[str, float]) -> None:
    """Add the row of an epoch to metrics.csv."""
    with saving(folder), (folder / METRICS).open("a", encoding="utf-8", newline="") as file:
        columns = (*COLUMNS, CERTIFIED) if CERTIFIED in row else COLUMNS
        csv.DictWriter(file, columns, lineterminator="\n").writerow(row)


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write result.json, which marks the run as finished."""
    text = json.dumps({"format": FORMAT, "odernn": __version__} | result, indent=2) + "\n"
    with saving(folder):
        write_file(folder / RESULT, text.encode())


@contextlib.contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Say in one line that a file of the run cannot be written, and that nothing is lost.

    Raises:
        RunFailed: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "no space left on the device" if full else error.strerror or str(error)
        raise RunFailed(
            f"cannot save to {folder}: {reason}; the last checkpoint is intact. Make room, then "
            f"continue with `odernn train --resume {folder}`."
        ) from error


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(
            f"--out {folder} exists already: choose another folder, or continue that run with "
            f"`odernn train --resume {folder}`."
        ) from None
    except OSError as error:
        raise InputError(f"--out {folder} cannot be made: {error.strerror}.") from error
    return folder


def _make_numbered(config: Config, task_name: str) -> Path:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(task_name).stem}-{config.cell}".lower())
    number = 1
    while True:
        folder = Path("runs") / f"{stem}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise InputError(
                f"the run folder {folder} cannot be made ({error.strerror}): give one with --out."
            ) from error
        else:
            return folder
