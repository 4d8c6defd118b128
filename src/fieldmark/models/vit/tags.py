"""Tags as tokens of a Vision Transformer, and the decoder that proposes them.

Source: Animesion (Rios et al., section 3.2) after ViLT (Kim et al., 2021): the tokens of the tags
stand in one sequence with those of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.errors import ModelError

NORM_EPS = 1e-12


class TagEmbedding(nn.Module):
    """Token ids to tokens as BERT embeds them: word + position + token type, norm, dropout.

    All three start from N(0, 1), torch's own start of an embedding, because Animesion loads no
    weights of BERT; the row of padding is zero. The norm makes every tag token as long as the
    root of D, 13.9 for D 192. That suits a pretrained ViT: among the tokens that its first block
    reads, patches are 9.7 and class tokens 15 long in timm's vit_tiny_patch16_224, 13 and 18 in
    deit_tiny_patch16_224 (leaf photographs, 224 px).

    `type_vectors` (2, D) are ViLT's vectors for the kind of token, which Animesion left out: the
    backbone adds row 0 to the tokens of the image and row 1 to those that come from here. They
    start at zero, so a pretrained network starts unchanged. None without `type_embedding`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        *,
        max_tokens: int,
        dropout: float,
        pad_id: int,
        type_embedding: bool,
    ) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        self.pad_id = pad_id
        self.word = nn.Embedding(vocabulary_size, width, padding_idx=pad_id)
        self.position = nn.Embedding(max_tokens, width)
        # BERT has a second row, for a second text; here there is none.
        self.segment = nn.Parameter(torch.randn(width))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.type_vectors: nn.Parameter | None
        vectors = nn.Parameter(torch.zeros(2, width)) if type_embedding else None
        self.register_parameter("type_vectors", vectors)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) int64 -> (B, T, D) without type vectors.

        Raises `ModelError` where T is more than `max_tokens`.
        """
        num_tokens = ids.shape[1]
        if num_tokens > self.max_tokens:
            raise ModelError(
                f"tags: got {num_tokens} tokens per image, but the network was built for "
                f"{self.max_tokens}. Encode them with model.tags.max_tokens={self.max_tokens}"
            )
        embedded = self.word(ids) + self.position.weight[:num_tokens] + self.segment
        return self.dropout(self.norm(embedded))  # type: ignore[no-any-return]

    def visible(self, ids: Tensor) -> Tensor:
        """(B, T) bool: true for all but padding."""
        return ids != self.pad_id


class TagDecoder(nn.Module):
    """What stands at each tag token: linear, GELU, norm, then the word embedding as a last layer.

    The last layer's weights are those of the embedding, not a copy: they are no parameter of this
    module, so they are saved once, and a copy of the whole network ties its own. They start from
    N(0, 1), with which logits would be as wide as the root of D and the loss would start at 109
    nats for 13,505 tags and D 768, where a guess has 9.5. So the norm's scale starts at the
    inverse of that root, not at Animesion's 1, and the loss at 10.0.
    """

    def __init__(self, embedding: TagEmbedding) -> None:
        super().__init__()
        vocabulary_size, width = embedding.word.weight.shape
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        nn.init.constant_(self.norm.weight, width**-0.5)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        # In a tuple it is no child of this module, and `deepcopy` still keeps the tie.
        self._embedding = (embedding,)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, V)."""
        hidden = self.norm(functional.gelu(self.linear(tokens)))
        return functional.linear(hidden, self._embedding[0].word.weight, self.bias)
