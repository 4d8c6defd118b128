from __future__ import annotations

import torch

from fieldmark.models.classic.se_resnet import SeResNet


def build(**keys: float) -> SeResNet:
    return SeResNet(name="se-resnet18", num_blocks=(2, 2, 2, 2), image_size=64, **keys)


def test_gate_is_the_formula() -> None:
    """s = sigmoid(W2 ReLU(W1 GAP(U))), and U is scaled by s (lecture, equation 4)."""
    gate = build().layer2[0].se
    maps = torch.randn(2, 128, 3, 3)
    squeezed = maps.sum(dim=(2, 3)) / 9  # (B, C)
    w1, w2 = gate.fc1.weight[:, :, 0, 0], gate.fc2.weight[:, :, 0, 0]
    hidden = (squeezed @ w1.T + gate.fc1.bias).clamp(min=0)
    scales = 1 / (1 + torch.exp(-(hidden @ w2.T + gate.fc2.bias)))
    assert torch.allclose(gate(maps), maps * scales[:, :, None, None], atol=1e-6)


def test_hidden_channels_are_a_sixteenth() -> None:
    net = build()
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    assert [stage[0].se.fc1.out_channels for stage in stages] == [4, 8, 16, 32]


def test_gate_is_applied_before_the_sum() -> None:
    block = build().layer1[0].eval()
    seen = {}
    block.se.register_forward_hook(lambda module, inputs, output: seen.update(gated=output.clone()))
    maps = torch.randn(1, 64, 4, 4)
    with torch.no_grad():
        block.bn2.weight.normal_()
        found = block(maps.clone())
    assert torch.allclose(found, (seen["gated"] + maps).relu())


def test_stages_and_stride() -> None:
    net = build().eval()
    features = net(torch.randn(2, 3, 64, 64), with_layers=True)
    assert features.pooled.shape == (2, 512) and features.grid == (2, 2)
    assert features.layers is not None and features.layers.shape == (2, 512, 4)
    assert torch.allclose(features.pooled, features.layers[:, :, 3])


def test_dropout_and_drop_path_act_in_training_alone() -> None:
    net = build(dropout=1.0, drop_path=0.1).train()
    assert not net(torch.randn(2, 3, 64, 64)).pooled.any()
    assert net.eval()(torch.randn(2, 3, 64, 64)).pooled.any()
