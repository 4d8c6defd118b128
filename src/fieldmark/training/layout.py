"""How a network computes the same thing sooner: order of its numbers, way of its attention."""

from __future__ import annotations

import copy

import torch
from torch import nn

from fieldmark.models.backbones import Backbone, is_convolutional
from fieldmark.models.vit.small_vit import SmallDataViT
from fieldmark.models.vit.token_path import has_token_path

MOST_PLAIN_TOKENS = 320
"""Up to which attention may keep its probabilities: 224 px in patches of 14, with some tags."""


def choose_memory_format(backbone: Backbone, image_size: int) -> torch.memory_format:
    """`channels_last` for a CNN that can work in it, else the plain order.

    Convolutions read a pixel's channels side by side: a training step of ResNet-18 is 1.1 times as
    fast when these lie so, in fp32 and in bf16 (docs/decisions/0010). A Vision Transformer has its
    tokens in that order anyway.
    """
    if is_convolutional(backbone) and _runs_channels_last(backbone, image_size):
        return torch.channels_last
    return torch.contiguous_format


def _runs_channels_last(backbone: Backbone, image_size: int) -> bool:
    """Whether a step of two images succeeds: a network that calls `view` on its maps fails."""
    assert isinstance(backbone, nn.Module)
    tried = copy.deepcopy(backbone).train()
    tried.to(memory_format=torch.channels_last)
    try:
        with torch.random.fork_rng(devices=[]):
            pooled = tried(torch.zeros(2, 3, image_size, image_size)).pooled
            if pooled.requires_grad:
                pooled.sum().backward()
    except RuntimeError:
        return False
    return True


def take_plain_attention(backbone: Backbone, image_size: int, num_tags: int = 0) -> bool:
    """Let a Vision Transformer of few tokens multiply attention out; whether that was done.

    For training in bf16 on a CPU. torch's fused attention has no bf16 products of its own there:
    forward and backward of 65 tokens take 25 ms where two products and a softmax take 5.4, of 197
    tokens 18 and 7.3 (docs/decisions/0010). What it saves is the memory of the probabilities
    (B, heads, N, N), so beyond `MOST_PLAIN_TOKENS` it stays.
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
