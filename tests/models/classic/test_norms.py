from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.errors import ModelError
from fieldmark.models.classic.norms import KINDS, replace_norms

EPS = 0.25
"""Large, so that eps beside the root, or none at all, is told from eps inside it."""


def build(channels: int = 64) -> nn.Sequential:
    norm = nn.BatchNorm2d(channels, eps=EPS)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(nn.Conv2d(3, channels, 3, bias=False), norm)


def normalize(images: Tensor, norm: nn.Module, groups: tuple[int, ...]) -> Tensor:
    """y = (x - E) / sqrt(Var + eps) gamma + beta, E and Var over all but the leading axes."""
    kept = images.reshape(*groups, -1)
    mean = kept.mean(dim=-1, keepdim=True)
    variance = (kept - mean).square().mean(dim=-1, keepdim=True)
    x = ((kept - mean) / (variance + EPS).sqrt()).reshape(images.shape)
    return x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("layer", (4,)),
        ("instance", (4, 64)),
        ("group", (4, 32)),
        ("weight_standardized", (4, 32)),
    ],
)
def test_norms_are_the_formula(kind: str, groups: tuple[int, ...]) -> None:
    net = build()
    replace_norms(net, kind)
    images = torch.randn(4, 64, 5, 5) * 2 + 1
    for mode in (True, False):
        found = net.train(mode)[1](images)
        assert torch.allclose(found, normalize(images, net[1], groups), atol=1e-5)


def test_batch_norm_is_the_formula_and_stays() -> None:
    net = build().train()
    norm = net[1]
    replace_norms(net, "batch")
    assert net[1] is norm
    images = torch.randn(4, 64, 5, 5) * 2 + 1
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    variance = (images - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    x = (images - mean) / (variance + EPS).sqrt()
    expected = x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    assert torch.allclose(norm(images), expected, atol=1e-5)


def test_filters_are_standardised_one_by_one() -> None:
    net = build()
    weight = net[0].weight.detach().clone()
    replace_norms(net, "weight_standardized")
    assert torch.equal(net[0].weight, weight)
    mean = weight.mean(dim=(1, 2, 3), keepdim=True)
    variance = (weight - mean).square().mean(dim=(1, 2, 3), keepdim=True)
    expected = (weight - mean) / (variance + 1e-5).sqrt()
    images = torch.randn(2, 3, 6, 6)
    assert torch.allclose(net[0](images), functional.conv2d(images, expected), atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "num_groups"), [(64, 32), (16, 8), (48, 24), (3, 1), (96, 32)]
)
def test_groups_are_32_or_the_most_of_two_channels(channels: int, num_groups: int) -> None:
    net = build(channels)
    replace_norms(net, "group")
    assert net[1].num_groups == num_groups


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["resnet10t", "tf_mobilenetv3_small_minimal_100", "seresnet18"])
def test_names_and_shapes_of_parameters_stay(name: str, kind: str) -> None:
    net = timm.create_model(name, num_classes=2)
    before = {key: parameter.shape for key, parameter in net.named_parameters()}
    replace_norms(net, kind)
    assert {key: parameter.shape for key, parameter in net.named_parameters()} == before
    num_batch_norms = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert (num_batch_norms > 0) == (kind == "batch")
    assert net.train()(torch.randn(2, 3, 64, 64)).isfinite().all()


def test_start_at_zero_is_kept() -> None:
    net = timm.create_model("resnet18")
    assert not net.layer1[0].bn2.weight.any()
    replace_norms(net, "layer")
    assert not net.layer1[0].bn2.weight.any()


def test_activation_inside_a_norm_is_kept() -> None:
    net = timm.create_model("mobilenetv3_small_050", num_classes=2)
    activation = net.bn1.act
    replace_norms(net, "group")
    assert net.bn1.act is activation
    images = torch.randn(2, 16, 4, 4)
    own = functional.group_norm(images, 8, eps=net.bn1.eps)
    assert torch.allclose(net.bn1(images), functional.hardswish(own), atol=1e-5)


def test_gates_are_not_standardised() -> None:
    net = timm.create_model("seresnet18", num_classes=2)
    replace_norms(net, "weight_standardized")
    assert type(net.layer1[0].se.fc1) is nn.Conv2d
    assert type(net.layer1[0].conv1) is not nn.Conv2d


@pytest.mark.parametrize("kind", KINDS)
def test_network_without_batch_norm_is_refused(kind: str) -> None:
    with pytest.raises(ModelError, match=rf"no batch norm that '{kind}' could replace"):
        replace_norms(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(1, 4)), kind)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="not 'spectral'"):
        replace_norms(build(), "spectral")
