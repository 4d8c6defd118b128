"""Scores of single classes, and of classes grouped by how many images they were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fieldmark.evaluation.outcomes import build_outcomes
from fieldmark.evaluation.predictions import Predictions
from fieldmark.evaluation.totals import build_summands, ratio

Part = Literal["head", "middle", "tail"]
PARTS: tuple[Part, ...] = ("head", "middle", "tail")


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall, F1 and number of images of one class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class GroupScore:
    """Classes of one part of the long tail, their mean recall and F1, and their images.

    The means are over the classes that were tested; None where none was.
    """

    part: Part
    num_classes: int
    num_tested: int
    fewest_trained: int
    most_trained: int
    support: int
    recall: float | None
    f1: float | None


def score_classes(predictions: Predictions) -> list[ClassScore]:
    """Precision, recall, F1 and support of each class, in index order."""
    outcomes = build_outcomes(predictions)
    num_classes = len(predictions.class_names)
    sums = build_summands(outcomes).sorted_.sum(axis=0)
    true, predicted, right = sums[: 3 * num_classes].reshape(3, num_classes)
    precision, recall = ratio(right, predicted), ratio(right, true)
    f1 = ratio(2 * right, predicted + true)
    return [
        ClassScore(name, float(precision[i]), float(recall[i]), float(f1[i]), int(true[i]))
        for i, name in enumerate(predictions.class_names)
    ]


def divide_classes(train_counts: Sequence[int]) -> list[Part]:
    """The part of each class: thirds of the classes by training images.

    Classes of equal size are in one part, the larger-sized one that begins with them, so order
    and names play no part.
    """
    counts = np.asarray(train_counts)
    larger = (counts[None, :] > counts[:, None]).sum(axis=1)  # classes before this one
    return [PARTS[int(3 * place // max(1, len(counts)))] for place in larger]


def score_groups(predictions: Predictions, train_counts: Sequence[int]) -> list[GroupScore]:
    """Head, middle and tail; a part without classes is left out.

    train_counts: (K,) training images of each class in index order, as classes.json has them.
    """
    scores = score_classes(predictions)
    parts = divide_classes(train_counts)
    groups = []
    for part in PARTS:
        members = [i for i, own in enumerate(parts) if own == part]
        tested = [scores[i] for i in members if scores[i].support]
        if members:
            trained = [train_counts[i] for i in members]
            groups.append(
                GroupScore(
                    part=part,
                    num_classes=len(members),
                    num_tested=len(tested),
                    fewest_trained=min(trained),
                    most_trained=max(trained),
                    support=sum(score.support for score in tested),
                    recall=float(np.mean([s.recall for s in tested])) if tested else None,
                    f1=float(np.mean([s.f1 for s in tested])) if tested else None,
                )
            )
    return groups
