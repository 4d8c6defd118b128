"""Layer norm and projection of all views of a patch, without making the views.

The definition stacks 15 or 21 channels, cuts them into patches, normalises and projects
(`views.stack_views`). Here the same numbers come from the image itself:

- The four half-patch shifts and the original tile a window of 2P x 2P pixels around the patch,
  so their projection is one convolution: kernel 2P, stride P, padding P / 2.
- The rotations are one more convolution, of kernel and stride P.
- The layer norm is affine once mean and deviation are known: its scale goes into the kernels,
  its shift into the bias, its deviation divides the result.

Precision rests on never subtracting large numbers. The image is taken apart into cells of
P / 2 x P / 2 pixels: each cell's mean, and what is left of the pixels after it. Convolutions see
only what is left, cell means enter as distance from the patch's mean, and variances add up from
squared deviations. So a flat patch is as exact as any other, in bfloat16 too, where a convolution
of raw pixels divided by a small deviation would be noise.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

CELLS = 4
"""Cells along the side of a window of 2P."""

COUNTS = (1, 1, 1, 1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 1, 1, 1)
"""How many views read each of the 16 cells: one shift each, the original the middle four."""

SHIFTED_CELLS = sum(COUNTS)
ROTATED_CELLS = 2 * 4
"""Cells that both rotated views of a patch are as large as."""


class Folded(NamedTuple):
    """Norm and projection as kernels.

    window: (D, C, 2P, 2P). cells: (D, 16, 1, 1), sums of the window over the channels and pixels
    of each cell. rotated: (D, C * 2, P, P) or None. bias: (D,).
    """

    window: Tensor
    cells: Tensor
    rotated: Tensor | None
    bias: Tensor


class Measured(NamedTuple):
    """Pixels apart from their means, and what divides them.

    left: (B, C, H, W) images after their cells' means. apart: (B, 16, h, w) means of the cells
    around each patch after the patch's mean. rotated: (B, C * 2, H, W) after the patch's mean, or
    None. scale: (B, 1, h, w), one over the patch's deviation.
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
    with torch.autocast(images.device.type, enabled=False):
        measured = _measure(images, rotated, patch_size, eps)
    dtype, half = folded.window.dtype, patch_size // 2
    left, apart = measured.left.to(dtype), measured.apart.to(dtype)
    tokens = functional.conv2d(left, folded.window, stride=patch_size, padding=half)
    tokens = tokens + functional.conv2d(apart, folded.cells)  # (B, D, h, w)
    if measured.rotated is not None and folded.rotated is not None:
        turned = measured.rotated.to(dtype)
        tokens = tokens + functional.conv2d(turned, folded.rotated, stride=patch_size)
    tokens = tokens * measured.scale.to(dtype) + folded.bias[:, None, None]
    return tokens.flatten(2).transpose(1, 2)


def _measure(images: Tensor, rotated: Tensor | None, patch_size: int, eps: float) -> Measured:
    """Take means off images (B, C, H, W) and rotations (B, C, 2, H, W)."""
    exact = torch.promote_types(images.dtype, torch.float32)
    half = patch_size // 2
    num_values = half * half * images.shape[1]  # of a cell
    left, means, squares = _split_cells(images.to(exact), half)
    means = _gather_windows(means)  # (B, 16, h, w)
    squares = _gather_windows(squares)
    counts = torch.tensor(COUNTS, dtype=exact, device=images.device)[:, None, None]
    total, num_cells = (counts * means).sum(dim=1), SHIFTED_CELLS
    if rotated is not None:
        rotated = rotated.to(exact).flatten(1, 2)  # (B, C * 2, H, W)
        rotated_means = functional.avg_pool2d(rotated, patch_size).mean(dim=1)
        total, num_cells = total + ROTATED_CELLS * rotated_means, num_cells + ROTATED_CELLS
    mean = total / num_cells  # (B, h, w)
    apart = means - mean[:, None]
    square = (counts * (squares + num_values * apart.square())).sum(dim=1)
    if rotated is not None:
        rotated, rotated_squares = _subtract(rotated, mean, patch_size)
        square = square + rotated_squares
    scale = (square / (num_values * num_cells) + eps).rsqrt()
    return Measured(left, apart, rotated, scale[:, None])


def fold(norm: nn.LayerNorm, proj: nn.Linear, *, patch_size: int, num_views: int) -> Folded:
    """Turn layer norm over P * P * V * C values and their projection to D into kernels."""
    with torch.autocast(proj.weight.device.type, enabled=False):
        weight = proj.weight * norm.weight
        # Rows that sum to zero let no error of the patch's mean through.
        weight = weight - weight.mean(dim=1, keepdim=True)
        views = weight.unflatten(1, (patch_size, patch_size, num_views, -1))
        views = views.permute(3, 0, 4, 1, 2)  # (V, D, C, P, P)
        # A shift to the left and up reads the pixels to the right of and below the patch.
        above = torch.cat((views[4], views[2]), dim=-1)
        below = torch.cat((views[3], views[1]), dim=-1)
        half = patch_size // 2
        centre = functional.pad(views[0], (half, half, half, half))
        window = torch.cat((above, below), dim=-2) + centre
        cells = window.unflatten(3, (CELLS, half)).unflatten(2, (CELLS, half)).sum(dim=(1, 3, 5))
        rotated = views[5:].permute(1, 2, 0, 3, 4).flatten(1, 2) if num_views > 5 else None
        bias = proj.bias + proj.weight @ norm.bias
        return Folded(window, cells.flatten(1)[..., None, None], rotated, bias)


def _split_cells(images: Tensor, half: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, C, H, W) -> what is left (B, C, H, W), means and squares (B, h', w') of cells.

    squares: sums of squared deviations from the mean, over the cell's pixels and channels.
    """
    means = functional.avg_pool2d(images, half).mean(dim=1)  # (B, h', w')
    left, squares = _subtract(images, means, half)
    return left, means, squares


def _subtract(images: Tensor, means: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Take means (B, h, w) off the squares of `side` px; return also the sums of squares."""
    blocks = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))
    left = (blocks - means[:, None, :, None, :, None]).flatten(4, 5).flatten(2, 3)
    # Pooling is several times quicker on a CPU than a sum over strided dimensions.
    sums = functional.avg_pool2d(left.square(), side, divisor_override=1).sum(dim=1)
    return left, sums


def _gather_windows(cells: Tensor) -> Tensor:
    """Cells (B, 2h, 2w) -> (B, 16, h, w): the 4 x 4 around each patch, zeros outside."""
    height, width = cells.shape[1] // 2, cells.shape[2] // 2
    columns = functional.unfold(cells[:, None], kernel_size=CELLS, padding=1, stride=2)
    return columns.unflatten(2, (height, width))
