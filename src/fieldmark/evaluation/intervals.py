"""95% intervals: the scatter from a bootstrap, the shape from what kind of number a metric is.

Metrics between two ends get Wilson's score interval (Wilson 1927) for as many images as would
give the scatter that the bootstrap found. It leaves an end no sooner than the data do: 40 of 40
right is not certainty, while the percentiles of any resampling would say so. The log-likelihood,
which has one end, gets the interval of its logarithm. docs/decisions/0012 has the coverages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fieldmark.evaluation.outcomes import Floats, Outcomes, build_outcomes
from fieldmark.evaluation.predictions import Predictions
from fieldmark.evaluation.ranking import score_rankings
from fieldmark.evaluation.resampling import Units, build_units, draw_weights
from fieldmark.evaluation.totals import build_summands, score_totals

NUM_RESAMPLES = 1000
ENDS = {"kappa": (-1.0, 1.0), "sum": (-1.0, 3.0)}
"""Of metrics that are not between 0 and 1; `nll` has no upper end, `brier` depends."""
_OVER_CLASSES = frozenset({"balanced_accuracy", "macro_f1"})

Interval = tuple[float, float]


def compute_intervals(
    predictions: Predictions,
    *,
    groups: Sequence[str] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Interval of every metric: what it could be on other images of the same classes.

    Resampled within each class, multi-label as a whole. groups: (N,) of `predictions`; images of
    one group (one plant, one day) are drawn together; "" is an image of its own.
    """
    outcomes = build_outcomes(predictions)
    if len(outcomes) == 0:
        return {}
    units = build_units(outcomes.strata, pick_groups(groups, outcomes))
    values = score_outcomes(outcomes)
    samples = resample(outcomes, units, num_resamples=num_resamples, seed=seed)
    return {
        name: bound_metric(
            name,
            outcomes,
            value,
            deviation=float(samples[name].std(ddof=1)),
            freedom=units.freedom,
            excess=float(samples[name].mean()) - value,
            level=level,
        )
        for name, value in values.items()
    }


def score_outcomes(outcomes: Outcomes) -> dict[str, float]:
    """Every metric of the images as they are."""
    once = np.ones((1, len(outcomes)))
    summands = build_summands(outcomes)
    found = score_totals(summands, summands.total(once)) | score_rankings(outcomes, once)
    return {name: float(value[0]) for name, value in found.items()}


def resample(
    outcomes: Outcomes, units: Units, *, num_resamples: int, seed: int
) -> dict[str, Floats]:
    """Every metric on each of R resamples, (R,)."""
    summands = build_summands(outcomes).by_unit(units.of_image, len(units.size))
    parts = []
    for weights in draw_weights(units, num_resamples, seed):
        found = score_totals(summands, summands.total(weights))
        if outcomes.scores is not None:
            found |= score_rankings(outcomes, weights[:, units.of_image])
        parts.append(found)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def pick_groups(groups: Sequence[str] | None, outcomes: Outcomes) -> list[str] | None:
    """The groups of the images that count."""
    return None if groups is None else [groups[row] for row in outcomes.rows]


def bound_metric(
    name: str,
    outcomes: Outcomes,
    value: float,
    *,
    deviation: float,
    freedom: float,
    excess: float = 0.0,
    level: float = 0.95,
) -> Interval:
    """The interval of a metric from its standard deviation and the degrees of freedom of that.

    excess: by how much resampling raises the metric. The calibration error is as much too high on
    few images as it rises with resampling, so its lower bound is taken from below that.
    """
    from scipy import stats  # a second to import, which training need not wait for

    quantile = float(stats.t.ppf(0.5 + level / 2, freedom))
    if name == "nll":
        factor = math.exp(quantile * deviation / value) if value > 0 else 1.0
        return value / factor, value * factor
    ends, even = _find_ends(name, outcomes), _count_evenly(name, outcomes)
    low, high = score_interval(value, deviation, ends, quantile, even)
    if name == "ece":
        lowered = max(0.0, value - max(0.0, excess))
        low = score_interval(lowered, deviation, ends, quantile, even)[0]
    return low, high


def score_interval(
    value: float, deviation: float, ends: Interval, quantile: float, even: float
) -> Interval:
    """Wilson's interval of a number between two ends, from its standard deviation.

    even: the number of images to reckon with where nothing varies.
    """
    low, width = ends[0], ends[1] - ends[0]
    share = min(1.0, max(0.0, (value - low) / width))
    variance = (deviation / width) ** 2
    spread = share * (1.0 - share)
    count = spread / variance if variance > 0 and spread > 0 else even
    square = quantile**2 / count
    centre = (share + square / 2) / (1 + square)
    half = math.sqrt(square * spread + square**2 / 4) / (1 + square)
    bottom = 0.0 if share == 0 else max(0.0, centre - half)  # at an end, which it is exactly
    top = 1.0 if share == 1 else min(1.0, centre + half)
    return low + width * bottom, low + width * top


def _find_ends(name: str, outcomes: Outcomes) -> Interval:
    if name == "brier" and not outcomes.multilabel and outcomes.num_classes > 2:
        return 0.0, 2.0
    return ENDS.get(name, (0.0, 1.0))


def _count_evenly(name: str, outcomes: Outcomes) -> float:
    """Images that a plain share, or a mean over the classes, rests on."""
    if name not in _OVER_CLASSES:
        return float(len(outcomes))
    counts = np.unique(outcomes.true_class, return_counts=True)[1]
    return len(counts) ** 2 / float((1.0 / counts).sum()) if len(counts) else 1.0
