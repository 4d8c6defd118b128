"""What the catalog knows of one network: `ModelRecord`, and what a builder is told.

Nothing here imports torch, and neither do the files of records: their builders do, when called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fieldmark.recipes.schema import Patches, Tags

if TYPE_CHECKING:
    from fieldmark.models.backbones import Backbone
    from fieldmark.models.heads import Head


@dataclass(frozen=True)
class BackboneOptions:
    """What a recipe says about the backbone; each builder takes what its network has.

    `image_size` in pixels; `drop_path` and `dropout` as probabilities. `patches` and `attention`
    as `recipes.schema` describes them, `patches.form` never "auto". `tag_vocabulary_size` counts
    the entries of the tag vocabulary, 0 where there are no tags; `tag_pad_id` is its padding.
    `norm` is what batch norms are replaced by, "own" nothing. `reads` says which of `Features`
    the head reads: with "layers" nothing is built behind the last block or stage.
    """

    image_size: int
    drop_path: float = 0.0
    dropout: float = 0.0
    patches: Patches = field(default_factory=Patches)
    attention: Literal["global", "local"] = "global"
    norm: str = "own"
    tags: Tags = field(default_factory=Tags)
    tag_vocabulary_size: int = 0
    tag_pad_id: int = 0
    reads: Literal["pooled", "layers"] = "pooled"


@dataclass(frozen=True)
class ModelRecord:
    """One network.

    source: where the design comes from.
    image_size: the usual side of its images, px.
    build_backbone: makes the backbone with random weights.
    build_linear_head: makes the head `linear` from (width, classes, dropout), where the design
        has its own; else it is a plain linear layer.
    """

    name: str
    source: str
    description: str
    image_size: int
    build_backbone: Callable[[BackboneOptions], Backbone]
    build_linear_head: Callable[[int, int, float], Head] | None = None
