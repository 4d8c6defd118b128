from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.data.sources import read_table
from fieldmark.data.tags import build_tag_vocabulary
from fieldmark.errors import DataError, RecipeError
from fieldmark.recipes.schema import Tags


def test_tags_of_fewer_images_than_min_count_are_unknown() -> None:
    lists = [["hat", "hat"], ["cap"], ["cap", "wig"], ["wig", "cap"]]
    assert build_tag_vocabulary(Tags(tokenizer="whole", min_count=2), lists).tags == ("cap", "wig")
    assert build_tag_vocabulary(Tags(tokenizer="whole", min_count=3), lists).tags == ("cap",)


def test_cleaning_and_profanities_decide_what_is_known() -> None:
    lists = [["1girl", "long_hair", "darn_it", ":d"]] * 2
    section = Tags(tokenizer="whole", clean=True)
    found = build_tag_vocabulary(section, lists, profanities=["darn"])
    assert found.tags == ("1 girl", "long hair")


def test_an_untagged_image_is_unlabeled_where_padding_is_seen() -> None:
    lists = [["..."], [], ["long_hair"], ["long_hair"]]
    seen = Tags(tokenizer="whole", clean=True, mask_padding=False)
    assert build_tag_vocabulary(seen, lists).tags == ("unlabeled", "long hair")
    masked = Tags(tokenizer="whole", clean=True)
    assert build_tag_vocabulary(masked, lists).tags == ("long hair",)


def test_nothing_to_learn_from_is_told() -> None:
    with pytest.raises(DataError, match=r"not one tag stands on 2 training images.*min_count"):
        build_tag_vocabulary(Tags(tokenizer="whole"), [["a"], ["b"]])
    with pytest.raises(RecipeError, match="is off"):
        build_tag_vocabulary(Tags(), [["a"]])


def test_the_most_entries_bound_a_learned_vocabulary() -> None:
    words = [f"{a}{b}{c}" for a in "kstnh" for b in "aeiou" for c in "rlm"]
    lists = [[word, word + "ing"] for word in words]
    section = Tags(tokenizer="wordpiece", vocabulary_size=100, min_count=1)
    assert build_tag_vocabulary(section, lists).size == 100


def test_series_and_characters_of_daf_are_never_read(tmp_path: Path) -> None:
    for folder in ("faces/0001", "labels"):
        (tmp_path / folder).mkdir(parents=True)
    labels = tmp_path / "labels"
    labels.joinpath("classid_classname.csv").write_text("0,saber\n1,hatsune_miku\n")
    header = "id,dir,class_id,tags_cat0,tags_cat3,tags_cat4\n"
    for place, split in enumerate(("train", "val", "test")):
        image = f"0001/{place}001.jpg"
        (tmp_path / "faces" / image).write_bytes(b"x")
        labels.joinpath(f"{split}.csv").write_text(f"{place % 2},{image}\n")
        line = f"{place}001,{image},{place % 2},['smile'],['fate_series'],['saber_character']\n"
        labels.joinpath(f"{split}_tags.csv").write_text(header + line)
    table = read_table(f"daf:{tmp_path}")
    assert [row.tags for row in table.rows] == [("smile",)] * 3
    section = Tags(tokenizer="whole", min_count=1)
    assert build_tag_vocabulary(section, [row.tags or () for row in table.rows]).tags == ("smile",)


def test_real_tags_make_the_same_vocabulary_in_any_order_of_words(shared: Path) -> None:
    table = read_table(shared / "data" / "emoji" / "table.csv")
    lists = [row.tags or () for row in table.rows]
    whole = build_tag_vocabulary(Tags(tokenizer="whole"), lists)
    assert (whole.size, whole.tags[:3]) == (210, ("happy", "smiley", "emotion"))
    pieces = build_tag_vocabulary(Tags(tokenizer="wordpiece"), lists)
    assert pieces.decode(pieces.encode(("happy", "flag"), 16)) == ["happy", "flag"]
