"""Convolutions of small maps in bf16: the images of a batch beside each other on one wide map."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.backbones import Backbone

LARGEST_SIDE = 7
"""Of the map that comes out. With 14 x 14 positions the plain way is the faster one."""

FEWEST_WEIGHTS = 2**20
"""Where they fit into a core's own memory, little is gained."""


def lay_side_by_side(backbone: Backbone) -> int:
    """Let the late convolutions of a CNN be trained on wide maps; how many may be.

    The gradient of a kernel is summed image by image, and each image passes over all weights: of
    512 x 512 x 3 x 3 these are 9 MB for 16 positions of a map of 4 x 4. On a processor that
    multiplies bf16 in tiles (AMX) this is the longest part of a step. On one map that holds the
    images of the batch beside each other it is summed once; forward and backward of 32 such maps
    take 15 ms in place of 37 (benchmarks/small_maps.py). Parameters stay the same objects.
    """
    assert isinstance(backbone, nn.Module)
    found = [
        (parent, name, layer)
        for parent in backbone.modules()
        for name, layer in parent.named_children()
        if _gains(layer)
    ]
    for parent, name, layer in found:
        assert isinstance(layer, nn.Conv2d)
        setattr(parent, name, SideBySideConv2d.of(layer))
    return len(found)


def multiplies_in_tiles() -> bool:
    """Whether this processor has AMX for bf16."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11
        return False
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _gains(layer: nn.Module) -> bool:
    """A plain convolution of many weights that keeps the size of its map, but for its stride."""
    if type(layer) is not nn.Conv2d or layer.weight.numel() < FEWEST_WEIGHTS:
        return False
    side = layer.kernel_size[0]
    is_square = layer.kernel_size == (side, side) and layer.stride[0] == layer.stride[1]
    is_padded = layer.padding == (side // 2, side // 2) and layer.padding_mode == "zeros"
    is_plain = layer.groups == 1 and layer.dilation == (1, 1)
    return is_square and is_padded and is_plain and side % 2 == 1 and side > 1


class SideBySideConv2d(nn.Conv2d):
    """A convolution whose training on small maps sees the batch as one map, with zeros between."""

    @classmethod
    def of(cls, plain: nn.Conv2d) -> Self:
        """The same convolution with the same parameters."""
        layer = cls(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,  # type: ignore[arg-type]
            plain.stride,  # type: ignore[arg-type]
            plain.padding,  # type: ignore[arg-type]
            bias=plain.bias is not None,
            device="meta",
        )
        layer.weight, layer.bias = plain.weight, plain.bias
        return layer.train(plain.training)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K, h, w), whichever way is the faster."""
        stride = self.stride[0]
        height, width = (-(-size // stride) for size in maps.shape[2:])
        is_learned = self.training and self.weight.requires_grad and torch.is_grad_enabled()
        if not is_learned or max(height, width) > LARGEST_SIDE:
            return super().forward(maps)
        return self._convolve_wide(maps, height, width)

    def _convolve_wide(self, maps: Tensor, height: int, width: int) -> Tensor:
        stride, padding = self.stride[0], self.kernel_size[0] // 2
        # Enough zeros behind each image for its last window and the next image's first, and so
        # many that the windows of every image start at the same place of it.
        pitch = -(-(maps.shape[3] + padding) // stride) * stride
        rows = functional.pad(maps.permute(2, 0, 3, 1), (0, 0, 0, pitch - maps.shape[3]))
        wide = rows.flatten(1, 2)[None].permute(0, 3, 1, 2)  # (1, C, H, B * pitch)
        found = super().forward(wide)[0].permute(1, 2, 0)  # (h, B * pitch / stride, K)
        windows = torch.unflatten(
            found, 1, (len(maps), pitch // stride)
        )  # (h, B, pitch / stride, K)
        kept = windows[:height, :, :width].permute(1, 3, 0, 2)  # (B, K, h, w)
        return kept.contiguous(memory_format=torch.channels_last)
