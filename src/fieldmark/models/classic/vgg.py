"""VGG, configurations A to E (Simonyan, Zisserman 2015, table 1), and the leaf study's VGG-16."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision import models

from fieldmark.models.classic.stages import check_image_size
from fieldmark.models.classic.torchvision_nets import TorchvisionCnn

SMALLEST_PX = 32

_TORCHVISION = {
    "vgg-a": models.vgg11,
    "vgg-a-lrn": models.vgg11,
    "vgg-b": models.vgg13,
    "vgg-c": models.vgg16,
    "vgg-d": models.vgg16,
    "vgg-e": models.vgg19,
    "leaf-vgg16": models.vgg16,
}


def build_vgg(
    name: str,
    *,
    image_size: int,
    dropout: float = 0.5,
    reads: Literal["pooled", "layers"] = "pooled",
) -> TorchvisionCnn:
    """Build a VGG of the catalog without its last layer: D = 4096.

    For a head that reads `layers` the wide layers are left out: D = 512. "leaf-vgg16" ends in the
    flattened 7 x 7 grid, D = 25,088, because the leaf study trains both layers behind it as the
    head. Raises `ImageSizeError` below 32 px, where the fifth pool has nothing left.
    """
    check_image_size(name, image_size, SMALLEST_PX, "its five pools halve the image each")
    net = _TORCHVISION[name](num_classes=1, dropout=dropout)
    if name == "vgg-a-lrn":
        _normalize_responses(net.features)
    if name == "vgg-c":
        _narrow_kernels(net.features)
    wide = nn.Sequential() if name == "leaf-vgg16" else net.classifier[:-1]
    pools = [index for index, part in enumerate(net.features) if isinstance(part, nn.MaxPool2d)]
    return TorchvisionCnn(
        net.features,
        net.avgpool,
        wide if reads == "pooled" else None,
        name=name,
        image_size=image_size,
        stage_ends=pools,
        classifier_name=None if name == "leaf-vgg16" else "classifier.6",
    )


def _normalize_responses(features: nn.Sequential) -> None:
    """Put local response normalisation behind the first ReLU (A-LRN).

    Constants of Krizhevsky et al. (2012, section 3.3): k 2, n 5, alpha 1e-4, beta 0.75; torch
    divides alpha by n. It shares the place of the ReLU, so that files of A load by name.
    """
    response_norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    features[1] = nn.Sequential(features[1], response_norm)


def _narrow_kernels(features: nn.Sequential) -> None:
    """Make the last convolution of blocks 3, 4 and 5 of D one of 1 x 1 (C)."""
    pools = [index for index, part in enumerate(features) if isinstance(part, nn.MaxPool2d)]
    for pool in pools[2:]:
        channels = int(features[pool - 2].out_channels)  # type: ignore[arg-type]
        narrow = nn.Conv2d(channels, channels, kernel_size=1)
        nn.init.kaiming_normal_(narrow.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(narrow.bias)  # type: ignore[arg-type]
        features[pool - 2] = narrow
