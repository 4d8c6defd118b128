from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fieldmark.data.loaders import Batch, Loader, build_loader
from fieldmark.data.sampling import EpochOrder
from fieldmark.data.stores import FolderStore, MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.data.tags import TagEncoder, TagVocabulary
from fieldmark.errors import DataError, TableError
from fieldmark.recipes.schema import Augment, Data, Statistics, Tags
from fieldmark.transforms import (
    TransformRecord,
    build_eval_transform,
    build_train_transform,
    build_transform_record,
)

CLASSES = ("ash", "beech", "cedar")


@pytest.fixture(autouse=True)
def no_process_stays():
    yield
    # An error that went through the loader holds on to it by its traceback.
    gc.collect()
    assert multiprocessing.active_children() == []


def encode(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def build_table(num_images: int, broken: tuple[int, ...] = (), **table: object) -> Table:
    names = [f"{index}.png" for index in range(num_images)]
    images = {name: encode(index) for index, name in enumerate(names) if index not in broken}
    rows = tuple(Row(name, (CLASSES[index % 3],)) for index, name in enumerate(names))
    values = {"rows": rows, "class_names": CLASSES} | table
    return Table(store=MemoryStore(images), source="drawn", **values)


def build_record() -> TransformRecord:
    augment = Augment(
        crop="resized",
        horizontal_flip=0.5,
        vertical_flip=0.5,
        rotation_degrees=20,
        zoom=0.2,
        color_jitter=(0.3, 0.3, 0.3, 0.1),
        randaugment_ops=2,
        random_erasing=0.5,
    )
    statistics = Statistics(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    return build_transform_record(
        Data(image_size=16, augment=augment),
        model_statistics=statistics,
        dataset_statistics=lambda: statistics,
        interpolation="bicubic",
    )


def training_loader(
    table: Table, num_workers: int = 0, sampling: str = "natural", batch_size: int = 4
) -> Loader:
    return build_loader(
        table,
        build_train_transform(build_record()),
        batch_size=batch_size,
        order=EpochOrder.for_training(table, seed=3, sampling=sampling),
        seed=3,
        num_workers=num_workers,
    )


def evaluation_loader(
    table: Table,
    num_workers: int = 0,
    transform: Callable[[Image.Image], Tensor] | None = None,
    batch_size: int = 4,
) -> Loader:
    return build_loader(
        table,
        transform or build_eval_transform(build_record()),
        batch_size=batch_size,
        order=None,
        seed=0,
        num_workers=num_workers,
    )


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images)
        and torch.equal(a.targets, b.targets)
        and torch.equal(a.positions, b.positions)
        and a.unreadable == b.unreadable
        for a, b in zip(one, other, strict=True)
    )


def test_a_batch_holds_images_targets_and_positions():
    first, *_ = evaluation_loader(build_table(6)).epoch(0)

    assert (first.images.shape, first.images.dtype) == ((4, 3, 16, 16), torch.float32)
    assert (first.targets.tolist(), first.targets.dtype) == ([0, 1, 2, 0], torch.int64)
    assert (first.positions.tolist(), first.positions.dtype) == ([0, 1, 2, 3], torch.int64)
    assert first.unreadable == ()
    assert len(first) == 4


def test_images_are_those_of_the_rows():
    table = build_table(6)
    transform = build_eval_transform(build_record())

    images = torch.cat([batch.images for batch in evaluation_loader(table).epoch(0)])

    for index, image in enumerate(images):
        expected = transform(Image.open(BytesIO(encode(index))))
        assert torch.equal(image, expected)


@pytest.mark.parametrize("sampling", ["natural", "balanced"])
def test_batches_are_the_same_bits_with_any_number_of_workers(sampling):
    table = build_table(23, broken=(5, 11))

    alone, one, two = (
        list(training_loader(table, num_workers, sampling).epoch(1)) for num_workers in (0, 1, 2)
    )

    assert len(alone) == 6
    assert same(alone, one)
    assert same(alone, two)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_entered_late_goes_on_the_same(num_workers):
    loader = training_loader(build_table(22), num_workers)
    whole = list(loader.epoch(2))

    assert same(list(loader.epoch(2, start_batch=3)), whole[3:])
    assert list(loader.epoch(2, start_batch=len(whole))) == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_can_be_repeated_and_left(num_workers):
    loader = training_loader(build_table(22), num_workers)

    first = list(loader.epoch(0))
    second = list(loader.epoch(1))
    left = loader.epoch(0)
    next(left)
    left.close()

    assert same(list(loader.epoch(0)), first)
    assert not same(first, second)


def test_a_batch_is_made_with_one_thread_and_the_others_are_given_back():
    threads, seen = torch.get_num_threads(), []

    def transform(image: Image.Image) -> Tensor:
        seen.append(torch.get_num_threads())
        return torch.zeros(3, 1, 1)

    torch.set_num_threads(2)
    try:
        loader = evaluation_loader(build_table(6), transform=transform)
        seen.clear()
        for _ in loader.epoch(0):
            seen.append(-torch.get_num_threads())
    finally:
        torch.set_num_threads(threads)
    assert seen == [1, 1, 1, 1, -2, 1, 1, -2]


def test_changes_of_an_image_differ_between_epochs_but_not_between_batch_sizes():
    table = build_table(12)

    def by_position(loader: Loader, epoch: int) -> dict[int, Tensor]:
        return {
            position: image
            for batch in loader.epoch(epoch)
            for position, image in zip(batch.positions.tolist(), batch.images, strict=True)
        }

    small = by_position(training_loader(table, batch_size=3), epoch=0)
    large = by_position(training_loader(table, batch_size=6), epoch=0)
    later = by_position(training_loader(table, batch_size=6), epoch=1)

    assert all(torch.equal(small[position], large[position]) for position in range(12))
    assert not any(torch.equal(later[position], large[position]) for position in range(12))


def test_an_image_drawn_twice_in_an_epoch_is_changed_anew():
    rows = tuple(Row(f"{i}.png", ("beech" if i else "ash",)) for i in range(8))
    loader = training_loader(build_table(8, rows=rows), sampling="balanced")

    repeats = [
        image.numpy().tobytes()
        for batch in loader.epoch(0)
        for position, image in zip(batch.positions.tolist(), batch.images, strict=True)
        if position == 0
    ]

    assert len(repeats) == len(set(repeats)) == 4


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loading_leaves_the_global_generator_alone(num_workers):
    loader = training_loader(build_table(9), num_workers)
    state = torch.get_rng_state()

    list(loader.epoch(0))

    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_listed_and_not_replaced(num_workers):
    first, second = evaluation_loader(build_table(8, broken=(2, 5)), num_workers).epoch(0)

    assert first.positions.tolist() == [0, 1, 3]
    assert first.targets.tolist() == [0, 1, 0]
    assert first.unreadable == ((2, "2.png: no such image in this set"),)
    assert second.positions.tolist() == [4, 6, 7]
    assert second.unreadable == ((5, "5.png: no such image in this set"),)


def test_damaged_bytes_are_listed_with_their_reason():
    table = build_table(3)
    table.store.images["1.png"] = encode(1)[:200]

    (batch,) = evaluation_loader(table).epoch(0)

    ((position, reason),) = batch.unreadable
    assert position == 1
    assert "truncated" in reason


def test_a_batch_of_unreadable_images_only_is_empty_in_shape():
    batch, _ = evaluation_loader(build_table(6, broken=(0, 1, 2, 3))).epoch(0)

    assert batch.images.shape == (0, 3, 16, 16)
    assert (batch.targets.shape, batch.targets.dtype) == ((0,), torch.int64)
    assert batch.positions.shape == (0,)
    assert [position for position, _ in batch.unreadable] == [0, 1, 2, 3]


def test_several_labels_become_a_row_of_zeros_and_ones():
    rows = (Row("0.png", ("cedar", "ash")), Row("1.png", ()), Row("2.png", ("beech",)))
    table = build_table(3, rows=rows, task="multilabel")

    (batch,) = evaluation_loader(table).epoch(0)

    assert batch.targets.dtype == torch.float32
    assert batch.targets.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_multilabel_batch_without_images_keeps_its_width():
    rows = (Row("0.png", ("ash",)),)
    (batch,) = evaluation_loader(build_table(1, (0,), rows=rows, task="multilabel")).epoch(0)

    assert (batch.targets.shape, batch.targets.dtype) == ((0, 3), torch.float32)


def test_rows_without_a_label_have_target_minus_one():
    rows = (Row("0.png"), Row("1.png", ("cedar",)), Row("2.png"))

    (batch,) = evaluation_loader(build_table(3, rows=rows)).epoch(0)

    assert batch.targets.tolist() == [-1, 2, -1]


def test_labels_that_are_no_class_are_named():
    rows = (Row("0.png", ("ash",)), Row("1.png", ("birch",)), Row("2.png", ("alder",)))

    with pytest.raises(TableError, match=r"2 label.*3 classes: alder, birch"):
        evaluation_loader(build_table(3, rows=rows))


def test_an_empty_table_has_no_batch():
    loader = evaluation_loader(build_table(0))

    assert loader.num_batches == 0
    assert list(loader.epoch(0)) == []


def test_num_batches_is_what_an_epoch_yields():
    for num_images in range(2, 14):
        table = build_table(num_images)
        for loader in (training_loader(table), evaluation_loader(table)):
            assert len(list(loader.epoch(0))) == loader.num_batches


def test_too_few_training_images_are_an_error_at_once():
    with pytest.raises(DataError, match="at least 2"):
        training_loader(build_table(1))


def test_processes_share_the_batches_of_one():
    table = build_table(17)

    def load(num_processes: int, process_index: int, batch_size: int) -> list[Batch]:
        loader = build_loader(
            table,
            build_train_transform(build_record()),
            batch_size=batch_size,
            order=EpochOrder.for_training(table, seed=3, sampling="natural"),
            seed=3,
            num_workers=0,
            num_processes=num_processes,
            process_index=process_index,
        )
        return list(loader.epoch(0))

    alone = load(1, 0, batch_size=6)
    shares = [load(2, index, batch_size=3) for index in (0, 1)]

    for whole, first, second in zip(alone, *shares, strict=True):
        assert torch.equal(whole.images[0::2], first.images)
        assert torch.equal(whole.images[1::2], second.images)
        assert torch.equal(whole.targets[1::2], second.targets)


def test_images_of_a_folder_are_loaded_by_workers(tmp_path: Path):
    for index in range(5):
        (tmp_path / f"{index}.png").write_bytes(encode(index))
    memory = build_table(5)
    folder = build_table(5)
    object.__setattr__(folder, "store", FolderStore(tmp_path))

    assert same(
        list(evaluation_loader(folder, num_workers=2).epoch(0)),
        list(evaluation_loader(memory).epoch(0)),
    )


def end_own_process(_: Image.Image) -> Tensor:
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.zeros(3, 4, 4)


def test_a_killed_worker_is_explained():
    loader = evaluation_loader(build_table(6), 1, end_own_process)

    with pytest.raises(DataError, match=r"ended from outside.*fewer workers \(workers=0"):
        list(loader.epoch(0))


def fail_in_worker(_: Image.Image) -> Tensor:
    if multiprocessing.parent_process() is not None:
        raise RuntimeError("a fault of ours")
    return torch.zeros(3, 4, 4)


def test_a_fault_in_a_worker_stays_a_fault():
    loader = evaluation_loader(build_table(6), 1, fail_in_worker)

    with pytest.raises(RuntimeError, match="a fault of ours"):
        list(loader.epoch(0))


def test_what_workers_need_survives_pickling():
    """Where processes do not fork, the images go to workers by pickle."""
    loader = training_loader(build_table(9))
    images = loader._loader.dataset
    copy = pickle.loads(pickle.dumps(images))
    address = next(EpochOrder("natural", 9, 3).batches(0, batch_size=2))[0]

    assert torch.equal(copy[address].image, images[address].image)


TAG_NAMES = tuple(f"tag {index}" for index in range(12))


def tagged_table(num_images: int, broken: tuple[int, ...] = ()) -> Table:
    table = build_table(num_images, broken)
    rows = [
        Row(row.image, row.labels, None if index == 2 else TAG_NAMES[index % 5 : index % 5 + 6])
        for index, row in enumerate(table.rows)
    ]
    return table.with_rows(rows)


def tag_loader(table: Table, num_workers: int = 0, *, order: EpochOrder | None = None) -> Loader:
    section = Tags(tokenizer="whole", max_tokens=6, hide=0.3, shuffle=True)
    training = build_train_transform(build_record())
    return build_loader(
        table,
        training if order is not None else build_eval_transform(build_record()),
        batch_size=4,
        order=order,
        seed=3,
        num_workers=num_workers,
        encode_tags=TagEncoder(TagVocabulary("whole", TAG_NAMES), section),
    )


def test_batches_without_an_encoder_have_no_tags():
    assert all(batch.tags is None for batch in evaluation_loader(tagged_table(6)).epoch(0))


def test_tags_are_those_of_the_rows_in_evaluation():
    first, second = tag_loader(tagged_table(6)).epoch(0)
    assert (first.tags.shape, first.tags.dtype) == ((4, 6), torch.int64)
    assert first.tags.tolist() == [
        [2, 5, 6, 7, 8, 3],
        [2, 6, 7, 8, 9, 3],
        [0, 0, 0, 0, 0, 0],
        [2, 8, 9, 10, 11, 3],
    ]
    assert second.tags.shape == (2, 6)


def test_tags_of_unreadable_images_are_left_out_with_them():
    first, second = tag_loader(tagged_table(6, broken=(0, 4, 5))).epoch(0)
    assert first.tags.shape == (3, 6)
    assert (second.tags.shape, second.tags.dtype) == ((0, 6), torch.int64)


def test_tags_drawn_in_training_are_the_same_with_any_number_of_workers():
    table = tagged_table(23, broken=(5,))
    order = EpochOrder.for_training(table, seed=3, sampling="balanced")
    alone, two = (
        list(tag_loader(table, count, order=order).epoch(1, start_batch=1)) for count in (0, 2)
    )
    assert same(alone, two)
    assert all(torch.equal(a.tags, b.tags) for a, b in zip(alone, two, strict=True))
    other = list(tag_loader(table, order=order).epoch(2, start_batch=1))
    assert not torch.equal(alone[0].tags, other[0].tags)


def test_each_draw_of_an_image_draws_its_tags_anew():
    table = tagged_table(2)
    loader = tag_loader(table, order=EpochOrder.for_training(table, seed=3, sampling="natural"))
    rows = {
        tuple(batch.tags[place].tolist())
        for epoch in range(12)
        for batch in loader.epoch(epoch)
        for place, position in enumerate(batch.positions.tolist())
        if position == 0
    }
    assert len(rows) > 5
    assert (0, 0, 0, 0, 0, 0) in rows


def test_changes_of_an_image_do_not_depend_on_its_tags():
    table = tagged_table(8)
    order = EpochOrder.for_training(table, seed=3, sampling="natural")
    assert same(
        list(training_loader(table).epoch(0)), list(tag_loader(table, order=order).epoch(0))
    )
