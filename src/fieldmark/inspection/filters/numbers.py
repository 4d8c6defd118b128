"""Filters as numbers: one scale for colours, leading components, similarity of positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fieldmark.models.vit.patches import ViewPatchEmbed


@dataclass(frozen=True)
class Components:
    """Leading components of D filters, each a direction in the space of a patch's pixels.

    filters: (M, V, P, P, C), the strongest first, V views side by side (1 for plain patches).
    share: (M,) of the sum of all squared weights.
    """

    filters: NDArray[np.float32]
    share: NDArray[np.float32]


def to_colours(kernels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (..., 3) -> colours 0..1 on one scale for all: grey is 0, +-max|w| black or full.

    A scale of its own for each kernel, as often printed, makes noise look like structure.
    """
    largest = float(np.abs(kernels).max())
    return 0.5 + kernels / (2.0 * largest) if largest else np.full_like(kernels, 0.5)


@torch.no_grad()
def find_components(weight: Tensor, count: int) -> Components:
    """Leading right singular vectors of D filters (D, V, P, P, C).

    They span the pixels' directions that the embedding passes on most strongly (Dosovitskiy et
    al. 2021, figure 7, left, shows the same of RGB embedding filters). The sign, which is free, is
    such that the sum of the weights is positive.
    """
    rows = weight.detach().float().cpu().flatten(1)  # (D, V P P C)
    _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
    kept = vectors[:count]
    kept = kept * torch.where(kept.sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    share = values.square() / values.square().sum().clamp_min(torch.finfo(torch.float32).tiny)
    return Components(
        kept.unflatten(1, tuple(weight.shape[1:])).numpy(), share[: len(kept)].numpy()
    )


@torch.no_grad()
def position_similarity(positions: Tensor, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Cosine between the position embeddings (h w, D) of each two patches: (h, w, h, w)."""
    unit = nn.functional.normalize(positions.detach().float().cpu(), dim=1)
    return (unit @ unit.T).reshape(*grid, *grid).numpy()


def plain_filters(embedding: nn.Module) -> Tensor | None:
    """(D, 1, P, P, C) of a patch embedding's convolution; None where it has none."""
    projection = getattr(embedding, "proj", None)
    if not isinstance(projection, nn.Conv2d):
        return None
    return projection.weight.movedim(1, -1)[:, None]


def view_filters(embedding: nn.Module) -> Tensor | None:
    """(D, V, P, P, C) of shifted or rotated patches, the norm's scale included; else None."""
    if not isinstance(embedding, ViewPatchEmbed):
        return None
    views = embedding.views
    side = views.patch_size
    weight = views.proj.weight * views.norm.weight  # (D, P P V C)
    return weight.unflatten(1, (side, side, views.num_views, -1)).permute(0, 3, 1, 2, 4)
