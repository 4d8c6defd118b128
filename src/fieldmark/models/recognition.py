"""Guessing which network a state dict belongs to, for error messages."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_VIT_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
_RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (1, 1, 1, 1)): "resnet10t",
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (2, 2, 2, 2)): "resnet26",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}


def guess_model(state: Mapping[str, Tensor]) -> str | None:
    """Return the timm name of a common ViT or ResNet by names and shapes; None: no idea."""
    return _guess_vit(state) or _guess_resnet(state)


def _guess_vit(state: Mapping[str, Tensor]) -> str | None:
    patches = state.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 4 or "cls_token" not in state:
        return None
    size = _VIT_SIZES.get(patches.shape[0])
    if size is None or "blocks.0.attn.qkv.weight" not in state:
        return None
    if "dist_token" in state:
        return f"deit_{size}_distilled_patch{patches.shape[-1]}_224"
    return f"vit_{size}_patch{patches.shape[-1]}_224"


def _guess_resnet(state: Mapping[str, Tensor]) -> str | None:
    blocks = {match[0] for name in state if (match := re.match(r"layer([1-4])\.(\d+)\.", name))}
    counts = tuple(
        sum(block.startswith(f"layer{stage}.") for block in blocks) for stage in range(1, 5)
    )
    return _RESNETS.get(("layer1.0.conv3.weight" in state, counts))
