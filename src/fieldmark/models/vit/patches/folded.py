"""Layer norm and projection of all views of a patch, without making the views.

The definition stacks 15 or 21 channels, cuts them into patches, normalises and projects
(`views.stack_views`). Here the same numbers come from the image itself:

- The four half-patch shifts and the original tile a window of 2P x 2P pixels around the patch:
  4 x 4 cells of P / 2 x P / 2. So their projection is one convolution: with the pixels of a cell
  as channels a kernel of 4 cells, stride 2, padding 1.
- The rotations come cut into patches: one product.
- The layer norm is affine once mean and deviation are known: its scale goes into the weights,
  its shift into the bias, its deviation divides the result.

Precision rests on never subtracting large numbers. The image is taken apart into cells: each
cell's mean, and what is left of the pixels after it. Convolutions see only what is left, cell
means enter as distance from the patch's mean, and variances add up from squared deviations. So a
flat patch is as exact as any other, in bfloat16 too, where a convolution of raw pixels divided by a
small deviation would be noise.

Speed rests on how often memory is passed over. Every sum runs over neighbours in memory, so pixels
are cut into cells once and rotations are read in the order of patches; and a CPU takes few images
at a time (`measure`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.vit.patches.rotation import is_eager_on_cpu

Turn = Callable[[slice], Tensor]
"""Gives rotations of a part of the images."""

CELLS = 4
"""Cells along the side of a window of 2P."""

SHIFTED_CELLS = CELLS * CELLS + 4
ROTATED_CELLS = 2 * 4
"""Cells that the five and the two rotated views of a patch are as large as."""

PART_VALUES = 2**19
"""Values of images that are measured in one go on a CPU: about what stays in its caches."""


class Folded(NamedTuple):
    """Norm and projection as kernels.

    window: (D, C * P / 2 * P / 2, 4, 4). cells: (D, 16), sums of the window over the channels of
    each cell. rotated: (D, C * 2 * P * P) or None. bias: (D,). Those of the pixels are in the
    precision of the products, the small ones in that of the parameters.
    """

    window: Tensor
    cells: Tensor
    rotated: Tensor | None
    bias: Tensor


class Measured(NamedTuple):
    """Pixels apart from their means, and what divides them.

    left: (B, 2h, 2w, C * P / 2 * P / 2) cells after their means. apart: (B, h, w, 16) means of the
    cells around each patch after the patch's mean. rotated: (B, h, w, C, 2 * P * P) after the
    patch's mean, or None. scale: (B, h, w, 1), one over the patch's deviation.
    """

    left: Tensor
    apart: Tensor
    scale: Tensor
    rotated: Tensor | None


def project_folded(measured: Measured, folded: Folded) -> Tensor:
    """Pixels -> tokens (B, N, D), in the precision of the parameters."""
    scale = measured.scale
    with full_precision(folded.bias.device.type):
        left = measured.left.permute(0, 3, 1, 2)
        tokens = functional.conv2d(left, folded.window, stride=2, padding=1).permute(0, 2, 3, 1)
        if measured.rotated is not None and folded.rotated is not None:
            tokens = tokens + functional.linear(measured.rotated.flatten(3), folded.rotated)
        means = functional.linear(measured.apart * scale, folded.cells, folded.bias)  # (B, h, w, D)
        return torch.addcmul(means, tokens, scale).flatten(1, 2)


def measure(
    images: Tensor, turn: Turn | None, *, patch_size: int, eps: float, dtype: torch.dtype
) -> Measured:
    """Take means off images (B, C, H, W) and off their rotations, P even.

    turn: gives the rotations (b, C, h, w, 2, P, P) of a part of the images. dtype: of the pixels.
    A CPU takes a few images at a time, so that pixels stay in its cache from one pass over them to
    the next, and less memory is new.
    """
    if not is_eager_on_cpu(images) or images.numel() <= PART_VALUES:
        rotated = None if turn is None else turn(slice(None))
        return _cast(_measure(images, rotated, patch_size, eps), dtype)
    num_images = images.shape[0]
    step = math.ceil(num_images / math.ceil(images.numel() / PART_VALUES))
    whole: Measured | None = None
    for start in range(0, num_images, step):
        part = slice(start, start + step)
        rotated = None if turn is None else turn(part)
        measured = _measure(images[part], rotated, patch_size, eps)
        whole = _make_room(measured, num_images, dtype) if whole is None else whole
        for room, values in zip(whole, measured, strict=True):
            if room is not None and values is not None:
                room[part] = values
        del rotated, measured, values  # the next part takes their place in the cache
    return cast(Measured, whole)


def _measure(images: Tensor, rotated: Tensor | None, patch_size: int, eps: float) -> Measured:
    """Take means off images (B, C, H, W) and rotations (B, C, h, w, 2, P, P)."""
    # Deviations need float32; what is left after them does not.
    exact = torch.promote_types(images.dtype, torch.float32)
    left, cells = _split_cells(_cut(images.to(exact), patch_size // 2))
    means, remainders, squares = _gather_windows(cells).unbind(1)  # (B, 16, h, w) each
    total, num_cells = _sum_views(means), SHIFTED_CELLS
    if rotated is not None:
        rotated = rotated.to(exact).flatten(4)  # (B, C, h, w, 2 * P * P)
        total = total + ROTATED_CELLS * rotated.mean(dim=-1).mean(dim=1)
        num_cells += ROTATED_CELLS
    mean = total / num_cells  # (B, h, w)
    apart = means - mean[:, None]
    square = _sum_views(squares + apart * (apart + 2 * remainders))
    if rotated is not None:
        rotated -= mean[:, None, ..., None]
        square = square + ROTATED_CELLS * _mean_square(rotated).mean(dim=1)
        rotated = rotated.permute(0, 2, 3, 1, 4)
    scale = (square / num_cells + eps).rsqrt()
    return Measured(left, apart.permute(0, 2, 3, 1), scale[..., None], rotated)


def _cast(measured: Measured, dtype: torch.dtype) -> Measured:
    """The pixels in that precision."""
    rotated = None if measured.rotated is None else measured.rotated.to(dtype)
    return measured._replace(left=measured.left.to(dtype), rotated=rotated)


def _make_room(part: Measured, num_images: int, dtype: torch.dtype) -> Measured:
    """Empty tensors for that many images like those of `part`, pixels in that precision."""

    def make(like: Tensor, dtype: torch.dtype) -> Tensor:
        return like.new_empty((num_images, *like.shape[1:]), dtype=dtype)

    return Measured(
        left=make(part.left, dtype),
        apart=make(part.apart, part.apart.dtype),
        scale=make(part.scale, part.scale.dtype),
        rotated=None if part.rotated is None else make(part.rotated, dtype),
    )


def full_precision(device_type: str) -> torch.autocast | nullcontext[None]:
    """Switch autocast off; torch's meta device, where only shapes are computed, knows none."""
    if device_type == "meta":
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def fold(
    norm: nn.LayerNorm, proj: nn.Linear, *, patch_size: int, num_views: int, dtype: torch.dtype
) -> Folded:
    """Turn layer norm over P * P * V * C values and their projection to D into kernels."""
    half = patch_size // 2
    with full_precision(proj.weight.device.type):
        # Rows that sum to zero let no error of the patch's mean through.
        vectors = torch.stack((norm.weight / norm.weight.numel(), norm.bias))
        mean, shift = functional.linear(vectors, proj.weight)  # (D,) each
        weight = proj.weight * norm.weight
        weight += -mean[:, None]  # in place, and a sum: the gradient passes as it is
        weight = weight.to(dtype)
        views = torch.unflatten(weight, 1, (2, half, 2, half, num_views, -1))
        views = views.permute(5, 0, 1, 3, 6, 2, 4)  # (V, D, 2, 2, C, P / 2, P / 2)
        unturned, turned = views.split_with_sizes((5, num_views - 5))
        window = _lay_window(unturned)
        # Sums of the kernel as it is after rounding, which is what flat cells are weighed with.
        cells = window.sum(dim=3, dtype=mean.dtype).flatten(1)
        rotated = None
        if num_views > 5:  # (V, D, 2, 2, C, P / 2, P / 2) -> (D, C, V, 2, P / 2, 2, P / 2)
            rotated = turned.permute(1, 4, 0, 2, 5, 3, 6).flatten(1)
        return Folded(window.permute(0, 3, 1, 2), cells, rotated, proj.bias + shift)


def _lay_window(views: Tensor) -> Tensor:
    """Lay original and shifts (5, D, 2, 2, C, P / 2, P / 2) out as (D, 4, 4, C * P / 2 * P / 2).

    A shift to the left and up reads the pixels to the right of and below the patch.
    """
    original, left_up, left_down, right_up, right_down = views.unbind()
    above = torch.cat((right_down, left_down), dim=2)  # (D, 2, 4, C, P / 2, P / 2)
    below = torch.cat((right_up, left_up), dim=2)
    window = torch.cat((above, below), dim=1)
    window[:, 1:3, 1:3] += original
    return window.flatten(3)


def _cut(images: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, h, w, C * side * side): values of each square side by side, a copy."""
    squares = torch.unflatten(torch.unflatten(images, 3, (-1, side)), 2, (-1, side))
    squares = squares.permute(0, 2, 4, 1, 3, 5)
    return squares.clone(memory_format=torch.contiguous_format).flatten(3)


def _split_cells(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (B, 2h, 2w, K) -> what is left of them, in place, and their figures (B, 3, 2h, 2w).

    The figures are averages over a cell's values: of the cell, of what is left and of its square.
    What is left averages to the rounding error of the mean, and where the image is nearly flat
    that is a good part of its deviation.
    """
    means = cells.mean(dim=-1)
    cells -= means[..., None]
    return cells, torch.stack((means, cells.mean(dim=-1), _mean_square(cells)), dim=1)


def _mean_square(values: Tensor) -> Tensor:
    """(..., K) -> (...), without a tensor of all squares."""
    norm: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return norm.square() / values.shape[-1]


def _gather_windows(cells: Tensor) -> Tensor:
    """Cells (B, M, 2h, 2w) -> (B, M, 16, h, w): the 4 x 4 around each patch, zeros outside."""
    grid = (cells.shape[2] // 2, cells.shape[3] // 2)
    columns = functional.unfold(cells, kernel_size=CELLS, padding=1, stride=2)
    return torch.unflatten(torch.unflatten(columns, 2, grid), 1, (-1, CELLS * CELLS))


def _sum_views(windows: Tensor) -> Tensor:
    """(B, 16, h, w) -> (B, h, w): each cell for its shift, the middle four for the original too."""
    return windows.sum(dim=1) + windows[:, 5:7].sum(dim=1) + windows[:, 9:11].sum(dim=1)
