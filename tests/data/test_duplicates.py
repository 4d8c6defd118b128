"""Duplicates: what is one picture, what only looks like it, and what contradicts itself."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fieldmark.data.duplicates import (
    Duplicates,
    drop_conflicts,
    find_conflicts,
    find_duplicates,
    join_pairs,
)
from fieldmark.data.scan import Scan, scan_table
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table

NUM_SCENES = 60


def scene(seed: int) -> Image.Image:
    """A smooth random picture, 160 x 120."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC)


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def recompressed(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=50)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def scan_of(images: dict[str, bytes]) -> Scan:
    return scan_table(Table(tuple(map(Row, images)), MemoryStore(images), "test"))


def scenes(count: int = NUM_SCENES) -> dict[str, bytes]:
    return {f"scene{index:02}": png(scene(index)) for index in range(count)}


def table_of(*rows: tuple[str, str]) -> Table:
    return Table(tuple(Row(image, (label,)) for image, label in rows), MemoryStore({}), "test")


def test_different_pictures_are_no_duplicates() -> None:
    assert find_duplicates(scan_of(scenes())) == Duplicates((), ())


def test_identical_pixels_are_exact_duplicates_whatever_the_file() -> None:
    buffer = io.BytesIO()
    scene(3).save(buffer, "BMP")
    images = scenes() | {"copy.bmp": buffer.getvalue()}
    assert find_duplicates(scan_of(images)) == Duplicates((("copy.bmp", "scene03"),), ())


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": recompressed,
    "half the size": lambda picture: picture.resize((80, 60), Image.Resampling.BICUBIC),
    "twice the size": lambda picture: picture.resize((320, 240), Image.Resampling.BILINEAR),
    "other shape": lambda picture: picture.resize((120, 120), Image.Resampling.BICUBIC),
    "brighter": lambda picture: picture.point(lambda value: min(255, value + 25)),
    "darker": lambda picture: picture.point(lambda value: int(value * 0.75)),
    "cropped": lambda picture: picture.crop((3, 2, 158, 118)),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(change: str) -> None:
    images = scenes() | {"copy": png(CHANGES[change](scene(7)))}
    assert find_duplicates(scan_of(images)) == Duplicates((), (("copy", "scene07"),))


def test_the_same_form_in_another_colour_is_another_picture() -> None:
    red, _, _ = scene(7).split()
    level = Image.new("L", red.size, 128)
    images = scenes()
    for name, blue_difference, red_difference in (("a", 40, 210), ("b", 210, 40)):
        mask = red.point(lambda value: 255 * (value > 128))
        planes = [
            Image.composite(Image.new("L", red.size, shade), level, mask)
            for shade in (blue_difference, red_difference)
        ]
        images[name] = png(Image.merge("YCbCr", (red, *planes)).convert("RGB"))
    assert not any({"a", "b"} <= set(group) for group in find_duplicates(scan_of(images)).near)


def test_blank_pictures_are_not_near_duplicates_of_anything() -> None:
    blanks = {shade: png(Image.new("RGB", (50, 50), shade)) for shade in ("white", "black", "gray")}
    assert find_duplicates(scan_of(scenes() | blanks)) == Duplicates((), ())


def test_the_order_of_reading_changes_nothing() -> None:
    images = scenes() | {"copy": png(recompressed(scene(7))), "twin": png(scene(9))}
    backwards = dict(reversed(images.items()))
    assert find_duplicates(scan_of(images)) == find_duplicates(scan_of(backwards))


def test_copies_of_a_near_duplicate_are_in_its_group() -> None:
    images = scenes() | {"copy": png(recompressed(scene(7))), "twin": png(scene(7))}
    found = find_duplicates(scan_of(images))
    assert found == Duplicates((("scene07", "twin"),), (("copy", "scene07", "twin"),))
    assert found.groups() == (("copy", "scene07", "twin"),)
    assert found.groups(near=False) == (("scene07", "twin"),)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_tiny_sets_are_compared_too(count: int) -> None:
    assert find_duplicates(scan_of(scenes(count))) == Duplicates((), ())
    if count:
        images = scenes(count) | {"copy": png(recompressed(scene(0)))}
        assert find_duplicates(scan_of(images)).near == (("copy", "scene00"),)


def test_joined_pairs_are_connected_components() -> None:
    groups = join_pairs([(1, 2), (3, 4), (2, 5), (6, 6)])
    assert sorted(map(sorted, groups)) == [[1, 2, 5], [3, 4], [6]]


def test_one_picture_under_two_labels_is_a_conflict() -> None:
    table = table_of(("a", "oak"), ("b", "elm"), ("c", "oak"), ("d", "ash"), ("d", "elm"))
    conflicts = find_conflicts(table, Duplicates((("a", "b"),), ()))
    assert [(conflict.image, conflict.label) for conflict in conflicts] == [
        ("a", "oak"),
        ("b", "elm"),
        ("d", "ash"),
        ("d", "elm"),
    ]
    assert conflicts[0].reason == "is the same as b under label 'elm'"
    assert conflicts[2].reason == "is listed again under label 'elm'"


def test_look_alikes_under_two_labels_are_no_conflict() -> None:
    table = table_of(("a", "oak"), ("b", "elm"))
    assert find_conflicts(table, Duplicates((), (("a", "b"),))) == ()


def test_dropping_conflicts_leaves_out_the_whole_group_and_says_so() -> None:
    table = table_of(("a", "oak"), ("b", "elm"), ("e", "oak"), ("c", "oak"))
    kept, conflicts = drop_conflicts(table, Duplicates((("a", "b", "e"),), ()))
    assert [row.image for row in kept.rows] == ["c"]
    assert len(conflicts) == 3
    assert "3 images are left out" in kept.notes[-1]


def test_a_repeated_row_is_kept_once_and_copies_with_the_same_label_stay() -> None:
    table = table_of(("a", "oak"), ("a", "oak"), ("b", "oak"))
    kept, conflicts = drop_conflicts(table, Duplicates((("a", "b"),), ()))
    assert [row.image for row in kept.rows] == ["a", "b"]
    assert conflicts == ()
    assert "1 rows repeat" in kept.notes[-1]


def test_leaves_hold_249_groups_of_identical_pixels_96_of_them_contradictory(
    leaves: tuple[Table, Scan, Duplicates],
) -> None:
    table, _, duplicates = leaves
    label_of = {row.image: row.label for row in table.rows}
    groups = duplicates.exact
    assert (len(groups), sum(map(len, groups))) == (249, 561)
    contradictory = [group for group in groups if len({label_of[image] for image in group}) > 1]
    assert len(contradictory) == 96
    conflicts = find_conflicts(table, duplicates)
    assert len(conflicts) == sum(map(len, contradictory))


def test_leaves_that_look_alike_form_small_groups_of_mostly_one_species(
    leaves: tuple[Table, Scan, Duplicates],
) -> None:
    table, _, duplicates = leaves
    label_of = {row.image: row.label for row in table.rows}
    groups = duplicates.near
    assert len(groups) > 100
    assert max(map(len, groups)) <= 10
    # Pairs drawn at random differ in species in 97 of 100 cases.
    mixed = [group for group in groups if len({label_of[image] for image in group}) > 1]
    assert len(mixed) < 0.2 * len(groups)


def test_a_second_shot_of_one_leaf_on_another_background_is_found(
    leaves: tuple[Table, Scan, Duplicates],
) -> None:
    _, _, duplicates = leaves
    assert ("images/10566.jpg", "images/11902.jpg") in duplicates.near
