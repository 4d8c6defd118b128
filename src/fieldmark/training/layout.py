"""In which order a network keeps its numbers: channels last where convolutions gain by it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from fieldmark.models.backbones import Backbone, is_convolutional


def choose_memory_format(backbone: Backbone, image_size: int) -> torch.memory_format:
    """`channels_last` for a CNN that can work in it, else the plain order.

    Convolutions read a pixel's channels side by side, so they are 1.3 to 2.7 times as fast when
    these lie so (docs/results.md); a Vision Transformer has its tokens in that order anyway.
    """
    if is_convolutional(backbone) and _runs_channels_last(backbone, image_size):
        return torch.channels_last
    return torch.contiguous_format


def _runs_channels_last(backbone: Backbone, image_size: int) -> bool:
    """Whether one step of a copy that has shapes but no numbers (torch's meta device) succeeds.

    A network that calls `view` on its maps fails on another order. So does, on this device, one
    that reads numbers on the way; it stays as it is.
    """
    assert isinstance(backbone, nn.Module)
    tensors = [*backbone.parameters(), *backbone.buffers()]
    try:
        hollow = copy.deepcopy(backbone, {id(tensor): _hollow(tensor) for tensor in tensors})
        hollow.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.empty(2, 3, image_size, image_size, device="meta")
        pooled = hollow.train()(images.to(memory_format=torch.channels_last)).pooled
        if pooled.requires_grad:
            pooled.sum().backward()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def _hollow(tensor: torch.Tensor) -> torch.Tensor:
    """The same on the meta device, a parameter as a parameter."""
    empty = tensor.detach().to("meta")
    if not isinstance(tensor, nn.Parameter):
        return empty
    return nn.Parameter(empty, requires_grad=tensor.requires_grad)
