"""Maps of attention: of the class token, over all layers, and between words and patches."""

from __future__ import annotations

import torch
from torch import Tensor

from fieldmark.inspection.attention.weights import AttentionWeights


def class_maps(read: AttentionWeights) -> Tensor:
    """(L, heads, h, w): how much the class token reads of each patch.

    Without a class token, how much the patches read of it on average. What goes to other tokens
    is left out, so a map sums to at most 1.
    """
    rows = _reading_rows(read.weights, read)  # (L, heads, N)
    return rows[..., read.first_patch :].unflatten(-1, read.grid)


def patch_share(read: AttentionWeights) -> Tensor:
    """(L, heads): the share of what the class token reads that goes to patches at all."""
    return class_maps(read).sum(dim=(-2, -1))


def roll_out(weights: Tensor) -> Tensor:
    """(L, heads, N, N) -> (N, N): attention over all layers; rows sum to 1.

    Attention rollout (Abnar and Zuidema 2020, section 3, equation 1): the heads' mean, half of it
    replaced by the identity for the residual connection, multiplied from the first layer to the
    last.
    """
    size = weights.shape[-1]
    joint = torch.eye(size, dtype=weights.dtype, device=weights.device)
    for layer in weights.mean(dim=1):  # (N, N)
        mixed = 0.5 * layer + 0.5 * torch.eye(size, dtype=layer.dtype, device=layer.device)
        joint = (mixed / mixed.sum(dim=-1, keepdim=True)) @ joint
    return joint


def rollout_map(read: AttentionWeights) -> Tensor:
    """(h, w): how much of each patch reaches the class token (or the mean patch) at the end."""
    rows = _reading_rows(roll_out(read.weights), read)  # (N,)
    return rows[read.first_patch :].unflatten(0, read.grid)


def tag_maps(read: AttentionWeights) -> Tensor:
    """(L, T, h, w): how much each token of the tags reads of each patch, mean over heads."""
    tags = slice(read.num_prefix, read.first_patch)
    mean = read.weights.mean(dim=1)  # (L, N, N)
    return mean[:, tags, read.first_patch :].unflatten(-1, read.grid)


def tags_read(read: AttentionWeights) -> Tensor:
    """(L, T): how much the class token reads of each token of the tags, mean over heads."""
    rows = _reading_rows(read.weights, read).mean(dim=1)  # (L, N)
    return rows[:, read.num_prefix : read.first_patch]


def _reading_rows(weights: Tensor, read: AttentionWeights) -> Tensor:
    """(..., N, N) -> (..., N): the row of the class token, or the mean of the patches' rows."""
    if read.has_class_token:
        return weights[..., 0, :]
    return weights[..., read.first_patch :, :].mean(dim=-2)
