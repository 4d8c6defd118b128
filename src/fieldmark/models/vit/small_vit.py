"""The Vision Transformer for small sets of the rotated-patches study: 64 channels, 4 wide heads.

It is the network of the Keras example "Train a Vision Transformer on small datasets", which the
study's notebooks train from scratch with plain, shifted and rotated patches.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.errors import ImageSizeError
from fieldmark.models.features import Features
from fieldmark.models.vit.attention import SelfAttention
from fieldmark.models.vit.patches import build_patch_embedding
from fieldmark.models.vit.records import SmallVitDesign
from fieldmark.models.vit.tag_fusion import TokenSequence, blank_images, join_tags
from fieldmark.models.vit.tags import TagEmbedding
from fieldmark.recipes.schema import Patches, Statistics, Tags

WIDTH = 64
NUM_HEADS = 4
HIDDEN = 128
WIDE = (2048, 1024)
WIDE_DROPOUT = 0.5
POSITION_LIMIT = 0.05


class SmallDataViT(nn.Module):
    """Patches, L blocks on tokens of width 64, and two wide layers: D = 1024.

    There is no class token. The wide layers (64 N or 64 -> 2048 -> 1024, GELU, dropout 0.5 before
    each and behind the last) belong to the backbone, as the fully connected layers of VGG do in
    timm, so that a head is always the last layer alone. A head that reads the layers leaves the
    last norm and the wide layers without purpose: they are not built, and D is 64.
    """

    statistics = Statistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    interpolation = "bilinear"

    def __init__(
        self,
        design: SmallVitDesign,
        *,
        image_size: int,
        patches: Patches | None = None,
        attention: Literal["global", "local"] = "global",
        dropout: float = 0.1,
        drop_path: float = 0.0,
        reads: Literal["pooled", "layers"] = "pooled",
    ) -> None:
        """Build it for images of `image_size` px, a multiple of the design's patches.

        patches: with a form other than "auto"; None for plain ones.
        dropout: in the blocks, on attention and behind both layers of the MLP.
        drop_path: of the last block; it rises linearly from 0.
        reads: which of `Features` the head will read.

        Raises `ImageSizeError`.
        """
        super().__init__()
        _check_size(design, image_size)
        self.name = design.name
        self._tag_options: Tags | None = None
        self.image_size = image_size
        self.stride = design.patch_size
        self.num_layers = design.num_layers
        self.layer_widths = (WIDTH,) * design.num_layers
        side = image_size // design.patch_size
        self.grid = (side, side)
        self.patch_embed = build_patch_embedding(
            patches or Patches(),
            image_size=image_size,
            patch_size=design.patch_size,
            width=WIDTH,
        )
        self.pos_embed = nn.Parameter(torch.empty(1, side * side, WIDTH))
        self.blocks = nn.ModuleList(
            Block(
                head_width=design.head_width,
                local=attention == "local",
                dropout=dropout,
                drop_path=drop_path * index / max(1, design.num_layers - 1),
            )
            for index in range(design.num_layers)
        )
        self.norm: nn.Module = nn.Identity()
        self.wide: WideLayers | None = None
        if reads == "pooled":
            self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
            self.wide = WideLayers(side * side if design.pooling == "flatten" else None)
        self.width = WIDTH if self.wide is None else WIDE[-1]
        nn.init.uniform_(self.pos_embed, -POSITION_LIMIT, POSITION_LIMIT)
        for part in (self.blocks, self.wide):
            if part is not None:
                start_as_keras(part)

    def add_tags(self, options: Tags, vocabulary_size: int, pad_id: int) -> None:
        """Let the tokens of tags take part in every block; what is pooled stays the image's."""
        self.tags = TagEmbedding(
            vocabulary_size,
            WIDTH,
            max_tokens=options.max_tokens,
            dropout=options.dropout,
            pad_id=pad_id,
            type_embedding=options.type_embedding,
        )
        self._tag_options = options

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> tokens (B, N, 64) as the first block reads them."""
        return self.patch_embed(images) + self.pos_embed  # type: ignore[no-any-return]

    def forward(
        self,
        images: Tensor,
        tags: Tensor | None = None,
        *,
        with_layers: bool = False,
    ) -> Features:
        """Read images (B, 3, H, W) and, where tags were added, their ids (B, T); None: no tags.

        A layer of `layers` is the mean of a block's image tokens.
        """
        options = self._tag_options
        if options is None:
            sequence = TokenSequence(self.embed(images), num_prefix=0)
        else:
            tokens = self.embed(blank_images(images, options))
            sequence = join_tags(tokens, tags, self.tags, options, num_prefix=0)
        layers, last = [], sequence.tokens
        for block in self.blocks:
            last = block(last, sequence.mask)
            if with_layers:
                layers.append(last[:, sequence.num_tags :].mean(dim=1))  # (B, 64)
        tokens, tag_tokens = sequence.part(self.norm(last))
        pooled = tokens.mean(dim=1) if self.wide is None else self.wide(tokens)
        return Features(
            pooled=pooled,
            tokens=tokens,
            grid=self.grid,
            layers=torch.stack(layers, dim=2) if with_layers else None,
            tags=tag_tokens,
        )

    def parameter_depths(self) -> dict[str, int]:
        """Level of each parameter: embedding, then block by block, then the wide layers."""
        return {name: self._depth(name) for name, _ in self.named_parameters()}

    def _depth(self, name: str) -> int:
        part, _, rest = name.partition(".")
        if part == "blocks":
            return 1 + int(rest.partition(".")[0])
        return 1 + self.num_layers if part in ("norm", "wide") else 0


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and added to its input."""

    def __init__(self, *, head_width: int, local: bool, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = SelfAttention(
            WIDTH, num_heads=NUM_HEADS, head_width=head_width, local=local, dropout=dropout
        )
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.fc1 = nn.Linear(WIDTH, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, 64) -> (B, N, 64); the mask as `attention.attend` takes it."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), mask))
        hidden = self.dropout(functional.gelu(self.fc1(self.norm2(tokens))))  # (B, N, 128)
        # The published MLP has the activation behind its second layer too.
        return tokens + self.drop_path(self.dropout(functional.gelu(self.fc2(hidden))))  # type: ignore[no-any-return]


class WideLayers(nn.Module):
    """All tokens side by side, or their mean, -> 2048 -> 1024, with dropout all around."""

    def __init__(self, num_tokens: int | None) -> None:
        """Take so many tokens side by side; None: their mean."""
        super().__init__()
        self.flattens = num_tokens is not None
        self.fc1 = nn.Linear(WIDTH * (num_tokens or 1), WIDE[0])
        self.fc2 = nn.Linear(WIDE[0], WIDE[1])
        self.dropout = nn.Dropout(WIDE_DROPOUT)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, 64) -> (B, 1024)."""
        pooled = tokens.flatten(1) if self.flattens else tokens.mean(dim=1)
        pooled = self.dropout(functional.gelu(self.fc1(self.dropout(pooled))))
        return self.dropout(functional.gelu(self.fc2(pooled)))  # type: ignore[no-any-return]


@torch.no_grad()
def start_as_keras(network: nn.Module) -> None:
    """Draw what Keras draws: Glorot-uniform kernels and zero biases.

    Keras counts the fans of an attention kernel (D, heads, d) as those of a convolution, D x heads
    in and D x d out, so that queries, keys and values start 3.7 times closer to zero than a linear
    layer of this size would; that of the output projection is (heads, d, D).
    """
    limits: dict[nn.Linear, float] = {}
    for module in network.modules():
        if isinstance(module, nn.Linear):
            limits[module] = sqrt(6 / (module.in_features + module.out_features))
    for module in network.modules():
        if isinstance(module, SelfAttention):
            heads, head_width = module.num_heads, module.proj.in_features // module.num_heads
            limits[module.qkv] = sqrt(6 / (WIDTH * (heads + head_width)))
            limits[module.proj] = sqrt(6 / (heads * (head_width + WIDTH)))
    for layer, limit in limits.items():
        nn.init.uniform_(layer.weight, -limit, limit)
        nn.init.zeros_(layer.bias)


def _check_size(design: SmallVitDesign, image_size: int) -> None:
    patch_size = design.patch_size
    if image_size % patch_size == 0:
        return
    lower = image_size - image_size % patch_size
    sizes = [size for size in (lower, lower + patch_size) if size > 0]
    nearest = " and ".join(f"{size} px" for size in sizes)
    raise ImageSizeError(
        f"data.image_size: '{design.name}' cannot take images of {image_size} px, because its "
        f"patches of {patch_size} px do not divide them. (The names that end in -p16 have patches "
        f"of 16 px, the others of 6 px.) Nearest sizes that work: {nearest}. Set "
        f"data.image_size={sizes[-1]}."
    )
