"""Exact numbers of the image-classification lecture: softmax, likelihood, cross-entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fieldmark.models.probabilities import log_probabilities
from fieldmark.recipes.schema import Loss
from fieldmark.training.losses import (
    as_shares,
    bernoulli_likelihood,
    build_loss,
    categorical_likelihood,
    negative_log_likelihood,
)

LABELS = torch.tensor([0, 1, 0, 1, 1])


def softmax(logits: list[float]) -> list[float]:
    row = torch.tensor([logits], dtype=torch.float64)
    return log_probabilities(row, "multiclass").exp()[0].tolist()


def drawn_logits(count: int) -> list[float]:
    return (np.random.RandomState(123).normal(size=count) * 2).tolist()


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([2, 1, 0.1], [0.659001, 0.242433, 0.098566]),
        ([1, 2, 3], [0.090031, 0.244728, 0.665241]),
        ([1, 1, 1], [1 / 3, 1 / 3, 1 / 3]),
        ([3, 1, 0.5], [0.821409, 0.111166, 0.067425]),
        ([0.5, 0.2, 0.1], [0.414742, 0.307248, 0.278010]),
    ],
)
def test_softmax_of_the_lecture(logits: list[float], expected: list[float]) -> None:
    assert softmax(logits) == pytest.approx(expected, abs=5e-7)


def test_softmax_of_the_drawn_figure() -> None:
    logits = drawn_logits(10)
    assert logits[:3] == pytest.approx([-2.1713, 1.9947, 0.5660], abs=5e-5)
    expected = [0.002282, 0.147102, 0.035247, 0.000984, 0.006292]
    expected += [0.544195, 0.000156, 0.008488, 0.251718, 0.003536]
    assert softmax(logits) == pytest.approx(expected, abs=5e-7)


def test_softmax_is_stable_where_exponentials_overflow() -> None:
    assert softmax([1e4, 1e4 - 1.0]) == pytest.approx(softmax([1.0, 0.0]))


@pytest.mark.parametrize(
    ("probability", "expected"),
    [([0.1, 0.8, 0.2, 0.7, 0.9], 0.362880), ([0.1, 0.9, 0.2, 0.7, 0.9], 0.408240)],
)
def test_likelihood_of_yes_and_no(probability: list[float], expected: float) -> None:
    likelihood = bernoulli_likelihood(torch.tensor(probability, dtype=torch.float64), LABELS)
    assert likelihood.item() == pytest.approx(expected, abs=5e-7)


def test_likelihood_of_ten_times_the_labels() -> None:
    probability = torch.tensor([0.1, 0.8, 0.2, 0.7, 0.9], dtype=torch.float64).repeat_interleave(10)
    likelihood = bernoulli_likelihood(probability, LABELS.repeat_interleave(10)).item()
    assert likelihood == pytest.approx(3.9594e-5, abs=5e-10)
    assert f"{likelihood:.6f}" == "0.000040"


def test_likelihood_of_what_cannot_be_is_zero() -> None:
    assert bernoulli_likelihood(torch.tensor([0.0, 1.0]), torch.tensor([0, 1])) == 1.0
    assert bernoulli_likelihood(torch.tensor([0.0, 1.0]), torch.tensor([1, 1])) == 0.0


def test_categorical_likelihood_multiplies_the_true_classes() -> None:
    probability = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], dtype=torch.float64)
    shares = as_shares(torch.tensor([0, 2]), 3)
    assert categorical_likelihood(probability, shares).item() == pytest.approx(0.7 * 0.3)
    both = torch.stack([1 - probability[0, 0], probability[0, 0]])[None]
    assert categorical_likelihood(both, as_shares(torch.tensor([1]), 2)).item() == pytest.approx(
        bernoulli_likelihood(probability[0, :1], torch.tensor([1])).item()
    )


def test_cross_entropy_is_the_negative_log_likelihood() -> None:
    logits = torch.tensor([drawn_logits(5)], dtype=torch.float64)
    shares = as_shares(torch.tensor([1]), 5).double()
    probability = log_probabilities(logits, "multiclass").exp()
    assert probability[0, 1].item() == pytest.approx(0.766526, abs=5e-7)
    assert negative_log_likelihood(probability, shares).item() == pytest.approx(0.265887, abs=5e-7)
    loss = build_loss(Loss(), task="multiclass", class_counts=[1] * 5).double()
    assert loss(logits, shares).item() == pytest.approx(0.265887, abs=5e-7)
