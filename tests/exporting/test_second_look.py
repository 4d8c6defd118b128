from __future__ import annotations

import pytest
import torch

from fieldmark.exporting.second_look import SecondLook, find_threshold, measure_certainty


def give(logits):
    return lambda images, tags: torch.as_tensor(logits)[images[:, 0, 0, 0].long()]


def stack(*marks: float) -> torch.Tensor:
    """Images whose pixels are their number."""
    return torch.tensor(marks).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def test_only_unsure_images_get_the_exact_answer() -> None:
    rough = give([[9.0, 0.0], [0.2, 0.0], [0.0, 9.0]])
    exact = give([[8.0, 1.0], [0.0, 5.0], [1.0, 8.0]])
    look = SecondLook(rough, exact, below=0.9, task="multiclass")
    assert look(stack(0, 1, 2), None).tolist() == [[9.0, 0.0], [0.0, 5.0], [0.0, 9.0]]


def test_nothing_is_computed_again_where_all_are_sure() -> None:
    def refuse(images, tags):
        raise AssertionError("not needed")

    look = SecondLook(give([[9.0, 0.0]]), refuse, below=0.9, task="multiclass")
    assert look(stack(0, 0), None).tolist() == [[9.0, 0.0], [9.0, 0.0]]


def test_what_is_not_a_number_is_computed_again() -> None:
    rough, exact = give([[float("nan"), 0.0]]), give([[9.0, 0.0]])
    look = SecondLook(rough, exact, below=0.5, task="multiclass")
    assert look(stack(0), None).tolist() == [[9.0, 0.0]]


def test_tags_go_with_their_images() -> None:
    seen = []

    def exact(images, tags):
        seen.append(tags.tolist())
        return torch.zeros(len(images), 2)

    rough = give([[9.0, 0.0], [0.1, 0.0]])
    SecondLook(rough, exact, 0.9, "multiclass")(stack(0, 1, 0, 1), torch.arange(4)[:, None])
    assert seen == [[[1], [3], [1], [1]]]


@pytest.mark.parametrize(
    ("task", "probability", "expected"),
    [
        ("multiclass", [0.2, 0.7, 0.1], 0.7),
        ("binary", [0.9, 0.1], 0.9),
        ("multilabel", [0.99, 0.4, 0.01], 0.6),
    ],
)
def test_certainty_is_that_of_the_least_certain_decision(task, probability, expected) -> None:
    found = measure_certainty(torch.tensor([probability]), task)
    assert found.tolist() == pytest.approx([expected])


def test_threshold_is_the_least_certain_image_above_all_that_are_off() -> None:
    certainty = torch.tensor([0.5, 0.6, 0.9, 0.95])
    off = torch.tensor([True, False, False, False])
    assert find_threshold(certainty, off) == pytest.approx(0.6)
    assert find_threshold(certainty, off.flip(0)) is None
    assert find_threshold(certainty, off & False) == 0.0
