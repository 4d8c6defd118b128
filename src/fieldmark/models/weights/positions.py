"""Learned position embeddings of a file, brought to the grid of a network."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Positions = Literal["timm", "corners"]
_PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")


def fit_positions(
    state: Mapping[str, Tensor], own: Tensor, grid: tuple[int, int], how: Positions
) -> Tensor | None:
    """Return the `pos_embed` (1, N, D) of a file as far as timm does not do it itself.

    `own` (1, N', D) is the network's, for patches in `grid`. The slots before the patches (class,
    distillation) are never resampled; where the network has more of them than the file, its own
    fill up. With "corners" the patches are resampled so that corners stay on corners, otherwise
    their grid is left to timm. None where the file has no such embedding.
    """
    found = state.get("pos_embed")
    if found is None or found.ndim != 3 or found.shape[-1] != own.shape[-1]:
        return None
    num_found = _count_prefix(state, found.shape[1])
    num_own = own.shape[1] - grid[0] * grid[1]
    if num_found is None or num_own < 0:
        return None
    num_kept = min(num_found, num_own)
    prefix = [found[:, :num_kept], own[:, num_kept:num_own].to(found)]
    patches = found[:, num_found:]  # (1, h w, D)
    if how == "corners":
        patches = resample_corners(patches, grid)
    return torch.cat([*prefix, patches], dim=1)


def resample_corners(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resample (1, h w, D) of a square grid linearly to `grid`, corners onto corners.

    As `scipy.ndimage.zoom(order=1)` does, with which Google's and Animesion's code loads
    position embeddings.
    """
    side = isqrt(patches.shape[1])
    if (side, side) == grid:
        return patches
    square = patches.double().reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, h, w)
    resampled = functional.interpolate(square, size=grid, mode="bilinear", align_corners=True)
    return resampled.flatten(2).transpose(1, 2).to(patches)


def _count_prefix(state: Mapping[str, Tensor], num_positions: int) -> int | None:
    """Return how many positions stand before a square of patches; None: no such square."""
    named = sum(state[name].shape[1] for name in _PREFIX_TOKENS if name in state)
    for count in (named, 0, 1, 2):
        side = isqrt(max(0, num_positions - count))
        if side > 0 and side * side == num_positions - count:
            return count
    return None
