"""ResNets for CIFAR (He et al. 2016, section 4.2): 6 n + 2 layers of 16, 32 and 64 channels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.classic.stages import IMAGENET, depths_by_block, read_stages
from fieldmark.models.features import Features

Shortcut = Literal["A", "B"]


class CifarResNet(nn.Module):
    """A 3 x 3 convolution and three stages of n blocks, without the last layer: D = 64.

    The maps have the image's side, a half and a quarter of it. Parameters are named as in the
    published checkpoints for CIFAR-10 (`conv1`, `bn1`, `layer1.0.conv1`, ..., `linear`), which
    saw images normalised with ImageNet's statistics. With n = 9 and 10 classes there are 853,018
    parameters with shortcut A and 855,770 with B.
    """

    num_layers = 3
    layer_widths = (16, 32, 64)
    width = 64
    stride = 4
    statistics = IMAGENET
    interpolation = "bilinear"
    classifier_name: str | None = "linear"

    def __init__(
        self,
        *,
        name: str,
        num_blocks: int,
        image_size: int,
        shortcut: Shortcut = "A",
    ) -> None:
        """Build with n = `num_blocks` and the option A or B of He et al.; any image size works."""
        super().__init__()
        self.name = name
        self.image_size = image_size
        self.conv1 = nn.Conv2d(3, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _build_stage(16, 16, num_blocks, shortcut)
        self.layer2 = _build_stage(16, 32, num_blocks, shortcut)
        self.layer3 = _build_stage(32, 64, num_blocks, shortcut)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def parameter_depths(self) -> dict[str, int]:
        """Level of each parameter: the stem, then block by block."""
        return depths_by_block(self, ("layer1", "layer2", "layer3"))

    def forward(
        self,
        images: Tensor,
        tags: Tensor | None = None,  # noqa: ARG002 - as every backbone
        *,
        with_layers: bool = False,
    ) -> Features:
        """Read images (B, 3, H, W)."""
        first = self.layer1(self.bn1(self.conv1(images)).relu())  # (B, 16, 32, 32) at 32 px
        second = self.layer2(first)  # (B, 32, 16, 16)
        third = self.layer3(second)  # (B, 64, 8, 8)
        return read_stages((first, second, third), with_layers=with_layers)


def _build_stage(in_channels: int, channels: int, num_blocks: int, shortcut: Shortcut) -> nn.Module:
    first = _Block(in_channels, channels, shortcut)
    return nn.Sequential(
        first, *(_Block(channels, channels, shortcut) for _ in range(1, num_blocks))
    )


class _Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm, added to the input; ReLU after the sum.

    Where the channels double the side halves. Option A then takes every second pixel and fills
    up with channels of zeros, half of them before and half behind; option B is a 1 x 1
    convolution with batch norm.
    """

    def __init__(self, in_channels: int, channels: int, shortcut: Shortcut) -> None:
        super().__init__()
        stride = channels // in_channels
        self.stride = stride
        self.num_zeros = (channels - in_channels) // 2
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module | None = None
        if stride > 1 and shortcut == "B":
            projection = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w) or (B, 2 C, h / 2, w / 2)."""
        residual = self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu()))
        return functional.relu(residual + self._shorten(maps))

    def _shorten(self, maps: Tensor) -> Tensor:
        if self.stride == 1:
            return maps
        if self.shortcut is not None:
            return self.shortcut(maps)  # type: ignore[no-any-return]
        return functional.pad(
            maps[:, :, :: self.stride, :: self.stride],
            (0, 0, 0, 0, self.num_zeros, self.num_zeros),
        )
