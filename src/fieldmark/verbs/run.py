"""`Run`: a trained run and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from fieldmark.data.prepare import hash_table
from fieldmark.data.sources import build_table, read_table
from fieldmark.data.table import SPLITS, Table
from fieldmark.errors import DataError, FieldmarkError, hint
from fieldmark.evaluation.answers import PredictedRow
from fieldmark.evaluation.augmented import (
    augment_predictor,
    choose_augmentations,
    name_augmentations,
)
from fieldmark.evaluation.caution import NO_CAUTION, Asked, Caution
from fieldmark.evaluation.change import Change, measure_change
from fieldmark.evaluation.doubts import note_doubts
from fieldmark.evaluation.inputs import read_inputs
from fieldmark.evaluation.metrics import (
    ClassScore,
    GroupScore,
    compute_intervals,
    compute_metrics,
    score_classes,
    score_groups,
)
from fieldmark.evaluation.predictions import Predictions, load_predictions, save_predictions
from fieldmark.evaluation.rows import (
    BATCH_SIZE,
    check_asked,
    predict_table,
    predict_tables,
    without_tags,
)
from fieldmark.evaluation.trust import COVERAGE, KEEP, Calibration
from fieldmark.recipes import Recipe
from fieldmark.runs.best import load_selected
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.predictor import Predictor, load_predictor
from fieldmark.training.devices import choose_device
from fieldmark.verbs.calibration import (
    Calibrated,
    build_caution,
    calibrate_run,
    load_calibration,
)

if TYPE_CHECKING:
    from fieldmark.exporting.backends import Choice
    from fieldmark.reporting.writing import WrittenReport

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one set of images, their 95% bootstrap intervals, and the predictions behind.

    groups: head, middle and tail of the classes, by training images. without_tags: the same scores
        of the images without their tags, for a run that takes tags and images that have some.
    change: test-time augmentation against the plain predictions, where these are stored too.
    notes: sentences for people. backend: what computed.
    """

    num_images: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    classes: Sequence[ClassScore]
    groups: Sequence[GroupScore]
    predictions: Predictions
    path: Path
    without_tags: Evaluation | None = None
    change: Change | None = None
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
        tta: str | int | None = None,
        backend: str = "auto",
        progress: Progress | None = None,
    ) -> Evaluation:
        """Predict a split of the run's own images, or other labelled images, and score them.

        `backend` is one of `exporting.backends.BACKENDS`; auto takes one other than eager only
        where it is faster and no probability differs by more than 0.001.

        The predictions are stored in the run. Other images must have labels the run knows. A run
        that takes tags is scored with the images' tags and, in `without_tags`, without them.

        `tta` asks for test-time augmentation: how many augmented images, or which
        (`evaluation.augmented`). Its predictions are stored beside the plain ones; eager computes
        them.
        """
        from fieldmark.exporting.backends import EVALUATE_BOUND, choose_backend

        if tta is not None:
            if backend not in ("auto", "eager"):
                raise FieldmarkError(
                    f"--backend {backend}: --tta is computed by eager alone. Give one of the two"
                )
            return self._evaluate_augmented(data, split, str(tta), progress)
        table, name = self._choose_images(data, split)
        predictor = self.predictor(choose_device())
        choice = choose_backend(predictor, table, backend, bound=EVALUATE_BOUND)
        predictor = replace(predictor, forward=choice.backend)
        num_bare = sum(not row.tags for row in table.rows)
        if predictor.encode_tags is None or num_bare == len(table):
            found = predict_table(predictor, table, progress=progress)
            scores = score_predictions(found, self.folder, name, table)
            notes = scores.notes if predictor.encode_tags is None else (*scores.notes, NO_TAGS)
            return replace(scores, notes=notes, backend=choice)
        halves = _in_halves(progress)
        found = predict_table(predictor, table, progress=halves[0])
        scores = score_predictions(found, self.folder, name, table)
        bare = predict_table(predictor, without_tags(table), progress=halves[1])
        note = f"{num_bare:,} of {len(table):,} images have no tags: they count in both scores."
        return replace(
            scores,
            without_tags=score_predictions(bare, self.folder, f"{name}-without-tags", table),
            notes=(*scores.notes, *((note,) if num_bare else ())),
            backend=choice,
        )

    def predict(  # noqa: PLR0913 - the options of a public verb
        self,
        inputs: Iterable[str | Path],
        *,
        top: int = 5,
        columns: Mapping[str, str] | None = None,
        image_root: str | Path | None = None,
        allow_outside: bool = False,
        num_tags: int = 0,
        caution: Caution = NO_CAUTION,
        backend: str = "auto",
        told: Callable[[Choice], None] | None = None,
        progress: Progress | None = None,
    ) -> list[PredictedRow]:
        """Classify files, folders and tables; rows come in input order, failed ones in place.

        Tables are classified with their column `tags`, if the run takes tags. `num_tags` asks for
        so many proposed tags per image; the run must have learned to (`model.tags.propose`).
        `caution`, which `Run.caution` builds, asks for calibrated probabilities, label sets and
        "unknown". `backend` as for `evaluate`, with a bound of 0.02; what a faster way is not sure
        of may be computed again by an exact one. `told` hears what was chosen.
        """
        from fieldmark.exporting.backends import PREDICT_BOUND, choose_backend

        predictor = self.predictor(choose_device())
        # Before the images are looked for, which may be many.
        check_asked(predictor, top=top, num_tags=num_tags, caution=caution)
        tables = read_inputs(inputs, columns or {}, image_root, allow_outside)
        if tables:
            longest = max(tables, key=len)
            choice = choose_backend(predictor, longest, backend, bound=PREDICT_BOUND)
            predictor = replace(predictor, forward=choice.backend)
            if told is not None:
                told(choice)
        return predict_tables(
            predictor, tables, top=top, num_tags=num_tags, caution=caution, progress=progress
        )

    def calibrate(
        self, *, coverage: float = COVERAGE, keep: float = KEEP, progress: Progress | None = None
    ) -> Calibrated:
        """Fit a temperature, label sets and thresholds of "unknown" on the validation images.

        coverage: share of images whose label set shall hold the true class. keep: share of
        validation images that the thresholds let pass. Stored in the run as `calibration.json`.
        Raises `DataError` without validation images, for too few, and for a multi-label run.
        """
        return calibrate_run(self, coverage=coverage, keep=keep, progress=progress)

    def caution(self, **asked: Unpack[Asked]) -> Caution:
        """Ask `predict` for more than the most probable classes: sets="lac", reject=True, ...

        `evaluation.caution.Asked` has the words. What is stored comes from `calibrate`; raises
        `RunError` where it has not been called, `DataError` for a multi-label run.
        """
        return build_caution(self, **asked)

    def load_calibration(self) -> Calibration | None:
        """What `calibrate` stored; None where it has not been called."""
        return load_calibration(self.folder)

    def report(self, *, search_seconds: float = 0.0) -> WrittenReport:
        """Write `report.html` anew from the stored predictions.

        For up to about `search_seconds` it looks for the training images most like the worst
        mistakes; what was read of them is kept in the run.
        """
        # Here, because training does not wait for what draws charts.
        from fieldmark.reporting.writing import write_report

        return write_report(self.folder, self.table, search_seconds=search_seconds)

    def _evaluate_augmented(
        self, data: str | Path | Table | None, split: str, words: str, progress: Progress | None
    ) -> Evaluation:
        augmentations = choose_augmentations(words)
        table, name = self._choose_images(data, split)
        stored = self.folder.predictions_path(name)
        plain = load_predictions(stored) if stored.is_file() else None
        record, _ = load_selected(self.folder.find_best())
        predictor = augment_predictor(self.predictor(choose_device()), record, augmentations)
        predictions = predict_table(
            predictor,
            table,
            batch_size=max(1, BATCH_SIZE // len(augmentations)),
            progress=progress,
        )
        own_name = f"{name}-{name_augmentations(words)}"
        scores = score_predictions(predictions, self.folder, own_name, table)
        notes = list(scores.notes)
        change = None if plain is None else measure_change(plain, predictions)
        if change is None:
            notes.append(
                "There are no plain predictions of these images to compare with: evaluate once "
                "without tta."
            )
        shown = ", ".join(a.name for a in augmentations)
        notes.append(f"Mean of the probabilities of {len(augmentations)} views: {shown}.")
        return replace(scores, change=change, notes=tuple(notes))

    def _choose_images(self, data: str | Path | Table | None, split: str) -> tuple[Table, str]:
        """Labelled images, and what their predictions file is called after."""
        if data is None:
            return self.select_images(split), split
        table = self._other_table(data, split)
        return table, f"{Path(table.source).stem}-{split}"

    def select_images(self, split: str) -> Table:
        """The run's own images of a split, labelled; refused where they have changed."""
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


def score_predictions(
    predictions: Predictions, folder: RunFolder, name: str, table: Table
) -> Evaluation:
    """Store predictions in a run under a name, and score them.

    Images of one group of `table` are resampled together.
    """
    path = folder.predictions_path(name)
    save_predictions(predictions, path)
    train_counts = folder.load_train_counts()
    return Evaluation(
        num_images=len(predictions) - len(predictions.errors),
        metrics=compute_metrics(predictions),
        intervals=compute_intervals(predictions, groups=[row.group or "" for row in table.rows]),
        classes=score_classes(predictions),
        groups=score_groups(predictions, train_counts),
        predictions=predictions,
        path=path,
        notes=note_doubts(predictions, train_counts),
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
