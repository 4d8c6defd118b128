"""Layer norm and projection of all views of a patch."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from fieldmark.errors import ModelError
from fieldmark.models.vit.patches.folded import fold, project_folded
from fieldmark.models.vit.patches.rotation import Rotations
from fieldmark.models.vit.patches.views import count_views, flatten_patches, stack_views
from fieldmark.recipes.schema import Patches

NORM_EPS = 1e-6
SMALLEST_FOLDED_PX = 6
FOLDED_TOKENS_PER_WIDTH = 3
"""Where folding breaks even; both measured on a CPU."""


class ViewTokens(nn.Module):
    """Layer norm and projection of all views of a patch (Ai and He, equation 4).

    `norm` is over P * P * V * C values and `proj` maps them to D, both in the order of
    `flatten_patches`. V is 5 for "shifted" and 7 for "rotated": 540 and 756 values for patches of
    6 px in colour.

    formulation: "folded" computes as in `folded.py`, which makes no views and takes even patches
        only; "stacked" is the definition. Equal but for rounding. "quicker" chooses for each batch,
        see `is_folding_quicker`.
    """

    formulation: Literal["quicker", "folded", "stacked"] = "quicker"

    def __init__(
        self,
        patches: Patches,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        in_channels: int = 3,
    ) -> None:
        """Start Xavier-uniform with zero bias. Raises `ModelError` for patches of 1 px."""
        super().__init__()
        if patch_size < 2:
            raise ModelError(
                f"model.patches: '{patches.kind}' moves the image by half a patch, and patches of "
                f"{patch_size} px have no half. Choose a network with larger patches, or "
                "model.patches=plain."
            )
        self.patch_size = patch_size
        self.num_views = count_views(patches.kind)
        num_values = patch_size * patch_size * self.num_views * in_channels
        self.norm = nn.LayerNorm(num_values, eps=NORM_EPS)
        self.proj = nn.Linear(num_values, width)
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)
        self.rotations: Rotations | None = None
        if patches.kind == "rotated":
            self.rotations = Rotations(
                image_size=image_size,
                angles=patches.angles,
                interpolation=patches.interpolation,
                fill=patches.fill,
            )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> tokens (B, N, D)."""
        rotated = None if self.rotations is None else self.rotations(images)
        if not self._folds(images):
            views = stack_views(images, rotated, self.patch_size)  # (B, V * C, H, W)
            return cast(Tensor, self.proj(self.norm(flatten_patches(views, self.patch_size))))
        folded = fold(self.norm, self.proj, patch_size=self.patch_size, num_views=self.num_views)
        return project_folded(
            images, rotated, folded, patch_size=self.patch_size, eps=self.norm.eps
        )

    def _folds(self, images: Tensor) -> bool:
        if self.formulation != "quicker":
            return self.formulation == "folded"
        if torch.compiler.is_compiling():
            # One graph for every batch size; what depends on weights alone is folded beforehand.
            return self.patch_size % 2 == 0 and self.patch_size >= SMALLEST_FOLDED_PX
        num_tokens = images.shape[0] * images.shape[2] * images.shape[3] // self.patch_size**2
        return is_folding_quicker(self.patch_size, num_tokens, self.proj.out_features)


def is_folding_quicker(patch_size: int, num_tokens: int, width: int) -> bool:
    """Whether `folded.py` is the quicker way for a batch of that many tokens of that width.

    Folding weights into kernels costs the same for one token and for thousands, in proportion to
    the width, and small kernels gain nothing over a product (benchmarks/patches.py). Odd patches
    cannot be folded: half of one is no whole number of pixels.
    """
    is_large_even = patch_size % 2 == 0 and patch_size >= SMALLEST_FOLDED_PX
    return is_large_even and num_tokens >= FOLDED_TOKENS_PER_WIDTH * width
