"""The evaluation and the training pipeline, both built from one `TransformRecord`.

Training draws nothing but from torch's CPU generator, which is seeded for each sample and put
back afterwards: an augmented image depends on the image and its seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import get_worker_info
from torchvision.transforms import v2

from fieldmark.recipes.schema import Augment
from fieldmark.transforms.geometry import (
    INTERPOLATION_MODES,
    Picture,
    read_pixels,
    resize_pixels,
)
from fieldmark.transforms.preparation import Preparation
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
        self.preparation = Preparation.for_evaluation(record)
        self._normalize = _Normalize(record)
        self._image_size = record.image_size

    def __call__(self, image: Picture) -> Tensor:
        """Transform one image."""
        return self._normalize(_scale_to_unit(self.prepare(image)))

    def least_size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width at which an image of this size may be decoded."""
        return self.preparation.least_size(height, width)

    def prepare(self, image: Picture) -> Tensor:
        """RGB image -> (3, h, w) uint8: what can be stored."""
        return self.preparation(read_pixels(image))

    def finish(self, prepared: Iterable[tuple[Tensor, int | None]], *, at_most: int) -> Tensor:
        """Prepared images (the seeds play no part) -> (B, 3, image_size, image_size) float32."""
        images = _room_for(at_most, self._image_size)
        count = 0
        for pixels, _ in prepared:
            self._normalize.write(pixels, images[count])
            count += 1
        return images[:count]


class TrainTransform:
    """RGB image and the seed of its changes -> (3, image_size, image_size) float32, normalised.

    Crop, flips, RandAugment, colour jitter, rotation with zoom, and erasing follow each other in
    this order; those that the record leaves out cost nothing. With none of them the result
    equals `EvalTransform`'s.

    It has two parts, one after the other: `prepare` is the same each time, so its result may be
    stored; `finish` is random. In one call or in two, the bits are the same.
    """

    def __init__(self, record: TransformRecord) -> None:
        augment = record.augment
        self.preparation = Preparation.for_training(record)
        self._image_size = record.image_size
        # Changes of whole numbers, then changes of fractions.
        self._changes: tuple[Step, ...] = (
            *_crop_step(record),
            *_flip_steps(augment),
            *_color_steps(record),
        )
        self._warps = tuple(_warp_steps(augment))
        self._normalize = _Normalize(record)
        self._erasings = tuple(_erasing_steps(augment))

    def __call__(self, image: Picture, seed: int) -> Tensor:
        """Transform one image; `seed` is any whole number of 64 bits."""
        return self.finish([(self.prepare(image), seed)], at_most=1)[0]

    def least_size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width at which an image of this size may be decoded."""
        return self.preparation.least_size(height, width)

    def prepare(self, image: Picture) -> Tensor:
        """RGB image -> (3, h, w) uint8: what can be stored."""
        return self.preparation(read_pixels(image))

    def finish(self, prepared: Iterable[tuple[Tensor, int | None]], *, at_most: int) -> Tensor:
        """Prepared images, each with its seed -> (B, 3, image_size, image_size) float32."""
        images = _room_for(at_most, self._image_size)
        count = 0
        with torch.random.fork_rng(devices=[]):
            for pixels, seed in prepared:
                # torch.manual_seed would also reseed the generators of GPUs, which nobody would
                # restore.
                torch.default_generator.manual_seed(seed or 0)
                self._change(pixels, images[count])
                count += 1
        return images[:count]

    def _change(self, pixels: Tensor, image: Tensor) -> None:
        """Write the changed image to `image`; one by one, while it is in the fast memory."""
        for step in self._changes:
            pixels = step(pixels)
        if not self._warps and not self._erasings:
            self._normalize.write(pixels, image)
            return
        values = _scale_to_unit(pixels)
        steps: tuple[Step, ...] = (*self._warps, self._normalize, *self._erasings)
        for step in steps:
            values = step(values)
        image.copy_(values)


def _room_for(count: int, side: int) -> Tensor:
    """(count, 3, side, side) float32, not filled, in the memory order (count, side, side, 3).

    That is the order of decoded pixels, and the one that convolutions read best. A loader's own
    process takes it from the memory that it shares with the training: a batch made elsewhere would
    be copied there, about a tenth of the time of a batch of stored images.
    """
    shape = (count, side, side, 3)
    if get_worker_info() is None:
        return torch.empty(shape).permute(0, 3, 1, 2)
    # As torch's own default_collate does it.
    num_bytes = 4 * count * 3 * side * side
    storage = torch.UntypedStorage._new_shared(num_bytes)  # type: ignore[no-untyped-call]
    return torch.empty(0).set_(storage).view(shape).permute(0, 3, 1, 2)


def _crop_step(record: TransformRecord) -> Iterator[Step]:
    augment = record.augment
    if augment.crop == "random":
        yield _CutSquare(record.image_size)
    elif augment.crop == "resized":
        yield _ResizedCrop(record)


@dataclass(frozen=True)
class _CutSquare:
    """Cut out a square of `side` px at a random place."""

    side: int

    def __call__(self, pixels: Tensor) -> Tensor:
        top = _draw_index(pixels.shape[1] - self.side + 1)
        left = _draw_index(pixels.shape[2] - self.side + 1)
        return pixels[:, top : top + self.side, left : left + self.side]


class _ResizedCrop:
    """torchvision's `RandomResizedCrop` draw for draw, at a fraction of its overhead."""

    _ATTEMPTS = 10

    def __init__(self, record: TransformRecord) -> None:
        low, high = record.augment.crop_aspect
        self._side = record.image_size
        self._scale = record.augment.crop_scale
        self._aspect = record.augment.crop_aspect
        # In 32 bits, as torchvision has them.
        self._log_aspect = tuple(torch.log(torch.tensor([low, high])).tolist())
        self._interpolation = record.interpolation
        self._drawn = torch.empty(1)

    def __call__(self, pixels: Tensor) -> Tensor:
        top, left, height, width = self._draw_box(pixels.shape[1], pixels.shape[2])
        box = pixels[:, top : top + height, left : left + width]
        return resize_pixels(box, self._side, self._side, self._interpolation)

    def _draw_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        for _ in range(self._ATTEMPTS):
            area = height * width * self._drawn.uniform_(*self._scale).item()
            aspect = self._drawn.uniform_(*self._log_aspect).exp_().item()
            wide = round(math.sqrt(area * aspect))
            tall = round(math.sqrt(area / aspect))
            if 0 < wide <= width and 0 < tall <= height:
                top = _draw_index(height - tall + 1)
                left = _draw_index(width - wide + 1)
                return top, left, tall, wide
        return self._largest_box(height, width)

    def _largest_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The largest in the middle whose aspect is in the range."""
        tall, wide = height, width
        low, high = self._aspect
        if width / height < low:
            tall = round(width / low)
        elif width / height > high:
            wide = round(height * high)
        return (height - tall) // 2, (width - wide) // 2, tall, wide


def _draw_index(count: int) -> int:
    return int(torch.randint(count, ()))


def _flip_steps(augment: Augment) -> Iterator[Step]:
    if augment.horizontal_flip:
        yield _RandomFlip(augment.horizontal_flip, axis=2)
    if augment.vertical_flip:
        yield _RandomFlip(augment.vertical_flip, axis=1)


@dataclass(frozen=True)
class _RandomFlip:
    """torchvision's flips draw for draw, at a fifth of their overhead."""

    probability: float
    axis: int

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels.flip(self.axis) if torch.rand(1).item() < self.probability else pixels


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
    """Subtract the mean and divide by the standard deviation of each channel."""

    def __init__(self, record: TransformRecord) -> None:
        self._mean = torch.tensor(record.mean)  # (3,)
        self._std = torch.tensor(record.std)  # (3,)
        # Of a row of pixels whose three values lie side by side: (W * 3,).
        self._row_mean = self._mean.repeat(record.image_size)
        self._row_std = self._std.repeat(record.image_size)

    def __call__(self, values: Tensor) -> Tensor:
        """Normalise (3, H, W) in 0..1 in place."""
        return values.sub_(self._mean[:, None, None]).div_(self._std[:, None, None])

    def write(self, pixels: Tensor, image: Tensor) -> None:
        """Normalise (3, H, W) uint8 into `image`, (3, H, W) in the memory order (H, W, 3)."""
        values = image.permute(1, 2, 0)  # (H, W, 3)
        values.copy_(pixels.permute(1, 2, 0))
        values.flatten(1).div_(255).sub_(self._row_mean).div_(self._row_std)


def _erasing_steps(augment: Augment) -> Iterator[Step]:
    if augment.random_erasing:
        # Zero is the mean colour here.
        yield v2.RandomErasing(augment.random_erasing, value=0)
