"""The folder of a benchmark: its settings, and a line for each training that is done."""

import csv
import errno
import io
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from .._files import write_file
from .._results import InputError, RunFailed
from .._version import __version__

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

FORMAT = 1
SETTINGS = "settings.json"
RESULTS = "results.csv"
OK = "ok"

COLUMNS = (
    *("task", "cell", "role", "learning_rate", "seed", "status", "metric", "test_metric"),
    *("test_loss", "validation_metric", "validation_loss", "best_update", "updates", "planned"),
    *("parameters", "size", "training_ms", "inference_ms", "memory_mb", "seconds", "commit"),
)
"""Columns of results.csv."""

_NUMBERS = frozenset(COLUMNS) - {"task", "cell", "role", "status", "metric", "commit"}
_WHOLE = frozenset({"seed", "best_update", "updates", "planned", "parameters", "size"})

Row = dict[str, Any]


class Store:
    """The lines of a benchmark that are on disk; a process killed while writing spoils none.

    In a `with` statement the folder is its own, as far as the system has locks of files.

    Arguments:
        folder: is made if it is not there.
        settings: plain data that say what is measured; the folder has to have the same.

    Raises:
        InputError: the folder is of another benchmark (says which setting differs), of another
            version or of something else, in use by another process, or cannot be made.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder = folder
        self._file = folder / RESULTS
        try:
            if not folder.exists() or not any(folder.iterdir()):
                folder.mkdir(parents=True, exist_ok=True)
                about = {"format": FORMAT, "odernn": __version__, "settings": settings}
                write_file(folder / SETTINGS, (json.dumps(about, indent=2) + "\n").encode())
            self._check(settings)
            self._lock = self._locked()
            try:
                if not self._file.exists():
                    write_file(self._file, (",".join(COLUMNS) + "\n").encode())
                self.rows = self._read()
            except BaseException:
                self._lock.close()
                raise
        except OSError as error:
            raise InputError(f"--out {folder} cannot be used: {error.strerror}.") from error

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def find(self, **wanted: Any) -> list[Row]:
        """The lines with these entries, in the order in which they were written."""
        return [row for row in self.rows if all(row[k] == v for k, v in wanted.items())]

    def append(self, row: Row) -> None:
        """Write a line in one piece and to the disk.

        Raises:
            RunFailed: it cannot be written; those before are intact.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writerow({key: _text(value) for key, value in row.items()})
        try:
            with self._file.open("ab", buffering=0) as file:
                file.write(text.getvalue().encode())
                os.fsync(file.fileno())
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "no space left on the device" if full else error.strerror
            raise RunFailed(
                f"cannot write {self._file}: {why}; the lines before are intact. Make room, then "
                "give the same command again."
            ) from error
        # As it will be read again: a benchmark that was stopped ends with the same tables.
        self.rows.append(_row(next(csv.DictReader(io.StringIO(text.getvalue()), COLUMNS))))

    def _locked(self) -> BinaryIO:
        """The open file of settings; its lock ends with it, or with the process."""
        file = (self.folder / SETTINGS).open("rb")
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise InputError(
                    f"--out {self.folder} is in use by another benchmark: wait for it to end, or "
                    "choose another folder."
                ) from None
            except OSError:  # a file system without locks
                pass
        return file

    def _check(self, settings: dict[str, Any]) -> None:
        try:
            about = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))
            written, stored = about["format"], about["settings"]
        except FileNotFoundError:
            raise InputError(
                f"--out {self.folder} exists and is no benchmark: choose another folder."
            ) from None
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{self.folder / SETTINGS} cannot be read: choose another folder."
            ) from None
        if written != FORMAT:
            raise InputError(
                f"--out {self.folder} has format {written!r} (odernn {about.get('odernn')}), this "
                f"version reads format {FORMAT}: choose another folder."
            )
        for name in settings | stored:
            old, new = stored.get(name), settings.get(name)
            if old != new:
                raise InputError(
                    f"--out {self.folder} holds a benchmark with {name} = {json.dumps(old)}, now "
                    f"it is {json.dumps(new)}: give the same settings to continue it, or another "
                    "--out."
                )

    def _read(self) -> list[Row]:
        content = self._file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # a line that was being written when the process was killed
            write_file(self._file, whole)
        reader = csv.DictReader(io.StringIO(whole.decode(), newline=""))
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f"{self._file} has other columns than it was begun with: restore it.")
        try:
            return [_row(line) for line in reader]
        except (TypeError, ValueError):
            raise InputError(
                f"{self._file} line {reader.line_num} cannot be read: delete that line."
            ) from None


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _row(line: dict[str, str]) -> Row:
    """A line with numbers in place of texts; None where there is nothing."""
    row: Row = dict(line)
    for name in _NUMBERS:
        text = line[name]
        row[name] = None if text == "" else int(text) if name in _WHOLE else float(text)
    return row
