"""How well the scores of a class put its images before all others: AUROC and average precision.

Both are means over the classes that have images of their own and of others; binary has the one
class "positive", the second.
"""

from __future__ import annotations

import numpy as np

from fieldmark.evaluation.outcomes import Floats, Outcomes


def score_rankings(outcomes: Outcomes, weights: Floats) -> dict[str, Floats]:
    """`auroc` and `average_precision`, each (R,), for the weights (R, N) of the images.

    AUROC: Hanley and McNeil 1982, ties count half. Average precision: the sum over the steps of
    recall of precision there, not interpolated. Empty for multi-class, where the store does not
    hold the probabilities of all classes, and where no class has both kinds of images.
    """
    if outcomes.scores is None:
        return {}
    truth = np.zeros((len(outcomes), outcomes.num_classes), bool)
    truth[outcomes.true_row, outcomes.true_class] = True
    classes = range(outcomes.num_classes) if outcomes.multilabel else (1,)
    ranked = [k for k in classes if 0 < truth[:, k].sum() < len(outcomes)]
    if not ranked:
        return {}
    found = [_rank_class(outcomes.scores[:, k], truth[:, k], weights) for k in ranked]
    areas, precisions = (np.stack(values) for values in zip(*found, strict=True))  # (classes, R)
    return {"auroc": _mean(areas), "average_precision": _mean(precisions)}


def _rank_class(scores: Floats, truth: np.ndarray, weights: Floats) -> tuple[Floats, Floats]:
    """Area and average precision (R,); NaN where a resample lacks one kind of images."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    starts = np.flatnonzero(np.r_[True, falling[1:] != falling[:-1]])
    drawn = weights[:, order]
    positive = np.add.reduceat(drawn * truth[order], starts, axis=1)  # (R, distinct scores)
    both = np.add.reduceat(drawn, starts, axis=1)
    negative = both - positive
    above = positive.cumsum(axis=1)
    num_positive, num_negative = positive.sum(axis=1), negative.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (negative * (above - positive / 2)).sum(axis=1) / (num_positive * num_negative)
        precision = np.nan_to_num(above / both.cumsum(axis=1))
        average = (positive * precision).sum(axis=1) / num_positive
    return area, np.where(num_negative > 0, average, np.nan)


def _mean(values: Floats) -> Floats:
    """Over the classes that a resample can tell; half a resample's classes never lack."""
    told = ~np.isnan(values)
    found: Floats = np.where(told, values, 0.0).sum(axis=0) / np.maximum(told.sum(axis=0), 1)
    return found
