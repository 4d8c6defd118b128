from __future__ import annotations

import pytest
import timm
import torch

from fieldmark.models.recognition import guess_model


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet34",
        "resnet50",
        "vit_tiny_patch16_224",
        "vit_base_patch32_224",
        "deit_tiny_distilled_patch16_224",
    ],
)
def test_common_networks_are_recognised(name: str) -> None:
    with torch.device("meta"):
        assert guess_model(timm.create_model(name).state_dict()) == name


def test_others_are_not_guessed() -> None:
    with torch.device("meta"):
        assert guess_model(timm.create_model("convnext_atto").state_dict()) is None
    assert guess_model({}) is None
