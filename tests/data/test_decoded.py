from __future__ import annotations

import errno
import gc
import json
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fieldmark.data import decoded, loaders
from fieldmark.data.decoded import DecodedImages, DecodedTransform, StoredForm, open_decoded
from fieldmark.data.loaders import Batch, build_loader
from fieldmark.data.prepare import hash_table
from fieldmark.data.sampling import EpochOrder
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.recipes.schema import Augment
from fieldmark.transforms import TransformRecord, build_eval_transform, build_train_transform
from fieldmark.transforms.pipelines import TrainTransform

SIZES = [(20, 24), (40, 30), (9, 31), (64, 64), (20, 20), (33, 18), (12, 90), (28, 21)]
KINDS = {
    "none": (Augment(horizontal_flip=0.5), "squash"),
    "random": (Augment(crop="random", crop_margin_px=4), "squash"),
    "random of shorter": (Augment(crop="random", crop_margin_px=4), "shorter"),
    "random of padded": (Augment(crop="random", crop_margin_px=4, vertical_flip=0.5), "pad"),
    "resized": (Augment(crop="resized", crop_from="whole", horizontal_flip=0.5), "squash"),
    "resized and more": (
        Augment(
            crop="resized",
            rotation_degrees=20,
            color_jitter=(0.3, 0.3, 0.3, 0.1),
            randaugment_ops=2,
            random_erasing=0.5,
        ),
        "squash",
    ),
    "shrunk": (Augment(crop="resized", crop_from="shrunk", horizontal_flip=0.5), "squash"),
}


def encode(seed: int) -> bytes:
    shape = (*SIZES[seed % len(SIZES)], 3)
    file = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def build_table(num_images: int = 8) -> Table:
    images = {f"{index}.png": encode(index) for index in range(num_images)}
    rows = tuple(Row(name, ("ash",), split="train") for name in images)
    return Table(rows, MemoryStore(images), "drawn", class_names=("ash",))


def build_transform(kind: str = "resized") -> TrainTransform:
    augment, resize = KINDS[kind]
    half = (0.5, 0.5, 0.5)
    return build_train_transform(
        TransformRecord(16, resize, 1.0, "bicubic", half, half, augment)  # type: ignore[arg-type]
    )


def form_of(transform: TrainTransform) -> StoredForm:
    return StoredForm(transform.preparation.name, transform.preparation.max_px)


class Opened:
    """A store of a table, and what was said."""

    def __init__(self, folder: Path, table: Table, transform: TrainTransform) -> None:
        self.said: list[str] = []
        self.table, self.transform = table, transform
        images = open_decoded(folder, hash_table(table), form_of(transform), self.said.append)
        assert images is not None
        self.images: DecodedImages = images

    def epochs(self, num_epochs: int, num_workers: int = 0) -> list[list[Batch]]:
        return read_epochs(
            self.table, DecodedTransform(self.transform, self.images), num_epochs, num_workers
        )

    def num_stored(self) -> int:
        return sum(self.images.read(row) is not None for row in range(len(self.table)))


def read_epochs(
    table: Table,
    transform: TrainTransform | DecodedTransform,
    num_epochs: int,
    num_workers: int = 0,
) -> list[list[Batch]]:
    order = EpochOrder.for_training(table, seed=3, sampling="natural")
    loader = build_loader(
        table, transform, batch_size=3, order=order, seed=3, num_workers=num_workers
    )
    return [list(loader.epoch(epoch)) for epoch in range(num_epochs)]


def assert_same(epochs: list[list[Batch]], others: list[list[Batch]]) -> None:
    assert len(epochs) == len(others)
    for batches, other_batches in zip(epochs, others, strict=True):
        for batch, other in zip(batches, other_batches, strict=True):
            assert torch.equal(batch.images, other.images)
            assert torch.equal(batch.positions, other.positions)
            assert torch.equal(batch.targets, other.targets)
            assert batch.unreadable == other.unreadable


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_of_decoding_bit_for_bit(kind: str, tmp_path: Path) -> None:
    table, transform = build_table(), build_transform(kind)
    opened = Opened(tmp_path, table, transform)
    assert_same(opened.epochs(3), read_epochs(table, transform, 3))
    assert opened.num_stored() >= 6


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_share_the_store(num_workers: int, tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    opened = Opened(tmp_path, table, transform)
    assert_same(opened.epochs(2, num_workers), read_epochs(table, transform, 2))
    assert opened.num_stored() == len(table)


def test_stored_images_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, transform = build_table(), build_transform()
    expected = read_epochs(table, transform, 2)
    Opened(tmp_path, table, transform).epochs(1)

    def refuse(data: bytes) -> Image.Image:
        raise AssertionError("decoded again")

    monkeypatch.setattr(loaders, "decode_pixels", refuse)
    again = Opened(tmp_path, table, transform)
    assert_same(again.epochs(2), expected)
    assert again.said == []


def test_evaluation_reads_the_same_bits(tmp_path: Path) -> None:
    half = (0.5, 0.5, 0.5)
    record = TransformRecord(16, "shorter", 0.9, "bilinear", half, half, Augment())
    table, transform = build_table(), build_eval_transform(record)
    form = StoredForm(transform.preparation.name, transform.preparation.max_px)
    images = open_decoded(tmp_path, hash_table(table), form, print)
    assert images is not None
    through = DecodedTransform(transform, images)
    for _ in range(2):
        loaded = build_loader(table, through, batch_size=8, order=None, seed=0, num_workers=0)
        (batch,) = loaded.epoch(0)
        pictures = [Image.open(BytesIO(encode(index))) for index in range(8)]
        assert torch.equal(batch.images, torch.stack([transform(p) for p in pictures]))


def test_unreadable_images_are_named_as_without_a_store(tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    opened = Opened(tmp_path, table, transform)
    assert isinstance(table.store, MemoryStore)
    for index in (1, 2, 4):
        table.store.images[f"{index}.png"] = b"no image"
    assert_same(opened.epochs(2), read_epochs(table, transform, 2))


def test_batch_of_nothing_readable_is_empty(tmp_path: Path) -> None:
    table, transform = build_table(3), build_transform()
    opened = Opened(tmp_path, table, transform)
    assert isinstance(table.store, MemoryStore)
    table.store.images.clear()
    ((batch,),) = opened.epochs(1)
    assert batch.images.shape == (0, 3, 16, 16)
    assert len(batch.unreadable) == 3


def test_other_split_of_the_same_images_shares_the_file(tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    Opened(tmp_path, table, transform).epochs(1)
    turned = table.with_rows(table.rows[::-1])
    assert Opened(tmp_path, turned, transform).num_stored() == len(table)
    assert len(list(tmp_path.iterdir())) == 1


def test_other_form_or_content_has_a_file_of_its_own(tmp_path: Path) -> None:
    table = build_table()
    for kind in ("resized", "none", "shrunk"):
        Opened(tmp_path, table, build_transform(kind))
    Opened(tmp_path, build_table(7), build_transform())
    assert len(list(tmp_path.iterdir())) == 4


def test_equal_files_share_a_row(tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    assert isinstance(table.store, MemoryStore)
    table.store.images["1.png"] = table.store.images["0.png"]
    opened = Opened(tmp_path, table, transform)
    assert opened.images.row_of("0.png") == opened.images.row_of("1.png")
    assert_same(opened.epochs(2), read_epochs(table, transform, 2))


def test_image_that_changed_since_it_was_hashed_is_not_stored(tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    opened = Opened(tmp_path, table, transform)
    assert isinstance(table.store, MemoryStore)
    table.store.images["3.png"] = encode(11)
    assert_same(opened.epochs(2), read_epochs(table, transform, 2))
    assert opened.images.read(opened.images.row_of("3.png")) is None


def test_image_larger_than_a_slot_is_decoded_each_time(tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    file = BytesIO()
    Image.new("RGB", (300, 300), "red").save(file, "PNG")
    assert isinstance(table.store, MemoryStore)
    table.store.images["2.png"] = file.getvalue()
    opened = Opened(tmp_path, table, transform)
    assert_same(opened.epochs(2), read_epochs(table, transform, 2))
    assert opened.num_stored() == len(table) - 1


def edit_header(path: Path, **values: object) -> None:
    content = path.read_bytes()
    header = json.loads(content[:4095].rstrip(b"\0")) | values
    path.write_bytes(json.dumps(header).encode().ljust(4096, b"\0") + content[4096:])


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("cut short", "was cut short; it is made anew"),
        ("version", "was made by another version; it is made anew"),
        ("pillow", "was made by another version; it is made anew"),
        ("damaged", "is damaged; it is made anew"),
        ("empty", "is damaged; it is made anew"),
    ],
)
def test_unusable_file_is_made_anew_and_said(fault: str, sentence: str, tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    first = Opened(tmp_path, table, transform)
    first.epochs(1)
    path = first.images.path
    if fault == "cut short":
        path.write_bytes(path.read_bytes()[:-5000])
    elif fault == "version":
        edit_header(path, version=0)
    elif fault == "pillow":
        edit_header(path, pillow="1.0")
    else:
        path.write_bytes(b"" if fault == "empty" else b"\xff" * 9000)
    again = Opened(tmp_path, table, transform)
    assert again.said == [f"{path}: {sentence}"]
    assert again.num_stored() == 0
    assert_same(again.epochs(2), read_epochs(table, transform, 2))


def test_damaged_image_is_decoded_again(tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    first = Opened(tmp_path, table, transform)
    first.epochs(1)
    content = bytearray(first.images.path.read_bytes())
    content[2 * 4096 + 100] ^= 1  # in the first slot
    first.images.path.write_bytes(content)
    again = Opened(tmp_path, table, transform)
    assert again.num_stored() == len(table) - 1
    assert_same(again.epochs(2), read_epochs(table, transform, 2))
    assert again.num_stored() == len(table)


def test_file_cut_short_while_it_is_used_changes_no_bit(tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    opened = Opened(tmp_path, table, transform)
    opened.epochs(1)
    with opened.images.path.open("r+b") as file:
        file.truncate(3 * 4096)
    assert_same(opened.epochs(2), read_epochs(table, transform, 2))


def test_image_half_written_by_a_killed_process_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, transform = build_table(), build_transform()
    write_at = decoded._write_at

    def die(file, place: int, content: bytes) -> None:  # type: ignore[no-untyped-def]
        write_at(file, place, content[: len(content) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(decoded, "_write_at", die)
        Opened(tmp_path, table, transform).epochs(1)
    gc.collect()
    again = Opened(tmp_path, table, transform)
    assert again.num_stored() == 0
    assert_same(again.epochs(2), read_epochs(table, transform, 2))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_full_disk_is_said_once_and_changes_no_bit(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, transform = build_table(), build_transform()
    write_at = decoded._write_at

    def fill_up(file, place: int, content: bytes) -> None:  # type: ignore[no-untyped-def]
        if len(content) > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_at(file, place, content)

    monkeypatch.setattr(decoded, "_write_at", fill_up)
    opened = Opened(tmp_path, table, transform)
    assert_same(opened.epochs(3, num_workers), read_epochs(table, transform, 3))
    assert opened.said == [
        f"{opened.images.path}: could not be written any more (is the disk full?) and is removed; "
        "training goes on, and images are decoded in each epoch"
    ]
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    said: list[str] = []
    form = form_of(build_transform())
    hashes = hash_table(build_table())
    assert open_decoded(tmp_path / "taken", hashes, form, said.append) is None
    assert len(said) == 1
    assert said[0].endswith("images are decoded in each epoch")


def test_store_survives_pickling(tmp_path: Path) -> None:
    table, transform = build_table(), build_transform()
    opened = Opened(tmp_path, table, transform)
    opened.epochs(1)
    copy = pickle.loads(pickle.dumps(opened.images))
    found, expected = copy.read(2), opened.images.read(2)
    assert found is not None
    assert expected is not None
    assert torch.equal(found, expected)
