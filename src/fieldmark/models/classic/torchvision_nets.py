"""`TorchvisionCnn`: torchvision's plain CNNs as backbones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fieldmark.models.classic.stages import IMAGENET, depths_by_block, read_stages
from fieldmark.models.features import Features


class TorchvisionCnn(nn.Module):
    """Convolutions `features`, a pool to a fixed grid, and wide layers `classifier`.

    The names are torchvision's, so that its files load. The last linear layer is not among the
    wide ones: it is the head.
    """

    statistics = IMAGENET
    interpolation = "bilinear"

    def __init__(
        self,
        features: nn.Sequential,
        avgpool: nn.AdaptiveAvgPool2d,
        classifier: nn.Sequential | None,
        *,
        name: str,
        image_size: int,
        stage_ends: Sequence[int],
        classifier_name: str | None,
    ) -> None:
        """Take the parts of a network.

        classifier: the wide layers, or none: `pooled` is then the pooled grid flattened. None
            (no Sequential at all) leaves the pool out too, for a head that reads `layers`.
        stage_ends: index in `features` of the last layer of each stage.
        classifier_name: dotted name of the head's layer in published files.
        """
        super().__init__()
        self.name = name
        self.image_size = image_size
        self.classifier_name = classifier_name
        self.stage_ends = frozenset(stage_ends)
        self.num_layers = len(stage_ends)
        self.layer_widths = _find_widths(features, stage_ends)
        self.stride = _find_stride(features)
        self.features = features
        if classifier is None:
            self.width = max(self.layer_widths)
            self.classifier = None
            return
        self.avgpool = avgpool
        self.classifier = classifier
        side = int(avgpool.output_size[0])  # type: ignore[index, arg-type]
        linear = [layer for layer in classifier if isinstance(layer, nn.Linear)]
        self.width = linear[-1].out_features if linear else self.layer_widths[-1] * side * side

    def parameter_depths(self) -> dict[str, int]:
        """Level of each parameter: one per layer, counted from the image."""
        return depths_by_block(self, ("features", "classifier"))

    def forward(
        self,
        images: Tensor,
        tags: Tensor | None = None,  # noqa: ARG002 - as every backbone
        *,
        with_layers: bool = False,
    ) -> Features:
        """Read images (B, 3, H, W)."""
        maps = []
        last = images
        for index, layer in enumerate(self.features):
            last = layer(last)  # (B, C, h, w)
            if index in self.stage_ends:
                maps.append(last)
        pooled = None
        if self.classifier is not None:
            pooled = self.classifier(self.avgpool(last).flatten(1))  # (B, D)
        return read_stages(maps, pooled, with_layers=with_layers)


def _find_widths(features: nn.Sequential, stage_ends: Sequence[int]) -> tuple[int, ...]:
    """Return the channels that each stage ends in."""
    widths = []
    for end in stage_ends:
        before = (features[index] for index in range(end, -1, -1))
        widths.append(next(c.out_channels for c in before if isinstance(c, nn.Conv2d)))
    return tuple(widths)


def _find_stride(features: nn.Sequential) -> int:
    """Return the pixels from one cell of the last map to the next."""
    stride = 1
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            stride *= layer.stride[0]
        elif isinstance(layer, nn.MaxPool2d):
            stride *= int(layer.stride)  # type: ignore[arg-type]
    return stride
