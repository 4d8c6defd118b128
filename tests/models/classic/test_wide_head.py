from __future__ import annotations

import torch
from torch.nn import functional

from fieldmark.models.classic.wide_head import WideLinearHead


def test_it_is_linear_relu_linear() -> None:
    head = WideLinearHead(6, 3, hidden=4, dropout=0.5).eval()
    features = torch.randn(2, 6)
    expected = functional.linear(head.hidden(features).relu(), head.weight, head.bias)
    assert torch.equal(head(features), expected)
    assert head.num_classes == 3 and head.last_layers == (head,)


def test_dropout_comes_before_the_last_layer() -> None:
    head = WideLinearHead(6, 3, hidden=4, dropout=1.0).train()
    assert torch.equal(head(torch.randn(2, 6)), head.bias.expand(2, 3))


def test_it_has_the_parameters_that_the_leaf_study_trains() -> None:
    with torch.device("meta"):
        head = WideLinearHead(25_088, 176)
    assert sum(parameter.numel() for parameter in head.parameters()) == 103_485_616
