"""A fast, rough way to compute, and an exact one for the images it is not sure of.

Rounding in bf16 moves logits by about as much for every image. What that does to a probability p is
p (1 - p) times as large, so it shows where the network wavers and vanishes where it is sure. So the
sure images keep the rough answer, and the others are computed again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fieldmark.exporting.building import Backend
from fieldmark.models.probabilities import log_probabilities
from fieldmark.recipes.schema import Task

_STEP = 4
"""Doubtful images are computed in multiples of so many, because runtimes plan each number anew."""


@dataclass(frozen=True)
class SecondLook:
    """images (B, 3, H, W), tags (B, T) or None -> logits (B, outputs).

    below: what the rough way is less certain of than this is computed again by the exact way.
    """

    rough: Backend
    exact: Backend
    below: float
    task: Task

    def __call__(self, images: Tensor, tags: Tensor | None) -> Tensor:
        """Rough logits, with exact ones in the rows of doubt."""
        logits = self.rough(images, tags).float()
        certainty = measure_certainty(log_probabilities(logits, self.task).exp(), self.task)
        is_sure = certainty >= self.below  # not of what is not a number
        rows = (~is_sure).nonzero()[:, 0]
        if len(rows):
            filled = torch.cat([rows, rows[:1].expand(-len(rows) % _STEP)])
            again = self.exact(images[filled], None if tags is None else tags[filled])
            logits[rows] = again[: len(rows)].float()
        return logits


def measure_certainty(probability: Tensor, task: Task) -> Tensor:
    """(B, K) -> (B,): the probability of the least certain of an image's decisions.

    That is one decision where classes exclude each other, the most probable class; of several
    labels each is one, yes or no.
    """
    if task == "multilabel":
        probability = torch.maximum(probability, 1 - probability)
        return probability.min(dim=1).values
    return probability.max(dim=1).values


def find_threshold(certainty: Tensor, is_off: Tensor) -> float | None:
    """Certainty (B,) from which on no image is off (B,), as far as these images tell.

    It is that of an image: the least certain of those surer than all that are off. None where
    there is none.
    """
    if not is_off.any():
        return 0.0
    surer = certainty[certainty > certainty[is_off].max()]
    return float(surer.min()) if len(surer) else None
