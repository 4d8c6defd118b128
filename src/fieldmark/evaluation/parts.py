"""Head, middle and tail: classes by how many images they were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from fieldmark.evaluation.metrics import score_classes
from fieldmark.evaluation.predictions import Predictions

Part = Literal["head", "middle", "tail"]
PARTS: tuple[Part, ...] = get_args(Part)


def divide_classes(train_counts: Sequence[int]) -> list[Part]:
    """The part of each class: thirds of the classes by training images.

    Classes of equal size are in one part, the one that the first of them falls into.
    """
    counts = np.asarray(train_counts)
    larger = (counts[None, :] > counts[:, None]).sum(axis=1)  # classes before this one
    return [PARTS[int(3 * place // max(1, len(counts)))] for place in larger]


def score_parts(predictions: Predictions, train_counts: Sequence[int]) -> dict[Part, float]:
    """Mean recall of the tested classes of each part; a part without any is left out."""
    scores = score_classes(predictions)
    found: dict[Part, list[float]] = {part: [] for part in PARTS}
    for score, part in zip(scores, divide_classes(train_counts), strict=True):
        if score.support:
            found[part].append(score.recall)
    return {part: float(np.mean(recalls)) for part, recalls in found.items() if recalls}
