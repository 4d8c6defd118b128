"""Splitting: exact shares, nothing on two sides, and no role for the order of rows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.data.duplicates import Duplicates, drop_conflicts
from fieldmark.data.scan import Scan
from fieldmark.data.splits import as_published_counts, split_table
from fieldmark.data.stores import MemoryStore
from fieldmark.data.stratify import exact_counts
from fieldmark.data.table import SPLITS, Row, Table
from fieldmark.errors import SplitError
from fieldmark.recipes.schema import Split

PUBLISHED = (0.7, 0.1, 0.2)


def make_table(*rows: Row, **others: object) -> Table:
    names = tuple(sorted({label for row in rows for label in row.labels}))
    table = Table(rows, MemoryStore({}), "test", class_names=names)
    return replace(table, **others)  # type: ignore[arg-type]


def classes(**counts: int) -> Table:
    return make_table(
        *(Row(f"{name}{index}", (name,)) for name in counts for index in range(counts[name]))
    )


def divide(
    table: Table,
    ratios: tuple[float, float, float] = PUBLISHED,
    min_images: int = 2,
    seed: int = 0,
    duplicates: Duplicates | None = None,
    **split: object,
) -> Table:
    recipe = Split.model_validate({"ratios": ratios, **split})
    return split_table(table, recipe, min_images=min_images, seed=seed, duplicates=duplicates)


def sides_of(table: Table) -> dict[str, str | None]:
    return {row.image: row.split for row in table.rows}


def counts_of(table: Table, label: str) -> tuple[int, ...]:
    sides = Counter(row.split for row in table.rows if label in row.labels)
    return tuple(sides[name] for name in SPLITS)


def test_single_images_meet_the_exact_counts_of_every_class() -> None:
    counts = {"ash": 2, "elm": 3, "fir": 20, "oak": 97, "yew": 355}
    divided = divide(classes(**counts))
    for name, count in counts.items():
        assert counts_of(divided, name) == exact_counts(count, PUBLISHED)


tables = st.lists(
    st.tuples(
        st.sampled_from(["ash", "elm", "oak"]),
        st.none() | st.integers(0, 6),
        st.none() | st.integers(0, 8),
    ),
    min_size=8,
    max_size=60,
)


@settings(deadline=None)
@given(items=tables, seed=st.integers(0, 5), shuffle=st.randoms(use_true_random=False))
def test_split_keeps_what_belongs_together_and_ignores_row_order(
    items: list[tuple[str, int | None, int | None]], seed: int, shuffle: random.Random
) -> None:
    rows = [
        Row(str(n), (label,), group=None if group is None else f"g{group}")
        for n, (label, group, _) in enumerate(items)
    ]
    alike = defaultdict(list)
    for n, (_, _, look) in enumerate(items):
        if look is not None:
            alike[look].append(str(n))
    near = tuple(sorted(tuple(sorted(group)) for group in alike.values() if len(group) > 1))
    duplicates = Duplicates((), near)
    if sum(count >= 2 for count in Counter(label for label, _, _ in items).values()) < 2:
        return
    divided = divide(make_table(*rows), seed=seed, duplicates=duplicates)

    sides = sides_of(divided)
    for group in near:
        assert len({sides[image] for image in group if image in sides}) <= 1
    for group_name in {row.group for row in rows} - {None}:
        assert len({row.split for row in divided.rows if row.group == group_name}) <= 1
    trained = {row.label for row in divided.rows if row.split == "train"}
    assert trained == {row.label for row in divided.rows}

    shuffle.shuffle(rows)
    assert sides_of(divide(make_table(*rows), seed=seed, duplicates=duplicates)) == sides


def test_another_seed_gives_another_split_of_the_same_size() -> None:
    table = classes(oak=50, elm=50)
    first, second = divide(table, seed=0), divide(table, seed=1)
    assert sides_of(first) != sides_of(second)
    assert counts_of(first, "oak") == counts_of(second, "oak")


def test_rows_of_one_image_stay_on_one_side() -> None:
    table = classes(oak=40, elm=40)
    doubled = table.with_rows([*table.rows, *table.rows])
    by_image = defaultdict(set)
    for row in divide(doubled).rows:
        by_image[row.image].add(row.split)
    assert all(len(sides) == 1 for sides in by_image.values())


def test_large_groups_come_near_the_shares() -> None:
    rows = [
        Row(f"{name}{n}", (name,), group=f"{name}{n // 5}")
        for name in ("oak", "elm")
        for n in range(100)
    ]
    divided = divide(make_table(*rows))
    for name in ("oak", "elm"):
        assert counts_of(divided, name) == (70, 10, 20)


def test_look_alikes_may_part_when_the_recipe_says_so_but_copies_may_not() -> None:
    table = classes(oak=10, elm=10)
    images = tuple(row.image for row in table.rows if row.label == "oak")
    copies, similar = (images[:4],), (images,)
    divided = divide(table, duplicates=Duplicates(copies, similar), near_duplicates=False)
    sides = sides_of(divided)
    assert len({sides[image] for image in images}) > 1
    assert len({sides[image] for image in images[:4]}) == 1


def test_a_class_that_is_one_group_goes_to_train_and_is_named() -> None:
    table = classes(oak=10, elm=4)
    group = tuple(row.image for row in table.rows if row.label == "elm")
    divided = divide(table, duplicates=Duplicates((), (group,)))
    assert counts_of(divided, "elm") == (4, 0, 0)
    assert any("in train: elm" in note for note in divided.notes)


def test_two_units_of_a_class_are_in_train_and_test() -> None:
    rows = [Row(f"oak{n}", ("oak",), group="big" if n < 30 else "small") for n in range(31)]
    divided = divide(make_table(*rows, *classes(elm=9).rows))
    assert counts_of(divided, "oak") == (30, 0, 1)


def test_small_classes_are_left_out_and_named() -> None:
    divided = divide(classes(oak=30, elm=25, yew=19), min_images=20)
    assert divided.class_names == ("elm", "oak")
    assert {row.label for row in divided.rows} == {"elm", "oak"}
    assert "yew (19)" in divided.notes[-1]


def test_fewer_than_two_classes_cannot_be_split() -> None:
    with pytest.raises(SplitError, match=r"1 of 2 classes .* --min-images"):
        divide(classes(oak=30, elm=3), min_images=20)


def test_rows_without_a_label_cannot_be_split() -> None:
    table = classes(oak=5, elm=5)
    with pytest.raises(SplitError, match="1 of 11 rows have no label, the first is lost"):
        divide(table.with_rows([*table.rows, Row("lost")]))


def test_several_labels_are_kept_in_proportion() -> None:
    draw = random.Random(0)
    shares = {"sun": 0.5, "sea": 0.3, "fog": 0.05}
    rows = [
        Row(str(n), tuple(name for name in shares if draw.random() < shares[name]))
        for n in range(1000)
    ]
    divided = divide(make_table(*rows, task="multilabel"))
    for name, count in divided.class_counts().items():
        for found, wanted in zip(
            counts_of(divided, name), exact_counts(count, PUBLISHED), strict=True
        ):
            assert abs(found - wanted) <= 0.01 * count + 2
    again = divide(make_table(*reversed(rows), task="multilabel"))
    assert sides_of(again) == sides_of(divided)


def given_splits(*splits: str | None) -> Table:
    return make_table(*(Row(f"i{n}", (f"c{n % 2}",), split=name) for n, name in enumerate(splits)))


def test_given_splits_are_kept() -> None:
    table = given_splits("train", "train", "val", "test")
    assert divide(table).rows == table.rows
    assert divide(table).notes == ()


def test_a_given_split_without_val_or_test_is_noted() -> None:
    notes = divide(given_splits("train", "train", "test")).notes
    assert notes == ("The table's own split has no val images.",)


def test_a_half_given_split_is_refused_with_number_and_name() -> None:
    with pytest.raises(SplitError, match="2 of 4 rows have no split, the first is i2"):
        divide(given_splits("train", "train", None, None))


def test_a_given_split_needs_train_and_known_names() -> None:
    with pytest.raises(SplitError, match=r"'dev'.*no row is in train"):
        divide(given_splits("dev", "test"))


def test_leaks_of_a_given_split_are_counted() -> None:
    table = given_splits("train", "train", "test", "test")
    notes = divide(table, duplicates=Duplicates((("i0", "i1"),), (("i0", "i1", "i2"),))).notes
    assert "Leak: 1 sets" in notes[-1]
    exact_only = divide(
        table, duplicates=Duplicates((("i0", "i1"),), (("i0", "i2"),)), near_duplicates=False
    )
    assert not any("Leak" in note for note in exact_only.notes)


def test_a_class_that_the_given_split_never_trains_is_named() -> None:
    table = make_table(Row("a", ("oak",), split="train"), Row("b", ("yew",), split="test"))
    assert any("No training image" in note and "yew" in note for note in divide(table).notes)


@pytest.mark.parametrize(
    ("num_images", "expected"),
    [(20, (14, 1, 5)), (10, (7, 0, 3)), (21, (14, 2, 5)), (25, (17, 3, 5)), (100, (70, 10, 20))],
)
def test_published_counts_follow_float_arithmetic(
    num_images: int, expected: tuple[int, ...]
) -> None:
    assert as_published_counts(num_images, PUBLISHED) == expected


@given(num_images=st.integers(20, 100_000))
def test_published_counts_differ_from_integer_arithmetic_by_one_image_of_multiples_of_five(
    num_images: int,
) -> None:
    train, val, test = as_published_counts(num_images, PUBLISHED)
    assert train + val + test == num_images
    assert test >= 5 and val >= 1
    lost_trainval = num_images * 8 // 10 - (train + val)
    lost_train = num_images * 7 // 10 - train
    assert lost_trainval in ((0, 1) if num_images % 5 == 0 else (0,))
    assert lost_train in ((0, 1) if num_images % 10 == 0 else (0,))


def test_published_split_cuts_each_class_in_row_order() -> None:
    rows = [Row(f"{name}{n:02}", (name,)) for n in range(20) for name in ("oak", "elm")]
    divided = divide(make_table(*rows), rule="as_published")
    sides = [row.split for row in divided.rows if row.label == "oak"]
    assert sides == ["train"] * 14 + ["val"] + ["test"] * 5
    assert any("ignores groups and duplicates" in note for note in divided.notes)


def test_published_split_in_two_parts_is_scikit_learns() -> None:
    from sklearn.model_selection import train_test_split

    table = classes(oak=53, elm=31)
    labels = [row.label for row in table.rows]
    divided = divide(table, (0.8, 0.0, 0.2), seed=42, rule="as_published")
    expected, _ = train_test_split(
        [row.image for row in table.rows], train_size=0.8, stratify=labels, random_state=42
    )
    assert {row.image for row in divided.rows if row.split == "train"} == set(expected)
    assert {row.split for row in divided.rows} == {"train", "test"}


def test_published_split_of_18353_leaves_has_14682_for_training() -> None:
    counts = {f"c{n}": 104 + (n < 49) for n in range(176)}
    table = classes(**counts)
    assert len(table) == 18_353
    divided = divide(table, (0.8, 0.2, 0.0), rule="as_published")
    assert Counter(row.split for row in divided.rows) == {"train": 14_682, "val": 3_671}


def test_published_split_refuses_several_labels_and_classes_it_cannot_train() -> None:
    with pytest.raises(SplitError, match="rule: exact"):
        divide(replace(classes(oak=9, elm=9), task="multilabel"), rule="as_published")
    with pytest.raises(SplitError, match="no training image to elm"):
        divide(classes(oak=9, elm=1), min_images=1, rule="as_published")
    with pytest.raises(SplitError, match="scikit-learn"):
        divide(classes(oak=9, elm=1), (0.8, 0.0, 0.2), min_images=1, rule="as_published")


def test_real_leaves_are_split_in_proportion_and_without_leaks(
    leaves: tuple[Table, Scan, Duplicates],
) -> None:
    table, _, duplicates = leaves
    clean, _ = drop_conflicts(table, duplicates)
    divided = divide(clean, duplicates=duplicates)
    sides = sides_of(divided)
    assert len(sides) == len(clean)
    for group in duplicates.groups():
        assert len({sides[image] for image in group if image in sides}) <= 1
    for name, count in divided.class_counts().items():
        for found, wanted in zip(
            counts_of(divided, name), exact_counts(count, PUBLISHED), strict=True
        ):
            assert abs(found - wanted) <= 1


def test_rows_in_the_order_of_their_classes_leave_no_class_out() -> None:
    """Tiny-ImageNet's 200 classes come one after the other: its last tenth is 20 classes alone."""
    table = divide(
        make_table(*(Row(f"{c}-{i}.jpg", (f"n{c:08}",)) for c in range(200) for i in range(20))),
        ratios=(0.9, 0.0, 0.1),
    )
    for side, expected in (("train", 18), ("test", 2)):
        counts = table.select(side).class_counts()
        assert len(counts) == 200
        assert set(counts.values()) == {expected}
