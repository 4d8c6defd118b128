from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fieldmark.recipes.schema import Loss
from fieldmark.training.losses import as_shares, build_loss

LOGITS = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, -1.0]])
TARGETS = torch.tensor([0, 2])


def softmax_loss(**values: object):
    return build_loss(Loss(**values), task="multiclass", class_counts=[60, 30, 10])  # type: ignore[arg-type]


def test_plain_loss_is_cross_entropy() -> None:
    ours = softmax_loss()(LOGITS, as_shares(TARGETS, 3))
    assert ours == pytest.approx(functional.cross_entropy(LOGITS, TARGETS).item())


def test_label_smoothing_equals_torch() -> None:
    ours = softmax_loss(label_smoothing=0.1)(LOGITS, as_shares(TARGETS, 3))
    expected = functional.cross_entropy(LOGITS, TARGETS, label_smoothing=0.1)
    assert ours == pytest.approx(expected.item())


def test_mixed_targets_equal_torch() -> None:
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.5, 0.5]])
    assert softmax_loss()(LOGITS, shares) == pytest.approx(
        functional.cross_entropy(LOGITS, shares).item()
    )


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    loss = softmax_loss(class_weights="balanced")
    assert (loss.class_weights * torch.tensor([60.0, 30.0, 10.0])).tolist() == pytest.approx(
        [100 / 3] * 3
    )


def test_focal_loss_weighs_by_the_miss() -> None:
    probability = LOGITS.softmax(1)[[0, 1], TARGETS]
    expected = (-((1 - probability) ** 2) * probability.log()).mean()
    ours = softmax_loss(focal=2.0)(LOGITS, as_shares(TARGETS, 3))
    assert ours == pytest.approx(expected.item())


def test_logit_adjustment_adds_the_log_prior() -> None:
    prior = torch.tensor([0.6, 0.3, 0.1])
    ours = softmax_loss(logit_adjustment=1.0)(LOGITS, as_shares(TARGETS, 3))
    expected = functional.cross_entropy(LOGITS + prior.log(), TARGETS)
    assert ours == pytest.approx(expected.item())


def test_binary_loss_is_one_sigmoid() -> None:
    loss = build_loss(Loss(), task="binary", class_counts=[5, 5])
    logits, targets = torch.tensor([[1.5], [-0.5]]), torch.tensor([1, 0])
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], targets.float())
    assert loss(logits, as_shares(targets, 2)) == pytest.approx(expected.item())


def test_multilabel_loss_is_a_sigmoid_per_class() -> None:
    loss = build_loss(Loss(), task="multilabel", class_counts=[5, 5, 5])
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = functional.binary_cross_entropy_with_logits(LOGITS, targets)
    assert loss(LOGITS, targets) == pytest.approx(expected.item())


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_all_options_together_are_finite_and_differentiable(task: str) -> None:
    options = Loss(label_smoothing=0.1, class_weights="balanced", focal=2.0, logit_adjustment=1.0)
    loss = build_loss(options, task=task, class_counts=[9, 1] if task == "binary" else [9, 1, 0])  # type: ignore[arg-type]
    logits = torch.full((2, 1 if task == "binary" else 3), 30.0, requires_grad=True)
    value = loss(logits, as_shares(torch.tensor([0, 1]), 2 if task == "binary" else 3))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
