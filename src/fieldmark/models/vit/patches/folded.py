"""Layer norm and projection of all views of a patch, without making the views.

The definition stacks 15 or 21 channels, cuts them into patches, normalises and projects
(`views.stack_views`). Here the same numbers come from the image itself:

- The four half-patch shifts and the original tile a window of 2P x 2P pixels around the patch,
  so their projection is one convolution: kernel 2P, stride P, padding P / 2. With the pixels of
  each cell of P / 2 x P / 2 as channels that is a kernel of 4 cells, stride 2, padding 1.
- The rotations are cut into patches: one product.
- The layer norm is affine once mean and deviation are known: its scale goes into the kernels,
  its shift into the bias, its deviation divides the result.

Precision rests on never subtracting large numbers. The image is taken apart into cells of
P / 2 x P / 2 pixels: each cell's mean, and what is left of the pixels after it. Convolutions see
only what is left, cell means enter as distance from the patch's mean, and variances add up from
squared deviations. So a flat patch is as exact as any other, in bfloat16 too, where a convolution
of raw pixels divided by a small deviation would be noise.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

CELLS = 4
"""Cells along the side of a window of 2P."""

SHIFTED_CELLS = CELLS * CELLS + 4
ROTATED_CELLS = 2 * 4
"""Cells that the five and the two rotated views of a patch are as large as."""


class Folded(NamedTuple):
    """Norm and projection as kernels.

    window: (D, C * P / 2 * P / 2, 4, 4). cells: (D, 16), sums of the window over the channels of
    each cell. rotated: (D, C * 2 * P * P) or None. bias: (D,).
    """

    window: Tensor
    cells: Tensor
    rotated: Tensor | None
    bias: Tensor


class Measured(NamedTuple):
    """Pixels apart from their means, and what divides them.

    left: (B, 2h, 2w, C * P / 2 * P / 2) cells after their means. apart: (B, h, w, 16) means of the
    cells around each patch after the patch's mean. rotated: (B, h, w, C * 2 * P * P) after the
    patch's mean, or None. scale: (B, h, w, 1), one over the patch's deviation.
    """

    left: Tensor
    apart: Tensor
    rotated: Tensor | None
    scale: Tensor


def project_folded(
    images: Tensor, rotated: Tensor | None, folded: Folded, *, patch_size: int, eps: float
) -> Tensor:
    """Images (B, C, H, W), P even, and their rotations (B, C, 2, H, W) -> tokens (B, N, D)."""
    # Deviations need float32; what is left after them does not.
    with full_precision(images.device.type):
        measured = _measure(images, rotated, patch_size, eps)
    dtype = folded.window.dtype
    left = measured.left.to(dtype).permute(0, 3, 1, 2)
    tokens = functional.conv2d(left, folded.window, stride=2, padding=1).permute(0, 2, 3, 1)
    tokens = tokens + functional.linear(measured.apart.to(dtype), folded.cells)  # (B, h, w, D)
    if measured.rotated is not None and folded.rotated is not None:
        tokens = tokens + functional.linear(measured.rotated.to(dtype), folded.rotated)
    tokens = tokens * measured.scale.to(dtype) + folded.bias
    return tokens.flatten(1, 2)


def _measure(images: Tensor, rotated: Tensor | None, patch_size: int, eps: float) -> Measured:
    """Take means off images (B, C, H, W) and rotations (B, C, 2, H, W)."""
    exact = torch.promote_types(images.dtype, torch.float32)
    left, cells = _split_cells(_cut(images.to(exact), patch_size // 2))
    means, remainders, squares = _gather_windows(cells).unbind(1)  # (B, 16, h, w) each
    total, num_cells = _sum_views(means), SHIFTED_CELLS
    if rotated is not None:
        rotated = _cut(rotated.to(exact).flatten(1, 2), patch_size)  # (B, h, w, C * 2 * P * P)
        total = total + ROTATED_CELLS * rotated.mean(dim=-1)
        num_cells += ROTATED_CELLS
    mean = total / num_cells  # (B, h, w)
    apart = means - mean[:, None]
    square = _sum_views(squares + apart * (apart + 2 * remainders))
    if rotated is not None:
        rotated -= mean[..., None]
        square = square + ROTATED_CELLS * _mean_square(rotated)
    scale = (square / num_cells + eps).rsqrt()
    return Measured(left, apart.permute(0, 2, 3, 1), rotated, scale[..., None])


def full_precision(device_type: str) -> torch.autocast | nullcontext[None]:
    """Switch autocast off; torch's meta device, where only shapes are computed, knows none."""
    if device_type == "meta":
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def fold(norm: nn.LayerNorm, proj: nn.Linear, *, patch_size: int, num_views: int) -> Folded:
    """Turn layer norm over P * P * V * C values and their projection to D into kernels."""
    half = patch_size // 2
    with full_precision(proj.weight.device.type):
        weight = proj.weight * norm.weight
        # Rows that sum to zero let no error of the patch's mean through.
        weight -= weight.mean(dim=1, keepdim=True)
        cells = torch.unflatten(weight, 1, (2, half, 2, half, num_views, -1))
        cells = cells.permute(0, 5, 1, 3, 6, 2, 4)  # (D, V, 2, 2, C, P / 2, P / 2)
        centre, shifted, turned = cells.split_with_sizes((1, 4, num_views - 5), dim=1)
        # A shift to the left and up reads the pixels to the right of and below the patch.
        quadrants = torch.unflatten(shifted, 1, (2, 2)).flip(1, 2)  # (D, right, below, 2, 2, ...)
        window = quadrants.permute(0, 2, 3, 1, 4, 5, 6, 7).flatten(5).flatten(3, 4).flatten(1, 2)
        window = window + functional.pad(centre.flatten(4).squeeze(1), (0, 0, 1, 1, 1, 1))
        rotated = None
        if num_views > 5:  # (D, V, 2, 2, C, P / 2, P / 2) -> (D, C, V, 2, P / 2, 2, P / 2)
            rotated = turned.permute(0, 4, 1, 2, 5, 3, 6).flatten(1)
        bias = proj.bias + proj.weight @ norm.bias
        return Folded(window.permute(0, 3, 1, 2), window.sum(dim=3).flatten(1), rotated, bias)


def _cut(images: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, h, w, C * side * side): the values of each square side by side."""
    squares = torch.unflatten(torch.unflatten(images, 3, (-1, side)), 2, (-1, side))
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3)


def _split_cells(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (B, 2h, 2w, K) -> what is left (B, 2h, 2w, K), figures of the cells (B, 3, 2h, 2w).

    The figures are averages over a cell's values: of the cell, of what is left and of its square.
    What is left averages to the rounding error of the mean, and where the image is nearly flat
    that is a good part of its deviation.
    """
    means = cells.mean(dim=-1)
    left = cells - means[..., None]
    return left, torch.stack((means, left.mean(dim=-1), _mean_square(left)), dim=1)


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
