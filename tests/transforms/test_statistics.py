from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fieldmark.errors import DataError
from fieldmark.recipes.schema import Data
from fieldmark.transforms import measure_statistics


def draw_noise(seed: int, size: int = 16) -> Image.Image:
    generator = np.random.default_rng(seed)
    levels = generator.integers(0, 256, (size, size, 3)) * np.array([1.0, 0.5, 0.1])
    return Image.fromarray(levels.astype(np.uint8))


def test_statistics_equal_those_of_numpy():
    images = [draw_noise(seed) for seed in range(5)]

    statistics = measure_statistics(iter(images), Data(image_size=16))

    pixels = np.stack([np.asarray(image) for image in images]).reshape(-1, 3) / 255
    assert statistics.mean == pytest.approx(pixels.mean(axis=0), rel=1e-12)
    assert statistics.std == pytest.approx(pixels.std(axis=0), rel=1e-12)


def test_statistics_are_of_what_evaluation_sees():
    image = Image.new("RGB", (48, 16), (255, 255, 255))
    image.paste((0, 0, 0), (16, 0, 32, 16))

    centre = measure_statistics([image], Data(image_size=16, resize="shorter"))
    padded = measure_statistics([image], Data(image_size=48, resize="pad"))

    assert centre.mean == (0.0, 0.0, 0.0)
    assert padded.mean == pytest.approx([8 / 9] * 3)


def test_order_of_images_does_not_matter():
    images = [draw_noise(seed, size=31) for seed in range(7)]

    forward = measure_statistics(images, Data(image_size=24))
    backward = measure_statistics(images[::-1], Data(image_size=24))

    assert forward == backward


def test_a_channel_that_never_changes_is_not_blown_up():
    statistics = measure_statistics([Image.new("RGB", (9, 9), (10, 20, 30))], Data(image_size=8))

    assert statistics.mean == pytest.approx([10 / 255, 20 / 255, 30 / 255])
    assert statistics.std == (1 / 255, 1 / 255, 1 / 255)


def test_no_image_is_an_error():
    with pytest.raises(DataError, match="at least one training image"):
        measure_statistics([], Data())
