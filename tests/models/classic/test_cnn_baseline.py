from __future__ import annotations

import pytest
import torch

from fieldmark.errors import ImageSizeError
from fieldmark.models.classic.cnn_baseline import CnnBaseline
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.recipes.schema import Model


def build(name: str = "cnn-baseline", **keys: object) -> Classifier:
    return build_classifier(Model(name=name, **keys), num_classes=176, image_size=224)[0]


def count(classifier: Classifier) -> int:
    return sum(parameter.numel() for parameter in classifier.parameters())


def test_it_has_the_parameters_of_the_leaf_study() -> None:
    assert count(build()) == 2_171_568


def test_without_normalised_logits_only_those_parameters_are_gone() -> None:
    assert count(build("cnn-baseline-plain")) == 2_171_568 - 2 * 176


def test_other_heads_replace_the_last_layer_alone() -> None:
    classifier = build(head="mlp", head_width=512)
    assert classifier.backbone.width == 4096
    assert count(classifier) == 1_450_144 + (4096 * 512 + 512) + (512 * 176 + 176)


def test_sides_at_224_px_are_those_of_the_leaf_study() -> None:
    backbone = CnnBaseline(image_size=224).eval()
    sides = []
    order = ("conv1", "pool", "conv2", "pool", "conv3", "conv4")
    for name in dict.fromkeys(order):
        getattr(backbone, name).register_forward_hook(
            lambda module, inputs, output: sides.append(output.shape[-1])
        )
    features = backbone(torch.zeros(1, 3, 224, 224))
    assert sides == [109, 54, 25, 12, 10, 8]
    assert features.grid == (8, 8)
    assert features.tokens.shape == (1, 64, 256)


def test_relu_comes_before_normalisation() -> None:
    backbone = CnnBaseline(image_size=107).eval()
    seen = []
    for norm in (backbone.norm1, backbone.norm2, backbone.norm3):
        norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].min()))
    backbone(torch.randn(1, 3, 107, 107))
    assert seen == [0.0, 0.0, 0.0]


def test_smallest_image_leaves_one_token() -> None:
    features = CnnBaseline(image_size=107).eval()(torch.zeros(1, 3, 107, 107))
    assert features.grid == (1, 1)
    with pytest.raises(ImageSizeError, match="smallest size is 107 px"):
        CnnBaseline(image_size=106)


def test_stages_are_the_four_convolutions() -> None:
    backbone = CnnBaseline(image_size=107, reads="layers").eval()
    features = backbone(torch.randn(2, 3, 107, 107), with_layers=True)
    assert features.layers is not None and features.layers.shape == (2, 256, 4)
    assert features.pooled.shape == (2, backbone.width) == (2, 256)
    assert not hasattr(backbone, "wide")
