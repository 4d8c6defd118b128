from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.data.sources import read_table
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.data.tags import describe_tag_leaks, find_tag_leaks

SPARE = [f"class {index}" for index in range(8)]


def table_of(
    images: dict[str, list[list[str]]], split: str | None = None, names: tuple[str, ...] = ()
) -> Table:
    rows = [
        Row(f"{label} {place}.png", (label,), tuple(tags), split)
        for label, lists in images.items()
        for place, tags in enumerate(lists)
    ]
    class_names = tuple(sorted({*images, *names}))
    return Table(tuple(rows), MemoryStore({}), "faces.csv", class_names=class_names)


def with_spare(images: dict[str, list[list[str]]], count: int = 10) -> dict[str, list[list[str]]]:
    return {**images, **{name: [["common"]] * count for name in SPARE}}


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("hatsune miku (cosplay)", "hatsune_miku"),
        ("Hatsune-Miku", "hatsune miku"),
        ("saber (cosplay)", "saber_(fate)"),
        ("remodel [saber]", "saber"),
        ("1", "1"),
    ],
)
def test_a_tag_with_a_class_name_in_it_is_found(tag: str, name: str) -> None:
    table = table_of({name: [["smile", tag]], "other one": [["smile"]]})
    assert [(leak.tag, leak.class_name, leak.reason) for leak in find_tag_leaks(table)] == [
        (tag, name, "names")
    ]


@pytest.mark.parametrize(
    ("tag", "name"), [("1 girl", "1"), ("catalogue", "cat"), ("miku", "hatsune miku")]
)
def test_parts_of_words_and_names_of_two_letters_are_no_leak(tag: str, name: str) -> None:
    assert find_tag_leaks(table_of({name: [[tag]], "other": [["smile"]]})) == ()


def test_the_longest_name_in_a_tag_counts() -> None:
    table = table_of({"rose": [["rose"]], "tea rose": [["wild tea rose"]]})
    found = {leak.tag: leak.class_name for leak in find_tag_leaks(table)}
    assert found == {"rose": "rose", "wild tea rose": "tea rose"}


def test_a_tag_on_five_images_of_one_class_decides_it() -> None:
    table = table_of(with_spare({"kuro": [["eyepatch"]] * 5 + [["common"]] * 5}))
    assert [(leak.tag, leak.class_name, leak.num_images) for leak in find_tag_leaks(table)] == [
        ("eyepatch", "kuro", 5)
    ]


@pytest.mark.parametrize(
    "images",
    [
        {"kuro": [["eyepatch"]] * 4 + [["common"]] * 6},
        {"kuro": [["eyepatch"]] * 9, "akane": [["eyepatch"]]},
        {"kuro": [["eyepatch"]] * 5 + [["common"]] * 50},
    ],
    ids=["four images", "one elsewhere", "under a tenth of the class"],
)
def test_what_decides_little_is_no_leak(images: dict[str, list[list[str]]]) -> None:
    assert find_tag_leaks(table_of(with_spare(images))) == ()


def test_what_can_be_chance_is_no_leak() -> None:
    # Of two equal classes five images are all of one with probability 1/16.
    images = {"cats": [["indoors"]] * 5 + [["x"]] * 15, "dogs": [["x"]] * 20}
    assert find_tag_leaks(table_of(images)) == ()
    surely = {"cats": [["indoors"]] * 12 + [["x"]] * 8, "dogs": [["x"]] * 20}
    assert [leak.tag for leak in find_tag_leaks(table_of(surely))] == ["indoors"]


def test_only_training_images_count() -> None:
    train = table_of(with_spare({"kuro": [["common"]] * 10}), "train")
    test = table_of({"kuro": [["kuro", "eyepatch"]] * 9}, "test")
    both = train.with_rows([*train.rows, *test.rows])
    assert find_tag_leaks(both) == ()


def test_the_sentence_names_ten_and_counts_the_rest() -> None:
    table = table_of({f"name {n:02}": [[f"name {n:02}"]] for n in range(13)})
    told = describe_tag_leaks(table)
    assert told is not None
    assert "13 contain a class name" in told and "and 3 more" in told
    assert told.count("1 of 1 images") == 10
    assert describe_tag_leaks(table_of({"a": [["smile"]], "b": [[]]})) is None


def test_real_tags_give_their_group_away(shared: Path) -> None:
    leaks = find_tag_leaks(read_table(shared / "data" / "emoji" / "table.csv"))
    named = {leak.tag: leak for leak in leaks if leak.reason == "names"}
    assert set(named) == {"travel", "people", "food", "nature", "old_people", "pan_of_food"}
    assert (named["travel"].num_of_class, named["travel"].num_images) == (66, 70)
    deciding = {leak.tag: leak.class_name for leak in leaks if leak.reason == "decides"}
    assert len(deciding) == 12
    assert deciding["flag"] == "flags" and deciding["arrow"] == "symbols"
