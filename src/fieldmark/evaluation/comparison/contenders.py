"""A run as it is compared: what it predicted, on which images, by which recipe, at what cost."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

from fieldmark.data.table import SPLITS
from fieldmark.errors import RunChangedError, RunError
from fieldmark.evaluation.outcomes import Outcomes, build_outcomes
from fieldmark.evaluation.predictions import Predictions, load_predictions
from fieldmark.recipes import Recipe
from fieldmark.runs.folder import RunFolder

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
NO_BEARING = frozenset({"seed", "workers", "cache"})
"""Keys of a recipe in which runs of one recipe may differ."""


@dataclass(frozen=True)
class ImageIdentity:
    """An image by which two test sets are told to be the same."""

    name: str
    content_hash: str
    label: str


@dataclass(frozen=True)
class Costs:
    """What a run took; None where it did not record it."""

    parameters: int | None
    seconds: float | None
    images_per_second: float | None
    peak_memory_mb: float | None


@dataclass(frozen=True)
class Contender:
    """A run with its predictions of one split, in the order of image names.

    test: the images behind the predictions. pool: every image of the run's data. groups: of
    `test`, "" where an image has none. train_counts: training images of each class.
    """

    folder: RunFolder
    recipe: Recipe
    predictions: Predictions
    test: tuple[ImageIdentity, ...]
    pool: frozenset[tuple[str, str]]
    groups: tuple[str, ...]
    train_counts: tuple[int, ...]
    costs: Costs

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.path.name

    @property
    def path(self) -> str:
        """Where the run is."""
        return str(self.folder.path)

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.recipe.seed

    @cached_property
    def outcomes(self) -> Outcomes:
        """What counts about each image."""
        try:
            return build_outcomes(self.predictions)
        except RunError as error:
            raise RunError(f"{self.path}: {error}") from error

    @cached_property
    def recipe_key(self) -> str:
        """The recipe without what has no bearing on what is learned; of an ensemble its place."""
        if self.folder.ensemble_path.is_file():
            return self.path  # the recipe in its folder is that of its first member
        values = self.recipe.model_dump(mode="json")
        kept = {key: value for key, value in values.items() if key not in NO_BEARING}
        return json.dumps(kept, sort_keys=True)

    @property
    def test_share(self) -> float:
        """Test images for each training image."""
        return len(self.test) / max(1, sum(self.train_counts))


def load_contender(path: str | Path, split: str) -> Contender:
    """Open a run and its stored predictions.

    Raises `RunNotFoundError` where there is no run, `RunError` where it was not evaluated or its
    predictions are cut short, `RunChangedError` where they are not those of its split.
    """
    folder = RunFolder.open(Path(path))
    predictions = _load_predictions(folder, split)
    rows = folder.load_split()
    if split in SPLITS:
        own = [_as_stored(row["image"]) for row in rows if row["split"] == split]
        _expect_whole(folder, split, predictions, own)
    hashes = {_as_stored(row["image"]): row["content_hash"] for row in rows}
    groups = {_as_stored(row["image"]): row.get("group") or "" for row in rows}
    order = sorted(range(len(predictions)), key=lambda place: predictions.images[place])
    ordered = select_rows(predictions, order)
    test = tuple(
        ImageIdentity(image, hashes.get(image, ""), label)
        for image, label in zip(ordered.images, ordered.labels, strict=True)
    )
    return Contender(
        folder=folder,
        recipe=folder.load_recipe(),
        predictions=ordered,
        test=test,
        pool=frozenset(hashes.items()),
        groups=tuple(groups.get(image, "") for image in ordered.images),
        train_counts=folder.load_train_counts(),
        costs=_read_costs(folder),
    )


def select_rows(predictions: Predictions, rows: list[int]) -> Predictions:
    """The predictions of some images, in the order asked for."""
    squared = predictions.squared_error
    return Predictions(
        task=predictions.task,
        class_names=predictions.class_names,
        images=tuple(predictions.images[row] for row in rows),
        labels=tuple(predictions.labels[row] for row in rows),
        targets=tuple(predictions.targets[row] for row in rows),
        predicted=tuple(predictions.predicted[row] for row in rows),
        top_index=predictions.top_index[rows],
        top_probability=predictions.top_probability[rows],
        true_probability=predictions.true_probability[rows],
        loss=predictions.loss[rows],
        errors=predictions.errors,
        squared_error=None if squared is None else squared[rows],
    )


def _load_predictions(folder: RunFolder, split: str) -> Predictions:
    path = folder.predictions_path(split)
    if not path.is_file():
        stored = sorted(found.stem for found in path.parent.glob("*.parquet"))
        others = f" It holds predictions of: {', '.join(stored)}." if stored else ""
        raise RunError(
            f"{folder.path}: holds no predictions of '{split}'.{others} Make them by "
            f"`fieldmark evaluate {folder.path} --split {split}`"
        )
    return load_predictions(path)


def _expect_whole(folder: RunFolder, split: str, predictions: Predictions, own: list[str]) -> None:
    """The predictions must be of every image of the split, once each, and of no other."""
    expected, found = Counter(own), Counter(predictions.images)
    if expected == found:
        return
    again = f"`fieldmark evaluate {folder.path} --split {split}` writes them anew"
    missing = list((expected - found).elements())
    if missing and not found - expected:
        raise RunError(
            f"{folder.predictions_path(split)}: is cut short: it holds {len(predictions)} of the "
            f"{len(own)} images of the split; {', '.join(missing[:3])} is not there. {again}"
        )
    raise RunChangedError(
        f"{folder.predictions_path(split)}: is of other images than split.csv names for "
        f"{split}: {len(missing)} are missing and {(found - expected).total()} are not of it. "
        f"{again}"
    )


def _as_stored(image: str) -> str:
    """A name as the predictions file holds it, which is UTF-8."""
    return image.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read_costs(folder: RunFolder) -> Costs:
    environment: Mapping[str, object] = folder.load_environment()
    return Costs(
        parameters=_count_parameters(folder),
        seconds=_number(environment.get("seconds")),
        images_per_second=_number(environment.get("images_per_second")),
        peak_memory_mb=_number(environment.get("peak_memory_mb")),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _count_parameters(folder: RunFolder) -> int | None:
    """From the head of the weights file: shapes alone, without the statistics of norm layers."""
    path = folder.best_dir / "model.safetensors"
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (OSError, struct.error, ValueError, MemoryError, OverflowError):
        return None
    return sum(
        int(prod(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__" and not name.endswith(BUFFERS)
    )
