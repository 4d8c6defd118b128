"""`Features`: what every backbone returns, Vision Transformer or CNN."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """One batch of images as the backbone sees it.

    pooled: (B, D) what the head classifies.
    layers: (B, D, L) class token of each block, first to last, or pooled map of each stage (filled
        up with zeros where it is narrower than D); None unless asked.
    tokens: (B, N, D') last token sequence with its prefix tokens, or the last map flattened.
    grid: (h, w) of the patch tokens.
    num_prefix: leading tokens that are no patches (class, registers, distillation).
    tags: (B, T, D) last token sequence of the tags; None where the network takes none.
    """

    pooled: Tensor
    tokens: Tensor
    grid: tuple[int, int]
    num_prefix: int = 0
    layers: Tensor | None = None
    tags: Tensor | None = None
