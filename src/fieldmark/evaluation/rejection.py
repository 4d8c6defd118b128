"""When to answer "unknown": a score, a threshold, and what it costs in coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fieldmark.errors import DataError, FieldmarkError, hint
from fieldmark.evaluation.calibration import first_hits, first_probability
from fieldmark.evaluation.conformal import refuse_multilabel, require_spread

if TYPE_CHECKING:
    from fieldmark.evaluation.predictions import Predictions

Score = Literal["probability", "energy"]
SCORES: tuple[Score, ...] = get_args(Score)
MAX_POINTS = 200
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RiskPoint:
    """Answer where the score is at least `threshold`.

    coverage: share of the images that get an answer. risk: share of wrong ones among these.
    """

    threshold: float
    coverage: float
    risk: float


@dataclass(frozen=True)
class RejectionRule:
    """An image whose score is below the threshold is unknown."""

    score: Score
    threshold: float

    def is_unknown(self, predictions: Predictions) -> NDArray[np.bool_]:
        """(N,) true where the answer is "unknown"; false where the image is unreadable."""
        scores = score_images(predictions, self.score)
        return np.less(scores, self.threshold, where=~np.isnan(scores), out=_falses(len(scores)))


def score_images(predictions: Predictions, score: Score) -> Floats:
    """How well each image is known, (N,): the larger, the better; NaN where unreadable.

    probability: of the first class (Hendrycks and Gimpel 2017). energy: log sum exp of the logits
    (Liu et al. 2020), which is not bounded and differs from network to network; a binary task has
    none. Raises `DataError` where the predictions have no such score.
    """
    refuse_multilabel(predictions.task)
    if score == "probability":
        return first_probability(predictions)
    require_spread(predictions)
    assert predictions.spread is not None
    if predictions.task == "binary":
        raise DataError(
            "energy: a binary run has one logit, whose size says only which of the two classes "
            "it is. Choose 'probability'"
        )
    return predictions.spread.energy.astype(np.float64)


def compute_risk_curve(
    predictions: Predictions, score: Score = "probability", *, max_points: int = MAX_POINTS
) -> list[RiskPoint]:
    """The coverage-risk curve of the labelled images, from few answers to all of them.

    Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks", section 2. At
    most `max_points`, evenly by coverage, the last of coverage 1; images of one score stay
    together. Empty where nothing is labelled. Raises `DataError` as `score_images`.
    """
    values, wrong = _sorted_by_score(predictions, score)
    count = len(values)
    if count == 0:
        return []
    errors = wrong.cumsum()
    ends = np.flatnonzero(np.r_[values[1:] != values[:-1], True])  # the last of each score
    chosen = np.unique(np.linspace(0, len(ends) - 1, min(max_points, len(ends))).round())
    return [
        RiskPoint(float(values[end]), float((end + 1) / count), float(errors[end] / (end + 1)))
        for end in ends[chosen.astype(np.int64)]
    ]


def risk_area(predictions: Predictions, score: Score = "probability") -> float:
    """Area under the coverage-risk curve, from 0 (best); images of one score share their risk."""
    values, wrong = _sorted_by_score(predictions, score)
    if len(values) == 0:
        return float("nan")
    _, start, counts = np.unique(-values, return_index=True, return_counts=True)
    ends = start + counts
    risks = wrong.cumsum()[ends - 1] / ends
    return float((risks * counts).sum() / len(values))


def fit_rejection(predictions: Predictions, score: Score, keep: float) -> RejectionRule:
    """The threshold that a share `keep` of these images passes."""
    if not 0.0 < keep <= 1.0:
        raise FieldmarkError(f"keep: expected a share above 0 and up to 1, not {keep:g}")
    values = score_images(predictions, score)
    values = np.sort(values[~np.isnan(values)])[::-1]
    if len(values) == 0:
        raise DataError("rejection: there is no readable image to find a threshold on")
    num_kept = max(1, int(np.ceil(keep * len(values) - 1e-9)))
    return RejectionRule(score, float(values[num_kept - 1]))


def parse_score(name: str) -> Score:
    """The name as a score; raise `FieldmarkError` for any other."""
    for known in SCORES:
        if name == known:
            return known
    raise FieldmarkError(
        f"rejection by '{name}': expected one of {', '.join(SCORES)}.{hint(name, SCORES)}"
    )


def _sorted_by_score(predictions: Predictions, score: Score) -> tuple[Floats, Floats]:
    """Scores of the labelled images, largest first, and 1.0 where the first class is wrong."""
    scores = score_images(predictions, score)
    is_labelled = ~np.isnan(predictions.loss)
    values, wrong = scores[is_labelled], 1.0 - first_hits(predictions)[is_labelled]
    order = np.argsort(-values, kind="stable")
    return values[order], wrong[order]


def _falses(count: int) -> NDArray[np.bool_]:
    return np.zeros(count, dtype=np.bool_)
