"""Attention: which tokens read which, by layer and head, over all layers, and between words."""

from fieldmark.inspection.attention.drawing import draw_attention
from fieldmark.inspection.attention.numbers import (
    class_maps,
    patch_share,
    roll_out,
    rollout_map,
    tag_maps,
    tags_read,
)
from fieldmark.inspection.attention.weights import (
    AttentionWeights,
    read_attention,
    unfused,
)

__all__ = [
    "AttentionWeights",
    "class_maps",
    "draw_attention",
    "patch_share",
    "read_attention",
    "roll_out",
    "rollout_map",
    "tag_maps",
    "tags_read",
    "unfused",
]
