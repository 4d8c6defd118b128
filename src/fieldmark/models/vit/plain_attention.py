"""Attention multiplied out, where torch's fused one is the slower: training in bf16 on a CPU."""

from __future__ import annotations

from torch import nn

from fieldmark.models.backbones import Backbone
from fieldmark.models.vit.small_vit import SmallDataViT
from fieldmark.models.vit.token_path import has_token_path

MOST_PLAIN_TOKENS = 320
"""Up to which attention may keep its probabilities: 224 px in patches of 14, with some tags."""


def take_plain_attention(backbone: Backbone, image_size: int, num_tags: int = 0) -> bool:
    """Let a Vision Transformer of few tokens multiply attention out; whether that was done.

    torch's fused attention has no bf16 products of its own on a CPU: forward and backward of 65
    tokens take 25 ms where two products and a softmax take 5.4 (benchmarks/attention.py). What it
    saves is the memory of the probabilities (B, heads, N, N), so beyond `MOST_PLAIN_TOKENS` it
    stays.
    """
    assert isinstance(backbone, nn.Module)
    num_tokens = round(image_size / backbone.stride) ** 2 + num_tags
    is_known = isinstance(backbone, SmallDataViT) or has_token_path(
        getattr(backbone, "net", backbone)
    )
    if not is_known or num_tokens > MOST_PLAIN_TOKENS:
        return False
    for layer in backbone.modules():
        if hasattr(layer, "fused_attn"):
            layer.fused_attn = False  # type: ignore[assignment]
    return True
