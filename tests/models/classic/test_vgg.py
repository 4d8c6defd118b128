from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from fieldmark.models.classic.vgg import build_vgg

SAME = {
    "vgg-a": models.vgg11,
    "vgg-b": models.vgg13,
    "vgg-d": models.vgg16,
    "vgg-e": models.vgg19,
    "vgg-a-lrn": models.vgg11,
}


@pytest.mark.parametrize("name", SAME)
def test_torchvisions_files_load(name: str) -> None:
    with torch.device("meta"):
        theirs = SAME[name]().state_dict()
        backbone = build_vgg(name, image_size=224)
    expected = {k: v.shape for k, v in theirs.items() if not k.startswith("classifier.6.")}
    assert {k: v.shape for k, v in backbone.state_dict().items()} == expected
    assert backbone.classifier_name == "classifier.6"


@pytest.mark.parametrize("name", ["vgg-a", "vgg-a-lrn", "vgg-c", "vgg-e"])
def test_maps_halve_five_times(name: str) -> None:
    with torch.device("meta"):
        backbone = build_vgg(name, image_size=224)
        features = backbone(torch.empty(1, 3, 224, 224), with_layers=True)
    assert features.grid == (7, 7) and backbone.stride == 32
    assert features.pooled.shape == (1, 4096)
    assert features.tokens.shape == (1, 49, 512)
    assert features.layers is not None and features.layers.shape == (1, 512, 5)
    assert backbone.layer_widths == (64, 128, 256, 512, 512)


def test_c_has_one_by_one_kernels_where_d_has_the_last_of_three() -> None:
    with torch.device("meta"):
        nets = [build_vgg(name, image_size=224).features for name in ("vgg-c", "vgg-d")]
    kernels = [[p.kernel_size[0] for p in net if isinstance(p, nn.Conv2d)] for net in nets]
    assert kernels[0] == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]
    assert kernels[1] == [3] * 13


def test_response_norm_is_krizhevskys() -> None:
    """b = a / (k + alpha * sum of a^2 over 5 neighbouring channels) ^ beta, on ReLU's output."""
    with torch.device("meta"):
        features = build_vgg("vgg-a-lrn", image_size=32, reads="layers").features
    maps = torch.randn(1, 64, 2, 2) * 50
    rectified = maps.relu()
    squares = nn.functional.pad(rectified.square(), (0, 0, 0, 0, 2, 2))
    sums = sum(squares[:, offset : offset + 64] for offset in range(5))
    expected = rectified / (2 + 1e-4 * sums) ** 0.75
    assert torch.allclose(features[1](maps.clone()), expected, rtol=1e-4)
    assert not torch.allclose(expected, rectified, rtol=0.1)


def test_leaf_vgg_gives_the_flattened_grid() -> None:
    with torch.device("meta"):
        backbone = build_vgg("leaf-vgg16", image_size=224)
        features = backbone(torch.empty(2, 3, 224, 224))
    assert backbone.width == 25_088
    assert features.pooled.shape == (2, 25_088)
    assert {key.split(".")[0] for key in backbone.state_dict()} == {"features"}


def test_each_layer_is_a_level() -> None:
    with torch.device("meta"):
        depths = build_vgg("vgg-a", image_size=224).parameter_depths()
    assert list(dict.fromkeys(depths.values())) == list(range(10))
    assert depths["features.0.weight"] == 0 and depths["classifier.3.bias"] == 9
