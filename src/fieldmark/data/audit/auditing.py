"""`audit_table`: everything that one pass over the images tells of a set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fieldmark.data.audit.classes import ClassSize, find_similar_names, size_classes
from fieldmark.data.audit.crops import CropReport, Geometry, measure_crops
from fieldmark.data.audit.flipped import find_flipped
from fieldmark.data.audit.groups import (
    CopyGroup,
    expect_naive_leak,
    find_leaks,
    group_copies,
    join_groups,
)
from fieldmark.data.audit.looking import Look, Progress, look_at_table
from fieldmark.data.audit.odd import OddImage, count_colours, find_odd
from fieldmark.data.duplicates import find_duplicates
from fieldmark.data.scan import BadImage
from fieldmark.data.table import Table

if TYPE_CHECKING:
    from fieldmark.data.tags.leaks import TagLeak


@dataclass(frozen=True)
class Audit:
    """What is wrong, or worth knowing, with the images of a table.

    num_images: different images the table names. unreadable: its rows whose image cannot be read.
    colours: how many images store colours in each way. duplicates: groups of copies, those under
    different labels first. naive_leak: share of the test images that would have a copy in train
    after a random split. leaks: groups on several sides of the split that the table brings.
    similar_names: class names that differ in case, blanks and the like only. crops: None where no
    image can be read.
    """

    table: Table
    num_images: int
    unreadable: tuple[BadImage, ...]
    unlabelled: tuple[str, ...]
    odd: tuple[OddImage, ...]
    colours: Mapping[str, int]
    duplicates: tuple[CopyGroup, ...]
    naive_leak: float
    leaks: tuple[CopyGroup, ...]
    classes: tuple[ClassSize, ...]
    similar_names: tuple[tuple[str, ...], ...]
    tag_leaks: tuple[TagLeak, ...]
    crops: CropReport | None
    seconds: float

    @property
    def has_split(self) -> bool:
        """Whether the table brings a split."""
        return any(row.split is not None for row in self.table.rows)

    @property
    def num_readable(self) -> int:
        """Different images that can be read."""
        return self.num_images - len({bad.image for bad in self.unreadable})

    @property
    def num_disputed(self) -> int:
        """Groups of copies under different labels."""
        return sum(group.is_disputed for group in self.duplicates)


def audit_table(
    table: Table,
    geometry: Geometry | None = None,
    *,
    num_threads: int = 1,
    progress: Progress | None = None,
) -> Audit:
    """Read each image once and report; nothing is changed, and bad images are no error."""
    start = time.perf_counter()
    look = look_at_table(table, num_threads=num_threads, progress=progress)
    groups = _find_groups(table, look)
    errors = look.scan.errors
    rows = table.rows
    return Audit(
        table=table,
        num_images=len(look.scan.facts) + len(errors),
        unreadable=tuple(
            BadImage(row.image, row.label, errors[row.image]) for row in rows if row.image in errors
        ),
        unlabelled=tuple(row.image for row in rows if not row.labels),
        odd=find_odd(look),
        colours=dict(count_colours(look).most_common()),
        duplicates=groups,
        naive_leak=expect_naive_leak(groups, len(look.scan.facts)),
        leaks=find_leaks(table, groups),
        classes=size_classes(table, errors.keys(), join_groups(groups)),
        similar_names=find_similar_names(table.class_names),
        tag_leaks=_find_tag_leaks(table),
        crops=measure_crops(look.scan.facts, geometry or Geometry()),
        seconds=time.perf_counter() - start,
    )


def _find_groups(table: Table, look: Look) -> tuple[CopyGroup, ...]:
    duplicates = find_duplicates(look.scan)
    return group_copies(table, duplicates, find_flipped(look.scan, duplicates))


def _find_tag_leaks(table: Table) -> tuple[TagLeak, ...]:
    if not any(row.tags for row in table.rows):
        return ()
    # The tags' own room imports torch, which costs seconds and 300 MB.
    from fieldmark.data.tags.leaks import find_tag_leaks

    return find_tag_leaks(table)
