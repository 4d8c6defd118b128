from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.evaluation.metrics import (
    compute_intervals,
    compute_metrics,
    is_better,
    score_classes,
)
from fieldmark.evaluation.predictions import Predictions, PredictionsCollector


def predict(labels: list[tuple[str, ...]], logits: torch.Tensor, task: str = "multiclass"):
    num_classes = 2 if task == "binary" else logits.shape[1]
    names = tuple(f"c{i}" for i in range(num_classes))
    rows = tuple(Row(f"{i}.png", label) for i, label in enumerate(labels))
    table = Table(rows, MemoryStore({}), "test", task, names)  # type: ignore[arg-type]
    collector = PredictionsCollector(table)
    for start in range(0, len(rows), 7):
        positions = torch.arange(start, min(start + 7, len(rows)))
        collector.add(positions, logits[positions])
    return collector.finish()


def random_case(seed: int, num_images: int, num_classes: int) -> tuple[Predictions, np.ndarray]:
    generator = np.random.default_rng(seed)
    true = generator.integers(0, num_classes, num_images)
    logits = generator.normal(size=(num_images, num_classes)) * 2
    logits[np.arange(num_images), true] += 1.0
    tensor = torch.tensor(logits, dtype=torch.float32)
    return predict([(f"c{t}",) for t in true], tensor), true


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(2, 14))
def test_metrics_equal_scikit_learn(seed: int, num_images: int, num_classes: int) -> None:
    predictions, true = random_case(seed, num_images, num_classes)
    guess = np.array([p[0] for p in predictions.predicted])
    ours = compute_metrics(predictions)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(true, guess), abs=1e-9)
    assert ours["macro_f1"] == pytest.approx(
        sk.f1_score(true, guess, average="macro", zero_division=0), abs=1e-9
    )
    expected_agreement = (
        np.bincount(true, minlength=num_classes) @ np.bincount(guess, minlength=num_classes)
    ) / num_images**2
    if expected_agreement < 1:
        assert ours["kappa"] == pytest.approx(sk.cohen_kappa_score(true, guess), abs=1e-9)
    recalls = sk.recall_score(true, guess, average=None, labels=np.unique(true), zero_division=0)
    assert ours["balanced_accuracy"] == pytest.approx(recalls.mean(), abs=1e-9)
    assert ours["sum"] == pytest.approx(ours["accuracy"] + ours["macro_f1"] + ours["kappa"])
    assert ours["nll"] == pytest.approx(-np.log(predictions.true_probability).mean(), rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_class_scores_equal_scikit_learn(seed: int) -> None:
    predictions, true = random_case(seed, 50, 6)
    guess = np.array([p[0] for p in predictions.predicted])
    expected = sk.precision_recall_fscore_support(
        true, guess, labels=range(6), average=None, zero_division=0
    )
    ours = [(s.precision, s.recall, s.f1, s.support) for s in score_classes(predictions)]
    assert np.allclose(np.array(ours).T, np.array(expected), atol=1e-9)


def test_top5_counts_the_fifth_class_and_not_the_sixth() -> None:
    logits = torch.arange(7, 0, -1).float().repeat(2, 1)
    predictions = predict([("c4",), ("c5",)], logits)
    assert compute_metrics(predictions)["top5_accuracy"] == 0.5


def test_calibration_error_of_a_known_case() -> None:
    # Confidence 0.9 in every image, right in half of them: the gap is 0.4.
    logits = torch.log(torch.tensor([[0.9, 0.1]])).repeat(10, 1)
    predictions = predict([("c0",)] * 5 + [("c1",)] * 5, logits)
    assert compute_metrics(predictions)["ece"] == pytest.approx(0.4, abs=1e-6)


def test_binary_takes_the_second_class_as_positive() -> None:
    labels = [("c0",), ("c1",), ("c1",)]
    predictions = predict(labels, torch.tensor([[-2.0], [3.0], [-1.0]]), "binary")
    assert [p[0] for p in predictions.predicted] == [0, 1, 0]
    assert compute_metrics(predictions)["accuracy"] == pytest.approx(2 / 3)
    expected = np.log1p(np.exp([-2.0, -3.0, 1.0])).mean()
    assert compute_metrics(predictions)["nll"] == pytest.approx(expected, rel=1e-6)


def test_multilabel_needs_the_exact_set_for_accuracy() -> None:
    logits = torch.tensor([[3.0, 3.0, -3.0], [3.0, -3.0, -3.0], [-3.0, -3.0, 3.0]])
    labels = [("c0", "c1"), ("c0", "c2"), ("c2",)]
    predictions = predict(labels, logits, "multilabel")
    true = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]])
    guess = (logits > 0).numpy().astype(int)
    ours = compute_metrics(predictions)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(true, guess))
    assert ours["macro_f1"] == pytest.approx(sk.f1_score(true, guess, average="macro"))
    kappas = [sk.cohen_kappa_score(true[:, k], guess[:, k]) for k in range(3)]
    assert ours["kappa"] == pytest.approx(np.mean(kappas))


def test_interval_holds_the_score_and_shrinks_with_more_images() -> None:
    few, _ = random_case(1, 60, 4)
    many, _ = random_case(1, 1500, 4)
    low, high = compute_intervals(few, num_resamples=200)["accuracy"]
    assert low <= compute_metrics(few)["accuracy"] <= high
    low_many, high_many = compute_intervals(many, num_resamples=200)["accuracy"]
    assert high_many - low_many < 0.5 * (high - low)


def test_unlabelled_images_have_no_metrics() -> None:
    assert compute_metrics(predict([(), ()], torch.zeros(2, 3))) == {}


def test_lower_is_better_for_losses_only() -> None:
    assert is_better("nll", 0.1, 0.2) and not is_better("accuracy", 0.1, 0.2)
    assert not is_better("accuracy", 0.2, 0.2)
    assert is_better("accuracy", 0.0, None)


@pytest.mark.parametrize(("num_first", "num_images", "num_classes"), [(115, 512, 5), (7, 972, 100)])
def test_equal_logits_score_the_share_of_the_first_class(
    num_first: int, num_images: int, num_classes: int
) -> None:
    """A head that starts at zero: what the fine-tuning study calls "before" (its table 4)."""
    labels = [(f"c{0 if i < num_first else 1 + i % (num_classes - 1)}",) for i in range(num_images)]
    scores = compute_metrics(predict(labels, torch.zeros(num_images, num_classes)))
    assert scores["accuracy"] == pytest.approx(num_first / num_images)
