"""Precision, recall and F1 of each class, how sure they are, and what it is mistaken for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fieldmark.data.class_sizes import PARTS, Part, divide_classes
from fieldmark.evaluation.metrics import score_classes
from fieldmark.evaluation.predictions import Predictions
from fieldmark.reporting.confusion import count_confusions
from fieldmark.reporting.material import Material

MIN_CLASSES_FOR_PARTS = 6
_Z = 1.959963984540054


@dataclass(frozen=True)
class Rival:
    """The class that most images of another were taken for by mistake."""

    name: str
    count: int


@dataclass(frozen=True)
class ClassRow:
    """The scores of one class.

    recall_interval: of 95%, after Wilson (1927); None without images. num_train: images it was
    learned from. part: head, middle or tail; None where classes are alike in size.
    """

    name: str
    precision: float
    recall: float
    recall_interval: tuple[float, float] | None
    f1: float
    support: int
    num_train: int
    part: Part | None
    rival: Rival | None


@dataclass(frozen=True)
class Classes:
    """Class rows in index order.

    `has_rivals` is false for multi-label, where a wrong label replaces no other.
    """

    rows: tuple[ClassRow, ...]
    has_rivals: bool
    parts: tuple[Part, ...]


def build_classes(material: Material) -> Classes | None:
    """Score each class; None where there are no predictions of labelled images."""
    predictions = material.predictions
    if predictions is None or not any(predictions.targets):
        return None
    has_rivals = predictions.task != "multilabel"
    rivals = _find_rivals(predictions) if has_rivals else [None] * len(predictions.class_names)
    num_train = {str(entry["name"]): int(entry["train"]) for entry in material.classes}
    parts = divide_into_parts(num_train)
    rows = tuple(
        ClassRow(
            name=score.name,
            precision=score.precision,
            recall=score.recall,
            recall_interval=wilson_interval(round(score.recall * score.support), score.support),
            f1=score.f1,
            support=score.support,
            num_train=num_train.get(score.name, 0),
            part=parts.get(score.name),
            rival=rival,
        )
        for score, rival in zip(score_classes(predictions), rivals, strict=True)
    )
    present = set(parts.values())
    return Classes(rows, has_rivals, tuple(part for part in PARTS if part in present))


def wilson_interval(hits: int, count: int) -> tuple[float, float] | None:
    """95% interval of a share, good for few images (Wilson 1927); None for none."""
    if count == 0:
        return None
    share, weight = hits / count, _Z * _Z / count
    middle = (share + weight / 2) / (1 + weight)
    reach = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def divide_into_parts(num_train: Mapping[str, int]) -> dict[str, Part]:
    """Class -> its part by images; empty where classes are few, or alike within a factor of 2."""
    sizes = num_train.values()
    if len(sizes) < MIN_CLASSES_FOR_PARTS or max(sizes) < 2 * min(sizes):
        return {}
    return dict(zip(num_train, divide_classes([*sizes]), strict=True))


def _find_rivals(predictions: Predictions) -> list[Rival | None]:
    matrix = count_confusions(predictions)
    np.fill_diagonal(matrix, 0)
    names = predictions.class_names
    return [
        Rival(names[place], int(row[place])) if row[place := int(row.argmax())] else None
        for row in matrix
    ]
