"""Layer norm and projection of all views of a patch."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from fieldmark.errors import ModelError
from fieldmark.models.patches.folded import fold, project_folded
from fieldmark.models.patches.rotation import Rotations
from fieldmark.models.patches.views import count_views, flatten_patches, stack_views
from fieldmark.recipes.schema import Patches

NORM_EPS = 1e-6


class ViewTokens(nn.Module):
    """Layer norm and projection of all views of a patch (Ai and He, equation 4).

    `norm` is over P * P * V * C values and `proj` maps them to D, both in the order of
    `flatten_patches`. V is 5 for "shifted" and 7 for "rotated": 540 and 756 values for patches of
    6 px in colour.

    is_folded: compute as in `folded`, which makes no views, or by the definition. Equal but for
    rounding; starts as `is_folding_quicker` says.
    """

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
        self.is_folded = is_folding_quicker(patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> tokens (B, N, D)."""
        rotated = None if self.rotations is None else self.rotations(images)
        if not self.is_folded:
            views = stack_views(images, rotated, self.patch_size)  # (B, V * C, H, W)
            return cast(Tensor, self.proj(self.norm(flatten_patches(views, self.patch_size))))
        folded = fold(self.norm, self.proj, patch_size=self.patch_size, num_views=self.num_views)
        return project_folded(
            images, rotated, folded, patch_size=self.patch_size, eps=self.norm.eps
        )


def is_folding_quicker(patch_size: int) -> bool:
    """Whether `folded` is the way to compute patches of that size: even ones."""
    return patch_size % 2 == 0
