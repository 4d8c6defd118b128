"""AlexNet (Krizhevsky, Sutskever, Hinton 2012) as torchvision has it."""

from __future__ import annotations

from typing import Literal

from torchvision import models

from fieldmark.models.classic.stages import check_image_size
from fieldmark.models.classic.torchvision_nets import TorchvisionCnn

SMALLEST_PX = 63
STAGE_ENDS = (2, 5, 7, 9, 12)
"""Each of the five convolutions with its ReLU and, where it has one, its pool."""


def build_alexnet(
    *, image_size: int, dropout: float = 0.5, reads: Literal["pooled", "layers"] = "pooled"
) -> TorchvisionCnn:
    """Build AlexNet without its last layer: D = 4096, or 384 for a head that reads `layers`.

    The sides of its maps are 55, 27, 13 and 6 at 224 px, and with a head for 1,000 classes it has
    61,100,840 parameters (lecture, section "AlexNet"). Its third convolution is wider than its
    last, so that `layers` are as wide as the third. Raises `ImageSizeError` below 63 px, where
    the last pool has nothing left.
    """
    check_image_size("alexnet", image_size, SMALLEST_PX, "its last pool has nothing left")
    net = models.alexnet(num_classes=1, dropout=dropout)
    return TorchvisionCnn(
        net.features,
        net.avgpool,
        net.classifier[:-1] if reads == "pooled" else None,
        name="alexnet",
        image_size=image_size,
        stage_ends=STAGE_ENDS,
        classifier_name="classifier.6",
    )
