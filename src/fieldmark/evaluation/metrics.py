"""Metrics, from the predictions store alone.

Each is a function of sums over images (`totals`) or of an order of images (`ranking`), so the
score itself, every bootstrap resample and every permutation run the same code.
"""

from __future__ import annotations

from fieldmark.evaluation.class_scores import ClassScore, GroupScore, score_classes, score_groups
from fieldmark.evaluation.intervals import compute_intervals, score_outcomes
from fieldmark.evaluation.outcomes import Outcomes, build_outcomes
from fieldmark.evaluation.predictions import Predictions

__all__ = [
    "LOWER_IS_BETTER",
    "METRICS",
    "ClassScore",
    "GroupScore",
    "Outcomes",
    "build_outcomes",
    "compute_intervals",
    "compute_metrics",
    "is_better",
    "name_missing",
    "score_classes",
    "score_groups",
]

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "top5_accuracy",
    "macro_f1",
    "kappa",
    "sum",
    "nll",
    "ece",
    "brier",
    "auroc",
    "average_precision",
)
LOWER_IS_BETTER = frozenset({"nll", "ece", "brier"})


def compute_metrics(predictions: Predictions) -> dict[str, float]:
    """Those of `METRICS` that the store can tell exactly; empty when no image is labelled.

    accuracy: share of images whose decision is right (multi-label: exactly right).
    balanced_accuracy: mean recall over the classes with images. macro_f1: unweighted mean over
    the classes that occur as truth or prediction. kappa: Cohen's, unweighted (multi-label: mean
    over the classes). sum: accuracy + macro_f1 + kappa. nll: nats. ece: expected calibration
    error of the first class over 15 equal bins (Guo et al. 2017). brier: mean over images of the
    sum over classes of (probability - truth)^2, 0 to 2; of two classes the second alone, of
    several labels the mean, 0 to 1 (Brier 1950, as scikit-learn scales it). auroc and
    average_precision: binary and multi-label, see `ranking`. `name_missing` says what is not
    there and why. Raises `RunError` where a probability is not finite.
    """
    outcomes = build_outcomes(predictions)
    return score_outcomes(outcomes) if len(outcomes) else {}


def name_missing(predictions: Predictions) -> dict[str, str]:
    """Metrics that `compute_metrics` leaves out, each with the reason."""
    found = compute_metrics(predictions)
    if not found:
        return {}
    kept, num_classes = predictions.top_index.shape[1], len(predictions.class_names)
    fewer = f"needs the probabilities of all {num_classes} classes; the file keeps {kept} an image"
    reasons = {"brier": f"{fewer}. `fieldmark evaluate RUN` writes it anew, with what is needed"}
    for name in ("auroc", "average_precision"):
        if predictions.task == "multiclass":
            reasons[name] = "is for binary and multi-label tasks"
        elif kept < num_classes:
            reasons[name] = fewer
        else:
            reasons[name] = "needs images both with and without a class"
    return {name: reasons[name] for name in METRICS if name not in found}


def is_better(metric: str, value: float, than: float | None) -> bool:
    """Whether `value` is strictly better than the best so far (None: there is none)."""
    if than is None:
        return True
    return value < than if metric in LOWER_IS_BETTER else value > than
