"""What another way to predict the same images changes: metrics, and images won and lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fieldmark.evaluation.metrics import compute_metrics
from fieldmark.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Change:
    """The second minus the first.

    num_won, num_lost: images that only the second, and only the first decides rightly. p_value:
    of McNemar's exact test, how often equals would differ so much; 1 where none was won or lost.
    """

    metrics: Mapping[str, float]
    num_won: int
    num_lost: int
    p_value: float


def measure_change(first: Predictions, second: Predictions) -> Change | None:
    """Compare two predictions of the same labelled images; None where the images differ."""
    same = first.images == second.images and first.targets == second.targets
    if not same or first.errors.keys() != second.errors.keys():
        return None
    from scipy.stats import binomtest  # a second to import

    before, after = compute_metrics(first), compute_metrics(second)
    triples = zip(first.targets, first.predicted, second.predicted, strict=True)
    hits = [(a == t, b == t) for t, a, b in triples]
    won, lost = hits.count((False, True)), hits.count((True, False))
    p_value = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Change({name: after[name] - before[name] for name in before}, won, lost, p_value)
