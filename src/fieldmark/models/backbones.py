"""What a backbone is, and timm's networks as one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any, Literal, Protocol, Self

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from fieldmark.models.depths import depths_by_child
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


@dataclass(frozen=True)
class Probe:
    """Sizes found by one forward pass: `width` D, `num_layers` L, `stride` px."""

    width: int
    num_layers: int
    stride: int


@dataclass(frozen=True)
class Classifiers:
    """The classifying layers that timm's network of this name ends in.

    names: dotted names, e.g. ("head.fc",).
    reads: what they are applied to. "pooled": one linear layer on the pooled features;
        "prefix": one on the class and one on the distillation token, averaged; None: anything
        else, so that a linear head of ours cannot stand for them.
    is_convolution: the one layer is a 1 x 1 convolution: weight (K, D, 1, 1).
    """

    names: tuple[str, ...]
    reads: Literal["pooled", "prefix"] | None
    is_convolution: bool = False


class TimmBackbone(nn.Module):
    """A network of timm without its classifier.

    Its parameters have timm's own names (`blocks.0.attn.qkv.weight`, not `net.blocks...`),
    because it shares the registries of `net` in place of registering it as a child. Children are
    reached either way: `backbone.blocks` is `backbone.net.blocks`.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        image_size: int,
        classifiers: Classifiers,
        takes_image_size: bool,
    ) -> None:
        """Take a network whose classifier has been removed (`num_classes` 0).

        `takes_image_size` says that timm builds it for one size, given as `img_size`.
        """
        super().__init__()
        object.__setattr__(self, "net", net)
        for registry in ("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules"):
            object.__setattr__(self, registry, getattr(net, registry))
        self.net: nn.Module
        self.name = name
        self.image_size = image_size
        self.classifiers = classifiers
        self.takes_image_size = takes_image_size
        self._gives_layers = _has_token_blocks(net)
        self._num_prefix: int = getattr(net, "num_prefix_tokens", 0)
        self._pools_by_token = getattr(net, "global_pool", "") == "token"
        self.pretrained_cfg: dict[str, Any] = dict(net.pretrained_cfg)  # type: ignore[arg-type]
        mean, std = self.pretrained_cfg["mean"], self.pretrained_cfg["std"]
        self.statistics = Statistics(mean=mean, std=std)
        self.interpolation: str = self.pretrained_cfg["interpolation"]
        found = self.probe(image_size)
        self.width = found.width
        self.num_layers = found.num_layers
        self.stride = found.stride

    def forward(self, images: Tensor, *, with_layers: bool = False) -> Features:
        """Read images (B, 3, H, W)."""
        layers = None
        if with_layers and self._gives_layers:
            last, blocks = self.net.forward_intermediates(  # type: ignore[operator]
                images, return_prefix_tokens=self._num_prefix > 0, output_fmt="NLC"
            )
            layers = torch.stack([self._read_block(block) for block in blocks], dim=2)  # (B, D, L)
        else:
            last = self.net.forward_features(images)  # type: ignore[operator]
        tokens, grid = _as_tokens(self.net, last)
        return Features(
            pooled=self._pool(last),
            tokens=tokens,
            grid=grid,
            num_prefix=tokens.shape[1] - prod(grid),
            layers=layers,
        )

    def train(self, mode: bool = True) -> Self:
        """Switch the network too: it asks its own flag for dropout before pooling."""
        super().train(mode)
        self.net.train(mode)
        return self

    def parameter_depths(self) -> dict[str, int]:
        """Level of each parameter: stem, then block by block, as timm groups them."""
        if not hasattr(self.net, "group_matcher"):
            return depths_by_child(self)
        matcher = self.net.group_matcher(coarse=False)  # type: ignore[operator]
        depths: dict[str, int] = group_parameters(self.net, matcher, reverse=True)
        return depths

    @torch.no_grad()
    def probe(self, image_size: int) -> Probe:
        """Return what images of this size lead to.

        The pass runs on a copy that has shapes but no numbers (torch's meta device): no
        arithmetic, no memory. Networks that do not support that are run on one black image.
        Raises whatever the network raises on a size that it cannot take.
        """
        tensors = [*self.parameters(), *self.buffers()]
        try:
            hollow = copy.deepcopy(self, {id(tensor): tensor.to("meta") for tensor in tensors})
            images = torch.empty(1, 3, image_size, image_size, device="meta")
            found: Features = hollow.eval()(images, with_layers=True)
        except UNFIT_ERRORS:
            was_training = self.training
            images = torch.zeros(1, 3, image_size, image_size)
            found = self.eval()(images, with_layers=True)
            self.train(was_training)
        return Probe(
            width=found.pooled.shape[1],
            num_layers=0 if found.layers is None else found.layers.shape[2],
            stride=max(1, round(image_size / max(found.grid))),
        )

    def _pool(self, last: Tensor) -> Tensor:
        if self.classifiers.reads == "prefix":
            # Side by side, not averaged: one linear layer on both equals timm's mean of two.
            return self.net.head_drop(last[:, :2]).flatten(1)  # type: ignore[operator, no-any-return]
        return self.net.forward_head(last, pre_logits=True)  # type: ignore[operator, no-any-return]

    def _read_block(self, block: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Return (B, D) of one block's output, given as patches or as (patches, prefix)."""
        if isinstance(block, tuple):
            patches, prefix = block
            return prefix[:, 0] if self._pools_by_token else patches.mean(dim=1)
        return block.mean(dim=1)


UNFIT_ERRORS = (RuntimeError, AssertionError, ValueError, TypeError, IndexError, ZeroDivisionError)
"""What the networks of timm raise on an image size that they cannot take."""


def _has_token_blocks(net: nn.Module) -> bool:
    """Tell whether the network is one sequence of blocks on class token and patches."""
    method = getattr(net, "forward_intermediates", None)
    return (
        method is not None
        and "return_prefix_tokens" in method.__code__.co_varnames
        and isinstance(getattr(net, "blocks", None), nn.ModuleList | nn.Sequential)
    )


def _as_tokens(net: nn.Module, last: Any) -> tuple[Tensor, tuple[int, int]]:
    """Return tokens (B, N, D) and grid (h, w) of what `forward_features` gave."""
    if isinstance(last, list | tuple):  # several scales or branches: the last is the coarsest
        last = last[-1]
    if last.ndim == 2:  # (B, D): pooled inside the network
        return last.unsqueeze(1), (1, 1)
    if last.ndim == 3:  # (B, N, D)
        return last, _find_grid(net, last.shape[1])
    if getattr(net, "output_fmt", "NCHW") == "NHWC":
        return last.flatten(1, 2), (last.shape[1], last.shape[2])
    return last.flatten(2).transpose(1, 2), (last.shape[2], last.shape[3])


def _find_grid(net: nn.Module, num_tokens: int) -> tuple[int, int]:
    """Return (h, w) of the patches among `num_tokens`; the rest are prefix tokens."""
    grid = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if grid is not None and prod(grid) <= num_tokens < 2 * prod(grid):
        return int(grid[0]), int(grid[1])
    for num_prefix in (getattr(net, "num_prefix_tokens", 0), 0, 1):
        side = isqrt(num_tokens - num_prefix)
        if side * side == num_tokens - num_prefix:
            return side, side
    return 1, num_tokens
