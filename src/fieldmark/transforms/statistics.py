"""Pixel statistics of a set of images, for `normalize: dataset`."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from fieldmark.errors import DataError
from fieldmark.recipes.schema import Data, Statistics
from fieldmark.transforms.geometry import Picture, fit_for_evaluation, read_pixels
from fieldmark.transforms.record import check_interpolation

# A channel that never changes is centred but not blown up.
_SMALLEST_STD = 1 / 255


def measure_statistics(
    images: Iterable[Picture], data: Data, *, interpolation: str = "bilinear"
) -> Statistics:
    """Mean and standard deviation per channel, over all pixels that evaluation would see.

    Sums are of whole numbers, hence exact whatever the number of images, and in any order.
    Raises `DataError` where there is no image.
    """
    num_pixels = 0
    sums, sums_of_squares = [0, 0, 0], [0, 0, 0]
    for image in images:
        pixels = fit_for_evaluation(
            read_pixels(image),
            image_size=data.image_size,
            resize=data.resize,
            crop=data.crop,
            interpolation=check_interpolation(interpolation),
        )
        values = pixels.flatten(1).to(torch.int64)  # (3, H * W)
        num_pixels += values.shape[1]
        sums = _add(sums, values.sum(dim=1).tolist())
        sums_of_squares = _add(sums_of_squares, (values * values).sum(dim=1).tolist())
    if num_pixels == 0:
        raise DataError(
            "normalize: dataset needs at least one training image to measure. "
            "Add images to the train split, or set data.normalize=half"
        )
    red, green, blue = (
        _mean_and_std(total, squares, num_pixels)
        for total, squares in zip(sums, sums_of_squares, strict=True)
    )
    return Statistics(mean=(red[0], green[0], blue[0]), std=(red[1], green[1], blue[1]))


def _add(totals: list[int], more: list[int]) -> list[int]:
    return [total + new for total, new in zip(totals, more, strict=True)]


def _mean_and_std(total: int, squares: int, count: int) -> tuple[float, float]:
    # n * sum(x^2) - sum(x)^2 in whole numbers: nothing cancels.
    deviation = (count * squares - total * total) ** 0.5 / count
    return total / count / 255, max(deviation / 255, _SMALLEST_STD)
