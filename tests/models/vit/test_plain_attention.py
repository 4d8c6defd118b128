from __future__ import annotations

import pytest
import torch
from torch import nn

from fieldmark.models.classifier import build_classifier
from fieldmark.models.vit.plain_attention import take_plain_attention
from fieldmark.recipes.schema import Model


def count_fused(backbone: nn.Module) -> int:
    return sum(bool(getattr(layer, "fused_attn", False)) for layer in backbone.modules())


@pytest.mark.parametrize(
    ("name", "patches", "size"),
    [("vit_tiny_patch16_224", "plain", 128), ("vit-small-data", "plain", 72)],
)
def test_attention_of_few_tokens_is_multiplied_out(name: str, patches: str, size: int) -> None:
    model = Model.model_validate({"name": name, "patches": patches})
    classifier, _ = build_classifier(model, num_classes=3, image_size=size)
    assert isinstance(classifier.backbone, nn.Module)
    images = torch.randn(4, 3, size, size)
    fused = classifier.eval()(images)
    assert count_fused(classifier.backbone) == classifier.backbone.num_layers
    assert take_plain_attention(classifier.backbone, size)
    assert count_fused(classifier.backbone) == 0
    assert torch.allclose(classifier(images), fused, atol=1e-5)


def test_many_tokens_and_windows_keep_the_attention_they_have() -> None:
    for name, size in (("vit_tiny_patch16_224", 384), ("levit_128s", 224)):
        classifier, _ = build_classifier(Model(name=name), num_classes=3, image_size=size)
        assert isinstance(classifier.backbone, nn.Module)
        before = count_fused(classifier.backbone)
        assert not take_plain_attention(classifier.backbone, size)
        assert count_fused(classifier.backbone) == before
