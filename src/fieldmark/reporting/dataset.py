"""What a run was trained on: classes by size, an example of each, and the proof of the split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fieldmark.data.prepare import LeftOut
from fieldmark.data.table import SPLITS
from fieldmark.reporting.material import Material, SplitRow

EXAMPLE_SIDE_PX = 96
MAX_EXAMPLES = 200
FIRST_CLASSES = 36
MAX_LEFT_OUT = 200


@dataclass(frozen=True)
class ClassSize:
    """Images of a class in train, val and test, and one of them as a data URI."""

    name: str
    counts: tuple[int, ...]
    example: str | None

    @property
    def total(self) -> int:
        """Images in all."""
        return sum(self.counts)


@dataclass(frozen=True)
class Side:
    """One side of the split: rows, and how many different files they are."""

    split: str
    num_images: int
    num_contents: int


@dataclass(frozen=True)
class Shared:
    """A file that is on more than one side: the images that have its content."""

    images: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Dataset:
    """The images of a run. `classes` come by falling size; `largest` is the size of the first."""

    source: str
    classes: tuple[ClassSize, ...]
    largest: int
    sides: tuple[Side, ...]
    shared: tuple[Shared, ...]
    left_out: tuple[LeftOut, ...]
    num_left_out: int
    has_pictures: bool
    first_classes: int = FIRST_CLASSES


def build_dataset(material: Material) -> Dataset:
    """Count classes and sides, pick examples, and look for contents on two sides."""
    classes = _size_classes(material)
    return Dataset(
        source=material.recipe.data.source or "",
        classes=classes,
        largest=max((entry.total for entry in classes), default=0),
        sides=_count_sides(material.split),
        shared=_find_shared(material.split),
        left_out=tuple(material.left_out[:MAX_LEFT_OUT]),
        num_left_out=len(material.left_out),
        has_pictures=any(entry.example for entry in classes),
    )


def _size_classes(material: Material) -> tuple[ClassSize, ...]:
    counts = {
        str(entry["name"]): tuple(int(entry[split]) for split in SPLITS)
        for entry in material.classes
    }
    by_size = sorted(counts, key=lambda name: -sum(counts[name]))
    examples = _pick_examples(material.split, several=material.recipe.task == "multilabel")
    return tuple(
        ClassSize(
            name,
            counts[name],
            material.draw_thumbnail(examples[name], EXAMPLE_SIDE_PX)
            if place < MAX_EXAMPLES and name in examples
            else None,
        )
        for place, name in enumerate(by_size)
    )


def _pick_examples(rows: Sequence[SplitRow], *, several: bool) -> Mapping[str, str]:
    """Class name -> its first image, of the train split where it has any there.

    With `several`, a label is a list of class names joined by ';'.
    """
    examples: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row.split != "train"):
        for label in row.label.split(";") if several else (row.label,):
            examples.setdefault(label, row.image)
    return examples


def _count_sides(rows: Sequence[SplitRow]) -> tuple[Side, ...]:
    return tuple(
        Side(
            split,
            sum(row.split == split for row in rows),
            len({row.content_hash for row in rows if row.split == split}),
        )
        for split in SPLITS
    )


def _find_shared(rows: Sequence[SplitRow]) -> tuple[Shared, ...]:
    by_content: defaultdict[str, list[SplitRow]] = defaultdict(list)
    for row in rows:
        by_content[row.content_hash].append(row)
    return tuple(
        Shared(tuple((row.image, row.split) for row in same))
        for same in by_content.values()
        if len({row.split for row in same}) > 1
    )
