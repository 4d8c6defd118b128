"""What a prediction says beyond its most probable classes, asked for in words; imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from fieldmark.errors import DataError
from fieldmark.evaluation.conformal import SetRule, parse_set_method, refuse_multilabel
from fieldmark.evaluation.rejection import RejectionRule, parse_score
from fieldmark.evaluation.trust import Calibration, RejectKind
from fieldmark.recipes.schema import Task


@dataclass(frozen=True)
class Caution:
    """What a prediction says beyond its most probable classes.

    temperature: probabilities are those of softmax(z / T). sets: each image gets the label set of
    this rule, chosen by the plain probabilities. rejection: below its threshold an image is
    unknown, by the probabilities that are shown.
    """

    temperature: float = 1.0
    sets: SetRule | None = None
    rejection: RejectionRule | None = None


NO_CAUTION = Caution()


class Asked(TypedDict, total=False):
    """The words in which it is asked for.

    sets: lac, aps or raps gives each image its conformal label set. reject: images below the stored
    threshold (true), or below another one, are unknown; reject_by: probability or energy.
    calibrated: probabilities are those at the stored temperature.
    """

    sets: str | None
    reject: float | bool
    reject_by: str
    calibrated: bool


def ask_caution(
    task: Task,
    find_calibration: Callable[[], Calibration],
    *,
    sets: str | None = None,
    reject: float | bool = False,
    reject_by: str = "probability",
    calibrated: bool = False,
) -> Caution:
    """What was `Asked` for, with the temperature and thresholds of a calibration.

    `find_calibration` is called, and may raise, only where something is asked for that it holds.
    Raises `DataError` for a multi-label task and for the energy of a binary one.
    """
    if sets is None and reject is False and not calibrated:
        return NO_CAUTION
    refuse_multilabel(task)
    method = None if sets is None else parse_set_method(sets)
    score = parse_score(reject_by)
    if score == "energy" and reject is not False and task == "binary":
        raise DataError(
            "energy: a binary run has one logit, whose size says only which of the two classes it "
            "is. Reject by probability"
        )
    rejection = None if isinstance(reject, bool) else RejectionRule(score, float(reject))
    if method is None and reject is not True and not calibrated:
        return Caution(rejection=rejection)
    calibration = find_calibration()
    if reject is True:
        kind: RejectKind = score
        if score == "probability" and calibrated:
            kind = "calibrated_probability"
        rejection = calibration.rejection[kind]
    return Caution(
        temperature=calibration.temperature.temperature if calibrated else 1.0,
        sets=None if method is None else calibration.sets[method],
        rejection=rejection,
    )
