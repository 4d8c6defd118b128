"""SE-ResNet-18 and -34 (Hu, Shen, Albanie, Sun, Wu 2019) on timm's ResNet.

SE-ResNet-50, -101 and -152 are timm's own `seresnet50` and so on. In timm's `seresnet18` and
`seresnet34` the hidden channels are rounded to a multiple of 8, so that a block of 64 channels has
8 in place of 64 / 16 = 4, and in `legacy_seresnet18` a ReLU comes before the gate; hence ours.
"""

from __future__ import annotations

from functools import partial

from timm.layers.squeeze_excite import SEModule
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.classic.stages import IMAGENET, depths_by_block, read_stages
from fieldmark.models.features import Features

REDUCTION = 16


class SeResNet(nn.Module):
    """ResNet of basic blocks, each with squeeze and excitation before the sum: D = 512.

    U of C channels becomes s * U with s = sigmoid(W2 ReLU(W1 GAP(U))), W1 of C / 16 rows, both
    layers with biases. With a head for 1,000 classes there are 11,778,592 parameters with blocks
    (2, 2, 2, 2) and 21,958,868 with (3, 4, 6, 3). The names are those of timm's ResNet.
    """

    num_layers = 4
    layer_widths = (64, 128, 256, 512)
    width = 512
    stride = 32
    statistics = IMAGENET
    interpolation = "bilinear"
    classifier_name: str | None = "fc"

    def __init__(
        self,
        *,
        name: str,
        num_blocks: tuple[int, int, int, int],
        image_size: int,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        """`dropout` comes before the head; any image size works."""
        super().__init__()
        self.name = name
        self.image_size = image_size
        self.dropout = dropout
        excite = partial(SEModule, rd_ratio=1 / REDUCTION, rd_divisor=1)
        net = ResNet(
            BasicBlock,  # type: ignore[arg-type]
            num_blocks,
            num_classes=0,
            drop_path_rate=drop_path,
            block_args={"attn_layer": excite},
        )
        for child in ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(child, net.get_submodule(child))

    def parameter_depths(self) -> dict[str, int]:
        """Level of each parameter: the stem, then block by block."""
        return depths_by_block(self, ("layer1", "layer2", "layer3", "layer4"))

    def forward(
        self,
        images: Tensor,
        tags: Tensor | None = None,  # noqa: ARG002 - as every backbone
        *,
        with_layers: bool = False,
    ) -> Features:
        """Read images (B, 3, H, W)."""
        maps, last = [], images
        for name, child in self.named_children():
            last = child(last)  # (B, 64, 56, 56) behind the stem at 224 px, then each stage
            if name.startswith("layer"):
                maps.append(last)  # in the end (B, 512, 7, 7)
        pooled = functional.dropout(last.mean(dim=(2, 3)), self.dropout, self.training)
        return read_stages(maps, pooled, with_layers=with_layers)
