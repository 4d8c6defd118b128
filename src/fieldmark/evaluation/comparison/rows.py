"""A row of a comparison: the scores of a recipe with their interval, and what it took."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from fieldmark.evaluation.comparison.contenders import Contender, Costs
from fieldmark.evaluation.comparison.entries import Entry
from fieldmark.evaluation.comparison.pairing import SharedImages, share_images
from fieldmark.evaluation.comparison.records import ComparedRow
from fieldmark.evaluation.intervals import (
    Interval,
    bound_metric,
    compute_intervals,
    resample,
    score_outcomes,
)

NUM_RESAMPLES = 1000


def build_row(entry: Entry) -> ComparedRow:
    """Score an entry: the mean over its seeds."""
    scores = [score_outcomes(run.outcomes) for run in entry.runs]
    names = [name for name in scores[0] if all(name in score for score in scores)]
    values = {name: np.array([score[name] for score in scores]) for name in names}
    means = {name: float(found.mean()) for name, found in values.items()}
    row = partial(
        ComparedRow,
        name=entry.name,
        runs=tuple(run.path for run in entry.runs),
        num_seeds=len(entry.runs),
        metrics=means,
        parameters=_common([run.costs.parameters for run in entry.runs]),
        seconds=_mean(entry, lambda costs: costs.seconds),
        images_per_second=_mean(entry, lambda costs: costs.images_per_second),
        peak_memory_mb=_mean(entry, lambda costs: costs.peak_memory_mb),
    )
    if len(entry.runs) == 1:
        return row(spread=None, intervals=_intervals_of_one(entry.runs[0]))
    spread = {name: float(found.std(ddof=1)) for name, found in values.items()}
    return row(spread=spread, intervals=_intervals_of_seeds(entry, means, spread))


def _intervals_of_one(run: Contender) -> Mapping[str, Interval]:
    groups = run.groups if any(run.groups) else None
    return compute_intervals(run.predictions, groups=groups, num_resamples=NUM_RESAMPLES)


def _intervals_of_seeds(
    entry: Entry, means: Mapping[str, float], spread: Mapping[str, float]
) -> dict[str, Interval]:
    """Of the mean over seeds. On shared images these scatter as well; else the spread has both.

    Test sets that go with the seed are drawn from the same images, so the variance of their mean
    is s^2 (1 / n + n_test / n_train) (Nadeau and Bengio 2003).
    """
    count, first = len(entry.runs), entry.runs[0].outcomes
    if not entry.shares_images:
        share = float(np.mean([run.test_share for run in entry.runs]))
        scale = math.sqrt(1 / count + share)
        return {
            name: bound_metric(name, first, mean, deviation=spread[name] * scale, freedom=count - 1)
            for name, mean in means.items()
        }
    shared = share_images(entry.runs, ())
    images = _scatter_of_mean(shared)
    intervals = {}
    for name, mean in means.items():
        seeds, own = spread[name] ** 2 / count, images[name] ** 2
        parts = seeds**2 / (count - 1) + own**2 / shared.units.freedom
        freedom = (seeds + own) ** 2 / parts if parts > 0 else float(count - 1)
        deviation = math.sqrt(seeds + own)
        intervals[name] = bound_metric(name, first, mean, deviation=deviation, freedom=freedom)
    return intervals


def _scatter_of_mean(shared: SharedImages) -> dict[str, float]:
    """Standard deviation over test sets of each metric's mean over the runs."""
    samples = [
        resample(one, shared.units, num_resamples=NUM_RESAMPLES, seed=0) for one in shared.first
    ]
    return {
        name: float(np.mean([sample[name] for sample in samples], axis=0).std(ddof=1))
        for name in samples[0]
        if all(name in sample for sample in samples)
    }


def _mean(entry: Entry, pick: Callable[[Costs], float | None]) -> float | None:
    """Over the runs that recorded it."""
    told = [value for run in entry.runs if (value := pick(run.costs)) is not None]
    return float(np.mean(told)) if told else None


def _common(counts: list[int | None]) -> int | None:
    """The number that all runs have; None where they do not agree."""
    return counts[0] if len(set(counts)) == 1 else None
