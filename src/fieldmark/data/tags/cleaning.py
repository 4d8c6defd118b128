"""Animesion's cleaning of tags, step by step as its released code does it.

Source: Rios et al., "Anime Character Recognition using Intermediate Features Aggregation",
section 3.2, and the tag scripts of github.com/arkel23/animesion. On the tags of DAF:re the steps
leave 18,907 -> 18,852 -> 18,766 -> 14,730 -> 13,500 -> 13,500 different ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fieldmark.errors import DataError

UNLABELED = "unlabeled"
"""The only tag of an image that has none left."""

MIN_CHARACTERS = 3
MIN_COUNT = 2

# The published pattern asks for a character class where it means "girl or boy", so any digit is
# parted from g, i, r, l, |, b, o and y: "2b" becomes "2 b". Kept, because the counts depend on it.
_COUNTED = re.compile(r"(\d)([girl|boy]+)")
_SIX_OR_MORE = re.compile(r"(6\+)(\w+)")
_SYMBOLS = re.compile(r"[\\~#%&*{}<>?!|\"\-^;.:_/]+")


@dataclass(frozen=True)
class CleaningStep:
    """What a step left: `num_distinct` different tags, `num_tags` in all."""

    name: str
    num_distinct: int
    num_tags: int


@dataclass(frozen=True)
class CleanedTags:
    """The cleaned tags of each image, in the order given, and the counts along the way."""

    tag_lists: tuple[tuple[str, ...], ...]
    steps: tuple[CleaningStep, ...]


def clean_tags(
    tag_lists: Iterable[Sequence[str]],
    *,
    min_count: int = MIN_COUNT,
    profanities: Iterable[str] = (),
) -> CleanedTags:
    """Clean the tags of all images by Animesion's six steps, in its order.

    1. Counts are parted ("1girl" -> "1 girl", "6+girls" -> "6+ girls"), and runs of symbols become
       one blank; what was only symbols is dropped. 2. Tags of at most 2 characters other than
       blanks are dropped; 3. tags that occur fewer than `min_count` times in all; 4. tags in which
       one of `profanities` stands anywhere (the authors have 1,315; none come with fieldmark).
    5. An image without any gets `UNLABELED`.
    """
    lists = [tuple(tags) for tags in tag_lists]
    steps = [_count("given", lists)]
    lists = [tuple(part for tag in tags for part in part_counts_and_symbols(tag)) for tags in lists]
    steps.append(_count("symbols", lists))
    lists = [tuple(filter(is_long_enough, tags)) for tags in lists]
    steps.append(_count("short", lists))
    counts = Counter(tag for tags in lists for tag in tags)
    lists = [tuple(tag for tag in tags if counts[tag] >= min_count) for tags in lists]
    steps.append(_count("rare", lists))
    profane = find_profane(counts, profanities)
    lists = [tuple(tag for tag in tags if tag not in profane) for tags in lists]
    steps.append(_count("profane", lists))
    lists = [tags or (UNLABELED,) for tags in lists]
    steps.append(_count("filled", lists))
    return CleanedTags(tuple(lists), tuple(steps))


# Tags recur: a million of them are a few thousand texts.
@lru_cache(maxsize=100_000)
def part_counts_and_symbols(tag: str) -> tuple[str, ...]:
    """Step 1 for one tag: mostly one text, none for symbols only, two around a ", "."""
    parted = _SIX_OR_MORE.sub(r"\1 \2", _COUNTED.sub(r"\1 \2", tag))
    # The released code joins the tags of an image by ", " and parts them again.
    return tuple(part for part in _SYMBOLS.sub(" ", parted).split(", ") if part.replace(" ", ""))


def is_long_enough(tag: str) -> bool:
    """Step 2 for one tag."""
    return len(tag) - tag.count(" ") >= MIN_CHARACTERS


def tidy_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The steps that need no other image: 1 and 2."""
    return tuple(
        part for tag in tags for part in part_counts_and_symbols(tag) if is_long_enough(part)
    )


def find_profane(tags: Iterable[str], profanities: Iterable[str]) -> frozenset[str]:
    """The tags in which a profanity stands as a substring, also inside another word."""
    words = [re.escape(word) for word in profanities if word]
    if not words:
        return frozenset()
    pattern = re.compile("|".join(words))
    return frozenset(tag for tag in tags if pattern.search(tag))


def read_profanities(path: Path) -> tuple[str, ...]:
    """Read a list with one word per line; raise `DataError` where it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of words, one per line: {error}") from (
            error
        )
    return tuple(word for line in lines if (word := line.strip()))


def _count(name: str, lists: Sequence[Sequence[str]]) -> CleaningStep:
    distinct = {tag for tags in lists for tag in tags}
    return CleaningStep(name, len(distinct), sum(map(len, lists)))
