"""The difference of two entries: its interval, its p-value, and how much data would settle it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fieldmark.evaluation.comparison.paired import (
    difference_deviation,
    mcnemar,
    permute,
    step,
)
from fieldmark.evaluation.comparison.pairing import (
    MatchedSplits,
    OwnSplits,
    Pairing,
    SharedImages,
)
from fieldmark.evaluation.comparison.records import Test
from fieldmark.evaluation.intervals import score_outcomes

POWER = 0.8
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """What two entries differ by, and the parts of its variance.

    against: the second's score in what was compared. images: the part that falls with 1 / images. seeds: the part that falls with 1 / seeds.
    rest: the part that only more images could lessen, though by how much is not known.
    """

    value: float
    against: float
    interval: tuple[float, float]
    p_value: float
    test: Test
    num_images: int
    num_seeds: int
    images: float = 0.0
    seeds: float = 0.0
    rest: float = 0.0


def find_difference(pairing: Pairing, metric: str) -> Difference:
    """Hold two entries against each other."""
    if isinstance(pairing, SharedImages):
        single = len(pairing.first) == len(pairing.second) == 1
        return _on_images(pairing, metric) if single else _on_images_and_seeds(pairing, metric)
    if isinstance(pairing, MatchedSplits):
        return _on_matched_splits(pairing, metric)
    return _on_own_splits(pairing, metric)


def _on_images(pairing: SharedImages, metric: str) -> Difference:
    """One run each: paired on images, or on groups of them."""
    (first,), (second,) = pairing.first, pairing.second
    against = score_outcomes(second)[metric]
    value = score_outcomes(first)[metric] - against
    deviation = difference_deviation([first], [second], pairing.units, metric)
    if metric == "accuracy" and not pairing.has_groups:
        test: Test = "McNemar exact"
        p_value = mcnemar(first, second)
    else:
        test, p_value = "permutation", permute(first, second, pairing.units, metric)
    return Difference(
        value=value,
        against=against,
        interval=_interval(value, deviation, pairing.units.freedom),
        p_value=p_value,
        test=test,
        num_images=pairing.num_images,
        num_seeds=1,
        images=deviation**2,
    )


def _on_images_and_seeds(pairing: SharedImages, metric: str) -> Difference:
    """Several runs on the same images: the images scatter, and so do the seeds.

    An entry with one seed borrows the spread of the other. Degrees of freedom after
    Satterthwaite 1946.
    """
    sides = [[score_outcomes(o)[metric] for o in s] for s in (pairing.first, pairing.second)]
    against = float(np.mean(sides[1]))
    value = float(np.mean(sides[0])) - against
    images = difference_deviation(pairing.first, pairing.second, pairing.units, metric) ** 2
    freedom = sum(len(side) - 1 for side in sides)
    squares = sum(float(np.square(np.array(s) - np.mean(s)).sum()) for s in sides)
    seeds = squares / freedom * sum(1 / len(side) for side in sides)
    total = images + seeds
    parts = images**2 / pairing.units.freedom + seeds**2 / freedom
    effective = total**2 / parts if parts > 0 else float(freedom)
    return Difference(
        value=value,
        against=against,
        interval=_interval(value, math.sqrt(total), effective),
        p_value=_t_test(value, math.sqrt(total), effective),
        test="t over seeds and images",
        num_images=pairing.num_images,
        num_seeds=min(len(side) for side in sides),
        images=images,
        seeds=seeds,
    )


def _on_matched_splits(pairing: MatchedSplits, metric: str) -> Difference:
    """A difference for each test set; the test sets are drawn from the same images.

    The variance of the mean is s^2 (1 / n + n_test / n_train) and not s^2 / n, since the training
    sets overlap (Nadeau and Bengio 2003, section 3).
    """
    theirs = [score_outcomes(two.second[0])[metric] for two in pairing.pairs]
    found = [
        score_outcomes(two.first[0])[metric] - held
        for two, held in zip(pairing.pairs, theirs, strict=True)
    ]
    num_images = round(float(np.mean([two.num_images for two in pairing.pairs])))
    variance = float(np.var(found, ddof=1)) + step(metric, num_images) ** 2
    return _over_seeds(
        value=float(np.mean(found)),
        against=float(np.mean(theirs)),
        variances=[variance],
        counts=[len(found)],
        test_share=pairing.test_share,
        test="t over seeds, paired",
        num_images=num_images,
    )


def _on_own_splits(pairing: OwnSplits, metric: str) -> Difference:
    """Two sets of scores that share no test set (Welch 1947, with the same correction)."""
    sides = [[score_outcomes(o)[metric] for o in s] for s in (pairing.first, pairing.second)]
    num_images = round(float(np.mean([len(o) for s in (pairing.first, pairing.second) for o in s])))
    return _over_seeds(
        value=float(np.mean(sides[0]) - np.mean(sides[1])),
        against=float(np.mean(sides[1])),
        variances=[float(np.var(s, ddof=1)) + step(metric, num_images) ** 2 for s in sides],
        counts=[len(side) for side in sides],
        test_share=pairing.test_share,
        test="t over seeds",
        num_images=num_images,
    )


def _over_seeds(
    *,
    value: float,
    against: float,
    variances: Sequence[float],
    counts: Sequence[int],
    test_share: float,
    test: Test,
    num_images: int,
) -> Difference:
    seeds = sum(v / n for v, n in zip(variances, counts, strict=True))
    rest = sum(v * test_share for v in variances)
    scaled = [v * (1 / n + test_share) for v, n in zip(variances, counts, strict=True)]
    parts = sum(v**2 / (n - 1) for v, n in zip(scaled, counts, strict=True))
    freedom = sum(scaled) ** 2 / parts if parts > 0 else float(sum(n - 1 for n in counts))
    deviation = math.sqrt(seeds + rest)
    return Difference(
        value=value,
        against=against,
        interval=_interval(value, deviation, freedom),
        p_value=_t_test(value, deviation, freedom),
        test=test,
        num_images=num_images,
        num_seeds=min(counts),
        seeds=seeds,
        rest=rest,
    )


def _interval(value: float, deviation: float, freedom: float) -> tuple[float, float]:
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * deviation
    return value - half, value + half


def _t_test(value: float, deviation: float, freedom: float) -> float:
    if deviation == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / deviation, freedom))


def correct_for_many(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return [float(p) for p in corrected]
