"""`Classifier`: backbone and head; and `build_classifier`, where a recipe becomes a network."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from fieldmark.models.backbones import Backbone
from fieldmark.models.catalog import find_model
from fieldmark.models.records import BackboneOptions, ModelRecord
from fieldmark.models.features import Features
from fieldmark.models.heads import Head, LinearHead, MlpHead
from fieldmark.models.published import fetch_weights
from fieldmark.models.weights import LoadReport, load_weights
from fieldmark.recipes.schema import Model


class Classifier(nn.Module):
    """Images to logits. The names of its two parts are the keys of checkpoints."""

    backbone: Backbone
    head: Head

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.is_frozen = False

    def features(self, images: Tensor) -> Features:
        """Read images (B, 3, H, W), with `layers` only if the head reads them."""
        with_layers = self.head.reads == "layers"
        if self.is_frozen and self.training:
            # Nothing is kept for the backward pass. In evaluation the caller decides, because
            # saliency needs the gradient on the image.
            with torch.no_grad():
                return self.backbone(images, with_layers=with_layers)
        return self.backbone(images, with_layers=with_layers)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, K)."""
        return self.head(getattr(self.features(images), self.head.reads))

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


def build_classifier(
    model: Model, *, num_classes: int, image_size: int
) -> tuple[Classifier, LoadReport | None]:
    """Build the network of a recipe for images of `image_size` px and `num_classes` logits.

    The report says what came from a weights file; None where all weights are random. Raises
    `UnknownModelError`, `ImageSizeError` and `WeightsError`.
    """
    record = find_model(model.name)
    backbone = record.build_backbone(
        BackboneOptions(image_size=image_size, drop_path=model.drop_path, dropout=model.dropout)
    )
    classifier = Classifier(backbone, _build_head(model, record, backbone.width, num_classes))
    report = _load_start(classifier, model)
    if model.freeze == "backbone":
        classifier.freeze_backbone()
    return classifier, report


def _build_head(model: Model, record: ModelRecord, width: int, num_classes: int) -> Head:
    if model.head == "mlp":
        return MlpHead(width, num_classes, hidden=model.head_width, dropout=model.head_dropout)
    if record.build_linear_head is not None:
        return record.build_linear_head(width, num_classes, model.head_dropout)
    return LinearHead(width, num_classes, dropout=model.head_dropout)


def _load_start(classifier: Classifier, model: Model) -> LoadReport | None:
    if model.weights is not None:
        return load_weights(classifier, model.weights)
    if model.pretrained:
        published = fetch_weights(model.name)
        return load_weights(
            classifier,
            published.path,
            source=published.source,
            label_offset=published.label_offset,
        )
    return None
