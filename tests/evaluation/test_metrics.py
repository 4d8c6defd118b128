from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import RunError
from fieldmark.evaluation.metrics import (
    compute_intervals,
    compute_metrics,
    is_better,
    name_missing,
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


def random_case(
    seed: int, num_images: int, num_classes: int
) -> tuple[Predictions, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    true = generator.integers(0, num_classes, num_images)
    logits = generator.normal(size=(num_images, num_classes)) * 2
    logits[np.arange(num_images), true] += 1.0
    tensor = torch.tensor(logits, dtype=torch.float32)
    return predict([(f"c{t}",) for t in true], tensor), true, tensor.numpy().astype(np.float64)


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits - logits.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(2, 14))
def test_metrics_equal_scikit_learn(seed: int, num_images: int, num_classes: int) -> None:
    predictions, true, logits = random_case(seed, num_images, num_classes)
    guess = np.array([p[0] for p in predictions.predicted])
    ours = compute_metrics(predictions)
    truth = np.eye(num_classes)[true]
    probability = probabilities_of(logits)
    recalls = sk.recall_score(true, guess, average=None, labels=np.unique(true), zero_division=0)
    half = 0.5 if num_classes == 2 else 1.0  # scikit-learn's `scale_by_half="auto"`
    expected = {
        "accuracy": sk.accuracy_score(true, guess),
        "balanced_accuracy": recalls.mean(),
        "top5_accuracy": np.mean((probability > (probability * truth).sum(1)[:, None]).sum(1) < 5),
        "macro_f1": sk.f1_score(true, guess, average="macro", zero_division=0),
        "nll": sk.log_loss(truth, probability),
        "brier": half * np.square(probability - truth).sum(axis=1).mean(),
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name
    expected_agreement = (
        np.bincount(true, minlength=num_classes) @ np.bincount(guess, minlength=num_classes)
    ) / num_images**2
    if expected_agreement < 1:
        assert ours["kappa"] == pytest.approx(sk.cohen_kappa_score(true, guess), abs=1e-9)
    assert ours["sum"] == pytest.approx(ours["accuracy"] + ours["macro_f1"] + ours["kappa"])
    assert "auroc" not in ours


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 60))
def test_binary_metrics_equal_scikit_learn(seed: int, num_images: int) -> None:
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 2, num_images)
    true[:2] = 0, 1
    # Quarters, so that some images tie; and so large that 1 - p is lost in a float.
    logits = np.round(4 * (generator.normal(size=num_images) * 9 + true)) / 4
    tensor = torch.tensor(logits, dtype=torch.float32)[:, None]
    ours = compute_metrics(predict([(f"c{t}",) for t in true], tensor, "binary"))
    probability = 1 / (1 + np.exp(-logits))
    expected = {
        "auroc": sk.roc_auc_score(true, logits),
        "average_precision": sk.average_precision_score(true, logits),
        "brier": sk.brier_score_loss(true, probability),
        "accuracy": sk.accuracy_score(true, logits > 0),
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 40), st.integers(2, 10))
def test_multilabel_metrics_equal_scikit_learn(
    seed: int, num_images: int, num_classes: int
) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, (num_images, num_classes))
    truth[:, 0] = 1
    truth[0], truth[1, 1:] = 1, 0  # each class but the first has both kinds, each image a label
    logits = np.round(4 * generator.normal(size=truth.shape)) / 4 + 0.1
    labels = [tuple(f"c{k}" for k in np.flatnonzero(row)) for row in truth]
    tensor = torch.tensor(logits, dtype=torch.float32)
    ours = compute_metrics(predict(labels, tensor, "multilabel"))
    probability = 1 / (1 + np.exp(-tensor.numpy().astype(np.float64)))
    guess = (tensor.numpy() > 0).astype(int)
    expected = {
        "auroc": sk.roc_auc_score(truth[:, 1:], logits[:, 1:], average="macro"),
        "average_precision": sk.average_precision_score(
            truth[:, 1:], logits[:, 1:], average="macro"
        ),
        "brier": np.square(probability - truth).mean(),
        "nll": sk.log_loss(truth.ravel(), probability.ravel(), labels=[0, 1]),
        "accuracy": sk.accuracy_score(truth, guess),
        "macro_f1": sk.f1_score(truth, guess, average="macro", zero_division=0),
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name


def test_calibration_error_equals_its_definition() -> None:
    predictions, true, logits = random_case(3, 200, 6)
    probability = probabilities_of(logits)
    confidence, hit = probability.max(axis=1), probability.argmax(axis=1) == true
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert compute_metrics(predictions)["ece"] == pytest.approx(total, abs=1e-7)


def test_what_the_store_cannot_tell_is_named_and_not_guessed() -> None:
    labels = [(f"c{i % 12}",) for i in range(24)]
    logits = torch.randn(24, 12, generator=torch.Generator().manual_seed(0))
    predictions = predict(labels, logits, "multilabel")
    assert not {"auroc", "average_precision"} & compute_metrics(predictions).keys()
    assert "all 12 classes; the file keeps 10" in name_missing(predictions)["auroc"]
    older = replace(predictions, squared_error=None)
    assert "evaluate RUN" in name_missing(older)["brier"]


def test_brier_score_of_an_older_file_is_exact_where_all_classes_are_kept() -> None:
    predictions, _, _ = random_case(1, 30, 4)
    older = compute_metrics(replace(predictions, squared_error=None))
    assert older["brier"] == pytest.approx(compute_metrics(predictions)["brier"], abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_are_refused(value: float) -> None:
    predictions, _, _ = random_case(1, 30, 4)
    broken = predictions.top_probability.copy()
    broken[7, 0] = value
    with pytest.raises(RunError, match=r"1 of 30 images have .* not finite \(7.png\)"):
        compute_metrics(replace(predictions, top_probability=broken))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_class_scores_equal_scikit_learn(seed: int) -> None:
    predictions, true, _ = random_case(seed, 50, 6)
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
    few, _, _ = random_case(1, 60, 4)
    many, _, _ = random_case(1, 1500, 4)
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
