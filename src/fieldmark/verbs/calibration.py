"""Calibrating a run on its validation images, and predicting with caution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from fieldmark.data.table import Table
from fieldmark.errors import DataError, RunChangedError, RunError
from fieldmark.evaluation.caution import Asked, Caution, ask_caution
from fieldmark.evaluation.conformal import refuse_multilabel
from fieldmark.evaluation.predictions import Predictions, save_predictions
from fieldmark.evaluation.rows import predict_table
from fieldmark.evaluation.trust import Calibration, fit_calibration
from fieldmark.runs.best import load_selected
from fieldmark.runs.folder import RunFolder
from fieldmark.training.devices import choose_device

if TYPE_CHECKING:
    from fieldmark.verbs.run import Run


@dataclass(frozen=True)
class Calibrated:
    """A calibration, where it is stored, and the predictions of the validation images behind."""

    calibration: Calibration
    path: Path
    predictions: Predictions


def calibrate_run(
    run: Run,
    *,
    coverage: float,
    keep: float,
    progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Predict the validation images, fit a `Calibration` and store both in the run."""
    refuse_multilabel(run.recipe.task)
    validation = _validation_images(run)
    predictor = run.predictor(choose_device())
    predictions = predict_table(predictor, validation, progress=progress)
    save_predictions(predictions, run.folder.predictions_path("val"))
    _, selected = load_selected(run.folder.find_best())
    calibration = fit_calibration(predictions, coverage=coverage, keep=keep, selected=selected)
    return Calibrated(calibration, run.folder.save_calibration(calibration.to_json()), predictions)


def load_calibration(folder: RunFolder) -> Calibration | None:
    """What `calibrate_run` stored; None where there is none.

    Raises `RunChangedError` where the file was changed or is of other weights.
    """
    values = folder.load_calibration()
    if values is None:
        return None
    again = f"`fieldmark evaluate {folder.path} --calibrate` writes it anew"
    try:
        calibration = Calibration.from_json(values)
    except (KeyError, TypeError, ValueError) as error:
        raise RunChangedError(
            f"{folder.calibration_path}: was changed or is of another version: {error!r}. {again}"
        ) from error
    _, selected = load_selected(folder.find_best())
    if dict(calibration.selected) != dict(selected):
        raise RunChangedError(
            f"{folder.calibration_path}: is of epoch {calibration.selected.get('epoch')}, but the "
            f"run went on and its weights are of epoch {selected.get('epoch')}. {again}"
        )
    return calibration


def build_caution(run: Run, **asked: Unpack[Asked]) -> Caution:
    """What was asked for, with the run's own temperature and thresholds.

    Raises `RunError` where something is asked for that the run has not stored.
    """

    def find_calibration() -> Calibration:
        calibration = load_calibration(run.folder)
        if calibration is None:
            raise RunError(
                f"{run.path}: is not calibrated yet, so it has no temperature and no thresholds. "
                f"`fieldmark evaluate {run.path} --calibrate` fits them on its validation images"
            )
        return calibration

    return ask_caution(run.recipe.task, find_calibration, **asked)


def _validation_images(run: Run) -> Table:
    has_val = any(row["split"] == "val" for row in run.folder.load_split())
    if not has_val:
        raise DataError(
            f"{run.path}: holds no validation images, and a calibration needs images that training "
            "did not see and that are no test. Train with some: --split 0.7,0.1,0.2"
        )
    return run.select_images("val")
