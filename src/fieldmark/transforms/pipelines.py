"""The evaluation and the training pipeline, both built from one `TransformRecord`.

Training draws nothing but from torch's CPU generator, which is seeded for each sample and put
back afterwards: an augmented image depends on the image and its seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from fieldmark.recipes.schema import Augment
from fieldmark.transforms.geometry import (
    INTERPOLATION_MODES,
    fit_for_evaluation,
    fit_side,
    read_pixels,
)
from fieldmark.transforms.record import TransformRecord

Step = Callable[[Tensor], Tensor]


def build_eval_transform(record: TransformRecord) -> EvalTransform:
    """Build the pipeline of validation, prediction and serving; `record.augment` plays no part."""
    return EvalTransform(record)


def build_train_transform(record: TransformRecord) -> TrainTransform:
    """Build the pipeline of training."""
    return TrainTransform(record)


class EvalTransform:
    """RGB image -> (3, image_size, image_size) float32, normalised; nothing is random."""

    def __init__(self, record: TransformRecord) -> None:
        self._fit = _EvalFit(record)
        self._normalize = _Normalize(record)

    def __call__(self, image: Image.Image) -> Tensor:
        """Transform one image."""
        return self._normalize(_scale_to_unit(self._fit(read_pixels(image))))


class TrainTransform:
    """RGB image and the seed of its changes -> (3, image_size, image_size) float32, normalised.

    Crop, flips, RandAugment, colour jitter, rotation with zoom, and erasing follow each other in
    this order; those that the record leaves out cost nothing. With none of them the result
    equals `EvalTransform`'s.
    """

    def __init__(self, record: TransformRecord) -> None:
        augment = record.augment
        self._steps: tuple[Step, ...] = (
            _crop_step(record),
            *_flip_steps(augment),
            *_color_steps(record),
            _scale_to_unit,
            *_warp_steps(augment),
            _Normalize(record),
            *_erasing_steps(augment),
        )

    def __call__(self, image: Image.Image, seed: int) -> Tensor:
        """Transform one image; `seed` is any whole number of 64 bits."""
        values = read_pixels(image)  # (3, H, W) uint8
        with _draws_from(seed):
            for step in self._steps:
                values = step(values)
        return values


@contextmanager
def _draws_from(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also reseed the generators of GPUs, which nobody would restore.
        torch.default_generator.manual_seed(seed)
        yield


def _crop_step(record: TransformRecord) -> Step:
    augment = record.augment
    if augment.crop == "random":
        return _RandomCrop(record)
    if augment.crop == "resized":
        return v2.RandomResizedCrop(  # type: ignore[no-any-return]
            record.image_size,
            scale=augment.crop_scale,
            ratio=augment.crop_aspect,
            interpolation=INTERPOLATION_MODES[record.interpolation],
            antialias=True,
        )
    return _EvalFit(record)


@dataclass(frozen=True)
class _EvalFit:
    record: TransformRecord

    def __call__(self, pixels: Tensor) -> Tensor:
        return fit_for_evaluation(
            pixels,
            image_size=self.record.image_size,
            resize=self.record.resize,
            crop=self.record.crop,
            interpolation=self.record.interpolation,
        )


@dataclass(frozen=True)
class _RandomCrop:
    """Resize to image_size plus a margin, cut out a square of image_size at a random place."""

    record: TransformRecord

    def __call__(self, pixels: Tensor) -> Tensor:
        size = self.record.image_size
        resized = fit_side(
            pixels,
            side=size + self.record.augment.crop_margin_px,
            resize=self.record.resize,
            interpolation=self.record.interpolation,
        )
        top = _draw_index(resized.shape[1] - size + 1)
        left = _draw_index(resized.shape[2] - size + 1)
        return resized[:, top : top + size, left : left + size]


def _draw_index(count: int) -> int:
    return int(torch.randint(count, ()))


def _flip_steps(augment: Augment) -> Iterator[Step]:
    if augment.horizontal_flip:
        yield v2.RandomHorizontalFlip(augment.horizontal_flip)
    if augment.vertical_flip:
        yield v2.RandomVerticalFlip(augment.vertical_flip)


def _color_steps(record: TransformRecord) -> Iterator[Step]:
    augment = record.augment
    changes: list[Callable[[Image.Image], Image.Image]] = []
    if augment.randaugment_ops:
        # Uncovered corners get the mean colour, which is zero once normalised.
        fill = [float(round(255 * min(1.0, max(0.0, mean)))) for mean in record.mean]
        changes.append(
            v2.RandAugment(
                augment.randaugment_ops,
                augment.randaugment_magnitude,
                interpolation=INTERPOLATION_MODES["bilinear"],
                fill=fill,
            )
        )
    if any(augment.color_jitter):
        changes.append(v2.ColorJitter(*augment.color_jitter))
    if changes:
        yield _OnImage(tuple(changes))


@dataclass(frozen=True)
class _OnImage:
    """Changes of a Pillow image: for colours it is faster than a tensor by a third and more."""

    changes: tuple[Callable[[Image.Image], Image.Image], ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        for change in self.changes:
            image = change(image)
        return read_pixels(image)


def _scale_to_unit(pixels: Tensor) -> Tensor:
    """(3, H, W) uint8 -> float32 in 0..1, in memory of its own."""
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def _warp_steps(augment: Augment) -> Iterator[Step]:
    if augment.rotation_degrees or augment.zoom:
        yield _RandomWarp(augment.rotation_degrees, augment.zoom)


@dataclass(frozen=True)
class _RandomWarp:
    """Turn about the centre, and stretch or shrink height and width each by its own factor.

    Both are one affine map, sampled once (bilinear). What lies outside is the picture mirrored
    at its edges, so that no constant border tells the network that the picture was turned.
    """

    rotation_degrees: float
    zoom: float

    def __call__(self, values: Tensor) -> Tensor:
        angle = math.radians(_draw_between(-self.rotation_degrees, self.rotation_degrees))
        tall = _draw_between(1.0 - self.zoom, 1.0 + self.zoom)
        wide = _draw_between(1.0 - self.zoom, 1.0 + self.zoom)
        cos, sin = math.cos(angle), math.sin(angle)
        # From places in the output to places in the input, in units of half a side.
        theta = torch.tensor([[[cos * wide, -sin * tall, 0.0], [sin * wide, cos * tall, 0.0]]])
        grid = functional.affine_grid(theta, [1, *values.shape], align_corners=False)
        warped = functional.grid_sample(
            values[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )
        return warped[0]


def _draw_between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), dtype=torch.float64))


class _Normalize:
    """Subtract the mean and divide by the standard deviation of each channel, in place."""

    def __init__(self, record: TransformRecord) -> None:
        self._mean = torch.tensor(record.mean)[:, None, None]  # (3, 1, 1)
        self._std = torch.tensor(record.std)[:, None, None]  # (3, 1, 1)

    def __call__(self, values: Tensor) -> Tensor:
        return values.sub_(self._mean).div_(self._std)


def _erasing_steps(augment: Augment) -> Iterator[Step]:
    if augment.random_erasing:
        # Zero is the mean colour here.
        yield v2.RandomErasing(augment.random_erasing, value=0)
