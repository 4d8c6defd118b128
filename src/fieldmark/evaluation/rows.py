"""Predicting tables, folders and files with a `Predictor`, in order, bad files in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fieldmark.data.loaders import Loader, build_loader
from fieldmark.data.table import Table
from fieldmark.errors import FieldmarkError
from fieldmark.evaluation.answers import PredictedRow
from fieldmark.evaluation.calibration import calibrate_predictions
from fieldmark.evaluation.caution import NO_CAUTION, Caution
from fieldmark.evaluation.collect import collect_predictions
from fieldmark.evaluation.conformal import SetRule, refuse_multilabel, require_spread
from fieldmark.evaluation.predictions import Predictions, PredictionsCollector
from fieldmark.evaluation.proposals import find_proposing, propose_tags
from fieldmark.runs.answers import ClassProbability
from fieldmark.runs.predictor import Predictor

BATCH_SIZE = 64
Progress = Callable[[int, int], None]


def predict_table(
    predictor: Predictor,
    table: Table,
    *,
    top: int = 10,
    batch_size: int = BATCH_SIZE,
    sets: SetRule | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Run the predictor over a table whose classes are its own, with the tags it has."""
    own, loader = open_table(predictor, table, batch_size=batch_size)
    return collect_predictions(
        predictor.network,
        loader,
        own,
        device=predictor.device,
        decode_ahead=True,
        into=PredictionsCollector(own, top=top, sets=sets),
        progress=progress,
    )


def open_table(
    predictor: Predictor, table: Table, *, batch_size: int = BATCH_SIZE
) -> tuple[Table, Loader]:
    """The table with the predictor's classes and task, and the batches that it reads."""
    own = replace(table, class_names=predictor.class_names, task=predictor.task)
    return own, build_loader(
        own,
        predictor.transform,
        batch_size=batch_size,
        order=None,
        seed=0,
        num_workers=0,
        encode_tags=predictor.encode_tags,
    )


def without_tags(table: Table) -> Table:
    """The same images as if nobody had tagged them."""
    return replace(table, rows=tuple(replace(row, tags=None) for row in table.rows))


def check_asked(predictor: Predictor, *, top: int, num_tags: int, caution: Caution) -> None:
    """Raise where the predictor cannot answer what `predict_tables` is going to be asked."""
    if top < 1:
        raise FieldmarkError(f"top: expected a number of classes from 1, not {top}")
    if num_tags:
        find_proposing(predictor)
    if caution != NO_CAUTION:
        refuse_multilabel(predictor.task)


def predict_tables(
    predictor: Predictor,
    tables: Sequence[Table],
    *,
    top: int,
    num_tags: int = 0,
    caution: Caution = NO_CAUTION,
    progress: Progress | None = None,
) -> list[PredictedRow]:
    """Classify the images of tables, in the order given, with the tags they have.

    With `num_tags` each row gets so many proposed tags, for which the network sees the image
    alone. `caution` asks for calibrated probabilities, label sets and "unknown".
    """
    check_asked(predictor, top=top, num_tags=num_tags, caution=caution)
    total, done = sum(map(len, tables)) * (2 if num_tags else 1), 0

    def report(part: int, _: int) -> None:
        if progress is not None:
            progress(done + part, total)

    rows: list[PredictedRow] = []
    for table in tables:
        predictions = predict_table(predictor, table, top=top, sets=caution.sets, progress=report)
        found = _as_rows(predictions, caution)
        done += len(table)
        if num_tags:
            proposed = propose_tags(predictor, table, num_tags, progress=report)
            found = [replace(row, tags=tags) for row, tags in zip(found, proposed, strict=True)]
            done += len(table)
        rows += found
    return rows


def _as_rows(predictions: Predictions, caution: Caution) -> list[PredictedRow]:
    if caution != NO_CAUTION:
        require_spread(predictions)
    shown = predictions
    if caution.temperature != 1.0:
        shown = calibrate_predictions(predictions, caution.temperature)
    unknown = None if caution.rejection is None else caution.rejection.is_unknown(shown)
    names = shown.class_names
    rows = []
    for place, image in enumerate(shown.images):
        if image in shown.errors:
            rows.append(PredictedRow(image, error=shown.errors[image]))
            continue
        pairs = zip(shown.top_index[place], shown.top_probability[place], strict=True)
        rows.append(
            PredictedRow(
                image,
                tuple(ClassProbability(names[int(index)], float(value)) for index, value in pairs),
                label_set=tuple(names[index] for index in shown.label_sets[place])
                if shown.label_sets
                else None,
                unknown=None if unknown is None else bool(unknown[place]),
            )
        )
    return rows
