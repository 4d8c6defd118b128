"""Duplicate groups of the real sets beside the project, and the time of the scan.

python benchmarks/duplicates.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import fieldmark as fm
from fieldmark.data.duplicates import find_conflicts, find_duplicates
from fieldmark.data.scan import scan_table

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = {
    "leaves": "leaves/train.csv",
    "anime": "anime",
    "emoji": "emoji/table.csv",
    "cifar10": "cifar10",
}


def describe(name: str, path: Path) -> str:
    """One row: images, exact groups, those under several labels, near groups, largest, seconds."""
    table = fm.read_table(path)
    start = time.perf_counter()
    scan = scan_table(table, num_workers=2)
    seconds = time.perf_counter() - start
    found = find_duplicates(scan)
    contradicted = {conflict.image for conflict in find_conflicts(table, found)}
    disputed = sum(not contradicted.isdisjoint(group) for group in found.exact)
    cells = [
        name,
        f"{len(table):,}",
        f"{len(found.exact)} ({sum(map(len, found.exact))})",
        str(disputed),
        f"{len(found.near)} ({sum(map(len, found.near))})",
        str(max(map(len, found.near), default=0)),
        f"{seconds:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    if not DATA.is_dir():
        sys.exit("duplicates: nothing to measure: no folder 'shared' beside the project")
    for name, path in SETS.items():
        print(describe(name, DATA / path), flush=True)
