"""The networks of timm as backbones: `TimmBackbone`."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any, Literal, Self

import torch
from timm.models import group_parameters
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fieldmark.errors import ModelError
from fieldmark.models.classic.stages import read_stages
from fieldmark.models.depths import depths_by_child
from fieldmark.models.features import Features
from fieldmark.models.vit.tag_fusion import TokenSequence, blank_images, fill_up, join_tags
from fieldmark.models.vit.tags import TagEmbedding
from fieldmark.models.vit.token_path import (
    embed_image,
    expect_extra_tokens,
    has_token_path,
    run_blocks,
)
from fieldmark.recipes.schema import Statistics, Tags


@dataclass(frozen=True)
class Probe:
    """Sizes found by one forward pass: `width` D, true widths of the L layers, `stride` px."""

    width: int
    layer_widths: tuple[int, ...]
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
        pools_by_token: bool = False,
        reads: Literal["pooled", "layers"] = "pooled",
        is_timms_own: bool = True,
    ) -> None:
        """Take a network whose classifier has been removed (`num_classes` 0).

        takes_image_size: timm builds it for one size, given as `img_size`.
        pools_by_token: its class token stands for the image, not the mean of its patches.
        reads: what the head will read; with "layers" nothing is left behind the last block.
        is_timms_own: timm can build the very same network.
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
        self.is_timms_own = is_timms_own
        self._pools_by_token = pools_by_token
        self._reads_layers = reads == "layers"
        self._num_prefix: int = getattr(net, "num_prefix_tokens", 0)
        self._tag_options: Tags | None = None
        self.pretrained_cfg: dict[str, Any] = dict(net.pretrained_cfg)  # type: ignore[arg-type]
        mean, std = self.pretrained_cfg["mean"], self.pretrained_cfg["std"]
        self.statistics = Statistics(mean=mean, std=std)
        self.interpolation: str = self.pretrained_cfg["interpolation"]
        found = self.probe(image_size)
        self.width = found.width
        self.layer_widths = found.layer_widths
        self.num_layers = len(found.layer_widths)
        self.stride = found.stride

    def add_tags(self, options: Tags, vocabulary_size: int, pad_id: int) -> None:
        """Let the tokens of tags take part in every block.

        Raises `ModelError` for networks that are no Vision Transformer.
        """
        if not has_token_path(self.net):
            raise ModelError(
                f"model.tags: '{self.name}' has no tokens that tags could join. Choose a Vision "
                "Transformer (ViT, DeiT, EVA or BEiT, e.g. vit_tiny_patch16_224), or set "
                "model.tags=off"
            )
        expect_extra_tokens(self.net, options.max_tokens)
        self.tags = TagEmbedding(
            vocabulary_size,
            int(self.net.embed_dim),  # type: ignore[arg-type]
            max_tokens=options.max_tokens,
            dropout=options.dropout,
            pad_id=pad_id,
            type_embedding=options.type_embedding,
        )
        self._tag_options = options
        self.is_timms_own = False

    def forward(
        self, images: Tensor, tags: Tensor | None = None, *, with_layers: bool = False
    ) -> Features:
        """Read images (B, 3, H, W) and, where tags were added, their ids (B, T); None: no tags."""
        if has_token_path(self.net) and (with_layers or self._tag_options is not None):
            return self._walk(images, tags, with_layers)
        maps = self._read_maps(images) if with_layers else []
        if maps and self._reads_layers:
            return read_stages(maps, with_layers=True)
        layers = read_stages(maps, with_layers=True).layers if maps else None
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
        """Level of each parameter: stem (and tags), then block by block, as timm groups them."""
        if not hasattr(self.net, "group_matcher"):
            return depths_by_child(self)
        matcher = self.net.group_matcher(coarse=False)  # type: ignore[operator]
        depths: dict[str, int] = group_parameters(self.net, matcher, reverse=True)
        return {name: 0 if name.startswith("tags.") else depth for name, depth in depths.items()}

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
            return hollow.eval()._measure(images)
        except UNFIT_ERRORS:
            was_training = self.training
            found = self.eval()._measure(torch.zeros(1, 3, image_size, image_size))
            self.train(was_training)
            return found

    def _measure(self, images: Tensor) -> Probe:
        if has_token_path(self.net):
            features = self(images, with_layers=True)
            num_layers = 0 if features.layers is None else features.layers.shape[2]
            widths = (features.layers.shape[1],) * num_layers
        else:
            widths = tuple(map_.shape[1] for map_ in self._read_maps(images))
            features = self(images, with_layers=self._reads_layers)
        return Probe(
            width=features.pooled.shape[1],
            layer_widths=widths,
            stride=max(1, round(images.shape[-1] / max(features.grid))),
        )

    def _walk(self, images: Tensor, tags: Tensor | None, with_layers: bool) -> Features:
        """Run a Vision Transformer block by block, with the tokens of tags if it takes any."""
        options = self._tag_options
        if options is not None:
            images = blank_images(images, options)
        tokens, position = embed_image(self.net, images)
        sequence = TokenSequence(tokens, self._num_prefix)
        if options is not None:
            if tags is not None and not isinstance(self.net, VisionTransformer):
                tags = fill_up(tags, self.tags)
            sequence = join_tags(tokens, tags, self.tags, options, self._num_prefix)
        layers, last = [], sequence.tokens
        for last in run_blocks(self.net, sequence.tokens, position, sequence.mask):
            if with_layers:
                layers.append(self._read_block(last, sequence.num_tags))  # (B, D)
        kept, tag_tokens = sequence.part(self.net.norm(last))  # type: ignore[operator]
        return Features(
            pooled=layers[-1] if layers and self._reads_layers else self._pool(kept),
            tokens=kept,
            grid=_find_grid(self.net, kept.shape[1]),
            num_prefix=self._num_prefix,
            layers=torch.stack(layers, dim=2) if with_layers else None,  # (B, D, L)
            tags=tag_tokens,
        )

    def _read_block(self, tokens: Tensor, num_tags: int) -> Tensor:
        """Return (B, D) of one block's output: the class token, or the mean of the patches."""
        if self._pools_by_token:
            return tokens[:, 0]
        return tokens[:, self._num_prefix + num_tags :].mean(dim=1)

    def _read_maps(self, images: Tensor) -> list[Tensor]:
        """Return (B, C_l, h_l, w_l) of each stage; nothing where the network gives none."""
        method = getattr(self.net, "forward_intermediates", None)
        if method is None:
            return []
        found: list[Tensor] = method(images, intermediates_only=True, output_fmt="NCHW")
        return found

    def _pool(self, last: Tensor) -> Tensor:
        if self.classifiers.reads == "prefix":
            # Side by side: the head has a linear layer for each of the two tokens.
            return self.net.head_drop(last[:, :2]).flatten(1)  # type: ignore[operator, no-any-return]
        return self.net.forward_head(last, pre_logits=True)  # type: ignore[operator, no-any-return]


UNFIT_ERRORS = (RuntimeError, AssertionError, ValueError, TypeError, IndexError, ZeroDivisionError)
"""What the networks of timm raise on an image size that they cannot take."""


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
