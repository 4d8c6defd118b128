"""A Vision Transformer of timm step by step: tokens, extra tokens, block after block.

timm's own `forward_features` runs from image to last norm in one go. Tags need a place between
the embedding and the blocks, padding needs a mask in every block, and the IFA head reads every
block's class token without keeping the sequences. The three families below (ViT with DeiT, EVA,
BEiT) name these steps differently; here they are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

FAMILIES = (VisionTransformer, Eva, Beit)


def has_token_path(net: nn.Module) -> bool:
    """Whether the network is a Vision Transformer that can be run step by step."""
    return isinstance(net, FAMILIES)


def embed_image(net: nn.Module, images: Tensor) -> tuple[Tensor, Any]:
    """Images (B, 3, H, W) -> tokens (B, N, D) as the first block reads them, prefix first.

    The second is what each block needs beside them: rotary embedding of EVA, shared relative
    bias of BEiT, else None.
    """
    tokens = net.patch_embed(images)  # type: ignore[operator]
    if isinstance(net, Beit):
        prefix = net.cls_token.expand(len(images), -1, -1)
        tokens = torch.cat([prefix, tokens], dim=1)
        if net.pos_embed is not None:
            tokens = tokens + net.pos_embed
        shared = None if net.rel_pos_bias is None else net.rel_pos_bias()
        return net.pos_drop(tokens), shared
    if isinstance(net, Eva):
        tokens, position = net._pos_embed(tokens)
        return net.norm_pre(tokens), position
    assert isinstance(net, VisionTransformer)
    return net.norm_pre(net.patch_drop(net._pos_embed(tokens))), None


def expect_extra_tokens(net: nn.Module, num_tokens: int) -> None:
    """Prepare a network for that many tokens between prefix and patches, which have no place.

    Rotary embeddings and relative position biases then leave them out.
    """
    if isinstance(net, VisionTransformer):
        return
    for block in net.blocks:  # type: ignore[union-attr]
        if isinstance(net, Beit):
            _widen_relative_bias(block.attn, net, num_tokens)
        else:
            block.attn.num_prefix_tokens += num_tokens


def run_blocks(
    net: nn.Module, tokens: Tensor, position: Any, mask: Tensor | None = None
) -> Iterator[Tensor]:
    """Yield the output (B, N, D) of each block, first to last; `position` is of `embed_image`.

    `mask` is true where attention may look, broadcastable to (B, heads, N, N).
    """
    is_per_block = getattr(net, "rope_mixed", False) and position is not None
    for index, block in enumerate(net.blocks):  # type: ignore[arg-type]
        if isinstance(net, Beit):
            tokens = block(tokens, shared_rel_pos_bias=_add_masks(net, position, mask))
        elif isinstance(net, Eva):
            rope = position[index] if is_per_block else position
            tokens = block(tokens, rope=rope, attn_mask=mask)
        else:
            tokens = block(tokens) if mask is None else block(tokens, attn_mask=mask)
        yield tokens


def _add_masks(net: Beit, shared: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """BEiT takes one bias that is added to the logits, shared by its blocks."""
    if mask is None:
        return shared
    hiding = torch.zeros_like(mask, dtype=net.cls_token.dtype).masked_fill(~mask, -torch.inf)
    if shared is None:
        return hiding
    return _pad(shared, mask.shape[-1] - shared.shape[-1], net.num_prefix_tokens) + hiding


class _WideRelativeBias:
    """BEiT attention whose relative position bias is zero for tokens that have no position."""

    num_extra_tokens: int
    num_prefix: int

    def _get_rel_pos_bias(self) -> Tensor:
        bias: Tensor = super()._get_rel_pos_bias()  # type: ignore[misc]
        return _pad(bias, self.num_extra_tokens, self.num_prefix)


def _widen_relative_bias(attention: nn.Module, net: Beit, num_tokens: int) -> None:
    """Give one BEiT block room for extra tokens; its parameters keep names and shapes."""
    attention.__class__ = type("WideBeitAttention", (_WideRelativeBias, type(attention)), {})
    attention.num_extra_tokens = num_tokens  # type: ignore[assignment]
    attention.num_prefix = net.num_prefix_tokens  # type: ignore[assignment]


def _pad(bias: Tensor, num_tokens: int, num_prefix: int) -> Tensor:
    """(..., N, N) -> (..., N + T, N + T): zeros for T tokens behind the prefix, both ways."""
    for dim in (-2, -1):
        prefix, patches = bias.tensor_split([num_prefix], dim=dim)
        widths = (0, 0, 0, num_tokens) if dim == -2 else (0, num_tokens)
        bias = torch.cat([functional.pad(prefix, widths), patches], dim=dim)
    return bias
