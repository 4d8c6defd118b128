"""What counts about each labelled and readable image: the predictions reduced to what is scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.errors import RunError
from fieldmark.evaluation.predictions import UNKNOWN, Predictions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_NAMED = 5


@dataclass(frozen=True)
class Outcomes:
    """What counts about each of N labelled and readable images.

    rows: (N,) their places in the predictions. hits, in_top5: (N,) 1.0 or 0.0; confidence: (N,)
    probability of the first class; top1_hits: (N,) 1.0 where the first class is a true one;
    loss: (N,). squared_error: (N,) sum over the classes of (probability - truth)^2, None where the
    store cannot tell it. scores: (N, K) a number that rises with the probability of each class,
    None where the store keeps fewer classes than there are, and for multi-class.
    true_row, true_class and predicted_row, predicted_class: pairs (image, class), one pair an
    image for single-label tasks; `match` marks the predicted pairs that are true.
    strata: (N,) what resampling keeps the numbers of: the true class, for multi-label nothing.
    """

    num_classes: int
    multilabel: bool
    rows: Ints
    hits: Floats
    in_top5: Floats
    top1_hits: Floats
    confidence: Floats
    loss: Floats
    squared_error: Floats | None
    scores: Floats | None
    true_row: Ints
    true_class: Ints
    predicted_row: Ints
    predicted_class: Ints
    match: Floats
    strata: Ints

    def __len__(self) -> int:
        return len(self.hits)


def build_outcomes(predictions: Predictions) -> Outcomes:
    """Reduce predictions to what metrics need; unlabelled and unreadable images are left out.

    Raises `RunError` where a probability or a loss is not finite.
    """
    _refuse_non_finite(predictions)
    rows = np.flatnonzero(~np.isnan(predictions.loss))
    targets = [predictions.targets[row] for row in rows]
    predicted = [predictions.predicted[row] for row in rows]
    top = predictions.top_index[rows]
    true_row, true_class = _pairs(targets)
    predicted_row, predicted_class = _pairs(predicted)
    true_sets = [frozenset(classes) for classes in targets]
    paired = zip(predicted_row.tolist(), predicted_class.tolist(), strict=True)
    multilabel = predictions.task == "multilabel"
    strata = np.zeros(len(rows), np.int64) if multilabel else true_class
    return Outcomes(
        num_classes=len(predictions.class_names),
        multilabel=multilabel,
        rows=rows,
        hits=_floats(p == t for p, t in zip(predicted, targets, strict=True)),
        in_top5=_floats(
            not t.isdisjoint(k) for t, k in zip(true_sets, top[:, :5].tolist(), strict=True)
        ),
        top1_hits=_floats(k in t for t, k in zip(true_sets, top[:, 0].tolist(), strict=True)),
        confidence=predictions.top_probability[rows, 0].astype(np.float64),
        loss=predictions.loss[rows],
        squared_error=_squared_error(predictions, rows),
        scores=_class_scores(predictions, rows),
        true_row=true_row,
        true_class=true_class,
        predicted_row=predicted_row,
        predicted_class=predicted_class,
        match=_floats(c in true_sets[r] for r, c in paired),
        strata=strata,
    )


def _refuse_non_finite(predictions: Predictions) -> None:
    readable = np.array([image not in predictions.errors for image in predictions.images], bool)
    counted = np.array([bool(targets) for targets in predictions.targets], bool)
    bad = ~np.isfinite(predictions.top_probability).all(axis=1)
    # Without a label a loss is missing, which is in order; infinite it never is.
    bad |= np.isinf(predictions.loss) | (counted & np.isnan(predictions.loss))
    places = np.flatnonzero(bad & readable)
    if len(places):
        named = ", ".join(predictions.images[place] for place in places[:_NAMED])
        raise RunError(
            f"{len(places)} of {len(predictions)} images have probabilities that are not finite "
            f"({named}): the network's answer overflowed, so no score means anything. Train with a "
            "lower optim.lr or precision=fp32, then `fieldmark evaluate RUN`"
        )


def _squared_error(predictions: Predictions, rows: Ints) -> Floats | None:
    """As stored; from the stored probabilities where they are all; else unknown."""
    if predictions.squared_error is not None:
        return predictions.squared_error[rows]
    probability = _all_probabilities(predictions, rows)
    if probability is None:
        return None
    truth = np.zeros_like(probability)
    place, index = _pairs([predictions.targets[row] for row in rows])
    truth[place, index] = 1.0
    error: Floats = np.square(probability - truth).sum(axis=1)
    return error


def _class_scores(predictions: Predictions, rows: Ints) -> Floats | None:
    """For ranking images within a class: what keeps its digits also near 0 and 1."""
    if predictions.task == "multiclass":
        return None
    probability = _all_probabilities(predictions, rows)
    if probability is None or predictions.task == "multilabel":
        return probability
    with np.errstate(divide="ignore"):
        logs = np.log(probability)  # (N, 2); one of the two is small and keeps its digits
    odds = logs[:, 1] - logs[:, 0]
    return np.stack([-odds, odds], axis=1)


def _all_probabilities(predictions: Predictions, rows: Ints) -> Floats | None:
    """(N, K) in class order, None where the store keeps fewer."""
    num_classes = len(predictions.class_names)
    top = predictions.top_index[rows]
    if top.shape[1] < num_classes or (top == UNKNOWN).any():
        return None
    probability = np.empty((len(rows), num_classes))
    values = predictions.top_probability[rows].astype(np.float64)
    np.put_along_axis(probability, top.astype(np.int64), values, axis=1)
    return probability


def _pairs(classes: Sequence[tuple[int, ...]]) -> tuple[Ints, Ints]:
    rows = np.repeat(np.arange(len(classes)), [len(c) for c in classes])
    flat = np.array([index for c in classes for index in c], dtype=np.int64)
    return rows.astype(np.int64), flat


def _floats(values: Iterable[bool]) -> Floats:
    return np.fromiter(values, dtype=np.float64)
