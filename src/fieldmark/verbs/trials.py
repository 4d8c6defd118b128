"""A run of many: its data is read once for all, and its test split is predicted at the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from fieldmark.data.prepare import Prepared, prepare_table, scan_images
from fieldmark.data.scan import Scan
from fieldmark.data.sources import build_table
from fieldmark.data.table import Table
from fieldmark.errors import RunChangedError
from fieldmark.evaluation.collect import collect_predictions
from fieldmark.evaluation.predictions import Predictions, save_predictions
from fieldmark.models.classifier import HeadOnly
from fieldmark.recipes import Recipe
from fieldmark.runs.best import load_best
from fieldmark.runs.folder import RunFolder
from fieldmark.training.assembly import EVAL_BATCH_SIZE
from fieldmark.training.devices import choose_placement
from fieldmark.training.events import ImagesScanned, Listener
from fieldmark.training.frozen import Frozen
from fieldmark.training.resume import name_changes
from fieldmark.training.session import SCAN_THREADS, train_run
from fieldmark.verbs.run import Run

# A run of seconds is trained anew sooner than its checkpoints are written.
SPACING_SECONDS = 10.0


@dataclass
class SharedData:
    """The tables that runs name, and their splits, each made once.

    given: a table that all of the runs use, where the caller has one.
    """

    listener: Listener
    given: Table | None = None
    _tables: dict[str, Table] = field(default_factory=dict)
    _scans: dict[str, Scan] = field(default_factory=dict)
    _prepared: dict[str, Prepared] = field(default_factory=dict)

    def read(self, recipe: Recipe) -> Table:
        """The table of a recipe; raise as `read_table` does."""
        if self.given is not None:
            return self.given
        key = _source_of(recipe)
        if key not in self._tables:
            self._tables[key] = build_table(recipe.data, recipe.task)
        return self._tables[key]

    def prepare(self, recipe: Recipe) -> Prepared:
        """The table cleaned and split by this recipe and its seed; raise as `prepare_table`."""
        table, data = self.read(recipe), recipe.data
        scanned = f"{_source_of(recipe)} {data.split.near_duplicates}"
        if scanned not in self._scans:
            self._scans[scanned] = scan_images(
                table, data, num_workers=SCAN_THREADS, progress=self._tell_scan
            )
        divided = data.model_dump_json(include={"split", "max_bad", "conflicts", "min_images"})
        key = f"{scanned} {divided} {recipe.seed}"
        if key not in self._prepared:
            self._prepared[key] = prepare_table(
                table, data, seed=recipe.seed, scan=self._scans[scanned]
            )
        return self._prepared[key]

    def _tell_scan(self, done: int, total: int) -> None:
        self.listener(ImagesScanned(done, total))


def run_trial(
    recipe: Recipe, path: Path, data: SharedData, listener: Listener, *, keep_weights: bool
) -> RunFolder:
    """A run with predictions of its test split: the one that is there, or a new one.

    An interrupted run goes on from its checkpoint, which is removed at the end, and so is `best/`
    without `keep_weights`. A finished one stays as it is. The recipe must be resolved. Raises
    `RunChangedError` where there is a run of another recipe.
    """
    folder = RunFolder(path.absolute())
    if is_finished(folder):
        changed = name_changes(folder.load_recipe(), recipe)
        if changed:
            raise RunChangedError(describe_changes(folder, changed))
        return folder
    # A run that has its split reads it from its own folder.
    prepared = None if folder.split_path.is_file() else data.prepare(recipe)
    table = data.read(recipe)
    train_run(
        table,
        recipe,
        path,
        resume=path.exists(),
        prepared=prepared,
        spacing_seconds=SPACING_SECONDS,
        listener=listener,
    )
    predict_test(Run(folder, table), listener)
    if keep_weights:
        folder.drop_checkpoint()
    else:
        folder.drop_weights()
    return folder


def is_finished(folder: RunFolder) -> bool:
    """Whether there is a run whose test split was predicted, which is the last that is done."""
    return folder.predictions_path("test").is_file() and folder.recipe_path.is_file()


def describe_changes(folder: RunFolder, changed: list[str]) -> str:
    """Why a run that is there cannot stand for one of another recipe."""
    return (
        f"{folder.path}: was trained with another recipe ({'; '.join(changed)}). Give another "
        "--out, or remove the folder"
    )


def predict_test(run: Run, listener: Listener) -> None:
    """Store predictions of the test split, from stored features where the backbone is frozen."""
    if _reads_stored_features(run.recipe):
        predictions = _predict_from_features(run, listener)
        save_predictions(predictions, run.folder.predictions_path("test"))
    else:
        run.evaluate()


def _source_of(recipe: Recipe) -> str:
    """What decides which table is read."""
    read = {"source", "columns", "image_root", "allow_outside"}
    return f"{recipe.task} {recipe.data.model_dump_json(include=read)}"


def _reads_stored_features(recipe: Recipe) -> bool:
    return (
        recipe.model.freeze == "backbone"
        and recipe.views > 0
        and recipe.optim.epochs > 0
        and recipe.model.tags.tokenizer == "off"
    )


def _predict_from_features(run: Run, listener: Listener) -> Predictions:
    """Predictions of the test split; features that are not stored yet are computed."""
    test = run.select_images("test")
    placement = choose_placement(run.recipe)
    classifier, identity = load_best(run.folder.find_best())
    frozen = Frozen(run.folder, run.recipe, placement, listener)
    # As val, of which the plain view is stored: evaluation shows no other.
    as_val = test.with_rows([replace(row, split="val") for row in test.rows])
    stored = frozen.store(classifier, identity, as_val)
    loader = stored.eval_loader(test, batch_size=EVAL_BATCH_SIZE)
    return collect_predictions(
        HeadOnly(classifier.to(placement.device)),
        loader,
        test,
        device=placement.device,
        precision=placement.precision,
    )
