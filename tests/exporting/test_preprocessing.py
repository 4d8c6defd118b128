from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fieldmark.errors import ExportError
from fieldmark.exporting.preprocessing import Preprocessing
from fieldmark.recipes.schema import Augment
from fieldmark.transforms import TransformRecord, build_eval_transform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = [(500, 375), (375, 500), (32, 32), (31, 57), (20, 9), (1, 1), (900, 40), (2, 700)]


def record_of(**changes: object) -> TransformRecord:
    values = {"image_size": 32, "resize": "squash", "crop": 1.0, "interpolation": "bicubic"}
    return TransformRecord(**{**values, "mean": MEAN, "std": STD, "augment": Augment(), **changes})


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize("resize", ["squash", "shorter", "pad"])
def test_numpy_gives_the_tensors_of_the_run_bit_for_bit(resize, crop, interpolation) -> None:
    for image_size in (32, 65):
        record = record_of(
            resize=resize, crop=crop, interpolation=interpolation, image_size=image_size
        )
        with_torch = build_eval_transform(record)
        with_numpy = Preprocessing.from_json(record.to_json())
        for width, height in SHAPES:
            image = noise(width, height)
            np.testing.assert_array_equal(with_numpy(image), with_torch(image).numpy())


def test_numpy_gives_the_tensors_of_photographs(shared) -> None:
    paths = sorted((shared / "data" / "leaves").rglob("*.jpg"))[::60]
    assert paths
    for interpolation in ("bilinear", "bicubic"):
        record = record_of(image_size=224, crop=0.9, resize="shorter", interpolation=interpolation)
        with_torch, with_numpy = (
            build_eval_transform(record),
            Preprocessing.from_json(record.to_json()),
        )
        for path in paths:
            image = Image.open(path).convert("RGB")
            np.testing.assert_array_equal(with_numpy(image), with_torch(image).numpy())


@pytest.mark.parametrize("changes", [{"resize": "stretch"}, {"crop": 0}, {"mean": [1, 2]}])
def test_a_transform_that_is_none_is_refused(changes) -> None:
    with pytest.raises(ExportError, match="image transform cannot be used"):
        Preprocessing.from_json({**record_of().to_json(), **changes})
