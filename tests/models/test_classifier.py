from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from fieldmark.errors import UnknownModelError
from fieldmark.models.classifier import build_classifier
from fieldmark.recipes.schema import Model


def count(classifier: torch.nn.Module, *, trained: bool = False) -> int:
    parameters = classifier.parameters()
    return sum(p.numel() for p in parameters if p.requires_grad or not trained)


def test_frozen_deit_has_the_parameters_of_the_leaf_study() -> None:
    model = Model(name="deit_tiny_patch16_224", head="mlp", head_dropout=0.3, freeze="backbone")
    classifier, report = build_classifier(model, num_classes=176, image_size=224)
    assert report is None
    assert count(classifier) == 5_713_520
    assert count(classifier, trained=True) == 189_104


def test_resnet18_has_the_parameters_of_the_leaf_study() -> None:
    classifier, _ = build_classifier(Model(name="resnet18"), num_classes=176, image_size=224)
    assert count(classifier) == count(classifier, trained=True) == 11_266_800


def test_published_vit_gives_the_logits_that_timm_gives(shared: Path) -> None:
    weights = shared / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.pth"
    model = Model(name="vit_tiny_patch16_224", weights=str(weights))
    classifier, report = build_classifier(model, num_classes=1000, image_size=224)
    assert report is not None and report.is_head_kept and not report.missing
    net = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(weights)).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(classifier.eval()(images), net(images), atol=1e-5)


def test_published_vit_is_resampled_as_timm_does(shared: Path) -> None:
    weights = shared / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.pth"
    model = Model(name="vit_tiny_patch16_224", weights=str(weights))
    classifier, report = build_classifier(model, num_classes=1000, image_size=96)
    assert report is not None
    assert report.resized == (("pos_embed", (1, 197, 192), (1, 37, 192)),)
    source = {"file": str(weights)}
    net = timm.create_model(
        "vit_tiny_patch16_224", pretrained=True, pretrained_cfg_overlay=source, img_size=96
    )
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.allclose(classifier.eval()(images), net.eval()(images), atol=1e-5)


def test_saliency_reaches_the_image_through_a_frozen_backbone() -> None:
    model = Model(name="resnet10t", freeze="backbone")
    classifier, _ = build_classifier(model, num_classes=3, image_size=32)
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    classifier.eval()(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0.0


def test_drop_path_and_dropout_reach_the_blocks() -> None:
    model = Model(name="vit_tiny_patch16_224", drop_path=0.2, dropout=0.1)
    classifier, _ = build_classifier(model, num_classes=3, image_size=32)
    last = classifier.backbone.net.blocks[-1]
    assert last.drop_path1.drop_prob == pytest.approx(0.2)
    assert last.attn.proj_drop.p == pytest.approx(0.1)


def test_networks_without_drop_path_ignore_it() -> None:
    classifier, _ = build_classifier(
        Model(name="vgg11_bn", drop_path=0.2, dropout=0.1), num_classes=3, image_size=32
    )
    assert classifier.backbone.width == 4096


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="Did you mean 'resnet10t'"):
        build_classifier(Model(name="resnet10x"), num_classes=3, image_size=32)
