from __future__ import annotations

import pytest
import torch
from torch import nn

from fieldmark.models.classic.resnet_cifar import CifarResNet


def build(shortcut: str = "A", num_blocks: int = 3) -> CifarResNet:
    net = CifarResNet(name="net", num_blocks=num_blocks, image_size=32, shortcut=shortcut)
    return net.eval()


def test_maps_are_a_half_and_a_quarter_of_the_image() -> None:
    net, shapes = build(), []
    for stage in (net.layer1, net.layer2, net.layer3):
        stage.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    features = net(torch.randn(2, 3, 32, 32), with_layers=True)
    assert shapes == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]
    assert features.grid == (8, 8)
    assert features.layers is not None and features.layers.shape == (2, 64, 3)
    assert torch.equal(features.pooled, features.layers[:, :, 2])


@pytest.mark.parametrize(("num_blocks", "depth"), [(3, 20), (5, 32), (7, 44), (9, 56)])
def test_depth_is_six_n_plus_two(num_blocks: int, depth: int) -> None:
    net = build(num_blocks=num_blocks)
    assert sum(isinstance(part, nn.Conv2d) for part in net.modules()) + 1 == depth


def test_option_a_takes_every_second_pixel_and_pads_both_sides() -> None:
    block = build().layer2[0]
    with torch.no_grad():
        block.bn2.weight.zero_()
        block.bn2.bias.zero_()
        maps = torch.rand(1, 16, 6, 6)
        found = block(maps)
    assert found.shape == (1, 32, 3, 3)
    assert torch.equal(found[:, 8:24], maps[:, :, ::2, ::2])
    assert not found[:, :8].any() and not found[:, 24:].any()


def test_option_b_projects_with_a_norm() -> None:
    block = build("B").layer2[0]
    with torch.no_grad():
        block.bn2.weight.zero_()
        block.bn2.bias.zero_()
        maps = torch.rand(1, 16, 6, 6)
        assert torch.allclose(block(maps), block.shortcut(maps).relu())
    assert build("B").layer1[0].shortcut is None


def test_odd_sizes_work() -> None:
    for side in (8, 9, 15, 33):
        assert build()(torch.randn(1, 3, side, side)).pooled.shape == (1, 64)


def test_stem_and_each_block_are_levels() -> None:
    depths = build().parameter_depths()
    assert depths["conv1.weight"] == depths["bn1.bias"] == 0
    assert depths["layer1.0.conv1.weight"] == 1
    assert depths["layer3.2.bn2.weight"] == 9
