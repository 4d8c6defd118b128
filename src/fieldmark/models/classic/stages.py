"""A CNN as a sequence of stages: what our own convolutional networks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.errors import ImageSizeError, ModelError
from fieldmark.models.classic.norms import replace_norms
from fieldmark.models.features import Features
from fieldmark.models.records import BackboneOptions
from fieldmark.recipes.schema import Statistics

if TYPE_CHECKING:
    from fieldmark.models.backbones import Backbone

IMAGENET = Statistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def read_stages(
    maps: Sequence[Tensor], pooled: Tensor | None = None, *, with_layers: bool
) -> Features:
    """Make `Features` of the map (B, C, h, w) that each stage ends in, first to last.

    `layers` (B, D, L) are the channel averages of the L maps, each filled up with zeros to the
    widest of them, D. `tokens` are the last map. `pooled` is given by a network that has more
    layers behind its last stage; else it is the last of `layers`.
    """
    width = max(stage.shape[1] for stage in maps)
    last = maps[-1]
    return Features(
        pooled=_average(last, width) if pooled is None else pooled,
        tokens=last.flatten(2).transpose(1, 2),  # (B, h w, C)
        grid=(last.shape[2], last.shape[3]),
        layers=torch.stack([_average(m, width) for m in maps], dim=2) if with_layers else None,
    )


def _average(stage: Tensor, width: int) -> Tensor:
    """(B, C, h, w) -> (B, D) with D - C zeros at the end."""
    return functional.pad(stage.mean(dim=(2, 3)), (0, width - stage.shape[1]))


def check_image_size(name: str, image_size: int, smallest_px: int, reason: str) -> None:
    """Raise `ImageSizeError` below `smallest_px`; `reason` ends "..., because <reason>."."""
    if image_size < smallest_px:
        raise ImageSizeError(
            f"data.image_size: '{name}' cannot take images of {image_size} px, because {reason}. "
            f"The smallest size is {smallest_px} px. Set data.image_size={smallest_px} or larger."
        )


def apply_cnn_options(net: Backbone, options: BackboneOptions) -> Backbone:
    """Do to a CNN what a recipe may ask of any: replace its batch norms.

    Raises `ModelError` where there are none, and for what only Vision Transformers have.
    """
    _refuse_token_options(net.name, options)
    if options.norm != "own":
        replace_norms(net, options.norm)  # type: ignore[arg-type]
    return net


def _refuse_token_options(name: str, options: BackboneOptions) -> None:
    settings = (
        ("patches", options.patches.kind, "plain"),
        ("attention", options.attention, "global"),
        ("tags", options.tags.tokenizer, "off"),
    )
    asked = [setting for setting in settings if setting[1] != setting[2]]
    if asked:
        raise ModelError(
            f"{', '.join(f'model.{key}={value}' for key, value, _ in asked)}: '{name}' is a CNN "
            "and has no tokens. Choose a Vision Transformer (e.g. vit_tiny_patch16_224), or set "
            f"{', '.join(f'model.{key}={plain}' for key, _, plain in asked)}."
        )


def depths_by_block(module: nn.Module, containers: Sequence[str]) -> dict[str, int]:
    """Level of each parameter by name: one per direct child of a container, in their order.

    Everything outside the containers is the stem, level 0 where it comes first.
    """
    levels: dict[str, int] = {}
    depths = {}
    for name, _ in module.named_parameters():
        first, child, *_ = name.split(".")
        block = f"{first}.{child}" if first in containers else "stem"
        depths[name] = levels.setdefault(block, len(levels))
    return depths
