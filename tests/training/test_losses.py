from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from fieldmark.recipes.schema import Loss
from fieldmark.training.losses import (
    as_shares,
    build_loss,
    distill_hard,
    distill_soft,
    measure_exclusion,
)

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


TEACHER = torch.tensor([[0.2, 1.4, -0.3], [2.0, 0.1, 0.3]])


def test_hard_distillation_is_cross_entropy_with_the_teachers_first_class() -> None:
    answers = functional.one_hot(TEACHER.argmax(dim=1), 3).float()
    expected = functional.cross_entropy(LOGITS, torch.tensor([1, 0]))
    assert distill_hard(LOGITS, answers) == pytest.approx(expected.item())


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_soft_distillation_by_hand(tau: float) -> None:
    total = 0.0
    for student, teacher in zip(LOGITS.tolist(), TEACHER.tolist(), strict=True):
        q = [math.exp(z / tau) for z in student]
        p = [math.exp(z / tau) for z in teacher]
        q, p = [v / sum(q) for v in q], [v / sum(p) for v in p]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    answers = (TEACHER / tau).softmax(dim=1)
    expected = total * tau**2 / 6  # 2 images x 3 classes
    assert distill_soft(LOGITS, answers, tau).item() == pytest.approx(expected, rel=1e-5)


def test_soft_distillation_is_a_kth_of_the_mean_over_images() -> None:
    answers = TEACHER.softmax(dim=1)
    batchmean = functional.kl_div(LOGITS.log_softmax(1), answers, reduction="batchmean")
    assert distill_soft(LOGITS, answers, 1.0).item() == pytest.approx(batchmean.item() / 3)


def test_soft_distillation_takes_answers_of_zero() -> None:
    logits = LOGITS.clone().requires_grad_()
    value = distill_soft(logits, torch.eye(3)[:2], 2.0)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()


def test_exclusion_by_hand() -> None:
    layers = torch.tensor([[[0.0, 1.0, 0.5, 2.0], [1.0, 0.0, 0.5, -1.0]]])  # (1, 2, 4)
    layers = torch.cat([layers, layers.flip(2)])  # (2, 2, 4)
    total = 0.0
    for image in layers.tolist():
        tokens = [[image[0][i], image[1][i]] for i in range(4)]
        soft = [[math.exp(z / 2.0) for z in token] for token in tokens]
        soft = [[v / sum(token) for v in token] for token in soft]
        for i in range(2):  # i = 0 .. L-1-d
            total += sum(p * math.log(p / q) for p, q in zip(soft[i + 2], soft[i], strict=True))
    measured = measure_exclusion(layers, distance=2, tau=2.0)
    assert measured.item() == pytest.approx(2.0**2 * total / 2, rel=1e-5)


def test_exclusion_equals_the_published_sum() -> None:
    layers = torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(0))
    published = sum(
        nn.KLDivLoss(reduction="batchmean")(
            functional.log_softmax(layers[:, :, i], dim=1),
            functional.softmax(layers[:, :, i + 2], dim=1),
        )
        for i in range(6 - 2)
    )
    assert measure_exclusion(layers, distance=2, tau=1.0).item() == pytest.approx(published.item())
