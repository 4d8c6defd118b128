"""Whether the probabilities mean what they say, and what answering only when sure would gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldmark.evaluation.calibration import (
    ReliabilityBin,
    calibration_error,
    compute_reliability,
)
from fieldmark.evaluation.predictions import Predictions
from fieldmark.evaluation.rejection import RiskPoint, compute_risk_curve
from fieldmark.evaluation.trust import Calibration
from fieldmark.reporting.material import Material

KEPT_SHARES = (0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Said:
    """Bins of what was said against what came true; the means over all images; their error."""

    bins: tuple[ReliabilityBin, ...]
    confidence: float
    accuracy: float
    error: float


@dataclass(frozen=True)
class Reliability:
    """The diagram as the run predicts, and at the temperature that was fitted on val images.

    temperature, after: None where none was fitted. curve: share of wrong answers by share of
    images answered; empty for multi-label. kept: points of the curve at round shares.
    """

    before: Said
    temperature: float | None
    after: Said | None
    curve: tuple[RiskPoint, ...]
    kept: tuple[RiskPoint, ...]


def build_reliability(material: Material) -> Reliability | None:
    """Hold probabilities against outcomes; None where no labelled image was predicted."""
    predictions = material.predictions
    if predictions is None:
        return None
    before = _hold(compute_reliability(predictions))
    if before is None:
        return None
    temperature = _find_temperature(material, predictions)
    after = None
    if temperature is not None:
        after = _hold(compute_reliability(predictions, temperature=temperature))
    several = predictions.task == "multilabel"
    curve = () if several else tuple(compute_risk_curve(predictions))
    return Reliability(before, temperature, after, curve, _choose_kept(curve))


def _hold(bins: Sequence[ReliabilityBin]) -> Said | None:
    total = sum(one.count for one in bins)
    if total == 0:
        return None
    return Said(
        bins=tuple(bins),
        confidence=sum(one.count * one.confidence for one in bins) / total,
        accuracy=sum(one.count * one.accuracy for one in bins) / total,
        error=calibration_error(list(bins)),
    )


def _find_temperature(material: Material, predictions: Predictions) -> float | None:
    """Predictions of an older file keep too little for a temperature to act on."""
    stored = material.folder.load_calibration()
    if stored is None or predictions.spread is None:
        return None
    return Calibration.from_json(stored).temperature.temperature


def _choose_kept(curve: Sequence[RiskPoint]) -> tuple[RiskPoint, ...]:
    """Of each round share the point next to it."""
    if not curve:
        return ()
    near = [min(curve, key=lambda point: abs(point.coverage - share)) for share in KEPT_SHARES]
    return tuple(dict.fromkeys(near))
