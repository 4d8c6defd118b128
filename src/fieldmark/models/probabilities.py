"""From logits to probabilities, one rule per task."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fieldmark.recipes.schema import Task


def log_probabilities(logits: Tensor, task: Task) -> Tensor:
    """(B, outputs) logits -> (B, K) log-probabilities.

    Multi-class: softmax. Binary: one logit z, sigmoid; columns are (1 - p, p). Multi-label: a
    sigmoid per class.
    """
    if task == "multiclass":
        return logits.log_softmax(dim=1)
    if task == "binary":
        return functional.logsigmoid(torch.cat([-logits, logits], dim=1))
    return functional.logsigmoid(logits)


def rank_classes(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest of (B, K) and their class indices, largest first.

    Among equals the lower index comes first, as `argmax` has it; `topk` leaves that open.
    """
    ranked = values.sort(dim=1, descending=True, stable=True)
    return ranked.values[:, :count], ranked.indices[:, :count]


def num_outputs(task: Task, num_classes: int) -> int:
    """Logits that a classifier needs for `num_classes` class names."""
    return 1 if task == "binary" else num_classes
