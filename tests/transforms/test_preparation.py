from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from fieldmark.data.images import decode_image
from fieldmark.recipes.schema import Augment
from fieldmark.transforms import (
    Preparation,
    TransformRecord,
    build_eval_transform,
    build_train_transform,
)

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def build_record(augment: Augment, **values: object) -> TransformRecord:
    given = {"image_size": 32, "resize": "squash", "crop": 1.0, "interpolation": "bicubic"}
    return TransformRecord(**(given | UNIT | values), augment=augment)  # type: ignore[arg-type]


def draw(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(40, 50), (32, 32), (9, 200), (200, 9), (300, 200)])
def test_resized_crop_and_flips_are_torchvisions(size: tuple[int, int], interpolation: str) -> None:
    augment = Augment(crop="resized", crop_from="whole", horizontal_flip=0.5, vertical_flip=0.3)
    transform = build_train_transform(build_record(augment, interpolation=interpolation))
    mode = InterpolationMode[interpolation.upper()]
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(32, (0.35, 1.0), (3 / 4, 4 / 3), mode, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.RandomVerticalFlip(0.3),
        ]
    )
    image = draw(*size)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for seed in range(12):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = theirs(pixels).float() / 255
        assert torch.equal(transform(image, seed), expected)


def test_finishing_a_batch_equals_one_image_at_a_time() -> None:
    everything = Augment(
        crop="resized", rotation_degrees=9, color_jitter=(0.2, 0.2, 0.2, 0.1), random_erasing=0.5
    )
    images = [draw(40, 30 + index, index) for index in range(5)]
    for augment in (Augment(crop="resized", horizontal_flip=0.5), everything):
        transform = build_train_transform(build_record(augment))
        prepared = [(transform.prepare(image), seed) for seed, image in enumerate(images)]
        batch = transform.finish(prepared, at_most=8)
        alone = [transform(image, seed) for seed, image in enumerate(images)]
        assert torch.equal(batch, torch.stack(alone))


def test_shrinking_keeps_the_aspect_and_the_mean_crop_at_image_size() -> None:
    augment = Augment(crop="resized", crop_from="shrunk", crop_scale=(0.35, 1.0))
    preparation = Preparation.for_training(build_record(augment, image_size=128))
    shrunk = preparation(torch.zeros(3, 375, 500, dtype=torch.uint8))
    assert shrunk.shape == (3, 134, 179)
    assert preparation.max_px == 24273
    assert preparation.max_px * (0.35 + 1.0) / 2 == pytest.approx(128**2, rel=1e-4)


def test_small_image_is_not_enlarged_by_shrinking() -> None:
    preparation = Preparation.for_training(
        build_record(Augment(crop="resized", crop_from="shrunk"), image_size=128)
    )
    pixels = torch.randint(256, (3, 100, 90), dtype=torch.uint8)
    assert torch.equal(preparation(pixels), pixels)


def resize_box(pixels: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    height, width = pixels.shape[1:]
    top, left, tall, wide = (
        round(share * side) for share, side in zip(box, (height, width) * 2, strict=True)
    )
    return v2.functional.resized_crop(
        pixels, top, left, tall, wide, [128, 128], InterpolationMode.BICUBIC, antialias=True
    )


def test_crops_of_shrunk_photos_differ_by_few_grey_levels(shared: Path) -> None:
    """The mean difference is what softness and a box of whole pixels cost; the level stays."""
    augment = Augment(crop="resized", crop_from="shrunk", crop_scale=(0.35, 1.0))
    preparation = Preparation.for_training(build_record(augment, image_size=128))
    generator = np.random.default_rng(0)
    differences, levels = [], []
    for path in sorted((shared / "data" / "leaves" / "images").glob("*.jpg"))[:60]:
        whole = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        side = generator.uniform(0.6, 1.0)
        top, left = generator.uniform(0, 1 - side, 2)
        box = (float(top), float(left), float(side), float(side))
        change = resize_box(preparation(whole), box).float() - resize_box(whole, box).float()
        differences.append(change.abs().mean().item())
        levels.append(abs(change.mean().item()))
    assert np.mean(differences) < 3.0
    assert np.mean(levels) < 0.2


def test_photos_decoded_in_part_stay_within_a_grey_level(shared: Path) -> None:
    """Decoded at half their side, then shrunk, against decoded whole, then shrunk."""
    augment = Augment(crop="resized", crop_from="shrunk", crop_scale=(0.35, 1.0))
    transform = build_train_transform(build_record(augment, image_size=64))
    for path in sorted((shared / "data" / "leaves" / "images").glob("*.jpg"))[:60]:
        data = path.read_bytes()
        part = decode_image(data, least_size=transform.least_size)
        assert part.size == (112, 112)
        change = transform.prepare(part).float() - transform.prepare(decode_image(data)).float()
        assert change.abs().mean() < 1.0
        assert change.mean().abs() < 0.2


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ((0.35, 1.0), "shrunk"),
        ((0.5, 1.0), "shrunk"),
        ((0.25, 1.0), "whole"),
        ((0.08, 1.0), "whole"),
    ],
)
def test_by_itself_no_crop_is_enlarged_much(scale: tuple[float, float], expected: str) -> None:
    augment = Augment(crop="resized", crop_scale=scale)
    assert Preparation.for_training(build_record(augment)).kind == expected
    asked = Augment(crop="resized", crop_scale=scale, crop_from="whole")
    assert Preparation.for_training(build_record(asked)).kind == "whole"


def test_only_what_is_shrunk_may_be_decoded_in_part() -> None:
    for augment in (
        Augment(),
        Augment(crop="random"),
        Augment(crop="resized", crop_from="whole"),
        Augment(crop="resized", crop_from="shrunk"),
    ):
        transform = build_train_transform(build_record(augment, image_size=64))
        whole = transform.least_size(3000, 4000) == (3000, 4000)
        assert whole == (augment.crop_from != "shrunk")
        evaluation = build_eval_transform(build_record(augment, image_size=64))
        assert evaluation.least_size(3000, 4000) == (3000, 4000)


@pytest.mark.parametrize(
    ("augment", "values", "expected"),
    [
        (Augment(), {}, 32**2),
        (Augment(crop="random", crop_margin_px=8), {}, 40**2),
        (Augment(crop="random", crop_margin_px=8), {"resize": "shorter"}, 40 * 60),
        (Augment(crop="resized", crop_from="whole"), {}, 100 * 150),
        (Augment(crop="resized", crop_from="shrunk"), {}, 1518),
    ],
)
def test_room_is_what_a_prepared_image_takes(
    augment: Augment, values: dict[str, str], expected: int
) -> None:
    preparation = Preparation.for_training(build_record(augment, **values))
    assert preparation.stored_px(100, 150) == expected
    prepared = preparation(torch.zeros(3, 100, 150, dtype=torch.uint8))
    assert prepared[0].numel() == pytest.approx(expected, rel=0.05)
    assert prepared[0].numel() <= preparation.max_px


def test_photographs_of_four_times_the_side_are_stored_whole() -> None:
    augment = Augment(crop="resized", crop_from="whole")
    whole = Preparation.for_training(build_record(augment, image_size=128))
    assert whole.stored_px(375, 500) == 375 * 500
    assert whole.stored_px(512, 512) == whole.max_px == 512**2
    assert whole.stored_px(512, 513) == 0


def test_images_too_large_to_store_whole_take_no_room() -> None:
    whole = Preparation.for_training(build_record(Augment(crop="resized", crop_from="whole")))
    shorter = Preparation.for_training(build_record(Augment(crop="random"), resize="shorter"))
    assert whole.stored_px(1000, 1000) == 0
    assert shorter.stored_px(100, 300) == 0
