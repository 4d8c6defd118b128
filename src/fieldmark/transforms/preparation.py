"""The part of a pipeline that is the same each time, and so can be done once and stored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fieldmark.transforms.geometry import fit_for_evaluation, fit_side, resize_pixels
from fieldmark.transforms.record import TransformRecord

# Whole images up to this many times the network's pixels are worth storing: a photograph of
# 500 x 375 at 128 px is read and cut five times as fast as it is decoded. Larger ones would fill
# disks.
_LARGEST_WHOLE = 16
_LEAST_WHOLE_PX = 256**2
_SPARE = 1.25


@dataclass(frozen=True)
class Preparation:
    """(3, H, W) uint8 -> (3, h, w) uint8 by the record alone.

    fit: as in evaluation. margin: fitted to image_size plus the margin of crop: random. whole:
    left as it is. shrunk: by `shrink_to_area`; both for crop: resized, by its crop_from.
    """

    record: TransformRecord
    kind: Literal["fit", "margin", "whole", "shrunk"]

    @classmethod
    def for_evaluation(cls, record: TransformRecord) -> Preparation:
        """Everything that evaluation does to uint8."""
        return cls(record, "fit")

    @classmethod
    def for_training(cls, record: TransformRecord) -> Preparation:
        """What comes before the first random change."""
        augment = record.augment
        if augment.crop == "resized":
            return cls(record, augment.cuts_from)
        return cls(record, "margin" if augment.crop == "random" else "fit")

    def __call__(self, pixels: Tensor) -> Tensor:
        """Prepare the pixels of one image."""
        record = self.record
        if self.kind == "whole":
            return pixels
        if self.kind == "shrunk":
            return shrink_to_area(pixels, self.max_px, record)
        if self.kind == "margin":
            return fit_side(
                pixels,
                side=self._margin_side,
                resize=record.resize,
                interpolation=record.interpolation,
            )
        return fit_for_evaluation(
            pixels,
            image_size=record.image_size,
            resize=record.resize,
            crop=record.crop,
            interpolation=record.interpolation,
        )

    @property
    def max_px(self) -> int:
        """Most pixels of a prepared image that is worth storing."""
        size = self.record.image_size
        if self.kind == "whole":
            return max(_LARGEST_WHOLE * size**2, _LEAST_WHOLE_PX)
        if self.kind == "shrunk":
            low, high = self.record.augment.crop_scale
            return math.ceil(size**2 / ((low + high) / 2))
        if self.kind == "margin":
            # resize: shorter leaves the longer side as it follows: twice as long in nearly all.
            return self._margin_side**2 * (2 if self.record.resize == "shorter" else 1)
        return size**2

    @property
    def name(self) -> str:
        """All that the result depends on besides the image."""
        record = self.record
        how = f"{self.kind} {record.image_size} {record.interpolation}"
        if self.kind == "whole":
            return "whole"
        if self.kind == "shrunk":
            return f"{how} to {self.max_px} px"
        if self.kind == "margin":
            return f"{how} {record.resize} margin {record.augment.crop_margin_px}"
        return f"{how} {record.resize} {record.crop!r}"

    def least_size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that an image of this size must be decoded at, if not whole.

        What is shrunk may come from a JPEG decoded at a part of its size, if that still is
        `_SPARE` times as large a side: the mean difference to the whole decode is then below one
        grey level of 255.
        """
        if self.kind != "shrunk":
            return height, width
        factor = min(1.0, _SPARE * math.sqrt(self.max_px / (height * width)))
        return math.ceil(height * factor), math.ceil(width * factor)

    def stored_px(self, height: int, width: int) -> int:
        """About how many pixels are stored of an image of this size; 0: too large to be stored."""
        if self.kind == "fit":
            return self.max_px
        if self.kind == "shrunk":
            return min(height * width, self.max_px)
        needed = height * width
        if self.kind == "margin":
            aspect = max(height, width) / min(height, width)
            needed = math.ceil(
                self._margin_side**2 * (aspect if self.record.resize == "shorter" else 1)
            )
        return needed if needed <= self.max_px else 0

    @property
    def _margin_side(self) -> int:
        return self.record.image_size + self.record.augment.crop_margin_px


def shrink_to_area(pixels: Tensor, max_px: int, record: TransformRecord) -> Tensor:
    """Resize (3, H, W) uint8, antialiased, to at most `max_px` pixels of the same aspect.

    `max_px` is image_size^2 over the mean share of the area that a crop keeps: the average crop
    then has as many pixels as the network's input. Smaller crops are enlarged, by up to
    sqrt(mean share / smallest share) a side (1.39 for shares 0.35 to 1). Smaller images are left
    as they are.
    """
    height, width = pixels.shape[1:]
    factor = math.sqrt(max_px / (height * width))
    if factor >= 1.0:
        return pixels
    smaller = (max(1, math.floor(height * factor)), max(1, math.floor(width * factor)))
    return resize_pixels(pixels, *smaller, record.interpolation)
