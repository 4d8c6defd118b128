from __future__ import annotations

import torch
from torch import nn

from fieldmark.models.heads import DistilledHead, LinearHead, MlpHead, NormalizedLinearHead


def test_linear_head_is_one_linear_layer() -> None:
    head = LinearHead(8, 3)
    assert list(head.state_dict()) == ["weight", "bias"]
    features = torch.randn(4, 8)
    assert torch.equal(head(features), nn.functional.linear(features, head.weight, head.bias))


def test_linear_head_drops_only_in_training() -> None:
    head, features = LinearHead(64, 3, dropout=0.5), torch.randn(4, 64)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


def test_mlp_head_has_the_parameters_of_the_leaf_study() -> None:
    head = MlpHead(192, 176, hidden=512, dropout=0.3)
    assert sum(parameter.numel() for parameter in head.parameters()) == 189_104


def test_mlp_head_is_linear_relu_linear() -> None:
    head, features = MlpHead(8, 3, hidden=5, dropout=0.3).eval(), torch.randn(4, 8)
    hidden = (features @ head.hidden.weight.T + head.hidden.bias).clamp_min(0.0)
    expected = hidden @ head.output.weight.T + head.output.bias
    assert torch.allclose(head(features), expected, atol=1e-6)


def test_normalized_head_gives_logits_of_mean_0_and_deviation_1_in_training() -> None:
    logits = NormalizedLinearHead(8, 3)(torch.randn(64, 8))
    assert torch.allclose(logits.mean(dim=0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(logits.std(dim=0, correction=0), torch.ones(3), atol=1e-2)


def test_distilled_head_predicts_the_mean_of_its_two_branches() -> None:
    head = DistilledHead(8, 3)
    tokens = torch.randn(2, 8)
    first, second = head.branches(tokens)
    torch.testing.assert_close(first, head.class_token(tokens[:, :4]))
    torch.testing.assert_close(second, head.distillation_token(tokens[:, 4:]))
    torch.testing.assert_close(head(tokens), (first + second) / 2)
