"""The headline: how good the run is, how sure that is, and what guessing would reach."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fieldmark.evaluation.metrics import build_outcomes, compute_intervals, compute_metrics
from fieldmark.evaluation.predictions import Predictions
from fieldmark.reporting.material import Material
from fieldmark.reporting.wording import name_metric

TOP = 5


@dataclass(frozen=True)
class Reference:
    """What a score is held against."""

    value: float
    words: str


@dataclass(frozen=True)
class Score:
    """A metric with its 95% interval, drawn on an axis from 0 to `axis_end`."""

    name: str
    meaning: str
    value: float
    interval: tuple[float, float]
    is_share: bool = False
    axis_end: float = 1.0
    reference: Reference | None = None


@dataclass(frozen=True)
class Scores:
    """The headline of one set of images; `scores` is empty where none of them is labelled.

    every: all metrics there are, as (name, value, interval).
    """

    num_right: int
    num_images: int
    num_unreadable: int
    scores: tuple[Score, ...]
    every: tuple[tuple[str, float, tuple[float, float] | None], ...]


def build_scores(material: Material) -> Scores | None:
    """Score the predictions; None where there are none."""
    predictions = material.predictions
    if predictions is None:
        return None
    outcomes = build_outcomes(predictions)
    values, intervals = compute_metrics(predictions), compute_intervals(predictions)
    return Scores(
        num_right=int(outcomes.hits.sum()),
        num_images=len(outcomes),
        num_unreadable=len(predictions.errors),
        scores=_choose_scores(predictions, values, intervals) if len(outcomes) else (),
        every=tuple(
            (name_metric(name), value, intervals.get(name))
            for name, value in values.items()
            if math.isfinite(value)
        ),
    )


def _choose_scores(
    predictions: Predictions,
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
) -> tuple[Score, ...]:
    multilabel = predictions.task == "multilabel"
    named = "images whose labels are all right" if multilabel else "images named rightly"
    scores = [
        Score(
            "Accuracy",
            named,
            values["accuracy"],
            intervals["accuracy"],
            is_share=True,
            reference=None if multilabel else _guess_most_frequent(predictions),
        ),
        Score(
            "Macro-F1",
            "F1 averaged over classes, rare ones alike",
            values["macro_f1"],
            intervals["macro_f1"],
        ),
        Score("Cohen’s κ", "agreement beyond chance", values["kappa"], intervals["kappa"]),
    ]
    if len(predictions.class_names) > TOP:
        scores.append(
            Score(
                "Top-5 accuracy",
                "images with a true class among the first five",
                values["top5_accuracy"],
                intervals["top5_accuracy"],
                is_share=True,
            )
        )
    scores.append(_score_loss(predictions, values, intervals))
    return tuple(scores)


def _guess_most_frequent(predictions: Predictions) -> Reference:
    counts = Counter(targets[0] for targets in predictions.targets if targets)
    (index, count), total = counts.most_common(1)[0], counts.total()
    return Reference(count / total, f"always saying “{predictions.class_names[index]}”")


def _score_loss(
    predictions: Predictions,
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
) -> Score:
    choices = 2 if predictions.task == "multilabel" else len(predictions.class_names)
    undecided = Reference(math.log(choices), "giving every class the same probability")
    return Score(
        "NLL",
        "negative log-likelihood, nats; lower is better",
        values["nll"],
        intervals["nll"],
        axis_end=1.1 * max(undecided.value, intervals["nll"][1], values["nll"]),
        reference=undecided,
    )
