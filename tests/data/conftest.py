"""The real leaves, read once for all tests that look at them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fieldmark.data.duplicates import Duplicates, find_duplicates
from fieldmark.data.scan import Scan, scan_table
from fieldmark.data.stores import FolderStore
from fieldmark.data.table import Row, Table


@pytest.fixture(scope="session")
def leaves(shared: Path) -> tuple[Table, Scan, Duplicates]:
    folder = shared / "data" / "leaves"
    with (folder / "train.csv").open(newline="") as file:
        rows = tuple(Row(line["image"], (line["label"],)) for line in csv.DictReader(file))
    names = tuple(sorted({row.label for row in rows}))
    table = Table(rows, FolderStore(folder), "leaves", class_names=names)
    scan = scan_table(table, num_workers=2)
    return table, scan, find_duplicates(scan)
