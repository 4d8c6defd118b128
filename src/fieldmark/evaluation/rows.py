"""Predicting tables, folders and files with a `Predictor`, in order, bad files in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from fieldmark.data.loaders import build_loader
from fieldmark.data.table import Table
from fieldmark.errors import FieldmarkError
from fieldmark.evaluation.answers import PredictedRow
from fieldmark.evaluation.collect import collect_predictions
from fieldmark.evaluation.inputs import read_inputs
from fieldmark.evaluation.predictions import Predictions
from fieldmark.evaluation.proposals import find_proposing, propose_tags
from fieldmark.runs.answers import ClassProbability
from fieldmark.runs.predictor import Predictor

BATCH_SIZE = 64
Progress = Callable[[int, int], None]


def predict_table(
    predictor: Predictor, table: Table, *, top: int = 10, progress: Progress | None = None
) -> Predictions:
    """Run the predictor over a table whose classes are its own, with the tags it has."""
    own = replace(table, class_names=predictor.class_names, task=predictor.task)
    loader = build_loader(
        own,
        predictor.transform,
        batch_size=BATCH_SIZE,
        order=None,
        seed=0,
        num_workers=0,
        encode_tags=predictor.encode_tags,
    )
    return collect_predictions(
        predictor.network,
        loader,
        own,
        device=predictor.device,
        top=top,
        decode_ahead=True,
        progress=progress,
    )


def without_tags(table: Table) -> Table:
    """The same images as if nobody had tagged them."""
    return replace(table, rows=tuple(replace(row, tags=None) for row in table.rows))


def predict_inputs(
    predictor: Predictor,
    inputs: Iterable[str | Path],
    *,
    top: int,
    columns: Mapping[str, str],
    image_root: str | Path | None,
    allow_outside: bool,
    num_tags: int = 0,
    speed_up: Callable[[Predictor, Table], Predictor] | None = None,
    progress: Progress | None = None,
) -> list[PredictedRow]:
    """Classify files, folders (recursively, sorted) and tables, in the order given.

    `speed_up` may give the predictor something faster to compute with, for the longest table.

    Tables are classified with their tags, files and folders have none. With `num_tags` each row
    gets so many proposed tags, for which the network sees the image alone.
    """
    if top < 1:
        raise FieldmarkError(f"top: expected a number of classes from 1, not {top}")
    if num_tags:
        find_proposing(predictor)
    tables = read_inputs(inputs, columns, image_root, allow_outside)
    if speed_up is not None and tables:
        predictor = speed_up(predictor, max(tables, key=len))
    total, done = sum(map(len, tables)) * (2 if num_tags else 1), 0

    def report(part: int, _: int) -> None:
        if progress is not None:
            progress(done + part, total)

    rows: list[PredictedRow] = []
    for table in tables:
        found = _as_rows(predict_table(predictor, table, top=top, progress=report))
        done += len(table)
        if num_tags:
            proposed = propose_tags(predictor, table, num_tags, progress=report)
            found = [replace(row, tags=tags) for row, tags in zip(found, proposed, strict=True)]
            done += len(table)
        rows += found
    return rows


def _as_rows(predictions: Predictions) -> list[PredictedRow]:
    names = predictions.class_names
    rows = []
    for place, image in enumerate(predictions.images):
        if image in predictions.errors:
            rows.append(PredictedRow(image, error=predictions.errors[image]))
            continue
        pairs = zip(predictions.top_index[place], predictions.top_probability[place], strict=True)
        top = tuple(ClassProbability(names[int(index)], float(value)) for index, value in pairs)
        rows.append(PredictedRow(image, top))
    return rows
