"""Precision, recall and F1 of each class, and what it is most often taken for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.evaluation.metrics import ClassScore, score_classes
from fieldmark.evaluation.predictions import Predictions
from fieldmark.reporting.confusion import count_confusions
from fieldmark.reporting.material import Material


@dataclass(frozen=True)
class Rival:
    """The class that most images of another were taken for by mistake."""

    name: str
    count: int


@dataclass(frozen=True)
class Classes:
    """Class scores in index order, each with its rival, if it was ever mistaken.

    `has_rivals` is false for multi-label, where a wrong label replaces no other.
    """

    rows: tuple[tuple[ClassScore, Rival | None], ...]
    has_rivals: bool


def build_classes(material: Material) -> Classes | None:
    """Score each class; None where there are no predictions of labelled images."""
    predictions = material.predictions
    if predictions is None or not any(predictions.targets):
        return None
    has_rivals = predictions.task != "multilabel"
    rivals = _find_rivals(predictions) if has_rivals else [None] * len(predictions.class_names)
    return Classes(tuple(zip(score_classes(predictions), rivals, strict=True)), has_rivals)


def _find_rivals(predictions: Predictions) -> list[Rival | None]:
    matrix = count_confusions(predictions)
    np.fill_diagonal(matrix, 0)
    names = predictions.class_names
    return [
        Rival(names[place], int(row[place])) if row[place := int(row.argmax())] else None
        for row in matrix
    ]
