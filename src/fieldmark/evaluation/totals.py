"""Metrics as functions of sums over images.

Whatever is scored is first summed: images right, images per class, loss, and so on. The score
itself, a bootstrap resample (each image counts as often as it was drawn) and a permutation (the
two models trade places on some images) are then the same function of other sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.evaluation.outcomes import Floats, Ints, Outcomes

if TYPE_CHECKING:
    from scipy import sparse

ECE_BINS = 15
DENSE_NUMBERS = 100_000
"""Up to which zeros are held: a sparse layout of little takes longer to make than to use."""
_PLAIN = ("images", "hits", "in_top5", "loss", "squared_error")


@dataclass(frozen=True)
class Summands:
    """What each of N images adds to the sums.

    plain: (N, 5) images, hits, in_top5, loss, squared_error. sorted_: (N, 3 K + 15), mostly 0: as
    which class it is truly, is predicted, is rightly predicted, and what it adds to the gap of
    its confidence bin.
    """

    num_classes: int
    multilabel: bool
    has_squared_error: bool
    plain: Floats
    sorted_: sparse.csr_array | Floats

    def by_unit(self, of_image: Ints, num_units: int) -> Summands:
        """What each of U units adds, given the unit of each image (N,)."""
        count = len(of_image)
        if count == num_units:
            order = np.empty(count, np.int64)
            order[of_image] = np.arange(count)
            return replace(self, plain=self.plain[order], sorted_=self.sorted_[order])
        from scipy import sparse  # training need not wait for it

        place = (of_image, np.arange(count))
        joined = sparse.coo_array((np.ones(count), place), shape=(num_units, count)).tocsr()
        return replace(self, plain=joined @ self.plain, sorted_=joined @ self.sorted_)

    def total(self, weights: Floats) -> Floats:
        """Sums (R, 5 + 3 K + 15) for the weights (R, N) of the images."""
        by_kind = weights @ self.sorted_  # (R, 3 K + 15)
        return np.concatenate([weights @ self.plain, by_kind], axis=1)


def build_summands(outcomes: Outcomes) -> Summands:
    """Lay out what each image adds."""
    count, num_classes = len(outcomes), outcomes.num_classes
    squared = outcomes.squared_error
    plain = [
        np.ones(count),
        outcomes.hits,
        outcomes.in_top5,
        outcomes.loss,
        np.zeros(count) if squared is None else squared,
    ]
    edges = np.linspace(0.0, 1.0, ECE_BINS + 1)[1:-1]
    bins = np.digitize(outcomes.confidence, edges, right=True)
    right = outcomes.match > 0
    rows = (
        outcomes.true_row,
        outcomes.predicted_row,
        outcomes.predicted_row[right],
        np.arange(count),
    )
    columns = (
        outcomes.true_class,
        num_classes + outcomes.predicted_class,
        2 * num_classes + outcomes.predicted_class[right],
        3 * num_classes + bins,
    )
    gaps = outcomes.top1_hits - outcomes.confidence
    values = (*(np.ones(len(part)) for part in rows[:3]), gaps)
    row, column, value = (np.concatenate(parts) for parts in (rows, columns, values))
    shape = (count, 3 * num_classes + ECE_BINS)
    by_kind: sparse.csr_array | Floats
    if shape[0] * shape[1] <= DENSE_NUMBERS:
        by_kind = np.zeros(shape)
        by_kind[row, column] = value  # each place once
    else:
        from scipy import sparse  # training need not wait for it

        by_kind = sparse.coo_array((value, (row, column)), shape=shape).tocsr()
    return Summands(
        num_classes=num_classes,
        multilabel=outcomes.multilabel,
        has_squared_error=squared is not None,
        plain=np.stack(plain, axis=1),
        sorted_=by_kind,
    )


def score_totals(summands: Summands, totals: Floats) -> dict[str, Floats]:
    """Every metric that is a function of sums (R, 5 + 3 K + 15), each (R,)."""
    num_classes = summands.num_classes
    images, hits, in_top5, loss, squared = totals[:, : len(_PLAIN)].T
    by_kind = totals[:, len(_PLAIN) :]
    true, predicted, right = (
        by_kind[:, kind * num_classes : (kind + 1) * num_classes] for kind in range(3)
    )
    f1 = ratio(2 * right, predicted + true)
    accuracy = hits / images
    macro_f1 = ratio(f1.sum(axis=1), ((predicted + true) > 0).sum(axis=1))
    kappa = _kappa(summands.multilabel, right, predicted, true, images)
    scores = {
        "accuracy": accuracy,
        "balanced_accuracy": ratio(ratio(right, true).sum(axis=1), (true > 0).sum(axis=1)),
        "top5_accuracy": in_top5 / images,
        "macro_f1": macro_f1,
        "kappa": kappa,
        "sum": accuracy + macro_f1 + kappa,
        "nll": loss / images,
        "ece": np.abs(by_kind[:, 3 * num_classes :]).sum(axis=1) / images,
    }
    if summands.has_squared_error:
        scores["brier"] = squared / images / _brier_parts(summands)
    return scores


def _brier_parts(summands: Summands) -> int:
    """Two classes: counted once, not twice; several labels: the mean over them (scikit-learn)."""
    if summands.multilabel:
        return summands.num_classes
    return 2 if summands.num_classes == 2 else 1


def _kappa(
    multilabel: bool, right: Floats, predicted: Floats, true: Floats, images: Floats
) -> Floats:
    """Cohen's kappa; 0 where chance alone already agrees fully (it is undefined there)."""
    if multilabel:
        total = images[:, None]
        observed = 1.0 - (predicted + true - 2 * right) / total
        by_chance = (predicted * true + (total - predicted) * (total - true)) / total**2
        mean: Floats = _beyond(observed, by_chance).mean(axis=1)
        return mean
    return _beyond(right.sum(axis=1) / images, (predicted * true).sum(axis=1) / images**2)


def _beyond(observed: Floats, by_chance: Floats) -> Floats:
    room = 1.0 - by_chance
    told = ~np.isclose(by_chance, 1.0)
    found: Floats = np.divide(observed - by_chance, room, out=np.zeros_like(room), where=told)
    return found


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Element by element, 0 where nothing is divided."""
    zeros = np.zeros(numerator.shape)
    found: Floats = np.divide(numerator, denominator, out=zeros, where=denominator > 0)
    return found
