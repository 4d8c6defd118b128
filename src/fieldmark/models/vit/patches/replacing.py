"""Giving a network of timm another patch embedding."""

from __future__ import annotations

from torch import nn

from fieldmark.errors import ModelError
from fieldmark.models.vit.patches.embedding import build_patch_embedding, check_plain
from fieldmark.models.vit.token_path import has_token_path
from fieldmark.recipes.schema import Patches


def replace_patch_embedding(net: nn.Module, patches: Patches) -> None:
    """Swap `net.patch_embed` of a Vision Transformer, DeiT, EVA or BEiT of timm in place.

    Added: every key of the network stays, `patch_embed.views.*` comes on top and the outputs
    stay what they were. Published: `patch_embed.proj.*` goes. Plain leaves the network alone.
    Raises `ModelError` for networks that do not cut the image into square patches by one
    convolution, and for patches that have no half.
    """
    if patches.kind == "plain":
        return
    if not has_token_path(net):
        raise ModelError(
            f"model.patches: '{patches.kind}' is for Vision Transformers, and "
            f"{type(net).__name__} is none that is known here (ViT, DeiT, EVA, BEiT). Choose one, "
            "such as vit_tiny_patch16_224, or model.patches=plain."
        )
    plain = check_plain(net.patch_embed)
    embedding = build_patch_embedding(
        patches,
        image_size=plain.img_size[0],
        patch_size=plain.patch_size[0],
        width=plain.proj.out_channels,
        in_channels=plain.proj.in_channels,
        plain=plain,
    )
    net.patch_embed = embedding.to(plain.proj.weight).train(net.training)
