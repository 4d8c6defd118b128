"""From a run folder alone to its report: find predictions and pictures, render, write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fieldmark.data.sources import build_table
from fieldmark.data.table import SPLITS, Table
from fieldmark.errors import FieldmarkError
from fieldmark.evaluation.predictions import Predictions, load_predictions
from fieldmark.reporting.material import as_text
from fieldmark.reporting.mistakes import name_mistakes
from fieldmark.reporting.nearest import Nearest, find_nearest
from fieldmark.reporting.report import render_report, save_report
from fieldmark.runs.folder import RunFolder


@dataclass(frozen=True)
class WrittenReport:
    """Where the page is, which split it scores (None: no predictions yet), and what it lacks."""

    path: Path
    split: str | None
    notes: tuple[str, ...]


def write_report(
    folder: RunFolder, source: Table | None = None, *, search_seconds: float = 0.0
) -> WrittenReport:
    """Write the report of a run from its stored predictions: test, or else val, or else train.

    `source` is the table the run was trained on, where it is at hand; else the recipe's source
    is read again. Data that is no longer there, or not as it was, costs the page its pictures
    and nothing else. For up to about `search_seconds` the training images are searched for those
    that the network finds most like the mistaken ones; what was read of them is kept.
    """
    split, predictions = _find_predictions(folder)
    table, notes = _find_table(folder, source)
    if predictions is None:
        notes = (*notes, f"no predictions yet; `fieldmark evaluate {folder.path}` makes them")
    nearest: Nearest | str | None = None
    if search_seconds > 0 and table is not None and predictions is not None:
        nearest = _search(folder, table, predictions, search_seconds)
    path = save_report(folder, render_report(folder, table, predictions, nearest))
    return WrittenReport(path, split, notes)


def _search(
    folder: RunFolder, table: Table, predictions: Predictions, seconds: float
) -> Nearest | str | None:
    mistakes = set(name_mistakes(predictions))
    images = [row.image for row in table.rows if as_text(row.image) in mistakes]
    return find_nearest(folder, table, images, seconds=seconds) if images else None


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
