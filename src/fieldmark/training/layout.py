"""How a network computes the same thing sooner: the order of its numbers."""

from __future__ import annotations

import copy

import torch
from torch import nn

from fieldmark.models.backbones import Backbone, is_convolutional


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
