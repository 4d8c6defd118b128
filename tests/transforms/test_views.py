"""Views of an image: which there are, and that each depends on the image alone."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from fieldmark.recipes.schema import Augment, Data
from fieldmark.transforms import (
    TransformRecord,
    ViewTransform,
    build_eval_transform,
    build_transform_record,
    choose_views,
)
from fieldmark.transforms.record import Statistics


def record_of(**augment: object) -> TransformRecord:
    half = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return build_transform_record(
        Data(image_size=16, augment=Augment(**augment)),  # type: ignore[arg-type]
        model_statistics=half,
        dataset_statistics=lambda: half,
        interpolation="bilinear",
    )


def draw_image(seed: int = 0) -> Image.Image:
    pixels = torch.randint(256, (20, 24, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


@pytest.mark.parametrize(
    ("augment", "count", "expected"),
    [
        ({}, 4, ["plain"]),
        ({"horizontal_flip": 0.5}, 1, ["plain"]),
        ({"horizontal_flip": 0.5}, 4, ["plain", "flipped left-right"]),
        (
            {"horizontal_flip": 0.5, "vertical_flip": 0.5},
            4,
            [
                *("plain", "flipped left-right", "flipped upside-down"),
                "flipped left-right and upside-down",
            ],
        ),
        ({"crop": "resized"}, 3, ["plain", "drawn 1", "drawn 2"]),
        (
            {"crop": "resized", "horizontal_flip": 0.5},
            4,
            ["plain", "flipped left-right", "drawn 1", "drawn 2"],
        ),
    ],
)
def test_views_are_plain_then_flips_then_draws(
    augment: dict[str, object], count: int, expected: list[str]
) -> None:
    views = choose_views(Augment(**augment), count)  # type: ignore[arg-type]
    assert [view.name for view in views] == expected


def test_first_view_is_that_of_evaluation_and_flips_are_its_mirror_images() -> None:
    record = record_of(horizontal_flip=0.5, vertical_flip=0.5)
    image = draw_image()
    plain, sideways, upright, both = ViewTransform(record, choose_views(record.augment, 4))(image)
    assert torch.equal(plain, build_eval_transform(record)(image))
    assert torch.equal(sideways, plain.flip(2))
    assert torch.equal(upright, plain.flip(1))
    assert torch.equal(both, plain.flip(1, 2))


def test_draws_differ_from_each_other_and_stay_the_same_for_an_image() -> None:
    record = record_of(crop="resized", color_jitter=(0.4, 0.4, 0.4, 0.1))
    views = choose_views(record.augment, 4)
    shown = ViewTransform(record, views)(draw_image())
    assert len({values.numpy().tobytes() for values in shown}) == 4
    alone = ViewTransform(record, views[2:3])(draw_image())
    assert torch.equal(alone[0], shown[2])
    other = ViewTransform(record, views)(draw_image(seed=1))
    assert not torch.equal(other[1], shown[1])


def test_only_draws_depend_on_the_augmentation() -> None:
    weak, strong = record_of(crop="resized"), record_of(crop="resized", rotation_degrees=20)
    plain, drawn = choose_views(weak.augment, 2)
    assert plain.describe(weak) == plain.describe(strong)
    assert drawn.describe(weak) != drawn.describe(strong)
