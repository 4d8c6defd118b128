"""What an audit says of a set of drawn pictures in which every fault is known."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fieldmark.data.audit.auditing import Audit, audit_table
from fieldmark.data.audit.classes import find_similar_names, size_classes
from fieldmark.data.audit.crops import Geometry, measure_crops, recommend
from fieldmark.data.audit.findings import describe_audit
from fieldmark.data.audit.groups import CopyGroup, expect_naive_leak
from fieldmark.data.scan import ImageFacts, describe_image
from fieldmark.data.sources import read_table
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def table_of(
    images: dict[str, bytes],
    labels: dict[str, str] | None = None,
    splits: dict[str, str] | None = None,
) -> Table:
    labels, splits = labels or {}, splits or {}
    rows = tuple(Row(name, (labels.get(name, "oak"),), split=splits.get(name)) for name in images)
    names = tuple(sorted({row.label for row in rows}))
    return Table(rows, MemoryStore(images), "drawn", class_names=names)


@pytest.fixture(scope="module")
def scenes() -> dict[str, bytes]:
    return {f"scene{number:02}.png": encoded(scene(number)) for number in range(60)}


def group_of(audit: Audit, kind: str) -> list[tuple[str, ...]]:
    return [tuple(sorted(group.images)) for group in audit.duplicates if group.kind == kind]


@pytest.mark.parametrize("flip", [ImageOps.mirror, ImageOps.flip])
def test_a_flipped_and_re_encoded_copy_is_found(scenes: dict[str, bytes], flip: object) -> None:
    assert callable(flip)
    copy = encoded(flip(scene(7)), "JPEG", quality=50)
    audit = audit_table(table_of(scenes | {"copy.jpg": copy}))
    assert group_of(audit, "flipped") == [("copy.jpg", "scene07.png")]
    assert group_of(audit, "near") == []


def test_a_re_encoded_copy_is_near_and_a_renamed_one_exact(scenes: dict[str, bytes]) -> None:
    images = scenes | {
        "again.bmp": encoded(scene(3), "BMP"),
        "worse.jpg": encoded(scene(5), "JPEG", quality=50),
    }
    audit = audit_table(table_of(images))
    assert group_of(audit, "exact") == [("again.bmp", "scene03.png")]
    assert group_of(audit, "near") == [("scene05.png", "worse.jpg")]
    assert group_of(audit, "flipped") == []


def test_different_and_symmetric_pictures_are_no_mirror_images(scenes: dict[str, bytes]) -> None:
    half = np.asarray(scene(99))
    symmetric = Image.fromarray(np.concatenate([half, half[:, ::-1]], axis=1))
    audit = audit_table(table_of(scenes | {"symmetric.png": encoded(symmetric)}))
    assert audit.duplicates == ()
    assert audit.naive_leak == 0


def test_groups_under_different_labels_come_first_and_leaks_name_the_sides(
    scenes: dict[str, bytes],
) -> None:
    images = scenes | {
        "a.bmp": encoded(scene(1), "BMP"),
        "b.bmp": encoded(scene(2), "BMP"),
        "c.bmp": encoded(scene(2), "BMP"),
    }
    splits = dict.fromkeys(images, "train") | {"a.bmp": "test"}
    audit = audit_table(table_of(images, {"a.bmp": "elm"}, splits))
    first, second = audit.duplicates
    assert first.is_disputed and first.labels == ("elm", "oak")
    assert set(first.images) == {"a.bmp", "scene01.png"}
    assert not second.is_disputed and len(second.images) == 3
    assert [leak.splits for leak in audit.leaks] == [("train", "test")]
    assert [f.level for f in describe_audit(audit) if f.topic in ("two labels", "leaks")] == [
        "fix",
        "fix",
    ]


def test_rows_of_one_group_of_the_table_on_two_sides_are_a_leak(scenes: dict[str, bytes]) -> None:
    rows = (
        Row("scene01.png", ("oak",), split="train", group="tree 1"),
        Row("scene02.png", ("elm",), split="test", group="tree 1"),
        Row("scene03.png", ("elm",), split="train", group="tree 2"),
    )
    audit = audit_table(Table(rows, MemoryStore(scenes), "drawn", class_names=("elm", "oak")))
    assert [(leak.kind, leak.splits) for leak in audit.leaks] == [("group", ("train", "test"))]


def test_an_image_listed_twice_is_a_group(scenes: dict[str, bytes]) -> None:
    rows = (
        Row("scene01.png", ("oak",)),
        Row("scene01.png", ("elm",)),
        Row("scene02.png", ("elm",)),
    )
    audit = audit_table(Table(rows, MemoryStore(scenes), "drawn", class_names=("elm", "oak")))
    assert [(g.kind, g.images, g.is_disputed) for g in audit.duplicates] == [
        ("repeated", ("scene01.png",), True)
    ]
    assert audit.num_images == 2


def test_random_splits_tear_pairs_apart_as_often_as_expected() -> None:
    groups = [CopyGroup("exact", (Row(f"{number}a"), Row(f"{number}b"))) for number in range(300)]
    expected = expect_naive_leak(groups, 600)
    assert expected == pytest.approx(0.7)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        side = np.repeat(["train", "val", "test"], [420, 60, 120])
        rng.shuffle(side)
        pairs = side.reshape(300, 2)
        leaked = (pairs == "test")[:, ::-1] & (pairs == "train")
        found.append(leaked.sum() / 120)
    assert np.mean(found) == pytest.approx(expected, abs=0.01)


def test_unreadable_images_come_with_their_reason(scenes: dict[str, bytes]) -> None:
    images = scenes | {"cut.png": encoded(scene(1))[:-200], "empty.jpg": b"", "text.jpg": b"hello"}
    audit = audit_table(table_of(images))
    reasons = {bad.image: bad.reason for bad in audit.unreadable}
    assert reasons.keys() == {"cut.png", "empty.jpg", "text.jpg"}
    assert "truncated" in reasons["cut.png"]
    assert "no bytes" in reasons["empty.jpg"]
    assert "not an image" in reasons["text.jpg"]
    assert audit.num_images == 63
    assert audit.num_readable == 60


def test_a_set_without_any_readable_image_is_told_and_no_error() -> None:
    audit = audit_table(table_of({"a.jpg": b"", "b.jpg": b"x"}, {"b.jpg": "elm"}))
    assert len(audit.unreadable) == 2
    assert audit.duplicates == () and audit.odd == () and audit.crops is None
    assert describe_audit(audit)[0].text.startswith("2 images of 2 cannot be read")


def test_odd_files_are_told_apart(scenes: dict[str, bytes]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    images = scenes | {
        "wrong.jpg": encoded(scene(70)),
        "grey.png": encoded(scene(71).convert("L")),
        "turned.jpg": encoded(scene(72), "JPEG", exif=exif),
        "blank.png": encoded(Image.new("RGB", (64, 64), "red")),
        "tiny.png": encoded(scene(73, (20, 20))),
        "strip.png": encoded(scene(74, (400, 60))),
    }
    audit = audit_table(table_of(images))
    assert {(odd.image, odd.kind) for odd in audit.odd} == {
        ("wrong.jpg", "ending"),
        ("grey.png", "colours"),
        ("turned.jpg", "turned"),
        ("blank.png", "blank"),
        ("tiny.png", "tiny"),
        ("strip.png", "strip"),
    }
    assert audit.colours == {"RGB": 65, "grey": 1}


def test_a_set_of_palette_images_is_not_odd() -> None:
    images = {f"{n}.png": encoded(scene(n).convert("P")) for n in range(10)}
    assert audit_table(table_of(images)).odd == ()


def test_copies_count_once_and_sizes_follow_the_rule_for_all() -> None:
    counts = {"big": 50, "usual": 20, "also": 20, "small": 8, "other": 22}
    rows = [Row(f"{name}{n}", (name,)) for name, count in counts.items() for n in range(count)]
    table = Table(tuple(rows), MemoryStore({}), "x", class_names=tuple(sorted(counts)))
    copies = [[f"usual{n}" for n in range(11)]]
    sizes = {entry.name: entry for entry in size_classes(table, {"also0"}, copies)}
    assert {name: entry.size for name, entry in sizes.items()} == {
        "big": "head",
        "usual": "middle",
        "also": "middle",
        "small": "tail",
        "other": "head",
    }
    assert (sizes["usual"].num_images, sizes["usual"].num_pictures) == (20, 10)
    assert (sizes["also"].num_pictures, sizes["also"].num_unreadable) == (19, 1)
    assert [name for name, entry in sizes.items() if entry.is_too_small] == [
        "other",
        "also",
        "usual",
        "small",
    ]
    assert sizes["small"].num_test == 2


def test_names_that_differ_in_case_and_blanks_are_grouped_and_signs_are_kept() -> None:
    names = ["Acer campestre", "acer_campestre", "ACER-campestre", "c", "c++", "ﬁg", "fig", "elm"]
    assert find_similar_names(names) == (
        ("ACER-campestre", "Acer campestre", "acer_campestre"),
        ("fig", "ﬁg"),
    )


def facts_of(*sizes: tuple[int, int], empty_margins: bool = False) -> dict[str, ImageFacts]:
    found = {}
    for number, (width, height) in enumerate(sizes):
        picture = scene(number, (width, height))
        if empty_margins:
            middle = picture.resize((max(1, width // 4), max(1, height // 4)))
            picture = Image.new("RGB", (width, height), "white")
            picture.paste(middle, (3 * width // 8, 3 * height // 8))
        name = f"{number}.png"
        found[name] = describe_image(name, encoded(picture))
    return found


def test_shares_of_a_crop_are_those_of_the_arithmetic() -> None:
    report = measure_crops(facts_of((300, 200)), Geometry(resize="shorter", crop=0.875))
    assert report is not None
    # The centre square of 200 keeps 175 x 175 of 300 x 200.
    assert report.discarded.largest == pytest.approx(1 - 175 * 175 / (300 * 200))
    assert report.stretch.median == pytest.approx(0.5)
    assert report.padding.median == pytest.approx(1 / 3)
    assert report.num_enlarged == 1  # 200 px stand for 224 / 0.875 = 256
    assert report.worst[0].keeps == pytest.approx((175 / 300, 175 / 200))


def test_detail_in_the_margins_is_what_a_crop_loses() -> None:
    full = measure_crops(facts_of((300, 200)), Geometry())
    bare = measure_crops(facts_of((300, 200), empty_margins=True), Geometry())
    assert full is not None and bare is not None
    assert full.lost_detail.median > 0.3
    assert bare.lost_detail.median == 0 and bare.worst == ()


@pytest.mark.parametrize(
    ("sizes", "empty_margins", "advice"),
    [
        ([(300, 200)] * 8, True, "crop"),
        ([(220, 200)] * 4 + [(200, 220)] * 4, False, "squash"),
        ([(300, 200)] * 8, False, "squash"),
        ([(300, 200)] * 4 + [(200, 300)] * 4, False, "pad"),
    ],
)
def test_the_advice_follows_its_rule(
    sizes: list[tuple[int, int]], empty_margins: bool, advice: str
) -> None:
    report = measure_crops(facts_of(*sizes, empty_margins=empty_margins), Geometry())
    assert report is not None
    assert report.advice == advice
    assert recommend.__doc__ is not None


def test_tags_that_name_the_class_are_told(scenes: dict[str, bytes]) -> None:
    rows = (
        Row("scene01.png", ("oak",), tags=("oak tree", "green")),
        Row("scene02.png", ("elm",), tags=("green",)),
    )
    table = Table(rows, MemoryStore(scenes), "drawn", class_names=("elm", "oak"))
    assert [leak.tag for leak in audit_table(table).tag_leaks] == ["oak tree"]


def test_threads_change_nothing(scenes: dict[str, bytes]) -> None:
    table = table_of(scenes | {"a.bmp": encoded(scene(1), "BMP")})
    one, two = audit_table(table), audit_table(table, num_threads=2)
    assert (one.duplicates, one.odd, one.crops) == (two.duplicates, two.odd, two.crops)


def test_an_audit_without_tags_imports_no_torch() -> None:
    code = (
        "import sys, fieldmark.verbs.audit, fieldmark.cli.audit_view\n"
        "import fieldmark.reporting.audit_page\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_leaves_have_249_identical_groups_of_561_images_96_of_them_under_several_labels(
    shared: Path,
) -> None:
    audit = audit_table(read_table(shared / "data" / "leaves"), num_threads=2)
    exact = [group for group in audit.duplicates if group.kind == "exact"]
    assert audit.num_images == 4897 and len(audit.classes) == 40
    assert len(exact) == 249
    assert sum(len(group.images) for group in exact) == 561
    assert sum(group.is_disputed for group in exact) == 96
    assert [group.is_disputed for group in audit.duplicates].index(False) == audit.num_disputed
    assert (audit.classes[0].num_images, audit.classes[-1].num_images) == (353, 58)
