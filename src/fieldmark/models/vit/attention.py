"""Self-attention, global or local, for the Vision Transformers of timm and for our own.

Local self-attention (LSA; Lee, Lee, Song, "Vision Transformer for Small-Size Datasets", 2021,
section 3.2) changes two things: the temperature of the softmax is learned, and no token attends
to itself, so that every token must look at others.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.layers.config import use_fused_attn
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.errors import ModelError
from fieldmark.models.vit.token_path import has_token_path


class SelfAttention(nn.Module):
    """Multi-head self-attention whose inner width, heads x head_width, is free.

    temperature: (1,) with `local`, where scores are divided by it; it starts at
    sqrt(head_width), the divisor of global attention. One number, yet not a scalar tensor,
    because torch shards no parameters without dimensions.
    """

    temperature: nn.Parameter | None

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        head_width: int,
        local: bool = False,
        dropout: float = 0.0,
    ) -> None:
        """Take tokens of `width`; `dropout` is that of the attention's probabilities."""
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * num_heads * head_width)
        self.attn_drop = nn.Dropout(dropout)
        self.proj = nn.Linear(num_heads * head_width, width)
        start = nn.Parameter(torch.full((1,), sqrt(head_width))) if local else None
        self.register_parameter("temperature", start)
        self.fused_attn = bool(use_fused_attn())

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D), with a mask as `attend` takes it."""
        query, key, value = _split_heads(self.qkv(tokens), self.num_heads)
        mixed = attend(
            query,
            key,
            value,
            self.attn_drop,
            mask=mask,
            temperature=self.temperature,
            fused=self.fused_attn,
        )
        return self.proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: nn.Dropout,
    *,
    mask: Tensor | None = None,
    temperature: Tensor | None = None,
    fused: bool = True,
) -> Tensor:
    """softmax(query key^T / temperature) value, each (B, heads, N, d).

    mask: broadcastable to (B, heads, N, N); true where a token may look, or numbers that are
        added to the scores.
    temperature: makes attention local; None divides by sqrt(d) and lets tokens see themselves.
    dropout: of the probabilities; without `fused` they pass through it, where a hook reads them.
    """
    scale = query.shape[-1] ** -0.5
    if temperature is not None:
        # In the temperature's own precision: small steps of it would vanish in half precision.
        query = (query / temperature).to(value.dtype)
        mask, scale = exclude_self(mask, query), 1.0
    if fused:
        rate = dropout.p if dropout.training else 0.0
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=rate, scale=scale
        )
    scores = query @ key.transpose(-2, -1) * scale  # (B, heads, N, N)
    if mask is not None:
        scores = scores + _as_bias(mask, scores.dtype)
    probabilities: Tensor = dropout(scores.softmax(dim=-1))
    return probabilities @ value


def exclude_self(mask: Tensor | None, query: Tensor) -> Tensor:
    """Close the diagonal of a mask, for queries (B, heads, N, d): (..., N, N), to be added.

    The diagonal gets the lowest finite number, not minus infinity. Its probability is exactly 0
    all the same, and a token to which everything else is closed too (a single token; all others
    padding) attends to itself in place of becoming not-a-number.
    """
    num_tokens, lowest = query.shape[-2], torch.finfo(query.dtype).min
    diagonal = torch.eye(num_tokens, dtype=torch.bool, device=query.device)
    if mask is None:
        return torch.zeros_like(diagonal, dtype=query.dtype).masked_fill(diagonal, lowest)
    return torch.where(diagonal, lowest, _as_bias(mask, query.dtype))


def make_attention_local(net: nn.Module) -> None:
    """Turn the self-attention of every block of a timm Vision Transformer into LSA, in place.

    Each attention layer gets one parameter more, `temperature` (1,), at the start sqrt(head
    width); names and shapes of the others stay, so pretrained weights load. Raises `ModelError`
    for networks that are no Vision Transformer, or whose attention is of another kind.
    """
    if not has_token_path(net):
        raise _explain(net, "it is no Vision Transformer with one sequence of blocks")
    found = [
        [layer for layer in block.modules() if type(layer) in _LOCAL]
        for block in net.blocks  # type: ignore[union-attr]
    ]
    if not all(found):
        raise _explain(net, "its blocks have attention of another kind")
    for layer in (layer for layers in found for layer in layers):
        start = layer.proj.weight.new_full((1,), 1.0 / layer.scale)
        layer.temperature = nn.Parameter(start)
        layer.__class__ = _LOCAL[type(layer)]


class LocalAttention(Attention):
    """LSA in ViT, DeiT, DINOv2 and the image towers of CLIP and SigLIP."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return _attend_locally(self, x, _refuse_causal(attn_mask, is_causal))


class _LocalWithRope:
    """LSA where rotary embeddings come in beside the mask."""

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return _attend_locally(self, x, _refuse_causal(attn_mask, is_causal), rope)


class LocalAttentionRope(_LocalWithRope, AttentionRope):
    """LSA in the networks of EVA's family that timm builds with rotary attention."""


class LocalEvaAttention(_LocalWithRope, EvaAttention):
    """LSA in EVA, EVA-02 and DINOv3."""


class LocalBeitAttention(BeitAttention):
    """LSA in BEiT, whose relative position bias is added to the scores."""

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        bias = shared_rel_pos_bias
        if self.relative_position_bias_table is not None:
            own = self._get_rel_pos_bias()
            bias = own if bias is None else own + bias
        return _attend_locally(self, x, bias)


_LOCAL: dict[type[nn.Module], type[nn.Module]] = {
    Attention: LocalAttention,
    AttentionRope: LocalAttentionRope,
    EvaAttention: LocalEvaAttention,
    BeitAttention: LocalBeitAttention,
}
"""By exact type: a subclass of timm's may compute something else."""


def _attend_locally(
    layer: Any, tokens: Tensor, mask: Tensor | None, rope: Tensor | None = None
) -> Tensor:
    """Run one attention layer of timm with its own weights, as timm does but for the scores.

    `layer` is of one of the four classes above: they share these steps but no base class, and
    each has only some of the optional parts.
    """
    query, key, value = _project(layer, tokens)
    if (norm := getattr(layer, "q_norm", None)) is not None:
        query = norm(query)
    if (norm := getattr(layer, "k_norm", None)) is not None:
        key = norm(key)
    if rope is not None:
        query, key = (_rotate(layer, each, rope).type_as(value) for each in (query, key))
    if key.shape[1] < query.shape[1]:  # several heads of queries share one of keys
        shared = query.shape[1] // key.shape[1]
        key, value = (each.repeat_interleave(shared, dim=1) for each in (key, value))
    mixed = attend(
        query,
        key,
        value,
        layer.attn_drop,
        mask=mask,
        temperature=layer.temperature,
        fused=bool(layer.fused_attn),
    )
    mixed = mixed.transpose(1, 2).flatten(2)  # (B, N, heads * d)
    if (norm := getattr(layer, "norm", None)) is not None:
        mixed = norm(mixed)
    if (gate := getattr(layer, "gate", None)) is not None:
        mixed = mixed * gate(tokens).sigmoid()
    return layer.proj_drop(layer.proj(mixed))  # type: ignore[no-any-return]


def _project(layer: Any, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, D) -> query, key and value, each (B, heads, N, d)."""
    if layer.qkv is None:
        each = (layer.q_proj, layer.k_proj, layer.v_proj)
        heads = (
            projection(tokens).unflatten(2, (-1, layer.head_dim)).transpose(1, 2)
            for projection in each
        )
        query, key, value = heads
        return query, key, value
    projected = layer.qkv(tokens)
    if getattr(layer, "q_bias", None) is not None:
        bias = torch.cat((layer.q_bias, layer.k_bias, layer.v_bias))
        projected = projected + bias.to(projected.dtype)
    return _split_heads(projected, layer.num_heads)


def _split_heads(projected: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 3 * heads * d) -> query, key and value, each (B, heads, N, d)."""
    batch, num_tokens, _ = projected.shape
    heads = projected.reshape(batch, num_tokens, 3, num_heads, -1)
    query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
    return query, key, value


def _rotate(layer: Any, heads: Tensor, rope: Tensor) -> Tensor:
    """Turn (B, heads, N, d) by position, all but the prefix tokens."""
    num_prefix: int = layer.num_prefix_tokens
    prefix, patches = heads[:, :, :num_prefix], heads[:, :, num_prefix:]
    turned = apply_rot_embed_cat(patches, rope, half=layer.rotate_half)
    return torch.cat([prefix, turned], dim=2)


def _as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Make of a mask what is added to scores: booleans become 0 and minus infinity."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)
    return mask.to(dtype)


def _refuse_causal(mask: Tensor | None, is_causal: bool) -> Tensor | None:
    if is_causal:
        raise ModelError(
            "model.attention=local has no causal form: patches of an image have no order in time. "
            "Call the network with is_causal=False."
        )
    return mask


def _explain(net: nn.Module, reason: str) -> ModelError:
    return ModelError(
        f"model.attention=local cannot be used with '{type(net).__name__}': {reason}. Choose a "
        "ViT, DeiT, DINOv2, CLIP, EVA, DINOv3 or BEiT of timm (e.g. vit_tiny_patch16_224) or "
        "vit-small-data, or set model.attention=global."
    )
