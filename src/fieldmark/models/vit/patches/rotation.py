"""Rotating a batch about the image centre by small random angles.

Rotated Patch Tokenization (Ai and He, section 3.2.2; angles and direction as in their notebook):
one rotation anticlockwise and one clockwise, each by an angle of its own between pi/20 and pi/14
(9 to 12.857 degrees), the size of the image kept.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Angles = Literal["per_image", "per_batch", "fixed", "as_published"]
Interpolation = Literal["nearest", "bilinear"]
Fill = Literal["zeros", "reflect", "edge"]

SMALLEST_ANGLE = math.pi / 20
LARGEST_ANGLE = math.pi / 14
MIDDLE_ANGLE = (SMALLEST_ANGLE + LARGEST_ANGLE) / 2
"""17 pi / 280 radians, 10.93 degrees: what evaluation uses."""

_PADDING_MODES = {"zeros": "zeros", "reflect": "reflection", "edge": "border"}


class Rotations(nn.Module):
    """Both rotations of each image, with random angles in training and fixed ones in evaluation.

    angles: "per_image" and "per_batch" draw in training; "fixed" never does; "as_published"
        draws one pair per batch in evaluation too. Draws come from torch's global generator.
    interpolation, fill: see `rotate`.
    """

    middle_index: Tensor

    def __init__(
        self, *, image_size: int, angles: Angles, interpolation: Interpolation, fill: Fill
    ) -> None:
        super().__init__()
        self.angles = angles
        self.interpolation: Interpolation = interpolation
        self.fill: Fill = fill
        # A constant, so that an exported network reads exactly the same pixels.
        index = find_source_index(middle_angles(), image_size, image_size, fill)
        self.register_buffer("middle_index", index, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> (B, C, 2, H, W): anticlockwise, clockwise."""
        angles = self._choose_angles(images.shape[0])
        if angles is None and self._has_index_for(images):
            return read_index(images, self.middle_index)
        angles = middle_angles() if angles is None else angles
        return rotate(images, angles.to(images.device), self.interpolation, self.fill)

    def _choose_angles(self, num_images: int) -> Tensor | None:
        """Return drawn angles (A, 2), or None for the middle ones."""
        if self.angles == "as_published" or (self.training and self.angles == "per_batch"):
            return draw_angles(1)
        return draw_angles(num_images) if self.training and self.angles == "per_image" else None

    def _has_index_for(self, images: Tensor) -> bool:
        is_same_size = self.middle_index.shape[-2:] == images.shape[-2:]
        return self.interpolation == "nearest" and is_same_size


def draw_angles(count: int) -> Tensor:
    """Draw (count, 2) angles in radians: anticlockwise (positive), clockwise (negative).

    Drawn on the CPU, so that the same seed gives the same angles on every device.
    """
    shares = torch.rand(count, 2)
    sizes = SMALLEST_ANGLE + (LARGEST_ANGLE - SMALLEST_ANGLE) * shares
    return sizes * torch.tensor([1.0, -1.0])


def middle_angles() -> Tensor:
    """Return the (1, 2) angles of evaluation in radians."""
    return torch.tensor([[MIDDLE_ANGLE, -MIDDLE_ANGLE]])


def rotate(images: Tensor, angles: Tensor, interpolation: Interpolation, fill: Fill) -> Tensor:
    """Turn images (B, C, H, W) by angles (A, R), A = 1 or B -> (B, C, R, H, W).

    Positive is anticlockwise as seen. Each output pixel reads the input where the inverse
    rotation about ((W - 1) / 2, (H - 1) / 2) puts it.
    interpolation: "nearest" rounds half to even; "bilinear" weighs four pixels.
    fill: what lies outside. "reflect" repeats the border pixel (c b a | a b c).
    """
    height, width = images.shape[-2:]
    if interpolation == "nearest":
        return read_index(images, find_source_index(angles, height, width, fill))
    columns, rows = find_sources(angles, height, width)
    grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)
    grid = grid.flatten(1, 2).expand(images.shape[0], -1, -1, -1)  # (B, R * H, W, 2)
    turned = functional.grid_sample(
        images.to(torch.promote_types(images.dtype, torch.float32)),
        grid.to(torch.promote_types(images.dtype, torch.float32)),
        mode="bilinear",
        padding_mode=_PADDING_MODES[fill],
        align_corners=False,
    )
    return torch.unflatten(turned.to(images.dtype), 2, (-1, height))


def find_sources(angles: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the columns and the rows, (A, R, H, W) each, px, that rotated pixels come from.

    In float32 whatever the images are: bfloat16 cannot name a pixel beyond 256.
    """
    angles = angles.to(torch.float32)[..., None, None]
    right = torch.arange(width, device=angles.device) - (width - 1) / 2  # (W,)
    down = (torch.arange(height, device=angles.device) - (height - 1) / 2)[:, None]  # (H, 1)
    cosine, sine = angles.cos(), angles.sin()
    columns = (cosine * right - sine * down).add_((width - 1) / 2)
    rows = (sine * right + cosine * down).add_((height - 1) / 2)
    return columns, rows


def find_source_index(angles: Tensor, height: int, width: int, fill: Fill) -> Tensor:
    """Return (A, R, H, W): where the nearest input pixel is in a row of all pixels (`read_index`).

    The image has a border of one zero pixel for that, so that "zeros" needs no case of its own.
    """
    columns, rows = (sources.round_() for sources in find_sources(angles, height, width))
    if fill == "reflect":
        columns, rows = _reflect(columns, width), _reflect(rows, height)
    border = 1 if fill == "zeros" else 0
    columns.clamp_(-border, width - 1 + border)
    rows.clamp_(-border, height - 1 + border)
    return rows.long().add_(1).mul_(width + 2).add_(columns.long()).add_(1)


def read_index(images: Tensor, index: Tensor) -> Tensor:
    """Images (B, C, H, W) at index (A, R, H, W) of `find_source_index` -> (B, C, R, H, W)."""
    num_images, num_channels = images.shape[:2]
    pixels = functional.pad(images, (1, 1, 1, 1)).flatten(2)  # (B, C, (H + 2) * (W + 2))
    places = index.flatten(1)[:, None].expand(num_images, num_channels, -1)
    return torch.unflatten(pixels.gather(2, places), 2, index.shape[1:])


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Fold whole positions back into 0 .. size - 1: -1 is 0, size is size - 1."""
    folded = positions.remainder(2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)
