"""Metrics and their intervals, from the predictions store alone.

Each metric is a function of per-image outcomes and per-image weights (how often an image
counts), so the score itself and every bootstrap resample run the same code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.predictions import Predictions

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "top5_accuracy",
    "macro_f1",
    "kappa",
    "sum",
    "nll",
    "ece",
)
LOWER_IS_BETTER = frozenset({"nll", "ece"})
ECE_BINS = 15
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall, F1 and number of images of one class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Outcomes:
    """What counts about each of N labelled and readable images.

    hits, in_top5: (N,) 1.0 or 0.0; confidence: (N,) probability of the first class;
    top1_hits: (N,) 1.0 where the first class is a true one; loss: (N,).
    true_row, true_class and predicted_row, predicted_class: pairs (image, class), one pair an
    image for single-label tasks; `match` marks the predicted pairs that are true.
    """

    num_classes: int
    multilabel: bool
    hits: Floats
    in_top5: Floats
    top1_hits: Floats
    confidence: Floats
    loss: Floats
    true_row: NDArray[np.int64]
    true_class: NDArray[np.int64]
    predicted_row: NDArray[np.int64]
    predicted_class: NDArray[np.int64]
    match: Floats
    strata: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.hits)


def compute_metrics(predictions: Predictions) -> dict[str, float]:
    """Every metric of `METRICS`; empty when no image is labelled.

    accuracy: share of images whose decision is right (multi-label: exactly right).
    balanced_accuracy: mean recall over the classes with images. macro_f1: unweighted mean over
    the classes that occur as truth or prediction. kappa: Cohen's, unweighted (multi-label: mean
    over the classes). sum: accuracy + macro_f1 + kappa. nll: nats. ece: expected calibration
    error of the first class over 15 equal bins (Guo et al. 2017).
    """
    outcomes = build_outcomes(predictions)
    if len(outcomes) == 0:
        return {}
    return _score(outcomes, np.ones(len(outcomes)))


def compute_intervals(
    predictions: Predictions, *, num_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Bootstrap percentile interval of every metric, resampled within each class."""
    outcomes = build_outcomes(predictions)
    if len(outcomes) == 0:
        return {}
    order = np.argsort(outcomes.strata, kind="stable")
    _, starts, counts = np.unique(outcomes.strata[order], return_index=True, return_counts=True)
    start, size = np.repeat(starts, counts), np.repeat(counts, counts)
    generator = np.random.default_rng(seed)
    samples = []
    for _ in range(num_resamples):
        drawn = start + (generator.random(len(order)) * size).astype(np.int64)
        weights = np.bincount(order[drawn], minlength=len(order)).astype(np.float64)
        samples.append(_score(outcomes, weights))
    tail = (1.0 - level) / 2
    bounds = {name: np.quantile([s[name] for s in samples], [tail, 1 - tail]) for name in METRICS}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def score_classes(predictions: Predictions) -> list[ClassScore]:
    """Precision, recall, F1 and support of each class, in index order."""
    outcomes = build_outcomes(predictions)
    right, predicted, true = _count_classes(outcomes, np.ones(len(outcomes)))
    precision, recall = _ratio(right, predicted), _ratio(right, true)
    f1 = _ratio(2 * right, predicted + true)
    return [
        ClassScore(name, float(precision[i]), float(recall[i]), float(f1[i]), int(true[i]))
        for i, name in enumerate(predictions.class_names)
    ]


def is_better(metric: str, value: float, than: float | None) -> bool:
    """Whether `value` is strictly better than the best so far (None: there is none)."""
    if than is None:
        return True
    return value < than if metric in LOWER_IS_BETTER else value > than


def build_outcomes(predictions: Predictions) -> Outcomes:
    """Reduce predictions to what metrics need; unlabelled and unreadable images are left out."""
    rows = np.flatnonzero(~np.isnan(predictions.loss))
    targets = [predictions.targets[row] for row in rows]
    predicted = [predictions.predicted[row] for row in rows]
    top = predictions.top_index[rows]
    true_row, true_class = _pairs(targets)
    predicted_row, predicted_class = _pairs(predicted)
    true_sets = [frozenset(classes) for classes in targets]
    paired = zip(predicted_row, predicted_class, strict=True)
    return Outcomes(
        num_classes=len(predictions.class_names),
        multilabel=predictions.task == "multilabel",
        hits=_floats(p == t for p, t in zip(predicted, targets, strict=True)),
        in_top5=_floats(
            not t.isdisjoint(k) for t, k in zip(true_sets, top[:, :5].tolist(), strict=True)
        ),
        top1_hits=_floats(k in t for t, k in zip(true_sets, top[:, 0].tolist(), strict=True)),
        confidence=predictions.top_probability[rows, 0].astype(np.float64),
        loss=predictions.loss[rows],
        true_row=true_row,
        true_class=true_class,
        predicted_row=predicted_row,
        predicted_class=predicted_class,
        match=_floats(c in true_sets[r] for r, c in paired),
        strata=np.array([t[0] if t else -1 for t in targets], dtype=np.int64),
    )


def _score(outcomes: Outcomes, weights: Floats) -> dict[str, float]:
    total = weights.sum()
    right, predicted, true = _count_classes(outcomes, weights)
    occurs, supported = (predicted + true) > 0, true > 0
    f1 = _ratio(2 * right, predicted + true)
    accuracy = float(weights @ outcomes.hits / total)
    macro_f1 = float(f1[occurs].mean()) if occurs.any() else 0.0
    kappa = _kappa(outcomes, right, predicted, true, total)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": float(_ratio(right, true)[supported].mean())
        if supported.any()
        else 0.0,
        "top5_accuracy": float(weights @ outcomes.in_top5 / total),
        "macro_f1": macro_f1,
        "kappa": kappa,
        "sum": accuracy + macro_f1 + kappa,
        "nll": float(weights @ outcomes.loss / total),
        "ece": _calibration_error(outcomes, weights),
    }


def _count_classes(outcomes: Outcomes, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Per class: images rightly predicted as it, predicted as it, and truly of it."""
    count = outcomes.num_classes
    predicted_weights = weights[outcomes.predicted_row]
    right = _sums(outcomes.predicted_class, predicted_weights * outcomes.match, count)
    predicted = _sums(outcomes.predicted_class, predicted_weights, count)
    true = _sums(outcomes.true_class, weights[outcomes.true_row], count)
    return right, predicted, true


def _sums(place: NDArray[np.int64], values: Floats, count: int) -> Floats:
    return np.bincount(place, values, count).astype(np.float64, copy=False)


def _kappa(
    outcomes: Outcomes, right: Floats, predicted: Floats, true: Floats, total: float
) -> float:
    """Cohen's kappa; 0 where chance alone already agrees fully (it is undefined there)."""
    if outcomes.multilabel:
        observed = 1.0 - (predicted + true - 2 * right) / total
        share = predicted * true + (total - predicted) * (total - true)
        expected = share / total**2
        return float(_ratio(observed - expected, 1.0 - expected).mean())
    agreed = float(right.sum() / total)
    by_chance = float(predicted @ true / total**2)
    return 0.0 if np.isclose(by_chance, 1.0) else (agreed - by_chance) / (1.0 - by_chance)


def _calibration_error(outcomes: Outcomes, weights: Floats) -> float:
    edges = np.linspace(0.0, 1.0, ECE_BINS + 1)[1:-1]
    place = np.digitize(outcomes.confidence, edges, right=True)
    gap = _sums(place, weights * (outcomes.top1_hits - outcomes.confidence), ECE_BINS)
    return float(np.abs(gap).sum() / weights.sum())


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Element by element, 0 where nothing is divided."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _pairs(classes: list[tuple[int, ...]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = np.repeat(np.arange(len(classes)), [len(c) for c in classes])
    flat = np.array([index for c in classes for index in c], dtype=np.int64)
    return rows.astype(np.int64), flat


def _floats(values: Iterable[bool]) -> Floats:
    return np.fromiter(values, dtype=np.float64)
