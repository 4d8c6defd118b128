"""`Run`: a trained run and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from fieldmark.data.prepare import hash_table
from fieldmark.data.sources import build_table, read_table
from fieldmark.data.table import SPLITS, Table
from fieldmark.errors import DataError, hint
from fieldmark.evaluation.answers import PredictedRow
from fieldmark.evaluation.metrics import (
    ClassScore,
    compute_intervals,
    compute_metrics,
    score_classes,
)
from fieldmark.evaluation.predictions import Predictions, save_predictions
from fieldmark.evaluation.rows import predict_inputs, predict_table, without_tags
from fieldmark.exporting.backends import EVALUATE_BOUND, PREDICT_BOUND, Choice, choose_backend
from fieldmark.recipes import Recipe
from fieldmark.reporting.writing import WrittenReport, write_report
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.predictor import Predictor, load_predictor
from fieldmark.training.devices import choose_device

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one set of images, their 95% bootstrap intervals, and the predictions behind.

    without_tags: the same of the same images without their tags, for a run that takes tags and
        images that have some. notes: sentences for people. backend: what computed.
    """

    num_images: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    classes: Sequence[ClassScore]
    predictions: Predictions
    path: Path
    without_tags: Evaluation | None = None
    notes: tuple[str, ...] = ()
    backend: Choice | None = None

    @property
    def errors(self) -> Mapping[str, str]:
        """Images that could not be read, with the reason."""
        return self.predictions.errors


@dataclass(frozen=True)
class Run:
    """A trained run: its folder, and what can be asked of it.

    `table` is what it was trained on, where that is at hand; else its source is read again.
    """

    folder: RunFolder
    table: Table | None = None

    @property
    def path(self) -> Path:
        """Where the run is."""
        return self.folder.path

    @cached_property
    def recipe(self) -> Recipe:
        """The fully resolved recipe."""
        return self.folder.load_recipe()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in index order."""
        return tuple(entry["name"] for entry in self.folder.load_classes())

    def predictor(self, device: str = "cpu") -> Predictor:
        """The selected weights as a function of one image."""
        return load_predictor(self.folder, device)

    def evaluate(
        self,
        data: str | Path | Table | None = None,
        *,
        split: str = "test",
        backend: str = "auto",
        progress: Progress | None = None,
    ) -> Evaluation:
        """Predict a split of the run's own images, or other labelled images, and score them.

        `backend` is one of `exporting.backends.BACKENDS`; auto takes one other than eager only
        where it is faster and no probability differs by more than 0.001.

        The predictions are stored in the run. Other images must have labels the run knows. A run
        that takes tags is scored with the images' tags and, in `without_tags`, without them.
        """
        table = self._own_split(split) if data is None else self._other_table(data, split)
        name = split if data is None else f"{Path(table.source).stem}-{split}"
        predictor = self.predictor(choose_device())
        choice = choose_backend(predictor, table, backend, bound=EVALUATE_BOUND)
        predictor = replace(predictor, forward=choice.backend)
        path = self.folder.predictions_path(name)
        num_bare = sum(not row.tags for row in table.rows)
        if predictor.encode_tags is None or num_bare == len(table):
            scores = _score(predict_table(predictor, table, progress=progress), path)
            notes = () if predictor.encode_tags is None else (NO_TAGS,)
            return replace(scores, notes=notes, backend=choice)
        halves = _in_halves(progress)
        scores = _score(predict_table(predictor, table, progress=halves[0]), path)
        bare = predict_table(predictor, without_tags(table), progress=halves[1])
        note = f"{num_bare:,} of {len(table):,} images have no tags: they count in both scores."
        return replace(
            scores,
            without_tags=_score(bare, self.folder.predictions_path(f"{name}-without-tags")),
            notes=(note,) if num_bare else (),
            backend=choice,
        )

    def predict(
        self,
        inputs: Iterable[str | Path],
        *,
        top: int = 5,
        columns: Mapping[str, str] | None = None,
        image_root: str | Path | None = None,
        allow_outside: bool = False,
        num_tags: int = 0,
        backend: str = "auto",
        told: Callable[[Choice], None] | None = None,
        progress: Progress | None = None,
    ) -> list[PredictedRow]:
        """Classify files, folders and tables; rows come in input order, failed ones in place.

        Tables are classified with their column `tags`, if the run takes tags. `num_tags` asks for
        so many proposed tags per image; the run must have learned to (`model.tags.propose`).
        `backend` as for `evaluate`, with a bound of 0.01; `told` hears which one was chosen.
        """

        def speed_up(predictor: Predictor, table: Table) -> Predictor:
            choice = choose_backend(predictor, table, backend, bound=PREDICT_BOUND)
            if told is not None:
                told(choice)
            return replace(predictor, forward=choice.backend)

        return predict_inputs(
            self.predictor(choose_device()),
            inputs,
            top=top,
            columns=columns or {},
            image_root=image_root,
            allow_outside=allow_outside,
            num_tags=num_tags,
            speed_up=speed_up,
            progress=progress,
        )

    def report(self) -> WrittenReport:
        """Write `report.html` anew from the stored predictions."""
        return write_report(self.folder, self.table)

    def _own_split(self, split: str) -> Table:
        if split not in SPLITS:
            raise DataError(
                f"split '{split}': expected one of {', '.join(SPLITS)}.{hint(split, SPLITS)}"
            )
        source = self.table or build_table(self.recipe.data, self.recipe.task)
        table = self.folder.restore_table(source).select(split)
        if len(table) == 0:
            raise DataError(
                f"{self.path}: holds no image in the {split} split. "
                f"Choose another by --split ({', '.join(SPLITS)}), or give --data"
            )
        self.folder.verify_images(table, hash_table(table))
        return table

    def _other_table(self, data: str | Path | Table, split: str) -> Table:
        table = data if isinstance(data, Table) else read_table(data, task=self.recipe.task)
        known = self.class_names
        unknown = [name for name in table.class_names if name not in set(known)]
        if unknown:
            raise DataError(
                f"{table.source}: {len(unknown)} of its {len(table.class_names)} labels are "
                f"unknown to {self.path}: {', '.join(unknown[:5])}.{hint(unknown[0], known)} "
                f"The run knows {len(known)}: {', '.join(known[:5])}, ..."
            )
        chosen = table.select(split) if any(row.split for row in table.rows) else table
        if len(chosen) == 0:
            raise DataError(f"{table.source}: holds no image in its {split} split")
        return replace(chosen, class_names=known)


NO_TAGS = "None of the images has tags: these are the scores without tags."


def _score(predictions: Predictions, path: Path) -> Evaluation:
    """Store predictions and score them."""
    save_predictions(predictions, path)
    return Evaluation(
        num_images=len(predictions) - len(predictions.errors),
        metrics=compute_metrics(predictions),
        intervals=compute_intervals(predictions),
        classes=score_classes(predictions),
        predictions=predictions,
        path=path,
    )


def _in_halves(progress: Progress | None) -> tuple[Progress | None, Progress | None]:
    """Two reports that together make one, for two passes over the same images."""
    if progress is None:
        return None, None
    return (
        lambda done, total: progress(done, 2 * total),
        lambda done, total: progress(total + done, 2 * total),
    )


def load_run(path: str | Path) -> Run:
    """Open a run folder."""
    return Run(RunFolder.open(Path(path)))
