"""Pictures that come more than once: under which labels, and on which sides of a given split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fieldmark.data.duplicates import Duplicates, join_pairs
from fieldmark.data.table import SPLITS, Row, Table

Kind = Literal["repeated", "exact", "flipped", "near", "embedding", "group"]
KINDS: tuple[Kind, ...] = ("repeated", "exact", "flipped", "near", "embedding", "group")
NAIVE_SHARES = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class CopyGroup:
    """Rows that show one picture, or belong together otherwise.

    kind: repeated, one image listed in several rows; exact, identical pixels; flipped, one is the
    mirror image of another; near, they look alike; embedding, a network finds them alike; group,
    the table's own column says so.
    """

    kind: Kind
    rows: tuple[Row, ...]

    @property
    def images(self) -> tuple[str, ...]:
        """The images, each once."""
        return tuple(dict.fromkeys(row.image for row in self.rows))

    @property
    def labels(self) -> tuple[str, ...]:
        """The different labels, sorted; rows without one have none."""
        return tuple(sorted({row.label for row in self.rows if row.labels}))

    @property
    def splits(self) -> tuple[str, ...]:
        """The sides of the given split that it is on."""
        return tuple(name for name in SPLITS if any(row.split == name for row in self.rows))

    @property
    def is_disputed(self) -> bool:
        """Whether its rows have different labels."""
        return len({frozenset(row.labels) for row in self.rows if row.labels}) > 1

    @property
    def is_leak(self) -> bool:
        """Whether it is on several sides of the given split."""
        return len(self.splits) > 1


def group_copies(
    table: Table, duplicates: Duplicates, flipped: Iterable[Sequence[str]]
) -> tuple[CopyGroup, ...]:
    """Every group of copies: those under different labels first, then by kind, then the largest.

    A near group also names the pixel-identical copies of its pictures, which have a group of
    their own.
    """
    rows_of: defaultdict[str, list[Row]] = defaultdict(list)
    for row in table.rows:
        rows_of[row.image].append(row)
    repeated = [[image] for image, rows in rows_of.items() if len(rows) > 1]
    found: dict[Kind, Iterable[Sequence[str]]] = {
        "repeated": repeated,
        "exact": duplicates.exact,
        "flipped": flipped,
        "near": duplicates.near,
    }
    groups = [
        CopyGroup(kind, tuple(row for image in images for row in rows_of[image]))
        for kind, sets in found.items()
        for images in sets
    ]
    return sort_groups(groups)


def sort_groups(groups: Iterable[CopyGroup]) -> tuple[CopyGroup, ...]:
    """Those under different labels first, then by kind, then the largest."""
    return tuple(
        sorted(
            groups,
            key=lambda g: (not g.is_disputed, KINDS.index(g.kind), -len(g.rows), g.images[0]),
        )
    )


def find_leaks(table: Table, groups: Sequence[CopyGroup]) -> tuple[CopyGroup, ...]:
    """Groups of copies, and of the table's column `group`, on several sides of its own split."""
    rows_of: defaultdict[str, list[Row]] = defaultdict(list)
    for row in table.rows:
        if row.group is not None:
            rows_of[row.group].append(row)
    owned = (CopyGroup("group", tuple(rows)) for rows in rows_of.values())
    return tuple(group for group in (*groups, *owned) if group.is_leak)


def join_groups(groups: Iterable[CopyGroup]) -> list[tuple[str, ...]]:
    """Sets of images that one chain of copies connects, whatever the kinds."""
    links = (
        (images[0], image)
        for images in (group.images for group in groups if group.kind != "repeated")
        for image in images
    )
    return [tuple(sorted(joined)) for joined in join_pairs(links)]


def expect_naive_leak(groups: Iterable[CopyGroup], num_images: int) -> float:
    """Share of test images that would have a copy in train after a random 0.7 / 0.1 / 0.2 split.

    Expected, for images dealt one by one: of a picture with m copies, a test image has none of
    the other m - 1 in train with probability (1 - 0.7)^(m - 1).
    """
    if not num_images:
        return 0.0
    apart = 1 - NAIVE_SHARES[0]
    copied = sum(len(images) * (1 - apart ** (len(images) - 1)) for images in join_groups(groups))
    return copied / num_images
