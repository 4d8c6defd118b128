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
    with full_precision(images.device.type):
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
    left, cells = _split_cells(images.to(exact), half)
    means, remainders, squares = _gather_windows(cells).unbind(1)  # (B, 16, h, w) each
    total, num_cells = _sum_views(means), SHIFTED_CELLS
    if rotated is not None:
        rotated = rotated.to(exact).flatten(1, 2)  # (B, C * 2, H, W)
        total = total + ROTATED_CELLS * _average(rotated, patch_size)
        num_cells += ROTATED_CELLS
    mean = total / num_cells  # (B, h, w)
    apart = means - mean[:, None]
    square = _sum_views(squares + apart * (apart + 2 * remainders))
    if rotated is not None:
        rotated = _subtract(rotated, mean, patch_size)
        square = square + ROTATED_CELLS * _average(rotated.square(), patch_size)
    scale = (square / num_cells + eps).rsqrt()
    return Measured(left, apart, rotated, scale[:, None])


def full_precision(device_type: str) -> torch.autocast | nullcontext[None]:
    """Switch autocast off; torch's meta device, where only shapes are computed, knows none."""
    if device_type == "meta":
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def fold(norm: nn.LayerNorm, proj: nn.Linear, *, patch_size: int, num_views: int) -> Folded:
    """Turn layer norm over P * P * V * C values and their projection to D into kernels."""
    with full_precision(proj.weight.device.type):
        weight = proj.weight * norm.weight
        # Rows that sum to zero let no error of the patch's mean through.
        weight = weight - weight.mean(dim=1, keepdim=True)
        views = torch.unflatten(weight, 1, (patch_size, patch_size, num_views, -1))
        views = views.permute(3, 0, 4, 1, 2)  # (V, D, C, P, P)
        # A shift to the left and up reads the pixels to the right of and below the patch.
        above = torch.cat((views[4], views[2]), dim=-1)
        below = torch.cat((views[3], views[1]), dim=-1)
        half = patch_size // 2
        centre = functional.pad(views[0], (half, half, half, half))
        window = torch.cat((above, below), dim=-2) + centre
        cells = torch.unflatten(torch.unflatten(window, 3, (CELLS, half)), 2, (CELLS, half))
        cells = cells.sum(dim=(1, 3, 5)).flatten(1)  # (D, 16)
        rotated = views[5:].permute(1, 2, 0, 3, 4).flatten(1, 2) if num_views > 5 else None
        bias = proj.bias + proj.weight @ norm.bias
        return Folded(window, cells[..., None, None], rotated, bias)


def _split_cells(images: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) -> what is left (B, C, H, W), figures of the cells (B, 3, 2h, 2w).

    The figures are averages over a cell's pixels and channels: of the images, of what is left and
    of its square. What is left averages to the rounding error of the mean, and where the image is
    nearly flat that is a good part of its deviation.
    """
    means = _average(images, half)
    left = _subtract(images, means, half)
    return left, torch.stack((means, _average(left, half), _average(left.square(), half)), dim=1)


def _average(images: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, h, w): averages over squares of `side` px and channels."""
    # Several times quicker on a CPU than a mean over dimensions that are not neighbours.
    return functional.avg_pool2d(images, side).mean(dim=1)


def _subtract(images: Tensor, means: Tensor, side: int) -> Tensor:
    """Take means (B, h, w) off the squares of `side` px of images (B, C, H, W)."""
    blocks = torch.unflatten(torch.unflatten(images, 3, (-1, side)), 2, (-1, side))
    left = blocks - means[:, None, :, None, :, None]
    return left.flatten(4, 5).flatten(2, 3)


def _gather_windows(cells: Tensor) -> Tensor:
    """Cells (B, M, 2h, 2w) -> (B, M, 16, h, w): the 4 x 4 around each patch, zeros outside."""
    grid = (cells.shape[2] // 2, cells.shape[3] // 2)
    columns = functional.unfold(cells, kernel_size=CELLS, padding=1, stride=2)
    return torch.unflatten(torch.unflatten(columns, 2, grid), 1, (-1, CELLS * CELLS))


def _sum_views(windows: Tensor) -> Tensor:
    """(B, 16, h, w) -> (B, h, w): each cell for its shift, the middle four for the original too."""
    return windows.sum(dim=1) + windows[:, 5:7].sum(dim=1) + windows[:, 9:11].sum(dim=1)
