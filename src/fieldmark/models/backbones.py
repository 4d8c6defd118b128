"""What a backbone is: the interface of every network without its classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

from torch import Tensor, nn

from fieldmark.models.features import Features
from fieldmark.recipes.schema import Statistics


class Backbone(Protocol):
    """An `nn.Module` that turns images into `Features`."""

    @property
    def name(self) -> str:
        """As a recipe names it."""
        ...

    @property
    def width(self) -> int:
        """D of `Features.pooled`."""
        ...

    @property
    def num_layers(self) -> int:
        """L of `Features.layers`; 0 where the network has no sequence of blocks to give."""
        ...

    @property
    def layer_widths(self) -> tuple[int, ...]:
        """What each of the L layers fills of D; the rest is zeros."""
        ...

    @property
    def image_size(self) -> int:
        """Side of the images that it was built for, px."""
        ...

    @property
    def stride(self) -> int:
        """Pixels from one token to the next: the patch size of a Vision Transformer."""
        ...

    @property
    def statistics(self) -> Statistics:
        """Pixel statistics that its weights were, or should be, trained with."""
        ...

    @property
    def interpolation(self) -> str:
        """How its weights saw images resized: bilinear, bicubic, ..."""
        ...

    def __call__(
        self, images: Tensor, tags: Tensor | None = None, *, with_layers: bool = False
    ) -> Features:
        """Read images (B, 3, H, W) and token ids of tags (B, T), where it takes any.

        `layers` is filled only when asked for and where there are any.
        """
        ...

    def parameter_depths(self) -> dict[str, int]:
        """Level of each parameter by name, counted from the image (0) to the last block."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """As `nn.Module` has it."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As `nn.Module` has it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As `nn.Module` has it."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> object:
        """As `nn.Module` has it."""
        ...

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module` has it."""
        ...

    def eval(self) -> Self:
        """As `nn.Module` has it."""
        ...


def is_convolutional(backbone: Backbone) -> bool:
    """Whether it is a CNN: convolves more than patches out of the image.

    The one convolution of a Vision Transformer, and those of its patch embedding, do not count.
    """
    assert isinstance(backbone, nn.Module)
    spatial = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1
    ]
    return any("patch_embed" not in name for name in spatial)
