from __future__ import annotations

import pytest
import torch
from torch import nn

from fieldmark.errors import ImageSizeError, ModelError
from fieldmark.models.classic.lecture_net import LectureNet
from fieldmark.models.classic.records import CLASSIC_RECORDS
from fieldmark.models.classic.stages import (
    apply_cnn_options,
    check_image_size,
    depths_by_block,
    read_stages,
)
from fieldmark.models.records import BackboneOptions
from fieldmark.recipes.schema import Patches, Tags

SMALL = ("lecture-net", "resnet20-cifar", "resnet56-cifar-b", "se-resnet18", "leaf-vgg16")
RECORDS = {record.name: record for record in CLASSIC_RECORDS}


def test_layers_are_channel_averages_filled_up_with_zeros() -> None:
    narrow, wide = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    features = read_stages((narrow, wide), with_layers=True)
    assert features.layers is not None and features.layers.shape == (2, 5, 2)
    assert torch.allclose(features.layers[:, :3, 0], narrow.mean(dim=(2, 3)))
    assert not features.layers[:, 3:, 0].any()
    assert torch.allclose(features.layers[:, :, 1], wide.mean(dim=(2, 3)))
    assert torch.equal(features.pooled, features.layers[:, :, 1])
    assert torch.equal(features.tokens[:, 3], wide[:, :, 1, 1])
    assert features.grid == (2, 2)


def test_layers_are_given_only_when_asked_for() -> None:
    assert read_stages((torch.zeros(1, 2, 1, 1),), with_layers=False).layers is None


def test_last_stage_narrower_than_another_is_filled_up_too() -> None:
    features = read_stages((torch.ones(1, 4, 2, 2), torch.ones(1, 3, 1, 1)), with_layers=True)
    assert features.pooled.tolist() == [[1.0, 1.0, 1.0, 0.0]]
    assert features.tokens.shape == (1, 1, 3)


def test_size_below_the_smallest_names_it() -> None:
    check_image_size("net", 32, 32, "it halves")
    with pytest.raises(ImageSizeError, match=r"because it halves\. .* data\.image_size=32"):
        check_image_size("net", 31, 32, "it halves")


def test_depths_count_blocks_from_the_stem() -> None:
    net = nn.Module()
    net.conv1 = nn.Conv2d(3, 4, 1)
    net.layer1 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    assert depths_by_block(net, ("layer1",)) == {
        "conv1.weight": 0,
        "conv1.bias": 0,
        "layer1.0.weight": 1,
        "layer1.0.bias": 1,
        "layer1.2.weight": 2,
        "layer1.2.bias": 2,
    }


def test_what_only_transformers_have_is_refused() -> None:
    net = LectureNet(image_size=32)
    options = BackboneOptions(
        image_size=32, patches=Patches(kind="rotated"), tags=Tags(tokenizer="whole")
    )
    text = r"model\.patches=rotated, model\.tags=whole: 'lecture-net' .* model\.patches=plain"
    with pytest.raises(ModelError, match=text):
        apply_cnn_options(net, options)
    assert apply_cnn_options(net, BackboneOptions(image_size=32)) is net
    with pytest.raises(ModelError, match=r"model\.attention=local"):
        RECORDS["lecture-net"].build_backbone(BackboneOptions(image_size=32, attention="local"))


@pytest.mark.parametrize("name", SMALL)
def test_each_layer_fills_its_declared_width(name: str) -> None:
    backbone = RECORDS[name].build_backbone(BackboneOptions(image_size=32, reads="layers")).eval()
    with torch.no_grad():
        layers = backbone(torch.randn(2, 3, 32, 32), with_layers=True).layers
    assert layers is not None
    assert layers.shape == (2, max(backbone.layer_widths), backbone.num_layers)
    assert len(backbone.layer_widths) == backbone.num_layers
    for index, width in enumerate(backbone.layer_widths):
        assert not layers[:, width:, index].any()


@pytest.mark.parametrize("name", SMALL)
def test_reading_layers_leaves_no_parameter_without_gradient(name: str) -> None:
    backbone = RECORDS[name].build_backbone(BackboneOptions(image_size=48, reads="layers")).train()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    features = backbone(torch.randn(4, 3, 48, 48), with_layers=True)
    assert features.layers is not None
    assert features.pooled.shape == (4, backbone.width)
    assert backbone.width == max(backbone.layer_widths)
    features.layers.square().sum().backward()
    dead = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
