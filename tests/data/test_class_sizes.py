from __future__ import annotations

from fieldmark.data.class_sizes import divide_classes


def test_thirds_of_the_classes_by_training_images() -> None:
    assert divide_classes([5, 90, 30, 60, 10, 2]) == [
        "middle" if count == 30 or count == 10 else "head" if count > 30 else "tail"
        for count in (5, 90, 30, 60, 10, 2)
    ]


def test_classes_of_equal_size_are_in_one_part() -> None:
    assert set(divide_classes([20] * 7)) == {"head"}
    parts = divide_classes([50, 50, 50, 50, 1, 1])
    assert parts == ["head"] * 4 + ["tail"] * 2
