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

    They come cut into patches, since that is how they are used: pixels are read in that order.

    angles: "per_image" and "per_batch" draw in training; "fixed" never does; "as_published"
        draws one pair per batch in evaluation too. Draws come from torch's global generator.
    interpolation, fill: see `rotate`.
    """

    middle_index: Tensor

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        angles: Angles,
        interpolation: Interpolation,
        fill: Fill,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.angles = angles
        self.interpolation: Interpolation = interpolation
        self.fill: Fill = fill
        # Constants, and of whole numbers, so that an exported network reads exactly the same pixels
        # in any precision. A CPU reads the same ones quicker by a grid, which no module may round.
        index = self._find_middle_index(image_size, image_size)
        self.register_buffer("middle_index", index, persistent=False)
        self._middle_grid = self._find_middle_grid(image_size, image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> (B, C, h, w, 2, P, P): anticlockwise, clockwise."""
        return self.turn(images, self.choose_angles(images.shape[0]))

    def choose_angles(self, num_images: int) -> Tensor | None:
        """Return drawn angles (A, 2), or None for the middle ones."""
        if self.angles == "as_published" or (self.training and self.angles == "per_batch"):
            return draw_angles(1)
        return draw_angles(num_images) if self.training and self.angles == "per_image" else None

    def turn(self, images: Tensor, angles: Tensor | None) -> Tensor:
        """Images (B, C, H, W) by `choose_angles` -> (B, C, h, w, 2, P, P)."""
        height, width = images.shape[-2:]
        if angles is not None:
            tile = (self.patch_size, self.patch_size)
            grid = find_grid(angles.to(images.device), height, width, tile)
        elif self.interpolation == "nearest" and not is_eager_on_cpu(images):
            return read_index(images, self._get_index_for(images))
        else:
            grid = self._get_grid_for(images)
        return sample(images, grid, self.interpolation, self.fill)

    def _get_index_for(self, images: Tensor) -> Tensor:
        if self._is_size_of(self.middle_index, images):
            return self.middle_index
        return self._find_middle_index(*images.shape[-2:]).to(images.device)

    def _get_grid_for(self, images: Tensor) -> Tensor:
        if self._is_size_of(self._middle_grid, images):
            return self._middle_grid.to(images.device)
        return self._find_middle_grid(*images.shape[-2:]).to(images.device)

    def _is_size_of(self, constant: Tensor, images: Tensor) -> bool:
        return all(
            patches * self.patch_size == pixels
            for patches, pixels in zip(constant.shape[1:3], images.shape[-2:], strict=True)
        )

    def _find_middle_index(self, height: int, width: int) -> Tensor:
        """Return the `find_source_index` of evaluation, cut: (1, h, w, 2, P, P)."""
        return self._cut(find_source_index(middle_angles(), height, width, self.fill))

    def _find_middle_grid(self, height: int, width: int) -> Tensor:
        """Return the grid of evaluation (1, h, w, 2, P, P, 2): the pixels that the index reads."""
        if self.interpolation == "bilinear":
            return find_grid(middle_angles(), height, width, (self.patch_size, self.patch_size))
        columns, rows = find_nearest(middle_angles(), height, width, self.fill)
        columns, rows = (2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1
        return torch.stack((self._cut(columns), self._cut(rows)), dim=-1)

    def _cut(self, places: Tensor) -> Tensor:
        """(A, R, H, W) -> (A, h, w, R, P, P)."""
        tiles = torch.unflatten(places, 3, (-1, self.patch_size))
        tiles = torch.unflatten(tiles, 2, (-1, self.patch_size))
        return tiles.permute(0, 2, 4, 1, 3, 5).contiguous()


def is_eager_on_cpu(images: Tensor) -> bool:
    """Whether images are on a CPU, and no graph is made of what is done to them."""
    return images.device.type == "cpu" and not is_recorded()


def is_recorded() -> bool:
    """Whether this call makes a graph, which has to serve every batch, and other runtimes."""
    is_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return is_traced or torch.compiler.is_compiling()


def join_patches(rotated: Tensor) -> Tensor:
    """(B, C, h, w, 2, P, P) of `Rotations` -> (B, C, 2, H, W)."""
    return rotated.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4)


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
    grid = find_grid(angles, height, width, (height, width))
    return sample(images, grid, interpolation, fill)[:, :, 0, 0]


def sample(images: Tensor, grid: Tensor, interpolation: Interpolation, fill: Fill) -> Tensor:
    """Read images (B, C, H, W) at a grid (A, ..., 2) of `find_grid` -> (B, C, ...)."""
    exact = torch.promote_types(images.dtype, torch.float32)
    places = grid.flatten(1, -2)[:, None].to(exact)  # (A, 1, all places, 2)
    turned = functional.grid_sample(
        images.to(exact),
        places.expand(images.shape[0], -1, -1, -1),
        mode=interpolation,
        padding_mode=_PADDING_MODES[fill],
        align_corners=False,
    )  # (B, C, 1, all places)
    return torch.unflatten(turned.squeeze(2).to(images.dtype), 2, grid.shape[1:-1])


def find_grid(angles: Tensor, height: int, width: int, tile: tuple[int, int]) -> Tensor:
    """Return (A, h, w, R, *tile, 2): where rotated pixels come from, in the units of grid_sample.

    Tile by tile, the whole image being one tile of that size: the quick way for angles that were
    just drawn. Units are halves of the image's sides from its centre, so a turn and a division are
    all that is left of `find_sources`; a coordinate is a share of its column plus one of its row.
    The nearest pixel is that of `rotate`, but where rounding decides between two.
    """
    cosine, sine = angles.to(torch.float32).cos(), angles.to(torch.float32).sin()
    right = torch.arange(width, device=angles.device) - (width - 1) / 2
    down = torch.arange(height, device=angles.device) - (height - 1) / 2
    units = torch.tensor((2 / width, 2 / height), device=angles.device)
    across = torch.stack((cosine, sine), dim=-1) * units  # (A, R, 2): of one px to the right
    along = torch.stack((-sine, cosine), dim=-1) * units  # of one px down
    across = across[:, None, :, None, None] * right.view(-1, 1, 1, tile[1], 1)
    along = along[:, None, :, None, None] * down.view(-1, 1, tile[0], 1, 1)
    # Both are made as large as a tile, so that the sum runs over tiles and not over pairs.
    shape = (angles.shape[1], *tile, 2)
    across = across.expand(-1, -1, *shape).contiguous()[:, None]  # (A, 1, w, R, *tile, 2)
    along = along.expand(-1, -1, *shape).contiguous()[:, :, None]  # (A, h, 1, R, *tile, 2)
    return across + along


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
    columns, rows = find_nearest(angles, height, width, fill)
    return rows.long().add_(1).mul_(width + 2).add_(columns.long()).add_(1)


def find_nearest(angles: Tensor, height: int, width: int, fill: Fill) -> tuple[Tensor, Tensor]:
    """Return whole columns and rows, (A, R, H, W) each: at most 1 px outside for "zeros"."""
    columns, rows = (sources.round_() for sources in find_sources(angles, height, width))
    if fill == "reflect":
        columns, rows = _reflect(columns, width), _reflect(rows, height)
    border = 1 if fill == "zeros" else 0
    columns.clamp_(-border, width - 1 + border)
    rows.clamp_(-border, height - 1 + border)
    return columns, rows


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
