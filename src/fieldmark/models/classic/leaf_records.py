"""Records of the leaf study's CNN baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.models.records import BackboneOptions, ModelRecord

if TYPE_CHECKING:
    from fieldmark.models.backbones import Backbone
    from fieldmark.models.heads import Head


def _build_cnn_baseline(options: BackboneOptions) -> Backbone:
    from fieldmark.models.classic.cnn_baseline import CnnBaseline
    from fieldmark.models.classic.stages import apply_cnn_options

    network = CnnBaseline(image_size=options.image_size, reads=options.reads)
    return apply_cnn_options(network, options)


def _build_normalized_head(width: int, num_classes: int, dropout: float) -> Head:
    from fieldmark.models.heads import NormalizedLinearHead

    return NormalizedLinearHead(width, num_classes, dropout=dropout)


LEAF_RECORDS: tuple[ModelRecord, ...] = (
    ModelRecord(
        name="cnn-baseline",
        source="leaf study",
        description="4 convolutions and a wide layer, logits batch-normalised; from 107 px",
        image_size=224,
        build_backbone=_build_cnn_baseline,
        build_linear_head=_build_normalized_head,
    ),
    ModelRecord(
        name="cnn-baseline-plain",
        source="leaf study",
        description="cnn-baseline without batch normalisation on the logits; from 107 px",
        image_size=224,
        build_backbone=_build_cnn_baseline,
    ),
)
