"""From the table a user gave to the one that is trained on: read, cleaned, split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fieldmark.data.duplicates import drop_conflicts, find_duplicates
from fieldmark.data.scan import Scan, drop_unreadable, hash_content, scan_table
from fieldmark.data.splits import split_table
from fieldmark.data.table import Table
from fieldmark.errors import UnreadableImageError
from fieldmark.recipes.schema import Data


@dataclass(frozen=True)
class LeftOut:
    """An image of the user's data that the run does not use, and why."""

    image: str
    label: str
    reason: str


@dataclass(frozen=True)
class Prepared:
    """A clean table in which every row has a split.

    content_hashes: image -> hash of its bytes. left_out: what is not in the table any more.
    """

    table: Table
    content_hashes: Mapping[str, str]
    left_out: tuple[LeftOut, ...]


def prepare_table(
    table: Table,
    data: Data,
    *,
    seed: int,
    num_workers: int = 0,
    scan: Scan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Read every image once, leave out what cannot be used, and split what remains.

    `scan` is what `scan_images` told of the same table and section before, for another seed.
    """
    near = data.split.near_duplicates
    if scan is None:
        scan = scan_images(table, data, num_workers=num_workers, progress=progress)
    readable, bad = drop_unreadable(table, scan, data.max_bad)
    left_out = [LeftOut(b.image, b.label, f"unreadable: {b.reason}") for b in bad]
    duplicates = find_duplicates(scan, near=near)
    clean = readable
    if data.conflicts == "drop" and table.task != "multilabel":
        clean, conflicts = drop_conflicts(readable, duplicates)
        left_out += [LeftOut(c.image, c.label, c.reason) for c in conflicts]
    split = split_table(
        clean, data.split, min_images=data.min_images, seed=seed, duplicates=duplicates
    )
    kept = {row.image for row in split.rows}
    left_out += [
        LeftOut(row.image, row.label, f"class '{row.label}' has too few images")
        for row in clean.rows
        if row.image not in kept
    ]
    return Prepared(split, _hashes(split, scan), tuple(left_out))


def scan_images(
    table: Table,
    data: Data,
    *,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Read every image as `prepare_table` needs it; no seed plays a part."""
    near = data.split.near_duplicates
    return scan_table(table, with_fingerprints=near, num_workers=num_workers, progress=progress)


def hash_table(table: Table) -> Mapping[str, str]:
    """Image -> hash of its bytes as it is now, as `Prepared.content_hashes`; "" if it is gone."""
    return {row.image: _hash_image(table, row.image) for row in table.rows}


def _hash_image(table: Table, image: str) -> str:
    try:
        return hash_content(table.store.read(image))
    except UnreadableImageError:
        return ""


def _hashes(table: Table, scan: Scan) -> dict[str, str]:
    return {row.image: scan.facts[row.image].content_hash for row in table.rows}
