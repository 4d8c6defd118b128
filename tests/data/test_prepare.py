from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fieldmark.data.duplicates import Duplicates, find_duplicates
from fieldmark.data.prepare import hash_table, prepare_table, scan_images
from fieldmark.data.scan import scan_table
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import TooManyBadImagesError
from fieldmark.recipes.schema import Data, Split


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def table_of(images: dict[str, tuple[str, bytes]]) -> Table:
    rows = tuple(Row(name, (label,)) for name, (label, _) in images.items())
    store = MemoryStore({name: data for name, (_, data) in images.items()})
    labels = tuple(sorted({label for label, _ in images.values()}))
    return Table(rows, store, "test", class_names=labels)


def images(count: int = 40) -> dict[str, tuple[str, bytes]]:
    return {f"{i}.png": ("ab"[i % 2], picture(i)) for i in range(count)}


def test_unreadable_images_are_left_out_with_their_reason() -> None:
    prepared = prepare_table(table_of(images() | {"x.png": ("a", b"no image")}), Data(), seed=0)
    assert [(entry.image, entry.label) for entry in prepared.left_out] == [("x.png", "a")]
    assert prepared.left_out[0].reason.startswith("unreadable: not an image")
    assert len(prepared.table) == 40


def test_too_many_unreadable_images_stop_the_run() -> None:
    bad = {f"bad{i}.png": ("a", b"no image") for i in range(4)}
    with pytest.raises(TooManyBadImagesError, match="--max-bad"):
        prepare_table(table_of(images() | bad), Data(), seed=0)


def test_conflicting_copies_are_dropped_or_kept_as_asked() -> None:
    copies = {"one.png": ("a", picture(99)), "two.png": ("b", picture(99))}
    table = table_of(images() | copies)
    dropped = prepare_table(table, Data(), seed=0)
    assert {entry.image for entry in dropped.left_out} == {"one.png", "two.png"}
    kept = prepare_table(table, Data(conflicts="keep"), seed=0)
    sides = {row.image: row.split for row in kept.table.rows}
    assert kept.left_out == () and sides["one.png"] == sides["two.png"]


def test_classes_below_the_minimum_are_left_out_and_named() -> None:
    table = table_of(images() | {"rare.png": ("c", picture(77))})
    prepared = prepare_table(table, Data(), seed=0)
    assert prepared.table.class_names == ("a", "b")
    assert [(entry.image, entry.label) for entry in prepared.left_out] == [("rare.png", "c")]
    assert any("c" in note for note in prepared.table.notes)


def test_hashes_tell_changed_and_missing_images() -> None:
    table = table_of(images(4))
    before = hash_table(table)
    store = MemoryStore({**{n: d for n, (_, d) in images(3).items()}, "0.png": picture(5)})
    after = hash_table(Table(table.rows, store, "test", class_names=table.class_names))
    assert [name for name in before if before[name] != after[name]] == ["0.png", "3.png"]
    assert after["3.png"] == ""


def test_fingerprints_are_taken_only_where_look_alikes_are_searched() -> None:
    copies = {"one.png": ("a", picture(99)), "two.png": ("b", picture(99))}
    table = table_of(images() | copies)
    bare = scan_table(table, with_fingerprints=False)
    assert {facts.fingerprint for facts in bare.facts.values()} == {b""}
    exact = find_duplicates(scan_table(table)).exact
    assert find_duplicates(bare, near=False) == Duplicates(exact, ())
    data = Data(split=Split(near_duplicates=False))
    assert len(prepare_table(table, data, seed=0).left_out) == 2


def test_the_hash_that_runs_keep_of_a_file_never_changes() -> None:
    # As split.csv of runs made long ago holds it.
    table = Table((Row("x", ("a",)),), MemoryStore({"x": b"fieldmark"}), "test")
    assert hash_table(table) == {"x": "c3e8db7a66edc609e7cdf264e75fb1ae"}


def test_images_that_were_scanned_before_are_divided_the_same() -> None:
    table, reads = table_of(images()), []
    scan = scan_images(table, Data(), progress=lambda done, total: reads.append(done))
    assert reads[-1] == 40
    for seed in (0, 1):
        again = prepare_table(table, Data(), seed=seed, scan=scan)
        assert again == prepare_table(table, Data(), seed=seed)
