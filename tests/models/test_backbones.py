from __future__ import annotations

import pickle

import pytest
import timm
import torch
from torch import nn

from fieldmark.models.records import BackboneOptions
from fieldmark.models.timm_zoo import build_timm_backbone


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("resnet18", 64),
        ("convnext_atto", 64),
        ("efficientnet_b0", 64),
        ("vit_tiny_patch16_224", 64),
    ],
)
def test_pooled_features_under_timms_classifier_give_timms_logits(
    name: str, image_size: int
) -> None:
    options = {"img_size": image_size} if name.startswith("vit") else {}
    net = timm.create_model(name, **options).eval()
    backbone = build_timm_backbone(name, BackboneOptions(image_size=image_size)).eval()
    backbone.load_state_dict(net.state_dict(), strict=False)
    images = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        logits = net.get_classifier()(backbone(images).pooled)
        assert torch.allclose(logits, net(images), atol=1e-5)


def test_parameters_have_timms_own_names() -> None:
    backbone = build_timm_backbone("resnet10t", BackboneOptions(image_size=32))
    names = timm.create_model("resnet10t", num_classes=0).state_dict().keys()
    assert backbone.state_dict().keys() == names
    assert {name for name, _ in backbone.named_parameters()} <= names


def test_a_child_that_is_replaced_is_replaced_in_the_network() -> None:
    backbone = build_timm_backbone("vit_tiny_patch16_224", BackboneOptions(image_size=32)).eval()
    images = torch.randn(1, 3, 32, 32)
    before = backbone(images).pooled
    backbone.norm = nn.Identity()
    assert backbone.net.norm is backbone.norm
    assert not torch.allclose(backbone(images).pooled, before)


def test_conversion_reaches_the_network() -> None:
    backbone = (
        build_timm_backbone("resnet10t", BackboneOptions(image_size=32)).to(torch.float64).eval()
    )
    assert backbone(torch.randn(1, 3, 32, 32, dtype=torch.float64)).pooled.dtype == torch.float64
    assert all(
        p is q for p, q in zip(backbone.parameters(), backbone.net.parameters(), strict=True)
    )


def test_pickled_backbone_still_shares_its_network() -> None:
    backbone = build_timm_backbone("resnet10t", BackboneOptions(image_size=32)).eval()
    again = pickle.loads(pickle.dumps(backbone))
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(again(images).pooled, backbone(images).pooled)
    again.conv1 = nn.Identity()
    assert again.net.conv1 is again.conv1


def test_training_mode_reaches_the_network_itself() -> None:
    backbone = build_timm_backbone("resnet10t", BackboneOptions(image_size=32))
    assert not backbone.eval().net.training
    assert backbone.train().net.training


def test_layers_are_the_class_token_of_each_block() -> None:
    backbone = build_timm_backbone("vit_tiny_patch16_224", BackboneOptions(image_size=32)).eval()
    outputs = []
    for block in backbone.net.blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output[:, 0]))
    layers = backbone(torch.randn(2, 3, 32, 32), with_layers=True).layers
    assert torch.equal(layers, torch.stack(outputs, dim=2))


def test_layers_of_a_mean_pooled_network_are_mean_patches() -> None:
    backbone = build_timm_backbone("test_vit3", BackboneOptions(image_size=32)).eval()
    assert backbone.net.global_pool != "token"
    outputs = []
    prefix = backbone.net.num_prefix_tokens
    for block in backbone.net.blocks:
        block.register_forward_hook(
            lambda module, inputs, output: outputs.append(output[:, prefix:].mean(dim=1))
        )
    layers = backbone(torch.randn(2, 3, 32, 32), with_layers=True).layers
    assert torch.allclose(layers, torch.stack(outputs, dim=2), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "image_size", "grid", "num_prefix", "stride"),
    [
        ("vit_tiny_patch16_224", 48, (3, 3), 1, 16),
        ("deit_tiny_distilled_patch16_224", 48, (3, 3), 2, 16),
        ("swin_tiny_patch4_window7_224", 64, (2, 2), 0, 32),
        ("resnet10t", 96, (3, 3), 0, 32),
        ("volo_d1_224", 224, (14, 14), 1, 16),
    ],
)
def test_tokens_lie_on_their_grid(
    name: str, image_size: int, grid: tuple[int, int], num_prefix: int, stride: int
) -> None:
    backbone = build_timm_backbone(name, BackboneOptions(image_size=image_size)).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, image_size, image_size))
    assert (features.grid, features.num_prefix, backbone.stride) == (grid, num_prefix, stride)


def test_tokens_of_a_map_go_row_by_row() -> None:
    backbone = build_timm_backbone("resnet10t", BackboneOptions(image_size=96)).eval()
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        maps = backbone.net.forward_features(images)  # (1, D, 3, 3)
        tokens = backbone(images).tokens  # (1, 9, D)
    assert torch.equal(tokens[0, 5], maps[0, :, 1, 2])


def test_probing_leaves_no_trace() -> None:
    """CoaT keeps tables between calls; a probe on shapes alone must not fill them."""
    backbone = build_timm_backbone("coat_lite_tiny", BackboneOptions(image_size=224)).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 224, 224)).pooled.isfinite().all()


def test_statistics_are_those_of_the_weights() -> None:
    backbone = build_timm_backbone("vit_tiny_patch16_224", BackboneOptions(image_size=32))
    assert backbone.statistics.mean == (0.5, 0.5, 0.5)
    assert backbone.interpolation == "bicubic"
