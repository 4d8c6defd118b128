from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.data.tags.cleaning import (
    UNLABELED,
    clean_tags,
    part_counts_and_symbols,
    read_profanities,
    tidy_tags,
)
from fieldmark.errors import DataError


@pytest.mark.parametrize(
    ("tag", "parts"),
    [
        ("1girl", ("1 girl",)),
        ("2boys", ("2 boys",)),
        ("6+girls", ("6+ girls",)),
        ("long_hair", ("long hair",)),
        ("t-shirt", ("t shirt",)),
        ("hatsune_miku_(cosplay)", ("hatsune miku (cosplay)",)),
        ("a!?b", ("a b",)),
        ("...", ()),
        ("^_^", ()),
        ("one,_two", ("one", "two")),
    ],
)
def test_counts_and_symbols_are_parted(tag: str, parts: tuple[str, ...]) -> None:
    assert part_counts_and_symbols(tag) == parts


@pytest.mark.parametrize(
    ("tag", "parted"),
    [("2b", "2 b"), ("9lives", "9 lives"), ("3d", "3d"), ("4koma", "4koma"), ("1other", "1 other")],
)
def test_the_published_pattern_parts_any_of_its_letters_from_a_digit(tag: str, parted: str) -> None:
    assert part_counts_and_symbols(tag) == (parted,)


def test_steps_come_in_the_published_order_with_their_counts() -> None:
    cleaned = clean_tags(
        [
            ["1girl", "long_hair", ":d", "..."],
            ["1girl", "long-hair", "gunk"],
            ["gunk", "rare thing"],
            ["!!"],
        ],
        profanities=["unk"],
    )
    assert cleaned.tag_lists == (
        ("1 girl", "long hair"),
        ("1 girl", "long hair"),
        (UNLABELED,),
        (UNLABELED,),
    )
    assert [(s.name, s.num_distinct, s.num_tags) for s in cleaned.steps] == [
        ("given", 8, 10),
        ("symbols", 5, 8),
        ("short", 4, 7),
        ("rare", 3, 6),
        ("profane", 2, 4),
        ("filled", 3, 6),
    ]


def test_rare_counts_occurrences_after_symbols_are_gone() -> None:
    cleaned = clean_tags([["cat_ears"], ["cat-ears"], ["once"]])
    assert cleaned.tag_lists == (("cat ears",), ("cat ears",), (UNLABELED,))


def test_profanities_are_texts_not_patterns() -> None:
    assert clean_tags([["a.c."], ["abc"], ["abc"]], profanities=["a.c"]).tag_lists[1] == ("abc",)


def test_tags_of_two_characters_are_dropped_blanks_not_counted() -> None:
    assert tidy_tags(["@_@", "ab", "a_b", "a_b_c"]) == ("a b c",)


def test_a_list_of_profanities_is_one_word_per_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("one\n\n two \n")
    assert read_profanities(path) == ("one", "two")
    with pytest.raises(DataError, match=r"missing\.txt: cannot be read"):
        read_profanities(tmp_path / "missing.txt")
