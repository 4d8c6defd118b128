from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.data.sampling import EpochOrder, SampleAddress
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import DataError


def build_table(counts: dict[str, int], unlabelled: int = 0) -> Table:
    labels = [(name,) for name, count in counts.items() for _ in range(count)]
    rows = [Row(f"{i}.png", label) for i, label in enumerate(labels + [()] * unlabelled)]
    return Table(tuple(rows), MemoryStore({}), "drawn", class_names=tuple(counts))


def order(num_images: int, sampling: str = "natural", seed: int = 0) -> EpochOrder:
    return EpochOrder.for_training(build_table({"a": num_images}), seed=seed, sampling=sampling)


def positions(batches) -> list[list[int]]:
    return [[address.position for address in batch] for batch in batches]


def test_table_order_is_that_of_the_rows():
    evaluation = EpochOrder.in_table_order(build_table({"a": 5}))

    assert positions(evaluation.batches(3, batch_size=2)) == [[0, 1], [2, 3], [4]]


def test_natural_order_shows_every_image_once():
    shuffled = order(100).positions(0)

    assert sorted(shuffled) == list(range(100))
    assert list(shuffled) != list(range(100))


def test_order_depends_on_seed_and_epoch_alone():
    table = build_table({"a": 20, "b": 3})
    for sampling in ("natural", "balanced"):
        build = EpochOrder.for_training
        first = build(table, seed=1, sampling=sampling)
        np.random.seed(0)
        again = build(table, seed=1, sampling=sampling)
        other = build(table, seed=2, sampling=sampling)
        assert list(first.positions(4)) == list(again.positions(4))
        assert list(first.positions(4)) != list(first.positions(5))
        assert list(first.positions(4)) != list(other.positions(4))


def test_order_is_the_same_on_every_machine():
    assert order(8, seed=3).positions(2).tolist() == [1, 0, 6, 7, 4, 2, 5, 3]


def test_balanced_order_shows_every_class_equally_often():
    table = build_table({"common": 70, "rare": 3, "some": 27})
    balanced = EpochOrder.for_training(table, seed=0, sampling="balanced")

    over_all = Counter()
    for epoch in range(6):
        drawn = balanced.positions(epoch)
        counts = Counter(table.rows[position].label for position in drawn)
        assert len(drawn) == 100
        assert sorted(counts.values()) == [33, 33, 34]
        over_all += counts
    assert set(over_all.values()) == {200}


def test_balanced_order_cycles_through_the_images_of_a_class():
    table = build_table({"common": 70, "rare": 3, "some": 27})
    balanced = EpochOrder.for_training(table, seed=0, sampling="balanced")

    drawn = Counter(p for epoch in range(6) for p in balanced.positions(epoch).tolist())

    per_class = {}
    for position, count in drawn.items():
        per_class.setdefault(table.rows[position].label, []).append(count)
    assert {name: len(counts) for name, counts in per_class.items()} == table.class_counts()
    assert all(max(counts) - min(counts) <= 1 for counts in per_class.values())


def test_balanced_order_leaves_out_classes_and_rows_without_images_or_labels():
    table = build_table({"a": 4, "empty": 0, "b": 2}, unlabelled=3)
    balanced = EpochOrder.for_training(table, seed=0, sampling="balanced")

    drawn = balanced.positions(0)

    assert len(drawn) == 9
    assert set(drawn) <= set(range(6))


def test_balanced_multilabel_rows_belong_to_each_of_their_labels():
    rows = (Row("0", ("a",)), Row("1", ("a", "b")), Row("2", ("a",)), Row("3", ("a",)))
    table = Table(rows, MemoryStore({}), "drawn", task="multilabel", class_names=("a", "b"))
    balanced = EpochOrder.for_training(table, seed=0, sampling="balanced")

    drawn = [p for epoch in range(10) for p in balanced.positions(epoch)]

    assert drawn.count(1) == 25
    assert set(drawn) == {0, 1, 2, 3}


def test_a_repeated_image_is_told_apart_by_its_draw():
    table = build_table({"common": 9, "rare": 1})
    balanced = EpochOrder.for_training(table, seed=0, sampling="balanced")

    addresses = [a for batch in balanced.batches(0, batch_size=3) for a in batch]

    rare = [address for address in addresses if address.position == 9]
    assert rare == [SampleAddress(0, 9, draw) for draw in range(5)]
    assert len(set(addresses)) == len(addresses) == 10


def test_batches_from_a_later_start_are_the_same():
    table = build_table({"a": 30, "b": 5})
    for sampling in ("natural", "balanced"):
        training = EpochOrder.for_training(table, seed=5, sampling=sampling)
        whole = list(training.batches(2, batch_size=4))
        for start in range(len(whole) + 1):
            assert list(training.batches(2, batch_size=4, start_batch=start)) == whole[start:]


@pytest.mark.parametrize(
    ("num_images", "batch_size", "sizes"),
    [
        (8, 4, [4, 4]),
        (9, 4, [4, 5]),
        (10, 4, [4, 4, 2]),
        (3, 4, [3]),
        (5, 2, [2, 3]),
        (3, 1, [1, 1, 1]),
        (1, 1, [1]),
    ],
)
def test_a_last_image_alone_joins_the_batch_before_it(num_images, batch_size, sizes):
    training = order(num_images)

    batches = list(training.batches(0, batch_size=batch_size))

    assert [len(batch) for batch in batches] == sizes
    assert training.num_batches(batch_size) == len(sizes)


def test_a_single_training_image_is_an_error_unless_batches_are_single():
    with pytest.raises(DataError, match=r"has 1 image.*at least 2.*optim.batch_size=1"):
        order(1).num_batches(32)

    assert order(1).num_batches(1) == 1


@pytest.mark.parametrize("sampling", ["natural", "balanced"])
def test_no_training_image_is_an_error(sampling):
    with pytest.raises(DataError, match="drawn: the training split has no image"):
        EpochOrder.for_training(build_table({"a": 0}), seed=0, sampling=sampling)


def test_balancing_without_any_label_is_an_error():
    with pytest.raises(DataError, match="has no labelled image"):
        EpochOrder.for_training(build_table({}, unlabelled=3), seed=0, sampling="balanced")


def test_an_empty_table_evaluates_to_no_batch():
    evaluation = EpochOrder.in_table_order(build_table({"a": 0}))

    assert evaluation.num_batches(8) == 0
    assert list(evaluation.batches(0, batch_size=8)) == []


@given(
    num_images=st.integers(2, 60),
    batch_size=st.integers(1, 9),
    num_processes=st.integers(1, 4),
    sampling=st.sampled_from(["table", "natural", "balanced"]),
)
def test_shares_of_processes_partition_the_batches_of_one(
    num_images, batch_size, num_processes, sampling
):
    table = build_table({"a": num_images - 1, "b": 1})
    if sampling == "table":
        epoch_order = EpochOrder.in_table_order(table)
    else:
        epoch_order = EpochOrder.for_training(table, seed=0, sampling=sampling)
    if sampling != "table" and num_images < min(2, batch_size) * num_processes:
        with pytest.raises(DataError):
            epoch_order.num_batches(batch_size, num_processes)
        return

    shares = [
        list(
            epoch_order.batches(
                1, batch_size=batch_size, num_processes=num_processes, process_index=index
            )
        )
        for index in range(num_processes)
    ]

    num_batches = epoch_order.num_batches(batch_size, num_processes)
    assert {len(share) for share in shares} == {num_batches}
    together = [sorted(a for part in parts for a in part) for parts in zip(*shares, strict=True)]
    assert sum(map(len, together)) == num_images
    if sampling == "table" or batch_size > 1:
        alone = epoch_order.batches(1, batch_size=batch_size * num_processes)
        whole = [sorted(batch) for batch in alone]
        # Too small a rest for all processes joins a batch that a single one would leave apart.
        assert together[:-1] == whole[: len(together) - 1]
    if sampling != "table":
        smallest = min(len(batch) for share in shares for batch in share)
        assert smallest >= min(2, batch_size)
    sizes = [[len(batch) for batch in parts] for parts in zip(*shares, strict=True)]
    assert all(max(size) - min(size) <= 1 for size in sizes)


def test_sampling_needs_no_torch():
    code = "import sys, fieldmark.data.sampling; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
