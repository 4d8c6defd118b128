"""Conformal label sets: as many classes as it takes to hold the true one in 90% of images.

A score says how little a class conforms to an image; the threshold is the right quantile of the
scores that the true classes of images the network did not learn from have. For new images drawn
like those, the set of all classes with a score up to the threshold holds the true class with at
least the chosen probability, whatever the network (Vovk et al. 2005; Angelopoulos and Bates 2021,
"A Gentle Introduction to Conformal Prediction", theorem 1): on average over images, not for each
class. All three scores grow with the rank of the class, so a set is the first m classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fieldmark.errors import DataError, FieldmarkError, hint
from fieldmark.recipes.schema import Task

if TYPE_CHECKING:
    from fieldmark.evaluation.predictions import Predictions

SetMethod = Literal["lac", "aps", "raps"]
SET_METHODS: tuple[SetMethod, ...] = get_args(SetMethod)
RAPS_WEIGHT, RAPS_FREE_RANKS = 0.01, 5
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SetRule:
    """Which classes of an image are in its label set.

    lac: those of probability p >= 1 - threshold (Sadinle et al. 2019), the smallest sets. aps:
    those before which the probabilities add up to at most the threshold (Romano et al. 2020 with
    u = 0 for their random draw, so that an image always gets the same set): larger where the image
    is hard. raps: as aps, with 0.01 more for each class behind the fifth (Angelopoulos et al.
    2021), against very large sets. The most probable class is always in the set, so where more
    images than the coverage are right, more are covered.
    """

    method: SetMethod
    threshold: float

    def choose(self, ranked: Floats) -> NDArray[np.int64]:
        """Number of classes in each set, (B,), from probabilities (B, K), largest first."""
        sizes: NDArray[np.int64] = (self.score(ranked) <= self.threshold).sum(axis=1)
        return sizes.clip(min=1)

    def score(self, ranked: Floats) -> Floats:
        """Scores of the first k classes of each image: (B, k), largest first -> (B, k)."""
        if self.method == "lac":
            return 1.0 - ranked
        above = np.zeros_like(ranked)
        above[:, 1:] = ranked.cumsum(axis=1)[:, :-1]
        return _add_penalty(self.method, above, np.arange(1, ranked.shape[1] + 1))


@dataclass(frozen=True)
class SetCheck:
    """How the sets do on images with known labels.

    coverage: share of images whose set holds the true class. mean_size: classes in a set; where
    `is_exact` is false at least so many, because files keep the first classes only.
    """

    coverage: float
    mean_size: float
    is_exact: bool


def fit_set_rules(predictions: Predictions, coverage: float) -> Mapping[SetMethod, SetRule]:
    """The rule of every method for images drawn like these, which training must not have seen.

    coverage: probability that a set holds the true class, above 0 and below 1. Raises `DataError`
    for too few images, a multi-label task and predictions without a `Spread`.
    """
    if not 0.0 < coverage < 1.0:
        raise FieldmarkError(f"coverage: expected a share above 0 and below 1, not {coverage:g}")
    rows = labelled_rows(predictions)
    place = quantile_place(len(rows), coverage)
    rules = {}
    for method in SET_METHODS:
        scores = np.sort(_true_scores(predictions, method)[rows])
        rules[method] = SetRule(method, float(scores[place - 1]))
    return rules


def quantile_place(num_images: int, coverage: float) -> int:
    """Which of the sorted scores is the threshold, from 1: ceil((n + 1) coverage)."""
    # A hair less, so that 0.9 x 10 is not 10 for want of bits.
    place = math.ceil((num_images + 1) * coverage - 1e-9)
    if place > num_images:
        needed = math.ceil(coverage / (1.0 - coverage) - 1e-9)
        raise DataError(
            f"coverage: {coverage:g} needs at least {needed:,} labelled validation images, and "
            f"there are {num_images:,}. Choose a lower coverage, or train with a larger val "
            "share (data.split.ratios)"
        )
    return place


def coverage_range(num_images: int, coverage: float, level: float = 0.9) -> tuple[float, float]:
    """Where the coverage lies for thresholds fitted on so many images, in `level` of all cases.

    It follows Beta(k, n + 1 - k) with k = `quantile_place` (Vovk 2012; the tutorial's section
    3.2): the fewer images, the further it may be from what was chosen.
    """
    from scipy.stats import beta  # a second to import, which training need not wait for

    place = quantile_place(num_images, coverage)
    tail = (1.0 - level) / 2
    low, high = beta.ppf([tail, 1.0 - tail], place, num_images + 1 - place)
    return float(low), float(high)


def check_sets(predictions: Predictions, rule: SetRule) -> SetCheck:
    """Coverage and size of the sets on other labelled images, from what their file keeps."""
    rows = labelled_rows(predictions)
    if len(rows) == 0:
        raise DataError("label sets: none of the images is labelled, so nothing can be checked")
    is_held = _true_scores(predictions, rule.method)[rows] <= rule.threshold
    assert predictions.spread is not None
    is_held |= predictions.spread.true_rank[rows] == 1  # the first class is always held
    top = predictions.top_probability[rows].astype(np.float64)
    sizes = rule.choose(top)
    is_exact = top.shape[1] == len(predictions.class_names) or bool((sizes < top.shape[1]).all())
    return SetCheck(float(is_held.mean()), float(sizes.mean()), is_exact)


def parse_set_method(name: str) -> SetMethod:
    """The name as a method; raise `FieldmarkError` for any other."""
    for known in SET_METHODS:
        if name == known:
            return known
    raise FieldmarkError(
        f"label sets '{name}': expected one of {', '.join(SET_METHODS)}.{hint(name, SET_METHODS)}"
    )


def labelled_rows(predictions: Predictions) -> NDArray[np.int64]:
    """Rows that are readable and have one known label; refuse what has no probabilities for it."""
    require_spread(predictions)
    return np.flatnonzero(~np.isnan(predictions.loss))


def require_spread(predictions: Predictions) -> None:
    """Raise `DataError` where temperatures, label sets and rejection have nothing to go by."""
    refuse_multilabel(predictions.task)
    if predictions.spread is None:
        raise DataError(
            "the stored predictions are of an earlier version and lack what this needs. "
            "`fieldmark evaluate RUN --split val` (or test) writes them anew"
        )


def refuse_multilabel(task: Task) -> None:
    """Raise `DataError` for a task whose probabilities do not sum to 1."""
    if task == "multilabel":
        raise DataError(
            "a multi-label run has a probability for each class by itself, so there is no "
            "temperature, label set or 'unknown' for the whole image. Use the probabilities of "
            "`fieldmark predict`"
        )


def _true_scores(predictions: Predictions, method: SetMethod) -> Floats:
    spread = predictions.spread
    assert spread is not None
    if method == "lac":
        return 1.0 - np.exp(-predictions.loss)
    return _add_penalty(method, spread.mass_above, spread.true_rank)


def _add_penalty(method: SetMethod, mass: Floats, ranks: NDArray[np.integer]) -> Floats:
    if method == "aps":
        return mass
    behind = np.maximum(0, ranks - RAPS_FREE_RANKS)
    penalized: Floats = mass + RAPS_WEIGHT * behind
    return penalized
