"""Two models on the same images: how their difference scatters, and whether it could be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from fieldmark.evaluation.intervals import resample, score_outcomes
from fieldmark.evaluation.outcomes import Floats, Outcomes
from fieldmark.evaluation.ranking import score_rankings
from fieldmark.evaluation.resampling import CHUNK_NUMBERS, Units
from fieldmark.evaluation.totals import Summands, build_summands, score_totals

NUM_RESAMPLES = 2000
NUM_PERMUTATIONS = 10_000
NUM_RANKINGS = 1000
"""Permutations of a metric of order, each of which sorts anew."""
RANKINGS = frozenset({"auroc", "average_precision"})
_STEPS = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "top5_accuracy", "macro_f1", "kappa"), 1.0),
    "sum": 3.0,
}
"""What one image more or less changes, times the number of images, for metrics of decisions."""


def difference_deviation(
    first: Sequence[Outcomes], second: Sequence[Outcomes], units: Units, metric: str
) -> float:
    """Standard deviation over test sets of mean(first) - mean(second), on shared images.

    Each resample counts the same images for all models. One image on which they would differ is
    added to the scatter, as Agresti and Min (2005) add to the cells of matched pairs: two models
    that agree on 50 images need not agree on the next.
    """
    samples = np.zeros(NUM_RESAMPLES)
    for side, models in ((1.0, first), (-1.0, second)):
        for model in models:
            drawn = resample(model, units, num_resamples=NUM_RESAMPLES, seed=0)[metric]
            samples += side * drawn / len(models)
    return math.hypot(float(samples.std(ddof=1)), step(metric, len(units.size)))


def step(metric: str, num_images: int) -> float:
    """What one image changes, for metrics of decisions; 0 for others."""
    return _STEPS.get(metric, 0.0) / (num_images + 2)


def mcnemar(first: Outcomes, second: Outcomes) -> float:
    """Exact two-sided p-value that the models are right on equally many images (McNemar 1947)."""
    only_first = int(((first.hits > 0) & (second.hits == 0)).sum())
    only_second = int(((first.hits == 0) & (second.hits > 0)).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def permute(
    first: Outcomes, second: Outcomes, units: Units, metric: str, *, seed: int = 0
) -> float:
    """Two-sided p-value that the models are exchangeable on each unit, for any metric.

    The models trade places on each image (or group) by the toss of a coin; the p-value is the
    share of tosses whose difference is at least the observed one, itself among them.
    """
    generator = np.random.default_rng(seed)
    observed = abs(score_outcomes(first)[metric] - score_outcomes(second)[metric])
    trade = _trade_ranks if metric in RANKINGS else _trade_sums
    differences = np.abs(trade(first, second, units, metric, generator))
    # Sums in another order differ in the last digits; an equal difference counts.
    reached = int((differences >= observed - 1e-9 * max(1.0, observed)).sum())
    return (1 + reached) / (1 + len(differences))


def _trade_sums(
    first: Outcomes, second: Outcomes, units: Units, metric: str, generator: np.random.Generator
) -> Floats:
    """Differences (R,) of a metric that is a function of sums."""
    summands = [build_summands(side) for side in (first, second)]
    num_units = len(units.size)
    ours, theirs = (part.by_unit(units.of_image, num_units) for part in summands)
    half = Summands(
        num_classes=ours.num_classes,
        multilabel=ours.multilabel,
        has_squared_error=ours.has_squared_error and theirs.has_squared_error,
        plain=(ours.plain - theirs.plain) / 2,
        sorted_=((ours.sorted_ - theirs.sorted_) / 2).tocsr(),
    )
    once = np.ones((1, num_units))
    middle = (ours.total(once) + theirs.total(once)) / 2
    rows = max(1, CHUNK_NUMBERS // num_units)
    differences = []
    for done in range(0, NUM_PERMUTATIONS, rows):
        count = min(rows, NUM_PERMUTATIONS - done)
        tossed = generator.integers(0, 2, (count, num_units), dtype=np.int8)
        signs = 2 * tossed.astype(np.float64) - 1
        moved = half.total(signs)
        left, right = score_totals(half, middle + moved), score_totals(half, middle - moved)
        differences.append(left[metric] - right[metric])
    return np.concatenate(differences)


def _trade_ranks(
    first: Outcomes, second: Outcomes, units: Units, metric: str, generator: np.random.Generator
) -> Floats:
    """Differences (R,) of a metric of order."""
    assert first.scores is not None
    assert second.scores is not None
    once = np.ones((1, len(first)))

    def score(scores: Floats) -> float:
        return float(score_rankings(replace(first, scores=scores), once)[metric][0])

    differences = []
    for _ in range(NUM_RANKINGS):
        swap = generator.integers(0, 2, len(units.size), dtype=np.int8)[units.of_image, None] > 0
        left = np.where(swap, second.scores, first.scores)
        right = np.where(swap, first.scores, second.scores)
        differences.append(score(left) - score(right))
    return np.array(differences)
