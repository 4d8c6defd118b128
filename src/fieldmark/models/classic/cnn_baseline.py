"""The CNN baseline of the leaf study ("New Wave in Image Classification", Shen, Zhang, Yang)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from fieldmark.models.classic.stages import IMAGENET, check_image_size, read_stages
from fieldmark.models.depths import depths_by_child
from fieldmark.models.features import Features

SMALLEST_PX = 107


class CnnBaseline(nn.Module):
    """Four unpadded convolutions, global average pooling and one wide layer: D = 4096.

    | layer                          | channels | side at 224 px |
    |--------------------------------|----------|----------------|
    | conv 7 x 7 / 2, ReLU, BN       | 16       | 109            |
    | max pool 3 x 3 / 2             |          | 54             |
    | conv 5 x 5 / 2, ReLU, BN       | 64       | 25             |
    | max pool 3 x 3 / 2             |          | 12             |
    | conv 3 x 3, ReLU, BN           | 128      | 10             |
    | conv 3 x 3, ReLU               | 256      | 8              |
    | global average, linear, ReLU   | 4096     |                |

    ReLU comes before batch normalisation. The wide layer belongs to the backbone, as the fully
    connected layers of VGG do in timm, so that a head is always the last layer alone and can be
    replaced by any other. The study's own head is `NormalizedLinearHead`: together 2,171,568
    parameters for 176 classes.
    """

    name = "cnn-baseline"
    num_layers = 4
    layer_widths = (16, 64, 128, 256)
    statistics = IMAGENET
    interpolation = "bilinear"
    classifier_name: str | None = None

    def __init__(self, *, image_size: int, reads: Literal["pooled", "layers"] = "pooled") -> None:
        """Raise `ImageSizeError` below 107 px, where the last convolution has nothing left.

        For a head that reads `layers` the wide layer is left out: D = 256.
        """
        super().__init__()
        reason = "its convolutions have no padding"
        check_image_size(self.name, image_size, SMALLEST_PX, reason)
        self.image_size = image_size
        self.is_wide = reads == "pooled"
        self.width = 4096 if self.is_wide else self.layer_widths[-1]
        self.conv1 = nn.Conv2d(3, 16, kernel_size=7, stride=2)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 64, kernel_size=5, stride=2)
        self.norm2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 128, kernel_size=3)
        self.norm3 = nn.BatchNorm2d(128)
        self.conv4 = nn.Conv2d(128, 256, kernel_size=3)
        if self.is_wide:
            self.wide = nn.Linear(256, 4096)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2)

    @property
    def stride(self) -> int:
        """Two convolutions and two pools of stride 2."""
        return 16

    def parameter_depths(self) -> dict[str, int]:
        """Level of each parameter, counted from the image."""
        return depths_by_child(self)

    def forward(
        self,
        images: Tensor,
        tags: Tensor | None = None,  # noqa: ARG002 - as every backbone
        *,
        with_layers: bool = False,
    ) -> Features:
        """Read images (B, 3, H, W); `layers` are the maps as the next convolution reads them."""
        first = self.pool(self.norm1(self.conv1(images).relu()))  # (B, 16, 54, 54) at 224 px
        second = self.pool(self.norm2(self.conv2(first).relu()))  # (B, 64, 12, 12)
        third = self.norm3(self.conv3(second).relu())  # (B, 128, 10, 10)
        last = self.conv4(third).relu()  # (B, 256, 8, 8)
        pooled = None
        if self.is_wide:
            pooled = self.wide(last.mean(dim=(2, 3))).relu()  # (B, 4096)
        return read_stages((first, second, third, last), pooled, with_layers=with_layers)
