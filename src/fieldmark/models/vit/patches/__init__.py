"""Patch embeddings: the plain one, and those that also read shifted and rotated views."""

from __future__ import annotations

from fieldmark.models.vit.patches.embedding import ViewPatchEmbed, build_patch_embedding
from fieldmark.models.vit.patches.reach import token_reach_px
from fieldmark.models.vit.patches.replacing import replace_patch_embedding
from fieldmark.models.vit.patches.views import count_views, render_views

__all__ = [
    "ViewPatchEmbed",
    "build_patch_embedding",
    "count_views",
    "render_views",
    "replace_patch_embedding",
    "token_reach_px",
]
