"""What a run was trained on: classes by size, an example of each, and the proof of the split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fieldmark.data.prepare import LeftOut
from fieldmark.data.table import SPLITS
from fieldmark.reporting.findings import Finding, find_in_data
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
    """One side of the split: rows, how many different files they are, and a digest of them.

    Two runs with the same fingerprint of a side had the same files with the same labels there.
    """

    split: str
    num_images: int
    num_contents: int
    fingerprint: str


@dataclass(frozen=True)
class Dataset:
    """The images of a run. `classes` come by falling size; `largest` is the size of the first.

    num_shared: files that are on more than one side.
    """

    source: str
    classes: tuple[ClassSize, ...]
    largest: int
    sides: tuple[Side, ...]
    num_shared: int
    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...]
    num_left_out: int
    has_pictures: bool
    first_classes: int = FIRST_CLASSES


def build_dataset(material: Material) -> Dataset:
    """Count classes and sides, pick examples, and look for what is odd."""
    classes = _size_classes(material)
    return Dataset(
        source=material.recipe.data.source or "",
        classes=classes,
        largest=max((entry.total for entry in classes), default=0),
        sides=_count_sides(material.split),
        num_shared=_count_shared(material.split),
        findings=find_in_data(material),
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
    sides = []
    for split in SPLITS:
        there = [row for row in rows if row.split == split]
        contents = {row.content_hash for row in there}
        sides.append(Side(split, len(there), len(contents), _fingerprint(there)))
    return tuple(sides)


def _fingerprint(rows: Sequence[SplitRow]) -> str:
    """64 bits as hex digits, of contents and labels in any order; empty where there are none."""
    if not rows:
        return ""
    lines = sorted(f"{row.content_hash} {row.label}" for row in rows)
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _count_shared(rows: Sequence[SplitRow]) -> int:
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row.content_hash, set()).add(row.split)
    return sum(len(found) > 1 for found in sides.values())
