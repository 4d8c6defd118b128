from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fieldmark.transforms.geometry import fit_for_evaluation, fit_side, read_pixels

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def draw_thirds() -> Image.Image:
    """96 x 32: a red, a green and a blue square side by side."""
    image = Image.new("RGB", (96, 32), GREEN)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 31, 31), fill=RED)
    draw.rectangle((64, 0, 95, 31), fill=BLUE)
    return image


def fit(image: Image.Image, resize: str, crop: float = 1.0, size: int = 32) -> Tensor:
    return fit_for_evaluation(
        read_pixels(image), image_size=size, resize=resize, crop=crop, interpolation="bilinear"
    )


def colour(pixels: Tensor, row: int, column: int) -> tuple[int, ...]:
    return tuple(pixels[:, row, column].tolist())


def test_pixels_are_those_of_the_image():
    pixels = read_pixels(draw_thirds())

    assert (pixels.shape, pixels.dtype) == ((3, 32, 96), torch.uint8)
    assert [colour(pixels, 5, column) for column in (0, 40, 95)] == [RED, GREEN, BLUE]


def test_squash_shows_the_whole_picture_squeezed():
    pixels = fit(draw_thirds(), "squash")

    assert pixels.shape == (3, 32, 32)
    assert [colour(pixels, 16, column) for column in (3, 16, 28)] == [RED, GREEN, BLUE]


def test_shorter_keeps_the_central_square_unchanged():
    pixels = fit(draw_thirds(), "shorter")

    assert pixels.shape == (3, 32, 32)
    assert (pixels == torch.tensor(GREEN)[:, None, None]).all()


def test_pad_shows_the_whole_picture_between_white_bands():
    pixels = fit(draw_thirds(), "pad", size=96)

    assert pixels.shape == (3, 96, 96)
    assert (pixels[:, :32] == 255).all()
    assert (pixels[:, 64:] == 255).all()
    assert torch.equal(pixels[:, 32:64], read_pixels(draw_thirds()))


def test_pad_of_a_tall_picture_puts_the_odd_pixel_right():
    pixels = fit(Image.new("RGB", (3, 8), RED), "pad", size=8)

    assert [colour(pixels, 4, column) for column in range(8)] == [WHITE] * 2 + [RED] * 3 + [
        WHITE
    ] * 3


def test_crop_keeps_the_centre_of_the_given_share():
    image = Image.new("RGB", (40, 40), RED)
    ImageDraw.Draw(image).rectangle((4, 4, 35, 35), fill=BLUE)

    whole, centre = fit(image, "squash", size=40), fit(image, "squash", crop=0.8, size=32)

    assert colour(whole, 0, 0) == RED
    assert (centre == torch.tensor(BLUE)[:, None, None]).all()


@pytest.mark.parametrize(("size", "crop", "side"), [(224, 0.875, 256), (224, 0.9, 248)])
def test_side_before_the_crop_is_rounded_down(size, crop, side):
    image = Image.effect_noise((500, 375), 80).convert("RGB")

    pixels = fit(image, "shorter", crop=crop, size=size)

    resized = fit_side(read_pixels(image), side=side, resize="shorter", interpolation="bilinear")
    top, left = round((resized.shape[1] - size) / 2), round((resized.shape[2] - size) / 2)
    assert torch.equal(pixels, resized[:, top : top + size, left : left + size])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_is_antialiased_as_pillow_does_it(interpolation):
    image = Image.effect_noise((301, 217), 80).convert("RGB")
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

    ours = fit_side(read_pixels(image), side=64, resize="squash", interpolation=interpolation)

    theirs = read_pixels(image.resize((64, 64), filters[interpolation]))
    assert (ours.int() - theirs.int()).abs().max() <= 2


@pytest.mark.parametrize("resize", ["squash", "shorter", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1), (7, 3)])
def test_extreme_shapes_fit_without_extreme_memory(resize, size):
    pixels = fit(Image.new("RGB", size, RED), resize, size=64)

    assert pixels.shape == (3, 64, 64)
    assert (pixels[0] == 255).all()
