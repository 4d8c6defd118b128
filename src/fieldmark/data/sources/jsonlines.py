"""`.jsonl` tables: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from fieldmark.data.sources.columns import choose_columns
from fieldmark.data.sources.delimited import read_text
from fieldmark.data.sources.faults import FaultKind, Faults
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.rows import Cell, Cells

NOT_OBJECT = FaultKind(
    "not a JSON object", 'Each line must be like {"image": "a.jpg", "label": "oak"}.'
)
NOT_TEXT = FaultKind(
    "a value that is neither a text, a number nor a list of these", "Write it as a text."
)


def read_jsonlines(path: Path, options: Options) -> Cells:
    """Read the objects of a file; numbers and booleans are kept as the text they are written in.

    `null` and an absent key are missing values, lists are read as lists of labels or tags.
    Raises `TableError` with the line numbers of what is not valid.
    """
    faults = Faults(str(path), "line")
    lines: list[int] = []
    objects: list[dict[str, object]] = []
    for line, value in _values(read_text(path), faults):
        lines.append(line)
        objects.append(value)
    faults.raise_all()
    names = list(dict.fromkeys(name for value in objects for name in value))
    chosen = choose_columns(names, options.columns, labelled=options.labelled, source=str(path))
    cells: dict[str, list[Cell]] = {}
    for role, place in chosen.items():
        column = [_cell(value.get(names[place])) for value in objects]
        for line, cell in zip(lines, column, strict=True):
            if cell is None:
                faults.add(NOT_TEXT, line, names[place])
        cells[role] = [cell or "" for cell in column]
    faults.raise_all()
    return Cells(places=lines, unit="line", **cells)


def _values(text: str, faults: Faults) -> Iterator[tuple[int, dict[str, object]]]:
    for line, source in enumerate(text.split("\n"), start=1):
        if not source.strip():
            continue
        try:
            value = json.loads(source, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            faults.add(NOT_OBJECT, line, getattr(error, "msg", "nested too deeply"))
            continue
        if isinstance(value, dict):
            yield line, value
        else:
            faults.add(NOT_OBJECT, line)


def _cell(value: object) -> Cell | None:
    """Return a JSON value as text or texts; None if it cannot be one."""
    if isinstance(value, list):
        texts = [_scalar(item) for item in value]
        return None if None in texts else tuple(text for text in texts if text is not None)
    return _scalar(value)


def _scalar(value: object) -> str | None:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    # Half of a surrogate pair is valid in JSON but cannot be written to any file afterwards.
    if isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value):
        return value
    return None
