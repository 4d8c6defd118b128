"""`Material`: all that a page about one run is made from, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fieldmark.data.prepare import LeftOut
from fieldmark.data.table import Table
from fieldmark.evaluation.predictions import Predictions
from fieldmark.recipes import Recipe
from fieldmark.reporting.nearest import Nearest
from fieldmark.reporting.thumbnails import Thumbnails
from fieldmark.runs.folder import RunFolder


@dataclass(frozen=True)
class SplitRow:
    """One line of split.csv."""

    image: str
    label: str
    split: str
    content_hash: str


@dataclass(frozen=True)
class Material:
    """The contents of a run folder, the predictions to speak of, and the pictures if there are any.

    epochs: the lines of metrics.jsonl. environment: empty until the run is finished. nearest:
        training images like the mistaken ones, or why they could not be searched; None where
        nobody asked.
    """

    folder: RunFolder
    recipe: Recipe
    classes: Sequence[Mapping[str, Any]]
    split: Sequence[SplitRow]
    epochs: Sequence[Mapping[str, Any]]
    left_out: Sequence[LeftOut]
    environment: Mapping[str, Any]
    predictions: Predictions | None
    pictures: Thumbnails | None
    nearest: Nearest | str | None = None

    @cached_property
    def scored_split(self) -> str | None:
        """The split that was predicted; None for other images than the run's own."""
        if self.predictions is None:
            return None
        split_of = {as_text(row.image): row.split for row in self.split}
        found = {split_of.get(as_text(image)) for image in self.predictions.images}
        return found.pop() if len(found) == 1 else None

    def draw_thumbnail(self, image: str, side_px: int) -> str | None:
        """A data URI of the picture, or None where it cannot be had."""
        if self.pictures is None:
            return None
        return self.pictures.encode(self.name_in_store(image), side_px)

    def name_in_store(self, image: str) -> str:
        """The predictions store holds names as text, the image store under their exact bytes."""
        return self._names.get(image, image)

    @cached_property
    def _names(self) -> Mapping[str, str]:
        return {as_text(row.image): row.image for row in self.split}


def gather(
    folder: RunFolder,
    table: Table | None,
    predictions: Predictions | None,
    nearest: Nearest | str | None = None,
) -> Material:
    """Read the run folder; `table` gives the pictures."""
    return Material(
        folder=folder,
        recipe=folder.load_recipe(),
        classes=folder.load_classes(),
        split=[SplitRow(**row) for row in folder.load_split()],
        epochs=folder.load_metrics(),
        left_out=folder.load_left_out(),
        environment=folder.load_environment(),
        predictions=predictions,
        pictures=None if table is None else Thumbnails(table.store),
        nearest=nearest,
    )


def as_text(name: str) -> str:
    """A file name whose bytes are not UTF-8, made readable."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
