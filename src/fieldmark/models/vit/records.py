"""Records of the Vision Transformer for small sets, from the rotated-patches study (Ai and He).

The study's three networks are one: its ViT has `model.patches: plain`, its Rot-ViT `rotated`, its
SL-ViT (Lee, Lee and Song 2021) `shifted` and `model.attention: local`. Their blocks have dropout
0.1, which `model.dropout` sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fieldmark.errors import ModelError
from fieldmark.models.records import BackboneOptions, ModelRecord

if TYPE_CHECKING:
    from fieldmark.models.backbones import Backbone

SOURCE = "rotated-patches study; Lee et al. 2021"


@dataclass(frozen=True)
class SmallVitDesign:
    """What the readings of the study's network differ in.

    pooling: what the wide layers see, all tokens side by side or their mean.
    head_width: of each of the 4 attention heads; 64 each makes them 4 times as wide as usual.
    """

    name: str
    patch_size: int
    num_layers: int
    pooling: Literal["flatten", "mean"]
    head_width: int = 64


def _record(design: SmallVitDesign, description: str, image_size: int) -> ModelRecord:
    def build(options: BackboneOptions) -> Backbone:
        from fieldmark.models.vit.small_vit import SmallDataViT

        if options.norm != "own":
            raise ModelError(
                f"model.norm: '{design.name}' has layer norms alone, and nothing that "
                f"'{options.norm}' could replace. Set model.norm=own."
            )
        patches = options.patches
        if patches.form == "auto":  # there are no published weights to start from unchanged
            patches = patches.model_copy(update={"form": "published"})
        network = SmallDataViT(
            design,
            image_size=options.image_size,
            patches=patches,
            attention=options.attention,
            dropout=options.dropout,
            drop_path=options.drop_path,
            reads=options.reads,
        )
        if options.tags.tokenizer != "off":
            network.add_tags(options.tags, options.tag_vocabulary_size, options.tag_pad_id)
        return network

    return ModelRecord(
        name=design.name,
        source=SOURCE,
        description=description,
        image_size=image_size,
        build_backbone=build,
    )


SMALL_VIT_RECORDS: tuple[ModelRecord, ...] = (
    _record(
        SmallVitDesign("vit-small-data", patch_size=6, num_layers=4, pooling="mean"),
        "ViT of width 64, 4 blocks, mean of the tokens; patches of 6 px; 2.6 M",
        image_size=72,
    ),
    _record(
        SmallVitDesign("vit-small-data-p16", patch_size=16, num_layers=4, pooling="mean"),
        "vit-small-data with patches of 16 px",
        image_size=224,
    ),
    _record(
        SmallVitDesign(
            "vit-small-data-as-published", patch_size=6, num_layers=8, pooling="flatten"
        ),
        "as in the study's notebooks: 8 blocks, all tokens flattened; patches of 6 px; 21.7 M",
        image_size=72,
    ),
    _record(
        SmallVitDesign(
            "vit-small-data-as-published-p16", patch_size=16, num_layers=8, pooling="flatten"
        ),
        "vit-small-data-as-published with patches of 16 px; 28.5 M",
        image_size=224,
    ),
)
