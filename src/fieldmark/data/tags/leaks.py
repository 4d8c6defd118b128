"""Tags that give the class away: such a network looks at the tag, not at the image."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fieldmark.data.table import Row, Table

MIN_IMAGES = 5
MIN_SHARE = 0.1
MAX_CHANCE = 0.01
NUM_NAMED = 10
_MIN_NAME_CHARACTERS = 3

Words = tuple[str, ...]
_WORD = re.compile(r"[^\W_]+")
_BRACKETED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")


@dataclass(frozen=True)
class TagLeak:
    """A tag that gives a class away.

    reason: "names", the tag contains the class name; "decides", every training image with the tag
        is of the class.
    num_images: training images with the tag. num_of_class: those of them that are of the class.
    """

    tag: str
    class_name: str
    reason: Literal["names", "decides"]
    num_images: int
    num_of_class: int


def find_tag_leaks(table: Table) -> tuple[TagLeak, ...]:
    """Find the tags of training images that name a class or decide it alone, most frequent first.

    A tag names a class if the words of the name stand in it one after the other, whatever the
    case, underscores and brackets; "(series)" behind a name may be missing. Names of fewer than 3
    characters must be the whole tag: a class "1" is not named by "1 girl".

    A tag decides a class if it stands on at least 5 training images, all of that class, that are
    at least a tenth of the class. Where classes are few and large, that happens by chance: so
    as many images drawn at random must be all of one class with a probability below 1% divided
    by the number of tags.

    In a table without splits every image counts as a training image.
    """
    rows = [row for row in table.rows if row.split == "train"] or list(table.rows)
    labels_by_tag = _count_labels(rows)
    num_images = Counter(tag for row in rows for tag in set(row.tags or ()))
    leaks = [
        TagLeak(tag, name, "names", num_images[tag], labels_by_tag[tag].get(name, 0))
        for tag, name in _find_names(num_images, table.class_names)
    ]
    named = {leak.tag for leak in leaks}
    class_counts = Counter(label for row in rows for label in row.labels)
    deciding = _Deciding(class_counts, num_rows=len(rows), num_tags=len(num_images))
    for tag, number in num_images.items():
        name = deciding.find_class(labels_by_tag[tag], number)
        if name is not None and tag not in named:
            leaks.append(TagLeak(tag, name, "decides", number, number))
    return tuple(sorted(leaks, key=lambda leak: (leak.reason != "names", -leak.num_images)))


def describe_tag_leaks(table: Table) -> str | None:
    """One sentence for people that names the first ten, or None where there are none."""
    leaks = find_tag_leaks(table)
    if not leaks:
        return None
    parts = []
    for reason, what in (("names", "contain a class name"), ("decides", "alone decide the class")):
        number = sum(leak.reason == reason for leak in leaks)
        if number:
            parts.append(f"{number:,} {what}")
    named = [
        f"'{leak.tag}' ({leak.class_name}, {leak.num_of_class:,} of {leak.num_images:,} images)"
        for leak in leaks[:NUM_NAMED]
    ]
    more = f" and {len(leaks) - NUM_NAMED:,} more" if len(leaks) > NUM_NAMED else ""
    return (
        f"Tags that give the class away: {' and '.join(parts)}: {', '.join(named)}{more}. With "
        "them the network can answer without the image, so scores with tags say little about "
        "images tagged by someone who does not know the class; see the scores without tags."
    )


def _count_labels(rows: Sequence[Row]) -> Mapping[str, Mapping[str, int]]:
    """Tag -> how many of its images carry each label."""
    pairs = Counter((tag, label) for r in rows for tag in set(r.tags or ()) for label in r.labels)
    labels_by_tag: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (tag, label), count in pairs.items():
        labels_by_tag[tag][label] = count
    return labels_by_tag


def _find_names(tags: Mapping[str, int], class_names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (tag, class) for the longest class name in each tag that has one."""
    names: dict[Words, str] = {}
    for name in class_names:
        names.setdefault(_words(name), name)
        # "saber (fate)" is also named by "saber (cosplay)".
        names.setdefault(_words(_BRACKETED.sub(" ", name)), name)
    names.pop((), None)
    longest = max(map(len, names), default=0)
    for tag in tags:
        words = _words(tag)
        found = [names[part] for part in _parts(words, longest) if _is_named(part, words, names)]
        if found:
            yield tag, found[0]


def _is_named(part: Words, words: Words, names: Mapping[Words, str]) -> bool:
    is_telling = len("".join(part)) >= _MIN_NAME_CHARACTERS or part == words
    return part in names and is_telling


def _parts(words: Words, longest: int) -> Iterator[Words]:
    """Every run of words, the longest first."""
    for length in range(min(longest, len(words)), 0, -1):
        for start in range(len(words) - length + 1):
            yield words[start : start + length]


def _words(text: str) -> Words:
    return tuple(_WORD.findall(text.casefold()))


@dataclass(frozen=True)
class _Deciding:
    """What a tag must do to decide a class, among so many images and tags."""

    class_counts: Mapping[str, int]
    num_rows: int
    num_tags: int

    def find_class(self, labels: Mapping[str, int], num_images: int) -> str | None:
        """The class that a tag with these labels decides, or None."""
        if num_images < MIN_IMAGES:
            return None
        decided = [
            label
            for label, count in labels.items()
            if count == num_images and count >= MIN_SHARE * self.class_counts[label]
        ]
        if not decided or self._chance(num_images) * self.num_tags > MAX_CHANCE:
            return None
        # Of several labels that all its images carry, the rarest is the one it tells most of.
        return min(decided, key=lambda label: self.class_counts[label])

    def _chance(self, num_images: int) -> float:
        """Probability that so many images drawn at random are all of one class."""
        return sum((count / self.num_rows) ** num_images for count in self.class_counts.values())
