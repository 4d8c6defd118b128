"""Scanning: every image read once, the same facts whoever reads them."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.data.scan import FINGERPRINT_BYTES, drop_unreadable, scan_table
from fieldmark.data.stores import FolderStore, MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import TooManyBadImagesError


def encode(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def scene(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def table_of(images: dict[str, bytes]) -> Table:
    return Table(tuple(Row(name, ("a",)) for name in images), MemoryStore(images), "test")


@dataclass
class CountingStore:
    images: dict[str, bytes]
    reads: Counter[str] = field(default_factory=Counter)

    def read(self, key: str) -> bytes:
        self.reads[key] += 1
        return self.images[key]


def test_facts_describe_the_file_and_its_pixels() -> None:
    data = encode(scene(0))
    facts = scan_table(table_of({"x.png": data})).facts["x.png"]
    assert facts.content_hash == hashlib.blake2b(data, digest_size=16).hexdigest()
    assert (facts.image, facts.width, facts.height) == ("x.png", 40, 30)
    assert len(facts.fingerprint) == FINGERPRINT_BYTES


def test_each_image_is_read_once_however_often_it_is_listed() -> None:
    store = CountingStore({"x.png": encode(scene(0)), "y.png": encode(scene(1))})
    rows = [Row(name, ("a",)) for name in ("x.png", "y.png", "x.png", "x.png")]
    scan_table(Table(tuple(rows), store, "test"))
    assert store.reads == {"x.png": 1, "y.png": 1}


def test_pixel_hash_ignores_the_encoding_and_content_hash_does_not() -> None:
    picture = scene(0)
    facts = scan_table(table_of({"a": encode(picture), "b": encode(picture, "BMP")})).facts
    assert facts["a"].pixel_hash == facts["b"].pixel_hash
    assert facts["a"].content_hash != facts["b"].content_hash


def test_pixel_hash_knows_the_size_of_the_same_bytes() -> None:
    flat = {
        "wide": encode(Image.new("RGB", (40, 30), "red")),
        "tall": encode(Image.new("RGB", (30, 40), "red")),
    }
    facts = scan_table(table_of(flat)).facts
    assert facts["wide"].pixel_hash != facts["tall"].pixel_hash


def test_unreadable_images_are_reported_with_their_reason() -> None:
    scan = scan_table(table_of({"good": encode(scene(0)), "bad": b"not a picture", "none": b""}))
    assert set(scan.facts) == {"good"}
    assert set(scan.errors) == {"bad", "none"}
    assert all(scan.errors.values())


def test_a_reason_does_not_repeat_the_name_of_the_image(tmp_path: Path) -> None:
    table = Table((Row("sub/lost.png", ("a",)),), FolderStore(tmp_path), "test")
    assert scan_table(table).errors["sub/lost.png"].startswith("cannot be opened")


def test_worker_threads_give_the_same_scan() -> None:
    images = {f"{index}.png": encode(scene(index)) for index in range(150)}
    images["broken.png"] = images["0.png"][:100]
    alone = scan_table(table_of(images), num_workers=0)
    together = scan_table(table_of(images), num_workers=2)
    assert alone == together
    assert list(alone.facts) == list(together.facts)
    assert set(alone.errors) == {"broken.png"}


def test_progress_ends_with_all_images() -> None:
    seen: list[tuple[int, int]] = []
    images = {str(index): encode(scene(index)) for index in range(100)}
    scan_table(table_of(images), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (100, 100)
    assert seen == sorted(seen)


def test_unreadable_rows_are_left_out_and_listed() -> None:
    table = table_of({"good": encode(scene(0)), "bad": b"x", "fine": encode(scene(1))})
    kept, bad = drop_unreadable(table, scan_table(table), max_bad=0.5)
    assert [row.image for row in kept.rows] == ["good", "fine"]
    assert [(item.image, item.label) for item in bad] == [("bad", "a")]
    assert "1 of 3 images" in kept.notes[-1]
    assert bad[0].reason in kept.notes[-1]


def test_a_clean_table_is_returned_as_it_is() -> None:
    table = table_of({"good": encode(scene(0))})
    assert drop_unreadable(table, scan_table(table), max_bad=0.0) == (table, ())


def test_too_many_unreadable_images_stop_with_number_share_and_remedy() -> None:
    images = {f"bad{index}": b"x" for index in range(7)} | {"good": encode(scene(0))}
    table = table_of(images)
    with pytest.raises(TooManyBadImagesError) as caught:
        drop_unreadable(table, scan_table(table), max_bad=0.05)
    text = str(caught.value)
    assert "7 of 8 images (87.5%)" in text
    assert "--max-bad" in text
    assert "bad4: " in text and "bad5" not in text and "2 more" in text


def test_a_share_equal_to_the_limit_is_allowed() -> None:
    images = {f"good{index}": encode(scene(index)) for index in range(19)} | {"bad": b"x"}
    table = table_of(images)
    kept, _ = drop_unreadable(table, scan_table(table), max_bad=0.05)
    assert len(kept) == 19
