"""`Calibration`: what validation images teach about a run's probabilities, stored with the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fieldmark.errors import DataError
from fieldmark.evaluation.calibration import (
    TemperatureFit,
    calibrate_predictions,
    calibration_error,
    compute_nll,
    compute_reliability,
    first_hits,
    fit_temperature,
)
from fieldmark.evaluation.conformal import (
    SET_METHODS,
    SetCheck,
    SetMethod,
    SetRule,
    check_sets,
    coverage_range,
    fit_set_rules,
    labelled_rows,
    require_spread,
)
from fieldmark.evaluation.rejection import RejectionRule, fit_rejection, risk_area

if TYPE_CHECKING:
    from fieldmark.evaluation.predictions import Predictions

FORMAT = 1
COVERAGE, KEEP = 0.9, 0.95
RejectKind = Literal["probability", "calibrated_probability", "energy"]


@dataclass(frozen=True)
class Calibration:
    """Fitted on validation images with plain probabilities.

    coverage: what the label sets aim at. coverage_range: where it lies in nine of ten cases, for
    so many validation images. keep: share of them that the thresholds let pass. rejection: by
    probability, by probability at the temperature, and by energy where there is one. selected:
    which weights of the run it is of.
    """

    temperature: TemperatureFit
    coverage: float
    coverage_range: tuple[float, float]
    sets: Mapping[SetMethod, SetRule]
    keep: float
    rejection: Mapping[RejectKind, RejectionRule]
    selected: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `calibration.json`."""
        return {
            "format": FORMAT,
            "selected": dict(self.selected),
            "temperature": asdict(self.temperature),
            "coverage": self.coverage,
            "coverage_range": list(self.coverage_range),
            "sets": {method: rule.threshold for method, rule in self.sets.items()},
            "keep": self.keep,
            "reject": {kind: rule.threshold for kind, rule in self.rejection.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` wrote; raise `KeyError`, `TypeError` or `ValueError` for others."""
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']}, expected {FORMAT}")
        low, high = map(float, values["coverage_range"])
        return cls(
            temperature=TemperatureFit(**values["temperature"]),
            coverage=float(values["coverage"]),
            coverage_range=(low, high),
            sets={method: SetRule(method, float(values["sets"][method])) for method in SET_METHODS},
            keep=float(values["keep"]),
            rejection={
                kind: RejectionRule(_score_of(kind), float(threshold))
                for kind, threshold in values["reject"].items()
            },
            selected=dict(values["selected"]),
        )


@dataclass(frozen=True)
class RejectionCheck:
    """What a threshold does on images with known labels.

    coverage: share that gets an answer. risk: share of wrong ones among these (NaN without any).
    area: under the coverage-risk curve of the score.
    """

    coverage: float
    risk: float
    area: float


@dataclass(frozen=True)
class CalibrationCheck:
    """A calibration on images that it was not fitted on. `risk`: share of wrong first classes."""

    num_images: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    risk: float
    sets: Mapping[SetMethod, SetCheck]
    rejection: Mapping[RejectKind, RejectionCheck]


def fit_calibration(
    validation: Predictions,
    *,
    coverage: float = COVERAGE,
    keep: float = KEEP,
    selected: Mapping[str, Any] | None = None,
) -> Calibration:
    """Fit temperature, label sets and thresholds on the predictions of validation images.

    Raises `DataError` for too few images, a multi-label task and files without a `Spread`.
    """
    require_spread(validation)
    rules = fit_set_rules(validation, coverage)
    fit = fit_temperature(validation)
    calibrated = calibrate_predictions(validation, fit.temperature)
    rejection: dict[RejectKind, RejectionRule] = {
        "probability": fit_rejection(validation, "probability", keep),
        "calibrated_probability": fit_rejection(calibrated, "probability", keep),
    }
    if validation.task != "binary":
        rejection["energy"] = fit_rejection(validation, "energy", keep)
    return Calibration(
        temperature=fit,
        coverage=coverage,
        coverage_range=coverage_range(fit.num_images, coverage),
        sets=rules,
        keep=keep,
        rejection=rejection,
        selected=dict(selected or {}),
    )


def check_calibration(calibration: Calibration, predictions: Predictions) -> CalibrationCheck:
    """Measure a calibration on the plain predictions of other labelled images."""
    rows = labelled_rows(predictions)
    if len(rows) == 0:
        raise DataError("calibration: none of the images is labelled, so nothing can be checked")
    temperature = calibration.temperature.temperature
    calibrated = calibrate_predictions(predictions, temperature)
    after = compute_reliability(predictions, temperature=temperature)
    return CalibrationCheck(
        num_images=len(rows),
        nll_before=compute_nll(predictions),
        nll_after=compute_nll(predictions, temperature),
        ece_before=calibration_error(compute_reliability(predictions)),
        ece_after=calibration_error(after),
        risk=float(1.0 - first_hits(predictions)[rows].mean()),
        sets={method: check_sets(predictions, rule) for method, rule in calibration.sets.items()},
        rejection={
            kind: _check_rejection(
                rule, calibrated if kind == "calibrated_probability" else predictions
            )
            for kind, rule in calibration.rejection.items()
        },
    )


def _check_rejection(rule: RejectionRule, predictions: Predictions) -> RejectionCheck:
    rows = labelled_rows(predictions)
    is_answered = ~rule.is_unknown(predictions)[rows]
    wrong = 1.0 - first_hits(predictions)[rows]
    return RejectionCheck(
        coverage=float(is_answered.mean()),
        risk=float(wrong[is_answered].mean()) if is_answered.any() else float(np.nan),
        area=risk_area(predictions, rule.score),
    )


def _score_of(kind: str) -> Literal["probability", "energy"]:
    if kind in ("probability", "calibrated_probability"):
        return "probability"
    if kind == "energy":
        return "energy"
    raise ValueError(f"no score is called '{kind}'")
