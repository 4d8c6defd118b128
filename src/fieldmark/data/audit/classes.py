"""Classes by size, those too small to test, and names that may mean one class."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fieldmark.data.class_sizes import Part, divide_classes
from fieldmark.data.table import SPLITS, Table

TEST_SHARE = 0.2
MIN_TEST = 5

_BETWEEN_WORDS = re.compile(r"[\s_.\-]+")


@dataclass(frozen=True)
class ClassSize:
    """How many images a class has, and how many pictures they are.

    num_images: rows with the label. num_pictures: different readable pictures among them, where
    copies count once. counts: rows in train, val and test where the table has a split; else None.
    num_test: pictures there are, or will be with a fifth for test, to test it on.
    """

    name: str
    num_images: int
    num_pictures: int
    num_unreadable: int
    size: Part
    counts: tuple[int, int, int] | None
    num_test: int

    @property
    def is_too_small(self) -> bool:
        """Whether fewer than 5 test pictures say how well it is recognised: 20 points each."""
        return self.num_test < MIN_TEST


def size_classes(
    table: Table, unreadable: Collection[str], copies: Iterable[Sequence[str]]
) -> tuple[ClassSize, ...]:
    """Classes, largest first. `copies` are disjoint sets of images that show one picture."""
    picture_of = {image: images[0] for images in copies for image in images}
    num_images = table.class_counts()
    num_unreadable: Counter[str] = Counter()
    pictures: defaultdict[str, set[str]] = defaultdict(set)
    tested: defaultdict[str, set[str]] = defaultdict(set)
    sides: Counter[tuple[str, str | None]] = Counter()
    for row in table.rows:
        for label in row.labels:
            sides[label, row.split] += 1
            if row.image in unreadable:
                num_unreadable[label] += 1
                continue
            pictures[label].add(picture_of.get(row.image, row.image))
            if row.split == "test":
                tested[label].add(picture_of.get(row.image, row.image))
    has_split = any(row.split is not None for row in table.rows)
    has_test = any(row.split == "test" for row in table.rows)
    parts = dict(zip(num_images, divide_classes([*num_images.values()]), strict=True))
    found = [
        ClassSize(
            name=name,
            num_images=count,
            num_pictures=len(pictures[name]),
            num_unreadable=num_unreadable[name],
            size=parts[name],
            counts=_count_sides(sides, name) if has_split else None,
            num_test=len(tested[name]) if has_test else int(len(pictures[name]) * TEST_SHARE + 0.5),
        )
        for name, count in num_images.items()
    ]
    return tuple(sorted(found, key=lambda entry: (-entry.num_images, entry.name)))


def find_similar_names(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of class names that differ only in case, blanks, '_', '-', '.' or Unicode form."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold()
        groups[_BETWEEN_WORDS.sub("", folded) or folded].append(name)
    return tuple(sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1))


def _count_sides(sides: Mapping[tuple[str, str | None], int], name: str) -> tuple[int, int, int]:
    train, val, test = (sides.get((name, split), 0) for split in SPLITS)
    return train, val, test
