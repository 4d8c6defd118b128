"""The tag vocabulary of a recipe, from the tags of the training split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fieldmark.data.tags.cleaning import UNLABELED, find_profane, tidy_tags
from fieldmark.data.tags.given import read_given_vocabulary
from fieldmark.data.tags.vocabulary import TagVocabulary
from fieldmark.data.tags.wordpieces import train_wordpieces
from fieldmark.errors import DataError, RecipeError
from fieldmark.recipes.schema import Tags


def build_tag_vocabulary(
    section: Tags, tag_lists: Iterable[Sequence[str]], *, profanities: Iterable[str] = ()
) -> TagVocabulary:
    """Build or read the vocabulary of a run.

    `tag_lists` are the tags of each training image, and of no other: what stands only on
    validation and test images must be as unknown as on any later one. A tag is known from
    `section.min_count` training images on; known tags are in order of first appearance. With
    `section.clean` the tags are cleaned first, and those with one of `profanities` in them are
    not known. Raises `DataError` for a given vocabulary that is none and where not one tag is
    known, `RecipeError` where the section asks for no tags or contradicts itself.
    """
    if section.tokenizer == "off":
        raise RecipeError("model.tags: is off, so there is no vocabulary to build")
    lists = [_prepare(tags, section) for tags in tag_lists]
    known = _find_known(lists, section, profanities)
    if section.vocabulary is not None:
        return _read_given(section, known)
    if not known:
        raise DataError(
            f"model.tags: not one tag stands on {section.min_count} training images or more, so "
            "there is nothing to learn from. Lower model.tags.min_count, or set model.tags=off"
        )
    if section.tokenizer == "whole":
        return TagVocabulary("whole", known)
    kept = set(known)
    texts = [" ".join(t for t in tags if t in kept or not section.clean) for tags in lists]
    return TagVocabulary("wordpiece", known, train_wordpieces(texts, section.vocabulary_size))


def _prepare(tags: Sequence[str], section: Tags) -> tuple[str, ...]:
    if not section.clean:
        return tuple(tags)
    tidied = tidy_tags(tags)
    # An image without tags has one that says so where padding is attended to.
    return tidied or (() if section.mask_padding else (UNLABELED,))


def _find_known(
    lists: Sequence[Sequence[str]], section: Tags, profanities: Iterable[str]
) -> tuple[str, ...]:
    counts = Counter(tag for tags in lists for tag in dict.fromkeys(tags))
    profane = find_profane(counts, profanities) if section.clean else frozenset()
    return tuple(
        tag for tag, count in counts.items() if count >= section.min_count and tag not in profane
    )


def _read_given(section: Tags, known: tuple[str, ...]) -> TagVocabulary:
    found = read_given_vocabulary(str(section.vocabulary), known)
    if found.tokenizer != section.tokenizer:
        raise RecipeError(
            f"model.tags.vocabulary: {section.vocabulary} is of tokenizer: {found.tokenizer}, but "
            f"model.tags.tokenizer is {section.tokenizer}. Set model.tags.tokenizer="
            f"{found.tokenizer}, or leave the vocabulary out"
        )
    return found
