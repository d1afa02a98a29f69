"""Files in the .ts format: a header, then one sequence a line with its class or value."""

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from .._results import InputError

_PAIR = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True, eq=False)
class Sequences:
    """What a .ts file holds.

    Arguments:
        path: where it was read.
        series: one array (time, channels) a sequence; NaN where a value is missing.
        lines: the line of each sequence.
        labels: the text at the end of each line.
        classes: the classes that the header lists; None if the labels are values.
        times: one array (time,) a sequence, from 0; None without time stamps.
    """

    path: Path
    series: list[np.ndarray]
    lines: list[int]
    labels: list[str]
    classes: tuple[str, ...] | None
    times: list[np.ndarray] | None

    def targets(self) -> np.ndarray:
        """Class numbers (n,) int32, or values (n, 1) float64.

        Raises:
            InputError: a class that the header does not list, or a value that is no number.
        """
        if self.classes is None:
            values = [self._value(*pair) for pair in zip(self.labels, self.lines, strict=True)]
            return np.array(values)[:, None]
        known = {name: number for number, name in enumerate(self.classes)}
        for label, line in zip(self.labels, self.lines, strict=True):
            if label not in known:
                raise InputError(
                    f"{self.path} line {line} has the class {label!r}, but the header lists "
                    f"{', '.join(self.classes)}."
                )
        return np.array([known[label] for label in self.labels], np.int32)

    def _value(self, text: str, line: int) -> float:
        number = _float(text)
        if number is None or not math.isfinite(number):
            raise InputError(
                f"{self.path} line {line} has the target {text!r}: it has to be a number."
            )
        return number


def read_ts(path: str | Path) -> Sequences:
    """Read a .ts file, with or without time stamps, of equal or unequal lengths.

    Lengths, channels and missing values are those of the data, whatever the header says of them.
    Missing values are written `?` or NaN. Time stamps are numbers or ISO dates (counted in
    seconds), the same in all channels of a sequence.

    Raises:
        InputError: no such file, not UTF-8, no `@data`, no classes or target values, or a line
            that cannot be read (says which).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (at byte {error.start}): save it as UTF-8."
        ) from None
    except FileNotFoundError:
        raise InputError(f"there is no file {path}.") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from None
    lines = text.split("\n")
    stamped, classes, start = _header(path, lines)
    series, numbers, labels, times = [], [], [], []
    for number, line in enumerate(lines[start:], start + 1):
        line = line.strip()
        if not line or line[0] in "#%":
            continue
        where = f"{path} line {number}"
        if stamped:
            pairs, label = _stamped(where, line)
            times.append(_times(where, pairs))
            channels = [[value for _, value in channel] for channel in pairs]
        else:
            channels, label = _plain(where, line)
        array = _array(where, channels)
        if series and array.shape[1] != series[0].shape[1]:
            raise InputError(
                f"{where} has {array.shape[1]} channel(s), the sequences before have "
                f"{series[0].shape[1]}."
            )
        series.append(array)
        labels.append(label)
        numbers.append(number)
    if not series:
        raise InputError(f"{path} has no sequences after @data.")
    return Sequences(path, series, numbers, labels, classes, times if stamped else None)


def _header(path: Path, lines: list[str]) -> tuple[bool, tuple[str, ...] | None, int]:
    """Whether there are time stamps, the classes (None: values), and where the data begin."""
    stamped, classes, valued = False, (), False
    for number, line in enumerate(lines):
        words = line.split()
        if not words or line.lstrip()[0] in "#%":
            continue
        key, *values = words
        key = key.lower()
        if not key.startswith("@"):
            raise InputError(f"{path} line {number + 1} has data before @data: not a .ts file.")
        given = bool(values) and values[0].lower() == "true"
        if key == "@timestamps":
            stamped = given
        elif key == "@classlabel":
            classes = tuple(values[1:]) if given else ()
        elif key == "@targetlabel":
            valued = given
        elif key == "@data":
            if not classes and not valued:
                raise InputError(
                    f"{path} has neither classes nor target values: a task needs "
                    "'@classLabel true NAME NAME ...' or '@targetLabel true'."
                )
            return stamped, (None if valued else classes), number + 1
    raise InputError(f"{path} has no line @data: not a .ts file.")


def _plain(where: str, line: str) -> tuple[list[list[str]], str]:
    *channels, label = line.split(":")
    if not channels:
        raise InputError(f"{where} has no ':' between the values and the class or target.")
    return [channel.split(",") for channel in channels], label.strip()


def _stamped(where: str, line: str) -> tuple[list[list[tuple[str, str]]], str]:
    # Dates have colons of their own: only one after a bracket ends a channel.
    *channels, label = line.split("):")
    pairs = []
    for channel in channels:
        channel += ")"
        if _PAIR.sub("", channel).replace(",", "").strip() or not _PAIR.search(channel):
            raise InputError(f"{where} is not of the form (time,value),(time,value),...:class.")
        found = [pair.rpartition(",") for pair in _PAIR.findall(channel)]
        pairs.append([(stamp.strip(), value) for stamp, _, value in found])
    if not pairs:
        raise InputError(f"{where} is not of the form (time,value),(time,value),...:class.")
    return pairs, label.strip()


def _array(where: str, channels: list[list[str]]) -> np.ndarray:
    lengths = sorted({len(channel) for channel in channels})
    if len(lengths) > 1:
        raise InputError(f"{where} has channels of {lengths[0]} and of {lengths[-1]} steps.")
    if channels[0] == [""]:
        raise InputError(f"{where} has a sequence of length 0.")
    columns = []
    for index, channel in enumerate(channels):
        texts = ["nan" if text.strip() == "?" else text for text in channel]
        try:
            columns.append(np.array(texts, dtype=np.float64))
        except ValueError:
            step = next(step for step, text in enumerate(texts) if _float(text) is None)
            raise InputError(
                f"{where} has {texts[step][:40]!r} at channel {index + 1}, step {step + 1}: it has "
                "to be a number, or ? if missing."
            ) from None
    return np.stack(columns, axis=1)


def _times(where: str, channels: list[list[tuple[str, str]]]) -> np.ndarray:
    """Time stamps from 0, checked to be strictly increasing and the same in all channels."""
    stamps = [[stamp for stamp, _ in channel] for channel in channels]
    if any(other != stamps[0] for other in stamps[1:]):
        raise InputError(f"{where} has channels with different time stamps: sample them together.")
    times = np.array([_seconds(where, stamp) for stamp in stamps[0]])
    if not np.all(np.diff(times) > 0):
        step = int(np.argmin(np.diff(times) > 0)) + 2
        raise InputError(f"{where} has times that do not increase at step {step}: sort them.")
    # Seconds since 1970 do not fit a float32; differences do.
    return times - times[0]


def _seconds(where: str, stamp: str) -> float:
    number = _float(stamp)
    if number is not None and math.isfinite(number):
        return number
    try:
        date = datetime.fromisoformat(stamp)
    except ValueError:
        raise InputError(
            f"{where} has the time stamp {stamp!r}: give a number or an ISO date."
        ) from None
    # Naive subtraction, not timestamp(): the machine's time zone must not matter.
    ahead = date.utcoffset() or timedelta()
    return (date.replace(tzinfo=None) - ahead - datetime(1970, 1, 1)).total_seconds()


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
