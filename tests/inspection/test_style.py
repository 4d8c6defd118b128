"""What is laid over images keeps its place and its order."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.inspection.attention.figures import describe
from fieldmark.inspection.style import new_figure, overlay, scale_to_most, to_size


def test_cells_are_repeated_upright_to_the_size_of_the_image() -> None:
    grid = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    found = to_size(grid, 4, 6)
    assert found.shape == (4, 6)
    assert found[0].tolist() == [1, 1, 1, 2, 2, 2] and found[3].tolist() == [3, 3, 3, 4, 4, 4]


def test_few_giants_do_not_hide_the_rest() -> None:
    values = np.ones((10, 10), dtype=np.float32)
    values[0, :2] = 1000.0
    values[5:] = 0.5
    scaled = scale_to_most(values)
    assert scaled[0, 0] == 1.0 and scaled[1, 0] == 1.0 and scaled[9, 9] == 0.5
    assert scale_to_most(values, lowest=True)[9, 9] == 0.0
    assert not scale_to_most(np.zeros((3, 3))).any()


def test_an_overlay_is_colourful_where_values_are_high() -> None:
    image = np.full((8, 8, 3), 128, dtype=np.uint8)
    values = np.zeros((2, 2), dtype=np.float32)
    values[0, 1] = 1.0
    shown = overlay(image, values)
    assert shown.min() >= 0.0 and shown.max() <= 1.0
    spread = np.ptp(shown, axis=2)
    assert spread[:4, 4:].min() > 4 * spread[4:].max()


def test_attention_is_told_as_multiples_of_even() -> None:
    assert describe(np.array([[1.0, 3.0]])) == "0.5 to 1.5 times even"


def test_pictures_stand_upright_at_their_inches() -> None:
    figure, box = new_figure(4, 2, "A title", "model · layer · image (test split)")
    shown = box.show(1, 0.5, 1, 1, np.arange(4).reshape(2, 2))
    left, right, bottom, top = shown.get_extent()
    assert (right - left, bottom - top) == pytest.approx((1.0, 1.0))
    width, height = figure.get_size_inches()
    assert shown.axes.get_xlim() == (0, width) and shown.axes.get_ylim() == (height, 0)
    assert left == box.left + 1
