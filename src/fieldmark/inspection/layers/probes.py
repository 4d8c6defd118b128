"""What each layer alone would score: a linear probe on its class token (Alain and Bengio 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.inspection.readings import Readings

STRENGTH = 0.1
"""Inverse of the L2 penalty, fixed: chosen on no split, the same for all layers."""
Z_95 = 1.959964


@dataclass(frozen=True)
class Score:
    """A share of right answers with its 95% interval (Wilson 1927)."""

    accuracy: float
    low: float
    high: float
    num_images: int


@dataclass(frozen=True)
class Probe:
    """The scores of one layer's probe, by split."""

    layer: int
    scores: dict[str, Score]


def probe_layers(
    train: Readings,
    others: dict[str, Readings],
    *,
    count: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Probe]:
    """Fit logistic regression on each layer of `train` and score it on `others`, by split.

    Readings of `Features.layers` (N, D, L). Channels are standardised by their training mean and
    deviation; images with several labels or none play no part.
    """
    num_layers = train.values.shape[2]
    probes = []
    for layer in range(num_layers):
        probes.append(_probe(layer, train, others))
        count(layer + 1, num_layers)
    return probes


def score(hits: NDArray[np.bool_]) -> Score:
    """The share of true ones, with Wilson's interval."""
    count = len(hits)
    if not count:
        return Score(math.nan, math.nan, math.nan, 0)
    share, spread = float(hits.mean()), Z_95**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return Score(share, middle - half, middle + half, count)


def _probe(layer: int, train: Readings, others: dict[str, Readings]) -> Probe:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=2000, tol=1e-3))
    values, labels = _labelled(train, layer)
    probe.fit(values, labels)
    scores = {}
    for split, readings in others.items():
        values, labels = _labelled(readings, layer)
        hits = probe.predict(values) == labels if len(labels) else np.zeros(0, bool)
        scores[split] = score(np.asarray(hits))
    return Probe(layer, scores)


def _labelled(readings: Readings, layer: int) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    rows = readings.table.rows
    places = [place for place, row in enumerate(rows) if len(row.labels) == 1]
    labels = np.array([rows[place].labels[0] for place in places])
    return readings.values[places, :, layer], labels
