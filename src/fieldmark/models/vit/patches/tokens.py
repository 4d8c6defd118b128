"""Layer norm and projection of all views of a patch."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from fieldmark.errors import ModelError
from fieldmark.models.vit.patches.folded import Folded, Turn, fold, measure, project_folded
from fieldmark.models.vit.patches.rotation import Rotations, is_recorded, join_patches
from fieldmark.models.vit.patches.views import count_views, flatten_patches, stack_views
from fieldmark.recipes.schema import Patches

NORM_EPS = 1e-6
SMALLEST_FOLDED_PX = 6
FOLDED_TOKENS_PER_WIDTH = 3
"""Where folding breaks even; both measured on a CPU."""


class Kept:
    """What was folded of parameters, as long as they stay as they are."""

    def __init__(
        self, parameters: tuple[nn.Parameter, ...], dtype: torch.dtype, folded: Folded
    ) -> None:
        self.folded = folded
        # Held, so that no other values can come to lie at the same place.
        self._values = [parameter.detach() for parameter in parameters]
        self._state = _describe(parameters, dtype)

    def is_of(self, parameters: tuple[nn.Parameter, ...], dtype: torch.dtype) -> bool:
        """Whether folding these would give the same."""
        return self._state == _describe(parameters, dtype)


def _describe(parameters: tuple[nn.Parameter, ...], dtype: torch.dtype) -> list[object]:
    """Place, type and number of changes of each: what changes in place counts as another."""
    places = [(each.data_ptr(), each.dtype, each.device, each._version) for each in parameters]
    return [dtype, *places]


class ViewTokens(nn.Module):
    """Layer norm and projection of all views of a patch (Ai and He, equation 4).

    `norm` is over P * P * V * C values and `proj` maps them to D, both in the order of
    `flatten_patches`. V is 5 for "shifted" and 7 for "rotated": 540 and 756 values for patches of
    6 px in colour.

    formulation: "folded" computes as in `folded.py`, which makes no views and takes even patches
        only; "stacked" is the definition. Equal but for rounding. "quicker" chooses for each batch,
        see `is_folding_quicker`.

    Without gradients the folded weights are kept until a parameter changes: by an optimizer, by
    loading or by hand, but not through `parameter.data`, whose changes torch does not count.
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
        self._kept: Kept | None = None
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
                patch_size=patch_size,
                angles=patches.angles,
                interpolation=patches.interpolation,
                fill=patches.fill,
            )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> tokens (B, N, D)."""
        if not self._folds(images):
            rotated = None if self.rotations is None else join_patches(self.rotations(images))
            views = stack_views(images, rotated, self.patch_size)  # (B, V * C, H, W)
            return cast(Tensor, self.proj(self.norm(flatten_patches(views, self.patch_size))))
        dtype = _product_dtype(self.proj.weight)
        measured = measure(
            images,
            self._prepare_turn(images),
            patch_size=self.patch_size,
            eps=self.norm.eps,
            dtype=dtype,
        )
        return project_folded(measured, self._fold(dtype))

    def _prepare_turn(self, images: Tensor) -> Turn | None:
        """Draw angles for all images, to be rotated a few at a time."""
        if self.rotations is None:
            return None
        rotations, angles = self.rotations, self.rotations.choose_angles(images.shape[0])

        def turn(part: slice) -> Tensor:
            drawn = angles if angles is None or len(angles) == 1 else angles[part]
            return rotations.turn(images[part], drawn)

        return turn

    def _fold(self, dtype: torch.dtype) -> Folded:
        """Fold, or return what was folded of the same parameters where no gradient is asked for."""
        parameters = (*self.norm.parameters(), *self.proj.parameters())
        is_kept = not (torch.is_grad_enabled() or is_recorded())
        if not is_kept or any(parameter.is_inference() for parameter in parameters):
            self._kept = None
            return self._fold_anew(dtype)
        if self._kept is None or not self._kept.is_of(parameters, dtype):
            self._kept = Kept(parameters, dtype, self._fold_anew(dtype))
        return self._kept.folded

    def _fold_anew(self, dtype: torch.dtype) -> Folded:
        return fold(
            self.norm,
            self.proj,
            patch_size=self.patch_size,
            num_views=self.num_views,
            dtype=dtype,
        )

    def __getstate__(self) -> dict[str, object]:
        """Copies and files are without what can be folded again."""
        return self.__dict__ | {"_kept": None}

    def _folds(self, images: Tensor) -> bool:
        if self.formulation != "quicker":
            return self.formulation == "folded"
        if is_recorded():
            # One graph for every batch size; what depends on weights alone is folded beforehand.
            return is_folding_quicker(self.patch_size)
        if not torch.is_grad_enabled() and images.device.type != "meta":
            # Folded once for many batches; where only shapes are computed, this is the one batch.
            return is_folding_quicker(self.patch_size)
        num_tokens = images.shape[0] * images.shape[2] * images.shape[3] // self.patch_size**2
        return is_folding_quicker(self.patch_size, num_tokens, self.proj.out_features)


def _product_dtype(weight: Tensor) -> torch.dtype:
    """What autocast would compute a product with `weight` in."""
    device_type = weight.device.type
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return weight.dtype


def is_folding_quicker(
    patch_size: int, num_tokens: int | None = None, width: int | None = None
) -> bool:
    """Whether `folded.py` is the quicker way for a batch of that many tokens of that width.

    Without them: where weights are folded once for many batches. Folding costs the same for one
    token and for thousands, in proportion to the width, and small kernels gain nothing over a
    product (benchmarks/patches.py). Odd patches cannot be folded: half of one is no whole number of
    pixels.
    """
    is_large_even = patch_size % 2 == 0 and patch_size >= SMALLEST_FOLDED_PX
    if num_tokens is None or width is None:
        return is_large_even
    return is_large_even and num_tokens >= FOLDED_TOKENS_PER_WIDTH * width
