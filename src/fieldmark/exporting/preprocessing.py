"""The evaluation transform in NumPy alone: the same numbers, bit for bit, without torch.

torch resizes uint8 pixels with weights rounded to 16 bits, so Pillow's own resizing differs from it
by a grey level. Its arithmetic is done here again in whole numbers. (torch has that path for
bicubic everywhere, for bilinear on processors with AVX2; elsewhere bilinear may differ by one grey
level.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmark.errors import ExportError

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]

# Resized by its shorter side, a strip of 1 x 50,000 px would become larger than memory.
_LARGEST_ASPECT = 8
_WHITE = 255
_WEIGHT_LIMIT = 2**15
_MOST_BITS = 22


@dataclass(frozen=True)
class Preprocessing:
    """RGB image -> (3, image_size, image_size) float32, by the values of a `TransformRecord`."""

    image_size: int
    resize: str
    crop: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `TransformRecord.to_json` wrote; the training's part is left out."""
        try:
            found = cls(
                image_size=int(values["image_size"]),
                resize=str(values["resize"]),
                crop=float(values["crop"]),
                interpolation=str(values["interpolation"]),
                mean=_three(values["mean"]),
                std=_three(values["std"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(f"the image transform cannot be used: {error!r}") from error
        is_known = found.resize in _RESIZES and found.interpolation in _FILTERS
        if not is_known or not 0 < found.crop <= 1 or found.image_size < 1 or min(found.std) <= 0:
            raise ExportError(f"the image transform cannot be used: {found}")
        return found

    def __call__(self, image: Image.Image | Pixels) -> Values:
        """Transform one image."""
        values = self.prepare(image).transpose(2, 0, 1).astype(np.float32)  # (3, H, W)
        values /= np.float32(255)
        values -= np.array(self.mean, dtype=np.float32)[:, None, None]
        values /= np.array(self.std, dtype=np.float32)[:, None, None]
        return values

    def prepare(self, image: Image.Image | Pixels) -> Pixels:
        """RGB image -> (image_size, image_size, 3) uint8."""
        pixels = np.asarray(image)
        size, side = self.image_size, math.floor(self.image_size / self.crop)
        if self.resize == "shorter":
            pixels = _cut_strip(pixels)
        height, width = pixels.shape[:2]
        pixels = _resize(pixels, _size_after(height, width, side, self.resize), self.interpolation)
        if self.resize == "pad":
            pixels = _pad_to_square(pixels, side)
        return _cut_centre(pixels, size, size)


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _cut_strip(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    longest = _LARGEST_ASPECT * min(height, width)
    return _cut_centre(pixels, min(height, longest), min(width, longest))


def _cut_centre(pixels: Pixels, height: int, width: int) -> Pixels:
    # Halves are rounded to even, as torchvision has it.
    top = round((pixels.shape[0] - height) / 2)
    left = round((pixels.shape[1] - width) / 2)
    return pixels[top : top + height, left : left + width]


_RESIZES = ("squash", "shorter", "pad")


def _size_after(height: int, width: int, side: int, resize: str) -> tuple[int, int]:
    if resize == "squash":
        return side, side
    reference = min(height, width) if resize == "shorter" else max(height, width)
    return max(1, side * height // reference), max(1, side * width // reference)


def _pad_to_square(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, 3), _WHITE, dtype=np.uint8)
    square[top : top + height, left : left + width] = pixels
    return square


def _resize(pixels: Pixels, size: tuple[int, int], interpolation: str) -> Pixels:
    """(H, W, 3) -> (h, w, 3): first along the width, then along the height, rounded after each."""
    height, width = pixels.shape[:2]
    if width != size[1]:
        turned = np.ascontiguousarray(pixels.transpose(1, 0, 2))  # (W, H, 3)
        turned = _resize_rows(turned, size[1], interpolation)
        pixels = np.ascontiguousarray(turned.transpose(1, 0, 2))
    return pixels if height == size[0] else _resize_rows(pixels, size[0], interpolation)


def _resize_rows(pixels: Pixels, num_rows: int, interpolation: str) -> Pixels:
    """(H, W, 3) -> (num_rows, W, 3)."""
    taps = _taps(pixels.shape[0], num_rows, interpolation)
    flat = pixels.reshape(pixels.shape[0], -1)  # (H, W * 3)
    total = np.full((num_rows, flat.shape[1]), 1 << (taps.bits - 1), dtype=np.int32)
    for rows, weights in zip(taps.rows, taps.weights, strict=True):
        total += flat[rows] * weights[:, None]
    total >>= taps.bits
    np.clip(total, 0, 255, out=total)
    return total.astype(np.uint8).reshape(num_rows, *pixels.shape[1:])


@dataclass(frozen=True)
class _Taps:
    """Which rows make an output row: (S, h) indices and weights of 2^bits, S the most that do."""

    rows: NDArray[np.intp]
    weights: NDArray[np.int32]
    bits: int


@lru_cache(maxsize=256)
def _taps(num_before: int, num_after: int, interpolation: str) -> _Taps:
    """Weights of an antialiased resize, computed in float64 and rounded to 16 bits."""
    kernel, reach = _FILTERS[interpolation]
    scale = num_before / num_after
    support = reach * max(scale, 1.0)
    centre = scale * (np.arange(num_after) + 0.5)  # (h,)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), num_before)
    most = math.ceil(support) * 2 + 1
    count = np.clip(last - first, 0, most)
    places = first + np.arange(most)[:, None]  # (S, h)
    weights = kernel(np.abs((places - centre + 0.5) * (1.0 / scale if scale >= 1.0 else 1.0)))
    weights[np.arange(most)[:, None] >= count] = 0.0
    weights /= _summed(weights)
    bits = 0
    while bits < _MOST_BITS and int(0.5 + weights.max() * (1 << (bits + 1))) < _WEIGHT_LIMIT:
        bits += 1
    scaled = weights * (1 << bits)
    whole = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int32)
    used = whole.any(axis=1)
    rows = np.minimum(places, num_before - 1).astype(np.intp)
    return _Taps(rows[used], whole[used], bits)


def _summed(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over the first axis in its order: the order decides the last bit."""
    total = np.zeros(weights.shape[1])
    for row in weights:
        total = total + row
    return total


def _triangle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - distance, 0.0)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys's bicubic with a = -0.5."""
    near = ((-0.5 + 2) * distance - (-0.5 + 3)) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


_Kernel = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_FILTERS: Mapping[str, tuple[_Kernel, float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
}
