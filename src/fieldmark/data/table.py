"""`Table`: the labelled images of a user, whatever form they came in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fieldmark.data.stores import ImageStore
from fieldmark.recipes.schema import Task

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Row:
    """One image of a table.

    `image` is its key in the store and its name for people; `labels` holds one class name
    (multi-class, binary), any number of them (multi-label), or none (unlabelled images).
    """

    image: str
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] | None = None
    split: str | None = None
    group: str | None = None

    @property
    def label(self) -> str:
        """The label as the user writes it; several are joined by ';'."""
        return ";".join(self.labels)


@dataclass(frozen=True)
class Table:
    """Rows in the source's order, the store of their images, and the class names in index order.

    `source`, `image_root`, `columns` and `allow_outside` are what `read_table` was asked for, so
    that a run can read the table again.
    `notes` are sentences for people about what reading the source met (dropped, skipped,
    renamed); commands print them and the run keeps them.
    """

    rows: tuple[Row, ...]
    store: ImageStore
    source: str
    task: Task = "multiclass"
    class_names: tuple[str, ...] = ()
    image_root: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    allow_outside: bool = False
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def class_index(self) -> Mapping[str, int]:
        """Class name -> position in `class_names`."""
        return {name: index for index, name in enumerate(self.class_names)}

    def class_counts(self) -> Counter[str]:
        """Number of rows that carry each label."""
        return Counter(label for row in self.rows for label in row.labels)

    def select(self, split: str) -> Table:
        """The rows of one split, in order."""
        return replace(self, rows=tuple(row for row in self.rows if row.split == split))

    def with_rows(self, rows: Sequence[Row], *notes: str) -> Table:
        """The same table with other rows and further notes."""
        return replace(self, rows=tuple(rows), notes=(*self.notes, *notes))
