"""Which classes are taken for which: `find_pairs`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fieldmark.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Mistaken:
    """An image, and the probabilities of the class that was chosen and of its own."""

    image: str
    probability: float
    true_probability: float


@dataclass(frozen=True)
class ConfusedPair:
    """Images of class `given` that were taken for class `chosen`, the surest mistake first.

    num_given: predicted images of the class `given`.
    """

    given: str
    chosen: str
    num_given: int
    mistakes: tuple[Mistaken, ...]

    @property
    def share(self) -> float:
        """Of the images of the class, how many were taken for the other."""
        return len(self.mistakes) / self.num_given


def find_pairs(predictions: Predictions) -> list[ConfusedPair]:
    """Group the mistakes of single-label predictions by (given, chosen), most frequent first.

    Among equally frequent pairs the one with the larger share of its class comes first.
    """
    names = predictions.class_names
    found: dict[tuple[int, int], list[Mistaken]] = defaultdict(list)
    totals: dict[int, int] = defaultdict(int)
    for row, targets in enumerate(predictions.targets):
        if len(targets) != 1 or not predictions.predicted[row]:
            continue
        totals[targets[0]] += 1
        chosen = predictions.predicted[row][0]
        if chosen != targets[0]:
            mistake = Mistaken(
                predictions.images[row],
                float(predictions.top_probability[row, 0]),
                float(predictions.true_probability[row]),
            )
            found[targets[0], chosen].append(mistake)
    pairs = [
        ConfusedPair(
            names[given],
            names[chosen],
            totals[given],
            tuple(sorted(mistakes, key=lambda m: (-m.probability, m.image))),
        )
        for (given, chosen), mistakes in found.items()
    ]
    return sorted(pairs, key=lambda p: (-len(p.mistakes), -p.share, p.given, p.chosen))
