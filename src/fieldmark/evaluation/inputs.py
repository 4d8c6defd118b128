"""Files, folders and tables to classify, as tables; imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from fieldmark.data.sources import read_table
from fieldmark.data.sources.tabular import READERS
from fieldmark.data.stores import FolderStore
from fieldmark.data.table import Row, Table


def read_inputs(
    inputs: Iterable[str | Path],
    columns: Mapping[str, str],
    image_root: str | Path | None,
    allow_outside: bool,
) -> list[Table]:
    """One table for each table given, and one for each run of files and folders between them."""
    tables = []
    for is_table, group in groupby(map(str, inputs), key=_is_table):
        if is_table:
            tables += [
                read_table(
                    source,
                    columns=columns,
                    image_root=image_root,
                    allow_outside=allow_outside,
                    labelled=False,
                )
                for source in group
            ]
        else:
            tables.append(_table_of_files(group))
    return tables


def _is_table(source: str) -> bool:
    prefixed = ":" in source and not Path(source).exists()
    return prefixed or Path(source).suffix.lower() in READERS


def _table_of_files(sources: Iterable[str]) -> Table:
    images: list[str] = []
    for source in sources:
        if Path(source).is_dir():
            found = read_table(Path(source), labelled=False)
            images += [str(Path(source) / row.image) for row in found.rows]
        else:
            images.append(source)
    rows = tuple(Row(image) for image in images)
    return Table(rows=rows, store=FolderStore(Path()), source="files")
