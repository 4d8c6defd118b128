from __future__ import annotations

import pytest
import torch

from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.data.tags import TagEncoder, build_tag_vocabulary, check_tags
from fieldmark.errors import DataError
from fieldmark.recipes.schema import Tags

TAGS = ("long hair", "smile", "hat", "cat ears")


def build(**keys: object) -> TagEncoder:
    section = Tags(**{"tokenizer": "whole", "max_tokens": 8, "min_count": 1, "hide": 0.0, **keys})
    return TagEncoder(build_tag_vocabulary(section, [TAGS]), section)


def test_evaluation_encodes_as_the_vocabulary_does() -> None:
    ids = build()(("hat", "wig", "smile"))
    assert ids.dtype == torch.int64
    assert ids.tolist() == [2, 7, 4, 6, 3, 0, 0, 0]


@pytest.mark.parametrize("tags", [None, ()])
def test_no_tags_are_padding_throughout(tags: tuple[str, ...] | None) -> None:
    assert build()(tags).tolist() == [0] * 8


def test_no_tags_are_an_empty_sentence_where_padding_is_seen() -> None:
    assert build(mask_padding=False)(None).tolist() == [2, 3, 0, 0, 0, 0, 0, 0]


def test_no_tags_are_unlabeled_where_animesion_cleaned() -> None:
    section = Tags(tokenizer="whole", max_tokens=5, min_count=1, clean=True, mask_padding=False)
    encoder = TagEncoder(build_tag_vocabulary(section, [["..."], ["hat"]]), section)
    assert encoder(None).tolist() == encoder(("!",)).tolist() == [2, 5, 3, 0, 0]


def test_cleaning_drops_unknown_tags_and_all_that_it_dropped_in_training() -> None:
    encoder = build(clean=True)
    assert encoder(("long_hair", "wig", ":d", "hat!")).tolist()[:2] == [2, 5]
    section = Tags(tokenizer="whole", max_tokens=8, min_count=1, clean=True)
    lists = [["long_hair", "hat"]]
    cleaned = TagEncoder(build_tag_vocabulary(section, lists), section)
    assert cleaned(("wig", "hat", "long-hair")).tolist() == [2, 6, 5, 3, 0, 0, 0, 0]
    assert cleaned(("wig",)).tolist() == [0] * 8


def test_hidden_tags_are_as_no_tags() -> None:
    encoder = build(hide=1.0)
    assert torch.equal(encoder(TAGS, seed=4), encoder(None))
    assert encoder(TAGS).tolist()[0] == 2, "in evaluation nothing is hidden"


def test_hiding_has_its_share_and_depends_on_the_seed_alone() -> None:
    encoder = build(hide=0.15)
    hidden = [int(encoder(TAGS, seed)[0]) == 0 for seed in range(4000)]
    assert hidden == [int(encoder(TAGS, seed)[0]) == 0 for seed in range(4000)]
    assert sum(hidden) / 4000 == pytest.approx(0.15, abs=0.02)


def test_order_is_kept_unless_shuffled() -> None:
    assert build()(TAGS, seed=1).tolist() == build()(TAGS).tolist()
    encoder = build(shuffle=True)
    orders = {tuple(encoder(TAGS, seed).tolist()) for seed in range(200)}
    assert len(orders) == 24
    assert all(sorted(order) == sorted(encoder(TAGS).tolist()) for order in orders)
    assert encoder(TAGS).tolist() == [2, 5, 6, 7, 8, 3, 0, 0]


def test_shuffling_lets_every_tag_through_the_cut() -> None:
    encoder = build(shuffle=True, max_tokens=3)
    assert {int(encoder(TAGS, seed)[1]) for seed in range(100)} == {5, 6, 7, 8}


def test_all_masked_asks_for_every_tag() -> None:
    assert build().all_masked().tolist() == [2, 1, 1, 1, 1, 1, 1, 3]


def table_of(*tags: tuple[str, ...] | None, splits: tuple[str, ...] = ()) -> Table:
    rows = tuple(
        Row(f"{place}.png", ("a",), tag, splits[place] if splits else None)
        for place, tag in enumerate(tags)
    )
    return Table(rows, MemoryStore({}), "faces.csv")


def test_missing_tags_are_one_note_or_one_error() -> None:
    section = Tags(tokenizer="whole")
    assert check_tags(table_of(("x",), ("y",)), section) is None
    assert check_tags(table_of(("x",), None, ()), section) == (
        "2 of 3 images have no tags: of them the network sees the image alone."
    )
    with pytest.raises(DataError, match=r"faces\.csv.*not one of the 2 training images has tags"):
        check_tags(table_of(None, ()), section)
    with pytest.raises(DataError, match="--column tags=NAME"):
        check_tags(table_of(None, ("x",), splits=("train", "test")), section)
    assert check_tags(table_of(None), Tags()) is None
