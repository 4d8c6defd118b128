"""`.csv` and `.tsv` tables: every value is text, exactly as it stands in the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from fieldmark.data.sources.columns import choose_columns
from fieldmark.data.sources.faults import FaultKind, Faults
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.paths import INVISIBLE
from fieldmark.data.sources.rows import Cells
from fieldmark.errors import TableError

TOO_LONG = FaultKind(
    "more values than the header has columns", "Put values that hold a separator in quotes."
)


def read_delimited(path: Path, options: Options) -> Cells:
    """Read a table with a header line; separated by tabs if it ends in `.tsv`, else by commas.

    A byte order mark, any line ending, blank lines and short lines are fine. Raises
    `TableError` for text that is not UTF-8, broken quotes and lines longer than the header.
    """
    records = _records(path, "\t" if path.suffix.lower() == ".tsv" else ",")
    _, header = next(records, (1, []))
    names = [name.strip(INVISIBLE) for name in header]
    chosen = choose_columns(names, options.columns, labelled=options.labelled, source=str(path))
    values: dict[str, list[str]] = {role: [] for role in chosen}
    lines: list[int] = []
    faults = Faults(str(path), "line")
    for line, record in records:
        if any(record[len(names) :]):
            faults.add(TOO_LONG, line)
        lines.append(line)
        for role, place in chosen.items():
            values[role].append(record[place] if place < len(record) else "")
    faults.raise_all()
    return Cells(places=lines, unit="line", **values)


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Give (number of its first line, values) for every record that is not blank."""
    text = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for record in reader:
            if any(record):
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(
            f"{path}, line {line}: {error}. A quote that is opened must be closed, followed by "
            "a separator or the end of the line; write a quote inside a value twice."
        ) from error


def read_text(path: Path) -> str:
    """Return a file's text without byte order mark; raise `TableError` if it is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{path}, line {line}: not UTF-8 text (byte 0x{data[error.start]:02x}). "
            "Save the table as UTF-8; in a spreadsheet choose 'CSV UTF-8'."
        ) from error
