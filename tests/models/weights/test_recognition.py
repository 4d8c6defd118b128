from __future__ import annotations

import pytest
import timm
import torch

from fieldmark.models.catalog import find_model
from fieldmark.models.classic.records import CLASSIC_RECORDS
from fieldmark.models.records import BackboneOptions
from fieldmark.models.weights.recognition import guess_model


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet34",
        "resnet50",
        "vit_tiny_patch16_224",
        "vit_base_patch32_224",
        "deit_tiny_distilled_patch16_224",
        "seresnet18",
        "vgg11",
        "vgg16_bn",
    ],
)
def test_common_networks_are_recognised(name: str) -> None:
    with torch.device("meta"):
        assert guess_model(timm.create_model(name).state_dict()) == name


SAME_FILES = {
    "vgg-a-lrn": "vgg-a",
    "leaf-vgg16": "vgg-d",
}
"""Networks whose files cannot be told from those of another."""


@pytest.mark.parametrize("name", ["cnn-baseline", *(record.name for record in CLASSIC_RECORDS)])
def test_our_own_networks_are_recognised(name: str) -> None:
    with torch.device("meta"):
        backbone = find_model(name).build_backbone(BackboneOptions(image_size=224))
        assert guess_model(backbone.state_dict()) == SAME_FILES.get(name, name)


def test_others_are_not_guessed() -> None:
    with torch.device("meta"):
        assert guess_model(timm.create_model("convnext_atto").state_dict()) is None
    assert guess_model({}) is None
