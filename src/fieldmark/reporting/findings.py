"""What is odd about the images of a run, as far as its folder knows: faults first, then cautions.

`fieldmark check` looks at the pictures themselves and finds more; this is what training found and
what follows from the frozen split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fieldmark.data.table import SPLITS
from fieldmark.reporting.material import Material, SplitRow
from fieldmark.reporting.wording import say_count

MAX_EXAMPLES = 12
MIN_TESTED = 5
IMBALANCE = 10.0

Weight = Literal["fault", "caution", "fact"]


@dataclass(frozen=True)
class Finding:
    """A sentence about the data, why it matters, and the first of the names it is about."""

    weight: Weight
    title: str
    meaning: str
    examples: tuple[str, ...] = ()
    num_examples: int = 0


def find_in_data(material: Material) -> tuple[Finding, ...]:
    """Every finding, faults first."""
    found = [
        *_find_shared(material.split),
        *_find_unlearned(material),
        *_find_copies(material.split),
        *_find_left_out(material),
        *_find_small_tests(material),
        *_find_imbalance(material),
        *_find_missing_sides(material),
    ]
    return tuple(sorted(found, key=lambda one: ("fault", "caution", "fact").index(one.weight)))


def _find_shared(rows: Sequence[SplitRow]) -> Iterator[Finding]:
    groups = [same for same in _by_content(rows).values() if len({row.split for row in same}) > 1]
    if groups:
        names = [", ".join(f"{row.image} ({row.split})" for row in same) for same in groups]
        yield _tell(
            "fault",
            f"{_count(len(groups), 'file is', 'files are')} on more than one side of the split",
            "Scores on such images are memory, not recognition.",
            names,
        )


def _find_unlearned(material: Material) -> Iterator[Finding]:
    names = [
        str(entry["name"])
        for entry in material.classes
        if not entry["train"] and (entry["val"] or entry["test"])
    ]
    if names:
        yield _tell(
            "fault",
            f"{_count(len(names), 'class is', 'classes are')} tested that training never saw",
            "The run cannot name them; every such image is a mistake.",
            names,
        )


def _find_copies(rows: Sequence[SplitRow]) -> Iterator[Finding]:
    groups = [same for same in _by_content(rows).values() if len(same) > 1]
    disputed = [same for same in groups if len({row.label for row in same}) > 1]
    alike = [
        same
        for same in groups
        if len({row.label for row in same}) == 1 and len({row.split for row in same}) == 1
    ]
    if disputed:
        names = [", ".join(f"{row.image} ({row.label})" for row in same) for same in disputed]
        yield _tell(
            "fault",
            f"{_count(len(disputed), 'file has', 'files have')} different labels",
            "The same picture under two names: at least one of them is wrong.",
            names,
        )
    if alike:
        names = [", ".join(row.image for row in same) for same in alike]
        yield _tell(
            "fact",
            f"{_count(len(alike), 'file is', 'files are')} there more than once, on one side",
            "Such images count more than others, but do not leak.",
            names,
        )


def _find_left_out(material: Material) -> Iterator[Finding]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for entry in material.left_out:
        told = f"{entry.image}: {entry.reason.removeprefix('unreadable: ')}"
        groups[_kind_of(entry.reason)].append(told)
    for kind, (one, many, meaning) in _LEFT_OUT.items():
        if names := groups[kind]:
            yield _tell("caution", _count(len(names), one, many), meaning, names)


_LEFT_OUT = {
    "unreadable": (
        "image could not be read",
        "images could not be read",
        "Left out of training and scores.",
    ),
    "small": (
        "image was left out with a class too small",
        "images were left out with classes too small",
        "A class needs images to learn from and images to be tested on (data.min_images).",
    ),
    "conflict": (
        "image was left out because its twin has another label",
        "images were left out because their twins have other labels",
        "One of the two labels is wrong; correct it, and train again.",
    ),
}


def _kind_of(reason: str) -> str:
    if reason.startswith("unreadable"):
        return "unreadable"
    return "small" if reason.endswith("has too few images") else "conflict"


def _find_small_tests(material: Material) -> Iterator[Finding]:
    tested = {str(entry["name"]): int(entry["test"]) for entry in material.classes}
    if not any(tested.values()):
        return
    names = [f"{name} ({count})" for name, count in tested.items() if count < MIN_TESTED]
    if names:
        yield _tell(
            "caution",
            f"{_count(len(names), 'class has', 'classes have')} fewer than {MIN_TESTED} test "
            "images",
            "Their own scores say little: one image more or less moves them by 20 points or more.",
            names,
        )


def _find_imbalance(material: Material) -> Iterator[Finding]:
    sizes = {str(entry["name"]): int(entry["train"]) for entry in material.classes}
    sizes = {name: size for name, size in sizes.items() if size}
    if not sizes:
        return
    largest, smallest = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    ratio = sizes[largest] / sizes[smallest]
    if ratio >= IMBALANCE:
        yield Finding(
            "caution",
            f"The largest class has {ratio:.0f} times the images of the smallest",
            f"“{largest}” was learned from {say_count(sizes[largest])}, “{smallest}” from "
            f"{say_count(sizes[smallest])}. Accuracy speaks of the large classes; macro-F1 of all "
            "alike.",
        )


def _find_missing_sides(material: Material) -> Iterator[Finding]:
    counts = {split: sum(int(entry[split]) for entry in material.classes) for split in SPLITS}
    if counts["train"] and not counts["val"]:
        yield Finding(
            "caution",
            "There is no val split",
            "The weights that were kept are those of the last epoch, whatever came before.",
        )
    if counts["train"] and not counts["test"]:
        yield Finding("caution", "There is no test split", "No score here is of unseen images.")


def _by_content(rows: Sequence[SplitRow]) -> dict[str, list[SplitRow]]:
    groups: defaultdict[str, list[SplitRow]] = defaultdict(list)
    for row in rows:
        groups[row.content_hash].append(row)
    return groups


def _tell(weight: Weight, title: str, meaning: str, names: Sequence[str]) -> Finding:
    return Finding(weight, title, meaning, tuple(names[:MAX_EXAMPLES]), len(names))


def _count(number: int, one: str, many: str) -> str:
    return f"{say_count(number)} {one if number == 1 else many}"
