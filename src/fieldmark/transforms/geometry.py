"""Geometry of evaluation and training: from an image of any shape to a square of pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from fieldmark.transforms.record import Interpolation, Resize

# An RGB image, or its pixels (H, W, 3) uint8.
Picture = Image.Image | NDArray[np.uint8]

INTERPOLATION_MODES = {
    "bicubic": InterpolationMode.BICUBIC,
    "bilinear": InterpolationMode.BILINEAR,
}
# Resized by its shorter side, a strip of 1 x 50,000 px would become larger than memory.
_LARGEST_ASPECT = 8
_WHITE = 255
_HAS_BILINEAR_UINT8 = "AVX" in torch.backends.cpu.get_cpu_capability()


def read_pixels(image: Picture) -> Tensor:
    """RGB image -> (3, H, W) uint8. Resizing it is three times as fast as resizing the image."""
    pixels = image if isinstance(image, np.ndarray) else np.array(image)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def fit_for_evaluation(
    pixels: Tensor, *, image_size: int, resize: Resize, crop: float, interpolation: Interpolation
) -> Tensor:
    """Resize (3, H, W) uint8 so that `crop` of each side is image_size, and keep the centre.

    The side before the crop is rounded down, as timm does for its published accuracies.
    """
    side = math.floor(image_size / crop)
    resized = fit_side(pixels, side=side, resize=resize, interpolation=interpolation)
    if resized.shape[1:] == (image_size, image_size):
        return resized
    centre: Tensor = functional.center_crop(resized, [image_size, image_size])
    return centre


def fit_side(pixels: Tensor, *, side: int, resize: Resize, interpolation: Interpolation) -> Tensor:
    """Resize (3, H, W) uint8, antialiased, to `side` px.

    squash: both sides become `side`. shorter: the shorter one does, the longer one follows.
    pad: the longer one does, and white on both sides of the shorter one makes it a square.
    """
    if resize == "shorter":
        pixels = _cut_strip(pixels)
    height, width = _size_after(pixels.shape[1], pixels.shape[2], side, resize)
    resized = resize_pixels(pixels, height, width, interpolation)
    return _pad_to_square(resized, side) if resize == "pad" else resized


def resize_pixels(pixels: Tensor, height: int, width: int, interpolation: Interpolation) -> Tensor:
    """Resize (3, H, W) uint8, antialiased, to (3, height, width).

    torchvision's `resize` without its overhead, which is as large as the work for small images.
    It hands uint8 to torch where torch has a path for it, and so may be left out there.
    """
    if tuple(pixels.shape[1:]) == (height, width):
        return pixels
    if interpolation == "bicubic" or _HAS_BILINEAR_UINT8:
        # Of a part of an image, and of a batch whose stride says nothing (that of `pixels[None]`),
        # torch would make three planes, and that takes as long again.
        batch = pixels.permute(1, 2, 0).contiguous()[None].permute(0, 3, 1, 2)
        return interpolate(batch, (height, width), mode=interpolation, antialias=True)[0]
    resized: Tensor = functional.resize(
        pixels, [height, width], interpolation=INTERPOLATION_MODES[interpolation], antialias=True
    )
    return resized


def _cut_strip(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[1:]
    longest = _LARGEST_ASPECT * min(height, width)
    if max(height, width) <= longest:
        return pixels
    middle: Tensor = functional.center_crop(pixels, [min(height, longest), min(width, longest)])
    return middle


def _size_after(height: int, width: int, side: int, resize: Resize) -> tuple[int, int]:
    if resize == "squash":
        return side, side
    reference = min(height, width) if resize == "shorter" else max(height, width)
    # Integer division, as torchvision rounds; a line one pixel wide stays one.
    return max(1, side * height // reference), max(1, side * width // reference)


def _pad_to_square(pixels: Tensor, side: int) -> Tensor:
    height, width = pixels.shape[1:]
    left, top = (side - width) // 2, (side - height) // 2
    padding = [left, top, side - width - left, side - height - top]
    square: Tensor = functional.pad(pixels, padding, fill=_WHITE)
    return square
