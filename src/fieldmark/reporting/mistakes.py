"""The mistakes a run is surest of: where the picture, or its label, deserves a second look."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fieldmark.evaluation.metrics import build_outcomes
from fieldmark.evaluation.predictions import Predictions
from fieldmark.reporting.material import Material

MAX_MISTAKES = 24
SIDE_PX = 144


@dataclass(frozen=True)
class Mistake:
    """An image, the label it was given, and the wrong class with the highest probability.

    `given_probability` is that of the given label, None for several labels.
    """

    image: str
    given: str
    predicted: str
    probability: float
    given_probability: float | None
    thumbnail: str | None


@dataclass(frozen=True)
class Mistakes:
    """The most confident of `num_mistakes`, surest first."""

    shown: tuple[Mistake, ...]
    num_mistakes: int
    num_images: int
    multilabel: bool


def build_mistakes(material: Material) -> Mistakes | None:
    """Pick the most confident mistakes; None where there are no predictions of labelled images."""
    predictions = material.predictions
    if predictions is None or not any(predictions.targets):
        return None
    wrong = sorted(_find_wrong(predictions), key=lambda found: -found[0])
    return Mistakes(
        shown=tuple(
            _describe(material, predictions, row, place) for _, row, place in wrong[:MAX_MISTAKES]
        ),
        num_mistakes=len(wrong),
        num_images=len(build_outcomes(predictions)),
        multilabel=predictions.task == "multilabel",
    )


def _find_wrong(predictions: Predictions) -> Iterator[tuple[float, int, int]]:
    """Probability of the surest wrong class, row, and the class's place among the first k."""
    for row, (targets, predicted) in enumerate(
        zip(predictions.targets, predictions.predicted, strict=True)
    ):
        extra = set(predicted) - set(targets)
        if targets and extra:
            classes = predictions.top_index[row].tolist()
            place = next((i for i, index in enumerate(classes) if index in extra), None)
            if place is not None:
                yield float(predictions.top_probability[row, place]), row, place


def _describe(material: Material, predictions: Predictions, row: int, place: int) -> Mistake:
    given = float(predictions.true_probability[row])
    image = predictions.images[row]
    return Mistake(
        image=image,
        given=predictions.labels[row],
        predicted=predictions.class_names[predictions.top_index[row, place]],
        probability=float(predictions.top_probability[row, place]),
        given_probability=None if math.isnan(given) else given,
        thumbnail=material.draw_thumbnail(image, SIDE_PX),
    )
