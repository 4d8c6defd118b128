"""The mistakes a run is surest of: where the picture, or its label, deserves a second look."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fieldmark.evaluation.metrics import build_outcomes
from fieldmark.evaluation.predictions import Predictions
from fieldmark.reporting.material import Material
from fieldmark.reporting.nearest import Nearest

MAX_MISTAKES = 24
SIDE_PX = 144
NEAR_SIDE_PX = 72


@dataclass(frozen=True)
class NearImage:
    """A training image like the mistaken one; `side` tells whose label it bears."""

    image: str
    label: str
    similarity: float
    side: Literal["said", "given", "other"]
    thumbnail: str | None


@dataclass(frozen=True)
class Mistake:
    """An image, the label it was given, and the wrong class with the highest probability.

    `given_probability` is that of the given label, None for several labels. `nearest`: the most
    similar training images, where they were searched for.
    """

    image: str
    given: str
    predicted: str
    probability: float
    given_probability: float | None
    thumbnail: str | None
    nearest: tuple[NearImage, ...]


@dataclass(frozen=True)
class Mistakes:
    """The most confident of `num_mistakes`, surest first.

    searched: how many training images, and of how many, the nearest were chosen from; None where
    they were not searched for. unsearched: why a search failed.
    """

    shown: tuple[Mistake, ...]
    num_mistakes: int
    num_images: int
    multilabel: bool
    searched: tuple[int, int] | None
    unsearched: str | None


def build_mistakes(material: Material) -> Mistakes | None:
    """Pick the most confident mistakes; None where there are no predictions of labelled images."""
    predictions = material.predictions
    if predictions is None or not any(predictions.targets):
        return None
    wrong = _rank_mistakes(predictions)
    nearest = material.nearest
    return Mistakes(
        shown=tuple(
            _describe(material, predictions, row, place) for _, row, place in wrong[:MAX_MISTAKES]
        ),
        num_mistakes=len(wrong),
        num_images=len(build_outcomes(predictions)),
        multilabel=predictions.task == "multilabel",
        searched=(nearest.num_searched, nearest.num_train)
        if isinstance(nearest, Nearest)
        else None,
        unsearched=nearest if isinstance(nearest, str) else None,
    )


def name_mistakes(predictions: Predictions) -> tuple[str, ...]:
    """The images whose mistakes are shown, surest first, as the predictions name them."""
    return tuple(
        predictions.images[row] for _, row, _ in _rank_mistakes(predictions)[:MAX_MISTAKES]
    )


def _rank_mistakes(predictions: Predictions) -> list[tuple[float, int, int]]:
    return sorted(_find_wrong(predictions), key=lambda found: -found[0])


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
    image, label = predictions.images[row], predictions.labels[row]
    said = predictions.class_names[predictions.top_index[row, place]]
    return Mistake(
        image=image,
        given=label,
        predicted=said,
        probability=float(predictions.top_probability[row, place]),
        given_probability=None if math.isnan(given) else given,
        thumbnail=material.draw_thumbnail(image, SIDE_PX),
        nearest=tuple(_show_nearest(material, image, said, label)),
    )


def _show_nearest(material: Material, image: str, said: str, given: str) -> Iterator[NearImage]:
    if not isinstance(material.nearest, Nearest):
        return
    for near in material.nearest.of.get(material.name_in_store(image), ()):
        side: Literal["said", "given", "other"] = "other"
        if near.label in (said, given):
            side = "said" if near.label == said else "given"
        picture = material.draw_thumbnail(near.image, NEAR_SIDE_PX)
        yield NearImage(near.image, near.label, near.similarity, side, picture)
