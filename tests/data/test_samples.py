"""The drawn sample sets: the same everywhere, as many as asked for, and worth learning."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fieldmark.data.samples import SAMPLE_KINDS, draw_sample
from fieldmark.data.samples.cast import CAST
from fieldmark.data.samples.characters import OUTFITS
from fieldmark.data.samples.drawing import SIZE, encode_png, fill_mask
from fieldmark.data.samples.faces import EXPRESSIONS
from fieldmark.data.samples.foliage import grow_leaf
from fieldmark.data.samples.species import SPECIES, Species
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import TableError

KINDS = sorted(SAMPLE_KINDS)
NUM_CLASSES = {"leaves": len(SPECIES), "characters": len(CAST)}


@pytest.fixture(scope="module", params=KINDS)
def sample(request: pytest.FixtureRequest) -> Table:
    """All classes of a set, with fewer images than usual."""
    return draw_sample(request.param, num_images=100)


@pytest.fixture(scope="module")
def characters() -> Table:
    return draw_sample("characters")


def pixels_of(table: Table, row: Row) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(table.store.read(row.image))))


def images_by_label(table: Table) -> dict[str, set[bytes]]:
    images: dict[str, set[bytes]] = {}
    for row in table.rows:
        images.setdefault(row.label, set()).add(table.store.read(row.image))
    return images


def average_picture(table: Table, label: str) -> NDArray[np.float64]:
    """Average of a class at 16 pixels."""
    small = [
        Image.fromarray(pixels_of(table, row)).resize((16, 16), Image.Resampling.BOX)
        for row in table.rows
        if row.label == label
    ]
    return np.mean([np.asarray(image, dtype=np.float64) for image in small], axis=0)


def average_outline(species: Species) -> NDArray[np.float64]:
    """Average coverage of leaves that lie flat and straight, without stalk."""
    leaves = [grow_leaf(species, np.random.default_rng(seed)).blades for seed in range(6)]
    covers = [fill_mask(blade * 80 + np.array((20, 64)) for blade in blades) for blades in leaves]
    return np.mean(covers, axis=0, dtype=np.float64)


def nearest(pictures: dict[str, NDArray[np.float64]], name: str) -> str:
    """The other class whose picture has the least squared difference to that of `name`."""
    others = [other for other in pictures if other != name]
    return min(others, key=lambda other: float(((pictures[name] - pictures[other]) ** 2).sum()))


def test_every_image_is_a_square_rgb_png(sample: Table) -> None:
    for row in sample.rows:
        image = Image.open(io.BytesIO(sample.store.read(row.image)))
        assert (image.format, image.size, image.mode) == ("PNG", (SIZE, SIZE), "RGB")
        image.load()


def test_png_holds_the_pixels_it_was_given() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 120, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


def test_table_says_where_it_comes_from(sample: Table) -> None:
    kind = sample.source.removeprefix("sample:")
    assert kind in SAMPLE_KINDS
    assert isinstance(sample.store, MemoryStore)
    assert sample.class_names == tuple(sorted(sample.class_names))
    assert set(sample.class_counts()) == set(sample.class_names)
    assert len(sample.class_names) == NUM_CLASSES[kind]


def test_image_names_give_no_label_away(sample: Table) -> None:
    names = [row.image for row in sample.rows]
    assert names == [f"images/{index + 1:04d}.png" for index in range(len(sample))]
    first_third = {row.label for row in sample.rows[: len(sample) // 3]}
    assert len(first_third) > len(sample.class_names) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_the_same_bytes(kind: str) -> None:
    assert draw_sample(kind, num_images=34, seed=5) == draw_sample(kind, num_images=34, seed=5)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_changes_every_picture(kind: str) -> None:
    one = images_by_label(draw_sample(kind, num_images=34, seed=1))
    other = images_by_label(draw_sample(kind, num_images=34, seed=2))
    assert not set.union(*one.values()) & set.union(*other.values())


@pytest.mark.parametrize("kind", KINDS)
def test_more_images_and_classes_leave_the_others_as_they_are(kind: str) -> None:
    few = images_by_label(draw_sample(kind, num_images=8, num_classes=3))
    many = images_by_label(draw_sample(kind, num_images=60, num_classes=5))
    for label, images in few.items():
        assert images <= many[label]


def test_no_two_images_are_the_same(sample: Table) -> None:
    assert len({sample.store.read(row.image) for row in sample.rows}) == len(sample)


def test_images_of_one_class_differ_visibly(sample: Table) -> None:
    by_label: dict[str, list[NDArray[np.int16]]] = {}
    for row in sample.rows:
        by_label.setdefault(row.label, []).append(pixels_of(sample, row).astype(np.int16))
    for images in by_label.values():
        for index, one in enumerate(images):
            assert all(np.abs(one - other).mean() > 5 for other in images[:index])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_images", "num_classes"), [(4, 2), (41, 5)])
def test_counts_are_honoured(kind: str, num_images: int, num_classes: int) -> None:
    table = draw_sample(kind, num_images=num_images, num_classes=num_classes)
    counts = table.class_counts()
    assert (len(table), len(counts)) == (num_images, num_classes)
    assert min(counts.values()) >= 2


def test_leaves_are_balanced_and_untagged() -> None:
    leaves = draw_sample("leaves", num_images=3 * len(SPECIES))
    assert set(leaves.class_counts().values()) == {3}
    assert all(row.tags is None for row in leaves.rows)


def test_characters_have_a_long_tail(characters: Table) -> None:
    counts = characters.class_counts()
    by_rank = [counts[character.name] for character in CAST]
    assert by_rank == sorted(by_rank, reverse=True)
    assert by_rank[0] >= 50
    assert 4 <= by_rank[-1] <= 8
    assert sum(by_rank) == 320


def test_tags_describe_what_the_character_wears_and_does(characters: Table) -> None:
    cast = {character.name: character for character in CAST}
    passing = {tag for expression in EXPRESSIONS for tag in expression.tags} | set(OUTFITS)
    for row in characters.rows:
        who = cast[row.label]
        lasting = {who.subject, f"{who.hair} hair", who.style, f"{who.eyes} eyes"}
        assert row.tags
        assert set(row.tags) <= lasting | set(who.accessories) | passing
        assert len(set(row.tags)) == len(row.tags)


def test_tags_name_nobody(characters: Table) -> None:
    words = {word for row in characters.rows for tag in row.tags or () for word in tag.split()}
    assert not words & set(characters.class_names)


def test_some_tags_and_some_accessories_are_missing(characters: Table) -> None:
    cast = {character.name: character for character in CAST}
    rows = [row for row in characters.rows if cast[row.label].accessories]
    with_accessory = sum(set(cast[row.label].accessories) <= set(row.tags or ()) for row in rows)
    with_hair = sum(f"{cast[row.label].hair} hair" in (row.tags or ()) for row in rows)
    assert 0.65 < with_accessory / len(rows) < 0.92
    assert 0.8 < with_hair / len(rows) < 0.97


def test_shut_eyes_have_no_colour(characters: Table) -> None:
    shut = [row for row in characters.rows if "closed eyes" in (row.tags or ())]
    assert shut
    assert not any(
        tag == f"{who.eyes} eyes" for row in shut for tag in row.tags or () for who in CAST
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [("beech", "hornbeam"), ("lilac", "linden"), ("bamboo", "willow"), ("ash", "rowan")],
)
def test_look_alike_leaves_have_the_most_similar_outlines(one: str, other: str) -> None:
    outlines = {species.name: average_outline(species) for species in SPECIES}
    assert nearest(outlines, one) == other
    assert nearest(outlines, other) == one


@pytest.mark.parametrize(("one", "other"), [("aoi", "shizuku"), ("kuro", "yoru"), ("ren", "kaito")])
def test_look_alike_characters_are_nearest_to_each_other(
    characters: Table, one: str, other: str
) -> None:
    pictures = {name: average_picture(characters, name) for name in characters.class_names}
    assert nearest(pictures, one) == other
    assert nearest(pictures, other) == one


def test_first_classes_of_a_set_hold_look_alikes() -> None:
    assert draw_sample("leaves", num_classes=2, num_images=4).class_names == ("beech", "hornbeam")


def test_unknown_kind_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(
        TableError, match=r"sample:leafs.*'leaves', 'characters'.*Did you mean 'leaves'"
    ):
        draw_sample("leafs")


def test_too_many_classes_are_answered_with_the_most_there_are() -> None:
    with pytest.raises(
        TableError, match=f"99 classes .* 2 to {len(SPECIES)}.*nearest is {len(SPECIES)}"
    ):
        draw_sample("leaves", num_classes=99)


@pytest.mark.parametrize("num_classes", [-3, 0, 1])
def test_fewer_than_two_classes_are_refused(num_classes: int) -> None:
    with pytest.raises(TableError, match="the nearest is 2"):
        draw_sample("characters", num_classes=num_classes)


def test_fewer_than_two_images_per_class_are_refused() -> None:
    with pytest.raises(TableError, match=r"9 images are too few for 5 classes.*10 in all"):
        draw_sample("leaves", num_images=9, num_classes=5)


def test_faults_are_reported_together() -> None:
    with pytest.raises(TableError, match=r"(?s)99 classes.*3 images are too few"):
        draw_sample("leaves", num_images=3, num_classes=99)
