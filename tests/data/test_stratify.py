"""Exact shares of every class, from single images or from units that cannot be cut."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.data.stratify import TEST, TRAIN, VAL, Unit, assign_units, exact_counts

PUBLISHED = (0.7, 0.1, 0.2)

ratios_strategy = st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20)).map(
    lambda parts: (parts[0] / sum(parts), parts[1] / sum(parts), parts[2] / sum(parts))
)


@given(num_images=st.integers(0, 3000), ratios=ratios_strategy)
def test_exact_counts_sum_up_and_stay_within_one_of_their_quota(
    num_images: int, ratios: tuple[float, float, float]
) -> None:
    counts = exact_counts(num_images, ratios)
    assert sum(counts) == num_images
    assert min(counts) >= 0
    used = [count for count, ratio in zip(counts, ratios, strict=True) if ratio > 0]
    if num_images:
        assert counts[0] >= 1
    if num_images >= len(used):
        assert min(used) >= 1
    if all(num_images * ratio >= 1 for ratio in ratios if ratio):
        quotas = [num_images * Fraction(ratio) for ratio in ratios]
        gaps = [abs(count - quota) for count, quota in zip(counts, quotas, strict=True)]
        assert max(gaps) < 1 + 1e-9


@pytest.mark.parametrize(
    ("num_images", "expected"),
    [
        (1, (1, 0, 0)),
        (2, (1, 0, 1)),
        (3, (1, 1, 1)),
        (5, (3, 1, 1)),
        (10, (7, 1, 2)),
        (20, (14, 2, 4)),
        (100, (70, 10, 20)),
        (463_437, (324_406, 46_344, 92_687)),
    ],
)
def test_exact_counts_of_the_default_shares(num_images: int, expected: tuple[int, ...]) -> None:
    assert exact_counts(num_images, PUBLISHED) == expected


def test_a_part_without_a_share_stays_empty() -> None:
    assert exact_counts(7, (0.8, 0.0, 0.2)) == (6, 0, 1)
    assert exact_counts(7, (1.0, 0.0, 0.0)) == (7, 0, 0)
    assert exact_counts(2, (0.4, 0.5, 0.1)) == (1, 0, 1)


def units(*label_counts: dict[str, int]) -> list[Unit]:
    return [
        Unit(tuple(range(sum(labels.values()))), labels, key)
        for key, labels in enumerate(label_counts)
    ]


def test_single_images_get_the_exact_counts() -> None:
    sides = assign_units(units(*[{"oak": 1}] * 97), PUBLISHED)
    assert tuple(Counter(sides)[part] for part in (TRAIN, VAL, TEST)) == exact_counts(97, PUBLISHED)


def test_every_class_is_in_train_even_at_the_cost_of_its_share() -> None:
    assert assign_units(units({"elm": 5}, {"oak": 1, "elm": 1}), PUBLISHED) == [TEST, TRAIN]


def test_two_large_units_of_a_class_are_not_both_in_train() -> None:
    assert sorted(assign_units(units({"oak": 6}, {"oak": 6}), PUBLISHED)) == [TRAIN, TEST]


def test_three_units_of_a_class_reach_all_three_parts() -> None:
    sides = assign_units(units({"oak": 2, "elm": 5}, {"oak": 5, "elm": 1}, {"elm": 5}), PUBLISHED)
    assert set(sides) == {TRAIN, VAL, TEST}


mixed_units = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), min_size=1), min_size=1, max_size=30
)


@given(label_counts=mixed_units)
def test_classes_are_always_trained_and_tested_if_their_units_are_pure(
    label_counts: list[dict[str, int]],
) -> None:
    sides = assign_units(units(*label_counts), PUBLISHED)
    for label in {label for labels in label_counts for label in labels}:
        assert TRAIN in {
            side for side, labels in zip(sides, label_counts, strict=True) if label in labels
        }
    pure = [{min(labels): labels[min(labels)]} for labels in label_counts]
    sides = assign_units(units(*pure), PUBLISHED)
    for label, count in Counter(min(labels) for labels in pure).items():
        reached = {side for side, labels in zip(sides, pure, strict=True) if label in labels}
        wanted = {TRAIN, TEST, VAL} if count > 2 else {TRAIN, TEST} if count > 1 else {TRAIN}
        assert wanted <= reached
