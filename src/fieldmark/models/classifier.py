"""`Classifier`: backbone and head; and `build_classifier`, where a recipe becomes a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, overload

import torch
from torch import Tensor, nn

from fieldmark.errors import ModelError
from fieldmark.models.backbones import Backbone
from fieldmark.models.catalog import find_model
from fieldmark.models.features import Features
from fieldmark.models.heads import DistilledHead, Head, LinearHead, MlpHead
from fieldmark.models.ifa_head import IfaHead
from fieldmark.models.initialization import start_at_zero, start_xavier
from fieldmark.models.records import BackboneOptions, ModelRecord
from fieldmark.models.timm_backbone import TimmBackbone
from fieldmark.models.vit.tags import TagDecoder
from fieldmark.models.weights.loading import LoadReport, load_weights
from fieldmark.models.weights.published import fetch_weights
from fieldmark.recipes.schema import Model, Patches


@dataclass(frozen=True)
class Outputs:
    """All that a classifier says of a batch.

    logits: (B, K). features: what they were read from, with `layers` where the head reads those.
    branches: logits (B, K) of the class token and of the distillation token, where the head has
        both; else empty.
    tag_logits: (B, T, V) what each tag token might be; None without a tag decoder.
    """

    logits: Tensor
    features: Features
    branches: tuple[Tensor, ...] = ()
    tag_logits: Tensor | None = None


class Classifier(nn.Module):
    """Images, and tags where it takes them, to logits.

    The names of its parts are the keys of checkpoints.
    """

    backbone: Backbone
    head: Head
    tag_decoder: TagDecoder | None

    def __init__(
        self, backbone: Backbone, head: Head, tag_decoder: TagDecoder | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.tag_decoder = tag_decoder
        self.is_frozen = False

    def features(self, images: Tensor, tags: Tensor | None = None) -> Features:
        """Read images (B, 3, H, W) and ids of tags (B, T), with `layers` if the head reads them."""
        with_layers = self.head.reads == "layers"
        if self.is_frozen and self.training:
            # Nothing is kept for the backward pass. In evaluation the caller decides, because
            # saliency needs the gradient on the image.
            with torch.no_grad():
                return self.backbone(images, tags, with_layers=with_layers)
        return self.backbone(images, tags, with_layers=with_layers)

    @overload
    def forward(
        self, images: Tensor, tags: Tensor | None = None, *, full: Literal[False] = False
    ) -> Tensor: ...

    @overload
    def forward(
        self, images: Tensor, tags: Tensor | None = None, *, full: Literal[True]
    ) -> Outputs: ...

    def forward(
        self, images: Tensor, tags: Tensor | None = None, *, full: bool = False
    ) -> Tensor | Outputs:
        """Images (B, 3, H, W) and ids of tags (B, T) -> logits (B, K), or all `Outputs`."""
        return self.classify(self.features(images, tags), full=full)

    def classify(self, features: Features, *, full: bool = False) -> Tensor | Outputs:
        """What `forward` says of images, from what the backbone made of them."""
        read = getattr(features, self.head.reads)
        if not full:
            return self.head(read)
        branches: tuple[Tensor, ...] = ()
        if isinstance(self.head, DistilledHead):
            branches = self.head.branches(read)
        logits = (branches[0] + branches[1]) / 2 if branches else self.head(read)
        tag_logits = None
        if self.tag_decoder is not None and features.tags is not None:
            tag_logits = self.tag_decoder(features.tags)  # (B, T, V)
        return Outputs(logits, features, branches, tag_logits)

    def freeze_backbone(self) -> None:
        """Train the head alone: no gradient, no dropout, no moving statistics in the backbone."""
        self.is_frozen = True
        for parameter in self.backbone.parameters():
            parameter.requires_grad_(False)
        self.backbone.eval()

    def train(self, mode: bool = True) -> Self:
        """Switch training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self


class HeadOnly(nn.Module):
    """A classifier that is given what its head reads, because its backbone has run before."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, read: Tensor, *, full: bool = False) -> Tensor | Outputs:
        """Stored `Features.pooled` (B, D) or `Features.layers` (B, D, L) -> as `Classifier`."""
        is_layers = self.classifier.head.reads == "layers"
        features = Features(
            pooled=read[:, :, -1] if is_layers else read,
            layers=read if is_layers else None,
            tokens=read.new_empty(len(read), 0, read.shape[1]),
            grid=(0, 0),
        )
        return self.classifier.classify(features, full=full)


def build_classifier(
    model: Model,
    *,
    num_classes: int,
    image_size: int,
    tag_vocabulary_size: int = 0,
    tag_pad_id: int = 0,
    with_weights: bool = True,
) -> tuple[Classifier, LoadReport | None]:
    """Build the network of a recipe for images of `image_size` px and `num_classes` logits.

    `tag_vocabulary_size` and `tag_pad_id` describe the tags' vocabulary where `model.tags` are
    on. `with_weights` false leaves everything random, for a caller who has the weights. The
    report says what came from a weights file; None where all weights are random. Raises
    `ModelError`, `UnknownModelError`, `ImageSizeError` and `WeightsError`.
    """
    if model.tags.tokenizer != "off" and not tag_vocabulary_size:
        raise ModelError("model.tags: tags are on, but the size of their vocabulary is not given")
    record = find_model(model.name)
    backbone = record.build_backbone(
        BackboneOptions(
            image_size=image_size,
            drop_path=model.drop_path,
            dropout=model.dropout,
            patches=_resolve_patches(model),
            attention=model.attention,
            norm=model.norm,
            tags=model.tags,
            tag_vocabulary_size=tag_vocabulary_size,
            tag_pad_id=tag_pad_id,
            reads="layers" if model.head == "ifa" else "pooled",
        )
    )
    head = _build_head(model, record, backbone, num_classes)
    decoder = None
    if model.tags.propose != "off" and model.tags.tokenizer != "off":
        decoder = TagDecoder(backbone.tags)  # type: ignore[attr-defined]
    classifier = Classifier(backbone, head, decoder)
    if model.init == "xavier":
        start_xavier(classifier)
    if model.head_zero_init:
        start_at_zero(head.last_layers)
    report = _load_start(classifier, model) if with_weights else None
    if model.freeze == "backbone":
        classifier.freeze_backbone()
    return classifier, report


def _resolve_patches(model: Model) -> Patches:
    """Decide `form: auto`: weights that are loaded keep their own embedding."""
    if model.patches.form != "auto":
        return model.patches
    loads = model.pretrained or model.weights is not None
    return model.patches.model_copy(update={"form": "added" if loads else "published"})


def _build_head(model: Model, record: ModelRecord, backbone: Backbone, num_classes: int) -> Head:
    width, dropout = backbone.width, model.head_dropout
    if model.head == "ifa":
        if backbone.num_layers < 2:
            raise ModelError(
                f"model.head: ifa joins layers, and '{model.name}' gives none. Choose a Vision "
                "Transformer or a CNN with stages, or model.head=linear"
            )
        return IfaHead(
            backbone.layer_widths,
            num_classes,
            dropout=dropout,
            token_norm=model.head_token_norm,
            layer_softmax=model.head_layer_softmax,
        )
    if model.head == "mlp":
        return MlpHead(width, num_classes, hidden=model.head_width, dropout=dropout)
    if record.build_linear_head is not None:
        return record.build_linear_head(width, num_classes, dropout)
    if isinstance(backbone, TimmBackbone) and backbone.classifiers.reads == "prefix":
        return DistilledHead(width, num_classes, dropout=dropout)
    return LinearHead(width, num_classes, dropout=dropout)


def _load_start(classifier: Classifier, model: Model) -> LoadReport | None:
    if model.weights is not None:
        return load_weights(classifier, model.weights, positions=model.positions)
    if model.pretrained:
        published = fetch_weights(model.name)
        return load_weights(
            classifier,
            published.path,
            source=published.source,
            label_offset=published.label_offset,
            positions=model.positions,
        )
    return None
