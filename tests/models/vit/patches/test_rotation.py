from __future__ import annotations

import math

import pytest
import torch

from fieldmark.models.vit.patches.reach import rotation_reach_px
from fieldmark.models.vit.patches.rotation import (
    LARGEST_ANGLE,
    MIDDLE_ANGLE,
    SMALLEST_ANGLE,
    Angles,
    Fill,
    Interpolation,
    Rotations,
    draw_angles,
    find_sources,
    join_patches,
    rotate,
)


def lit(size: int, row: int, column: int) -> torch.Tensor:
    image = torch.zeros(1, 1, size, size)
    image[0, 0, row, column] = 1.0
    return image


def centre_of_light(image: torch.Tensor) -> tuple[float, float]:
    """Row and column that the light is around."""
    size = image.shape[-1]
    places = torch.arange(size, dtype=image.dtype)
    return (
        float((image.sum(1) * places).sum() / image.sum()),
        float((image.sum(0) * places).sum() / image.sum()),
    )


def test_angles_are_between_pi_20_and_pi_14_either_way() -> None:
    angles = draw_angles(4000)
    anticlockwise, clockwise = angles[:, 0], -angles[:, 1]
    for sizes in (anticlockwise, clockwise):
        assert sizes.min() >= math.pi / 20 and sizes.max() <= math.pi / 14
        assert sizes.min() < math.radians(9.02) and sizes.max() > math.radians(12.84)
    assert abs(torch.corrcoef(torch.stack((anticlockwise, clockwise)))[0, 1]) < 0.1


def test_middle_angle_is_17_pi_280() -> None:
    assert pytest.approx(17 * math.pi / 280) == MIDDLE_ANGLE
    assert round(math.degrees(MIDDLE_ANGLE), 2) == 10.93
    assert round(math.degrees(SMALLEST_ANGLE), 3) == 9.0
    assert round(math.degrees(LARGEST_ANGLE), 3) == 12.857


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_anticlockwise_moves_the_pixel_right_of_the_centre_up(interpolation: Interpolation) -> None:
    angle = torch.tensor([[MIDDLE_ANGLE, -MIDDLE_ANGLE]])
    image = torch.zeros(1, 1, 41, 41)
    image[0, 0, 19:22, 34:37] = 1.0  # around row 20, column 35: 15 px right of the centre
    turned = rotate(image, angle, interpolation, "zeros")[0, 0]
    for view, sign in zip(turned, (1, -1), strict=True):
        row, column = centre_of_light(view)
        assert row == pytest.approx(20 - sign * 15 * math.sin(MIDDLE_ANGLE), abs=0.35)
        assert column == pytest.approx(20 + 15 * math.cos(MIDDLE_ANGLE), abs=0.35)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_centre_pixel_stays(interpolation: Interpolation) -> None:
    turned = rotate(lit(9, 4, 4), draw_angles(1), interpolation, "zeros")
    assert turned[0, 0, :, 4, 4].tolist() == pytest.approx([1.0, 1.0], abs=1e-5)


def test_quarter_turn_is_exact_in_both_ways_of_reading() -> None:
    images = torch.randn(2, 3, 6, 6)
    for interpolation in ("nearest", "bilinear"):
        turned = rotate(images, torch.tensor([[math.pi / 2]]), interpolation, "zeros")[:, :, 0]
        torch.testing.assert_close(turned, images.rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_nearest_rounds_half_to_even() -> None:
    # The cosine of 60 degrees is 1/2, so a strip of 7 px reads columns 1.5, 2, 2.5, ... 4.5.
    angles = torch.tensor([[math.pi / 3]])
    columns, _ = find_sources(angles, 1, 7)
    assert columns.flatten().tolist() == pytest.approx([1.5, 2, 2.5, 3, 3.5, 4, 4.5], abs=1e-6)
    strip = torch.arange(7.0).view(1, 1, 1, 7)
    assert rotate(strip, angles, "nearest", "edge").flatten().tolist() == [2, 2, 2, 3, 4, 4, 4]


def test_corner_of_72_px_moves_11_4_px() -> None:
    assert round(rotation_reach_px(72), 1) == 11.4
    columns, rows = find_sources(torch.tensor([[LARGEST_ANGLE]]), 73, 73)
    moved = math.hypot(float(columns[0, 0, 0, 0]), float(rows[0, 0, 0, 0]))
    assert moved == pytest.approx(11.40, abs=0.01)  # pixel (0, 0) is 36 px from the centre each way
    assert float(columns[0, 0, 36, 36]) == float(rows[0, 0, 36, 36]) == 36.0


@pytest.mark.parametrize("fill,expected", [("zeros", 0.0), ("edge", 1.0), ("reflect", 1.0)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_corners_are_filled_as_asked(
    fill: Fill, expected: float, interpolation: Interpolation
) -> None:
    turned = rotate(torch.ones(1, 1, 32, 32), draw_angles(1), interpolation, fill)[0, 0]
    corners = turned[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, torch.full((2, 4), expected))


def test_reflection_repeats_the_border_pixel() -> None:
    images = torch.randn(1, 2, 16, 16)
    angles = torch.tensor([[0.2]])
    padded = torch.cat([images.flip(2), images, images.flip(2)], dim=2)
    padded = torch.cat([padded.flip(3), padded, padded.flip(3)], dim=3)
    for interpolation in ("nearest", "bilinear"):
        inside = rotate(padded, angles, interpolation, "zeros")[..., 16:32, 16:32]
        reflected = rotate(images, angles, interpolation, "reflect")
        torch.testing.assert_close(reflected, inside, atol=1e-4, rtol=0)


@pytest.mark.parametrize("fill", ["zeros", "edge", "reflect"])
def test_drawn_angles_read_the_pixels_of_rotate(fill: Fill) -> None:
    rotations = Rotations(
        image_size=32, patch_size=8, angles="per_image", interpolation="nearest", fill=fill
    )
    images = torch.randn(2, 3, 32, 32)
    angles = draw_angles(2)
    turned = join_patches(rotations.turn(images, angles))
    expected = rotate(images, angles, "nearest", fill)
    assert (turned != expected).float().mean() < 1e-3  # places between two pixels


@pytest.mark.parametrize("fill", ["zeros", "edge", "reflect"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_evaluation_is_exported_as_it_is_computed(fill: Fill, interpolation: Interpolation) -> None:
    rotations = Rotations(
        image_size=48, patch_size=16, angles="fixed", interpolation=interpolation, fill=fill
    )
    images = torch.randn(2, 3, 48, 48)
    exported = torch.export.export(rotations, (images,)).module()
    assert torch.equal(exported(images), rotations(images))


def turn(angles: Angles, *, is_training: bool, batch: int = 3) -> torch.Tensor:
    rotations = Rotations(
        image_size=24, patch_size=4, angles=angles, interpolation="nearest", fill="zeros"
    )
    image = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    turned: torch.Tensor = join_patches(
        rotations.train(is_training)(image.expand(batch, -1, -1, -1))
    )
    return turned


def test_per_image_angles_differ_within_a_batch() -> None:
    turned = turn("per_image", is_training=True)
    assert not torch.equal(turned[0], turned[1]) and not torch.equal(turned[1], turned[2])


def test_per_batch_angles_are_one_pair_drawn_anew() -> None:
    first, second = (turn("per_batch", is_training=True) for _ in range(2))
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first, second)


def test_angles_come_from_the_global_generator() -> None:
    torch.manual_seed(5)
    first = turn("per_image", is_training=True)
    torch.manual_seed(5)
    assert torch.equal(turn("per_image", is_training=True), first)


@pytest.mark.parametrize("angles", ["per_image", "per_batch", "fixed"])
def test_evaluation_turns_by_the_middle_angle(angles: Angles) -> None:
    turned = turn(angles, is_training=False)
    image = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    middle = torch.tensor([[MIDDLE_ANGLE, -MIDDLE_ANGLE]])
    assert torch.equal(turned[:1], rotate(image, middle, "nearest", "zeros"))
    assert torch.equal(turned, turn(angles, is_training=False))


def test_fixed_angles_are_the_middle_in_training_too() -> None:
    assert torch.equal(turn("fixed", is_training=True), turn("fixed", is_training=False))


def test_as_published_draws_one_pair_per_batch_in_evaluation_too() -> None:
    first, second = (turn("as_published", is_training=False) for _ in range(2))
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first, second)


def test_other_sizes_than_the_one_built_for_are_turned_too() -> None:
    rotations = Rotations(
        image_size=24, patch_size=4, angles="fixed", interpolation="nearest", fill="zeros"
    )
    images = torch.randn(2, 3, 12, 16)
    middle = torch.tensor([[MIDDLE_ANGLE, -MIDDLE_ANGLE]])
    assert torch.equal(join_patches(rotations(images)), rotate(images, middle, "nearest", "zeros"))
