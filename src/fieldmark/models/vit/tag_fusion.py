"""Tags and image in one sequence: joined before the first block, parted after the last.

Source: Animesion (Rios et al., section 3.2) after ViLT (Kim et al. 2021). There the order is
class token, patches, tags. Attention does not know an order; here the tags stand between prefix
and patches, where rotary embeddings, which turn all but the prefix, leave them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fieldmark.models.vit.tags import TagEmbedding
from fieldmark.recipes.schema import Tags


@dataclass(frozen=True)
class TokenSequence:
    """Tokens (B, N + T, D), T of them tags behind the prefix.

    mask: (B, 1, 1, N + T), true where attention may look; None: everywhere.
    """

    tokens: Tensor
    num_prefix: int
    num_tags: int = 0
    mask: Tensor | None = None

    def part(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return image tokens (B, N, D) and tag tokens (B, T, D) of a sequence of this order."""
        if not self.num_tags:
            return tokens, None
        prefix, tags, patches = tokens.tensor_split(
            [self.num_prefix, self.num_prefix + self.num_tags], dim=1
        )
        return torch.cat([prefix, patches], dim=1), tags


def blank_images(images: Tensor, options: Tags) -> Tensor:
    """Return black images where the tags alone shall decide (`model.tags.image: false`)."""
    return images if options.image else torch.zeros_like(images)


def fill_up(ids: Tensor, embedding: TagEmbedding) -> Tensor:
    """Pad ids (B, T) to all the tokens that rotary and relative positions were prepared for."""
    missing = embedding.max_tokens - ids.shape[1]
    return functional.pad(ids, (0, missing), value=embedding.pad_id) if missing > 0 else ids


def join_tags(
    tokens: Tensor, ids: Tensor | None, embedding: TagEmbedding, options: Tags, num_prefix: int
) -> TokenSequence:
    """Put the tags (B, T) between prefix and patches of `tokens` (B, N, D); no ids: no tags."""
    if ids is None:
        size = (len(tokens), embedding.max_tokens)
        ids = torch.full(size, embedding.pad_id, device=tokens.device)
    tags = embedding(ids).to(tokens.dtype)  # (B, T, D)
    if embedding.type_vectors is not None:
        tokens = tokens + embedding.type_vectors[0]
        tags = tags + embedding.type_vectors[1]
    mask = None
    if options.mask_padding:
        num_patches = tokens.shape[1] - num_prefix
        visible = functional.pad(embedding.visible(ids), (num_prefix, num_patches), value=True)
        mask = visible[:, None, None, :]
    prefix, patches = tokens.tensor_split([num_prefix], dim=1)
    return TokenSequence(torch.cat([prefix, tags, patches], dim=1), num_prefix, ids.shape[1], mask)
