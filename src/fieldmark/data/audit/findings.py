"""An audit in sentences: what is to be fixed, what deserves a look, and what is fine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fieldmark.data.audit.auditing import Audit
from fieldmark.data.audit.classes import MIN_TEST, TEST_SHARE, ClassSize
from fieldmark.data.audit.groups import CopyGroup, Kind
from fieldmark.data.audit.odd import ODD_KINDS
from fieldmark.data.class_sizes import PARTS_RULE
from fieldmark.data.table import SPLITS

Level = Literal["fix", "look", "fine"]
LEVELS: tuple[Level, ...] = ("fix", "look", "fine")
NUM_NAMED = 5

KIND_NAMES: dict[Kind, str] = {
    "repeated": "listed more than once",
    "exact": "identical pixels",
    "flipped": "mirror images",
    "near": "look-alikes",
    "embedding": "alike to a network",
    "group": "one group of the table",
}


_KIND_PHRASES: dict[Kind, str] = {
    "repeated": "listed in several rows",
    "exact": "with identical pixels",
    "flipped": "of mirror images",
    "near": "of look-alikes",
}


@dataclass(frozen=True)
class Finding:
    """One sentence on one topic, and what to do about it (empty where nothing is)."""

    topic: str
    level: Level
    text: str
    advice: str = ""


def describe_audit(audit: Audit) -> tuple[Finding, ...]:
    """All findings, those to fix first."""
    every = [
        *_files(audit),
        *_labels(audit),
        *_copies(audit),
        *_leaks(audit),
        *_classes(audit),
        *_tags(audit),
        *_crops(audit),
    ]
    return tuple(sorted(every, key=lambda finding: LEVELS.index(finding.level)))


def _files(audit: Audit) -> Iterator[Finding]:
    bad = list(dict.fromkeys(entry.image for entry in audit.unreadable))
    if bad:
        yield Finding(
            "unreadable",
            "fix",
            f"{_count(len(bad), 'image')} of {audit.num_images:,} cannot be read: {_name(bad)}.",
            "Repair or remove them; training leaves them out, up to --max-bad.",
        )
    else:
        yield Finding("unreadable", "fine", f"All {audit.num_images:,} images can be read.")
    kinds = Counter(odd.kind for odd in audit.odd)
    if kinds:
        told = ", ".join(f"{kinds[kind]:,} {ODD_KINDS[kind]}" for kind in ODD_KINDS if kinds[kind])
        yield Finding("odd files", "look", f"{told}.", "They are read all the same.")


def _labels(audit: Audit) -> Iterator[Finding]:
    if audit.unlabelled and audit.table.task != "multilabel":
        yield Finding(
            "labels",
            "fix",
            f"{_count(len(audit.unlabelled), 'row')} without a label: {_name(audit.unlabelled)}.",
            "Label them or leave them out: training refuses them.",
        )
    if audit.similar_names:
        told = "; ".join(_name([f"'{n}'" for n in names]) for names in audit.similar_names[:3])
        more = len(audit.similar_names) - 3
        yield Finding(
            "names",
            "fix",
            f"{_count(len(audit.similar_names), 'group')} of class names that differ only in "
            f"case, blanks or the like: {told}" + (f"; and {more} more." if more > 0 else "."),
            "If they mean one class, give them one name.",
        )


def _copies(audit: Audit) -> Iterator[Finding]:
    disputed = [group for group in audit.duplicates if group.is_disputed]
    if disputed and audit.table.task != "multilabel":
        surely = [group for group in disputed if group.kind in ("repeated", "exact")]
        maybe = [group for group in disputed if group.kind not in ("repeated", "exact")]
        if surely:
            yield Finding(
                "two labels",
                "fix",
                f"{_count(len(surely), 'picture')} ({_count_images(surely)}) "
                f"{'stands' if len(surely) == 1 else 'stand'} under more than one label.",
                "Decide which label is right; training drops such images, unless --conflicts keep.",
            )
        if maybe:
            yield Finding(
                "two labels",
                "look",
                f"{_count(len(maybe), 'group')} of look-alikes ({_count_images(maybe)}) under "
                "more than one label.",
            )
    if not audit.duplicates:
        yield Finding("copies", "fine", "No picture comes twice.")
        return
    told = "; ".join(
        f"{_count(len(groups), 'group')} {phrase} ({_count_images(groups)})"
        for kind, phrase in _KIND_PHRASES.items()
        if (groups := [group for group in audit.duplicates if group.kind == kind])
    )
    naive = (
        ""
        if audit.has_split
        else (
            f" A random split would leave {audit.naive_leak:.1%} of the test images with a copy in "
            "train."
        )
    )
    advice = "" if audit.has_split else "Training keeps copies on one side, mirror images aside."
    yield Finding("copies", "look", f"{told}.{naive}", advice)


def _leaks(audit: Audit) -> Iterator[Finding]:
    if not audit.has_split:
        return
    if not audit.leaks:
        yield Finding("leaks", "fine", "No picture is on two sides of the table's own split.")
        return
    pairs = Counter(group.splits for group in audit.leaks)
    told = ", ".join(f"{number:,} {' and '.join(sides)}" for sides, number in pairs.most_common())
    yield Finding(
        "leaks",
        "fix",
        f"{_count(len(audit.leaks), 'group')} of copies on more than one side of the table's own "
        f"split: {told}. Scores will be too good.",
        f"Remove them from one side, or drop the column of {', '.join(SPLITS)} and let training "
        "split.",
    )


def _classes(audit: Audit) -> Iterator[Finding]:
    classes = audit.classes
    if not classes:
        return
    largest, smallest = classes[0], classes[-1]
    if largest.num_images == smallest.num_images:
        yield Finding("classes", "fine", f"{largest.num_images:,} images in each class.")
    else:
        yield _unequal_classes(classes)
    small = [entry for entry in classes if entry.is_too_small]
    if small:
        named = _name([f"{entry.name} ({entry.num_test})" for entry in reversed(small)])
        where = (
            "in its split" if any(e.counts for e in small) else f"with {TEST_SHARE:.0%} for test"
        )
        yield Finding(
            "too small",
            "look",
            f"{_count(len(small), 'class', 'classes')} with fewer than {MIN_TEST} different test "
            f"pictures {where}: {named}. One mistake moves such a class by 20 points or more.",
            "Collect more, or read their scores as anecdotes.",
        )


def _unequal_classes(classes: Sequence[ClassSize]) -> Finding:
    largest, smallest = classes[0], classes[-1]
    sizes = Counter(entry.size for entry in classes)
    told = ", ".join(f"{sizes[size]} {size}" for size in ("head", "middle", "tail"))
    ratio = largest.num_images / smallest.num_images
    return Finding(
        "classes",
        "look" if ratio >= 3 else "fine",
        f"{largest.num_images:,} images in the largest ({largest.name}), {smallest.num_images:,} "
        f"in the smallest ({smallest.name}), {ratio:.1f} to 1: {told} ({PARTS_RULE}).",
    )


def _tags(audit: Audit) -> Iterator[Finding]:
    if not audit.tag_leaks:
        return
    named = _name([f"'{leak.tag}' ({leak.class_name})" for leak in audit.tag_leaks])
    yield Finding(
        "tags",
        "fix",
        f"{_count(len(audit.tag_leaks), 'tag')} give the class away: {named}.",
        "Exclude them (model.tags.exclude), or read the scores without tags.",
    )


def _crops(audit: Audit) -> Iterator[Finding]:
    crops = audit.crops
    if crops is None:
        return
    setting = {"crop": "shorter", "squash": "squash", "pad": "pad"}[crops.advice]
    agrees = crops.geometry.resize == setting and (crops.advice == "crop") == (
        crops.geometry.crop < 1
    )
    small = ""
    if crops.num_enlarged:
        small = (
            f" {_count(crops.num_enlarged, 'image')} smaller than the network's "
            f"{crops.geometry.image_size} px."
        )
    crop = crops.crop if crops.advice == "crop" else 1
    advice = "" if agrees else f"Train with data.resize={setting} data.crop={crop:g}."
    yield Finding(
        "crops",
        "fine" if agrees else "look",
        f"{crops.advice.capitalize()}: {crops.reason}. A centre crop of {crops.crop:g} discards "
        f"{crops.discarded.median:.0%} of the area of the median picture, at most "
        f"{crops.discarded.largest:.0%}.{small}",
        advice,
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _count_images(groups: Sequence[CopyGroup]) -> str:
    return _count(len({image for group in groups for image in group.images}), "image")


def _name(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_NAMED:,} more" if len(names) > NUM_NAMED else ""
    return ", ".join(names[:NUM_NAMED]) + more
