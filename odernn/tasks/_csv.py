"""Tables of numbers from CSV files, with errors that say where the file is wrong."""

import csv
import difflib
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from .._results import InputError

_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "?"})
_MASK_HINT = "pass mask_missing=True (--mask-missing) to hold the state there, or fill them in"


@dataclass(frozen=True, eq=False)
class Table:
    """The cells of a CSV file as text.

    Arguments:
        path: where it was read.
        names: the header, one name a column.
        rows: the cells, without the spaces around them.
        lines: the line of the file in which each row ends.
    """

    path: Path
    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def place(self, row: int, column: int) -> str:
        """Where a cell is, in words."""
        return f"row {row + 1} (line {self.lines[row]}), column {self.names[column]!r}"

    def index(self, name: str) -> int:
        """The number of a column.

        Raises:
            InputError: there is none of this name; says which are near.
        """
        if name in self.names:
            return self.names.index(name)
        near = difflib.get_close_matches(name, self.names, n=3, cutoff=0.5)
        hint = f": did you mean {' or '.join(map(repr, near))}?" if near else "."
        shown = ", ".join(map(repr, self.names[:10])) + (", ..." if len(self.names) > 10 else "")
        raise InputError(f"{self.path} has no column {name!r}{hint} Columns: {shown}.")

    def numeric(self) -> tuple[str, ...]:
        """Names of the columns that have at least one number.

        The others, such as dates or remarks, are not meant to be numbers.

        Raises:
            InputError: there are none.
        """
        found = tuple(
            name
            for column, name in enumerate(self.names)
            if any(_number(row[column]) is not None for row in self.rows)
        )
        if not found:
            raise InputError(f"{self.path} has no column with numbers.")
        return found

    def values(
        self, columns: Iterable[str], *, mask_missing: bool = False
    ) -> tuple[Float[np.ndarray, "rows columns"], Bool[np.ndarray, "rows columns"]]:
        """The numbers of these columns, and which of them are there.

        A missing or infinite number takes the last one before it (the first one after it at the
        beginning), so that arithmetic on what is masked stays finite.

        Raises:
            InputError: no such column, text where a number belongs, a column without numbers,
                or missing or infinite numbers without `mask_missing`.
        """
        indices = [self.index(name) for name in columns]
        array = np.full((len(self.rows), len(indices)), np.nan)
        for position, column in enumerate(indices):
            for number, row in enumerate(self.rows):
                array[number, position] = self._cell(row[column], number, column)
        present = np.isfinite(array)
        if not present.all() and not mask_missing:
            raise self._not_finite(array, indices)
        for position, column in enumerate(indices):
            seen = np.flatnonzero(present[:, position])
            if not seen.size:
                raise InputError(f"{self.path} has no number in column {self.names[column]!r}.")
            before = np.searchsorted(seen, np.arange(len(array)), side="right") - 1
            array[:, position] = array[seen[np.maximum(before, 0)], position]
        return array, present

    def _cell(self, text: str, row: int, column: int) -> float:
        number = _number(text)
        if number is not None:
            return number
        if text.lower() in _MISSING:
            return math.nan
        shown = repr(text if len(text) <= 40 else text[:37] + "...")
        comma = text.replace(",", ".", 1)
        hint = "use a decimal point" if _number(comma) is not None else "it has to be a number"
        raise InputError(f"{self.path} has {shown} at {self.place(row, column)}: {hint}.")

    def _not_finite(self, array: np.ndarray, indices: Sequence[int]) -> InputError:
        infinite = int(np.isinf(array).sum())
        missing = int(np.isnan(array).sum())
        counts = [f"{missing} missing"] * (missing > 0) + [f"{infinite} infinite"] * (infinite > 0)
        wrong = np.argwhere(~np.isfinite(array))
        places = "; ".join(self.place(row, indices[column]) for row, column in wrong[:3])
        more = "; ..." if len(wrong) > 3 else ""
        return InputError(
            f"{self.path} has {' and '.join(counts)} value(s) ({places}{more}): {_MASK_HINT}."
        )


def read_table(path: str | Path) -> Table:
    """Read a CSV file as text: a header, then rows of as many cells.

    Separated by commas, semicolons or tabs, whichever the header has most of; UTF-8. A column
    without a name is called "column 1", "column 2", ... by its place. Empty lines are ignored,
    except inside a file of one column, where they are missing values.

    Raises:
        InputError: the file is missing, empty, no text in UTF-8, has no header, no rows, two
            columns of one name, or a row with too many or too few cells.
    """
    path = Path(path)
    text = _text(path)
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    # A tie or a file of one column: max takes the first, the comma.
    delimiter = max(",;\t", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            rows.append([] if cells == [""] else cells)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not CSV: {error}.") from None
    while rows and not rows[-1]:
        rows.pop()
        lines.pop()
    first = next((number for number, row in enumerate(rows) if any(row)), None)
    if first is None:
        raise InputError(f"{path} is empty: it needs a line of column names, then rows of numbers.")
    names = _names(path, rows[first])
    body = _body(path, len(names), rows[first + 1 :], lines[first + 1 :])
    if not body:
        raise InputError(f"{path} has column names but no rows.")
    return Table(path, names, [row for row, _ in body], [line for _, line in body])


def read_csv(
    path: str | Path, *, columns: Iterable[str] | None = None, mask_missing: bool = False
) -> tuple[tuple[str, ...], Float[np.ndarray, "rows columns"], Bool[np.ndarray, " rows"] | None]:
    """Column names, numbers and mask of a CSV file.

    Arguments:
        path: the file; see `read_table` for its form.
        columns: which columns, in which order; None: all that have a number in them.
        mask_missing: let missing and infinite numbers pass.

    Returns:
        The names; the numbers in float64, where a missing one repeats the last before it; and
        None if all are there, else the rows (true) in which none is missing: a layer's `mask`.

    Raises:
        InputError: the file is missing, empty, not UTF-8 or ragged; there is no such column;
            text in a numeric column (names row and column); missing or infinite numbers (says
            how many and where) without `mask_missing`.
    """
    table = read_table(path)
    names = table.numeric() if columns is None else tuple(columns)
    array, present = table.values(names, mask_missing=mask_missing)
    if present.all():
        return names, array, None
    return names, array, np.asarray(present.all(axis=1))


def _text(path: Path) -> str:
    try:
        # A byte order mark, which spreadsheets write, is not part of the first name.
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        near = []
        if path.parent.is_dir():
            files = [entry.name for entry in path.parent.iterdir()]
            near = difflib.get_close_matches(path.name, files, n=1)
        hint = f": did you mean {str(path.with_name(near[0]))!r}?" if near else "."
        raise InputError(f"there is no file {path}{hint}") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at position "
            f"{error.start}): save it as UTF-8."
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from None


def _names(path: Path, header: list[str]) -> tuple[str, ...]:
    if all(_number(cell) is not None for cell in header):
        raise InputError(
            f"{path} begins with numbers ({', '.join(header[:3])}): its first line has to be "
            "column names."
        )
    names = tuple(cell or f"column {index + 1}" for index, cell in enumerate(header))
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path} has {names.count(name)} columns named {name!r}: rename one.")
    return names


def _body(
    path: Path, width: int, rows: list[list[str]], lines: list[int]
) -> list[tuple[list[str], int]]:
    body = []
    for row, line in zip(rows, lines, strict=True):
        if not row:
            if width > 1:
                continue
            # Leaving out a step of the only column would shift all that follow in time.
            row = [""]
        if len(row) != width:
            raise InputError(
                f"{path} has {len(row)} cells in row {len(body) + 1} (line {line}), but "
                f"{width} column names."
            )
        body.append((row, line))
    return body


def _number(text: str) -> float | None:
    """The number, infinity included, that a cell holds; None for text and NaN."""
    try:
        number = float(text)
    except ValueError:
        return None
    # Python reads 1_000 as a number; in a file it is more likely a name.
    return None if math.isnan(number) or "_" in text else number
