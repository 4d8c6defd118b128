"""The small CNN of the image-classification lecture (Willi, "PyTorch Example")."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.classic.stages import check_image_size, read_stages
from fieldmark.models.depths import depths_by_child
from fieldmark.models.features import Features
from fieldmark.recipes.schema import Statistics

SMALLEST_PX = 16


class LectureNet(nn.Module):
    """Two unpadded 5 x 5 convolutions, each with ReLU and a 2 x 2 pool, and two wide layers.

    Without its last layer `fc3`, which is the head: D = 84. At 32 px and 10 classes the layers
    have 456 + 2,416 + 48,120 + 10,164 + 850 = 62,006 parameters. `fc1` is made for the grid that
    images of `image_size` lead to: 5 x 5 at 32 px.
    """

    name = "lecture-net"
    num_layers = 2
    layer_widths = (6, 16)
    stride = 4
    statistics = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    interpolation = "bilinear"
    classifier_name: str | None = "fc3"

    def __init__(self, *, image_size: int, reads: Literal["pooled", "layers"] = "pooled") -> None:
        """Raise `ImageSizeError` below 16 px, where the second pool has nothing left.

        For a head that reads `layers` the wide layers are left out: D = 16.
        """
        super().__init__()
        reason = "its convolutions have no padding"
        check_image_size(self.name, image_size, SMALLEST_PX, reason)
        self.image_size = image_size
        self.is_wide = reads == "pooled"
        self.width = 84 if self.is_wide else self.layer_widths[-1]
        self.conv1 = nn.Conv2d(3, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        if self.is_wide:
            side = ((image_size - 4) // 2 - 4) // 2
            self.fc1 = nn.Linear(16 * side * side, 120)
            self.fc2 = nn.Linear(120, 84)

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
        """Read images (B, 3, H, W) of `image_size`."""
        first = functional.max_pool2d(self.conv1(images).relu(), 2)  # (B, 6, 14, 14) at 32 px
        second = functional.max_pool2d(self.conv2(first).relu(), 2)  # (B, 16, 5, 5)
        pooled = None
        if self.is_wide:
            pooled = self.fc2(self.fc1(second.flatten(1)).relu()).relu()  # (B, 84)
        return read_stages((first, second), pooled, with_layers=with_layers)
