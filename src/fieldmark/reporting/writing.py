"""From a run folder alone to its report: find predictions and pictures, render, write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fieldmark.data.sources import build_table
from fieldmark.data.table import SPLITS, Table
from fieldmark.errors import FieldmarkError
from fieldmark.evaluation.predictions import Predictions, load_predictions
from fieldmark.reporting.report import render_report, save_report
from fieldmark.runs.folder import RunFolder


@dataclass(frozen=True)
class WrittenReport:
    """Where the page is, which split it scores (None: no predictions yet), and what it lacks."""

    path: Path
    split: str | None
    notes: tuple[str, ...]


def write_report(folder: RunFolder, source: Table | None = None) -> WrittenReport:
    """Write the report of a run from its stored predictions: test, or else val, or else train.

    `source` is the table the run was trained on, where it is at hand; else the recipe's source
    is read again. Data that is no longer there, or not as it was, costs the page its pictures
    and nothing else.
    """
    split, predictions = _find_predictions(folder)
    table, notes = _find_table(folder, source)
    if predictions is None:
        notes = (*notes, f"no predictions yet; `fieldmark evaluate {folder.path}` makes them")
    path = save_report(folder, render_report(folder, table, predictions))
    return WrittenReport(path, split, notes)


def _find_predictions(folder: RunFolder) -> tuple[str | None, Predictions | None]:
    for split in reversed(SPLITS):
        path = folder.predictions_path(split)
        if path.is_file():
            return split, load_predictions(path)
    return None, None


def _find_table(folder: RunFolder, source: Table | None) -> tuple[Table | None, tuple[str, ...]]:
    recipe = folder.load_recipe()
    try:
        table = source or build_table(recipe.data, recipe.task)
        return folder.restore_table(table), ()
    except FieldmarkError as error:
        return None, (f"no pictures, because the data is not as it was: {error}",)
