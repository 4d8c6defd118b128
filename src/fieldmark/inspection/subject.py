"""`Subject`: what is looked into."""

from __future__ import annotations

from dataclasses import dataclass

from fieldmark.data.table import Table
from fieldmark.models.classifier import Classifier
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.predictor import Predictor


@dataclass(frozen=True)
class Subject:
    """A trained run, its network and its pictures.

    table: the run's own images with their frozen split; None where they are gone. images: paths
    of further pictures to look at, as the user gave them; empty: the figures choose from the
    test split.
    """

    folder: RunFolder
    predictor: Predictor
    table: Table | None
    images: tuple[str, ...] = ()

    @property
    def classifier(self) -> Classifier:
        """The network, in evaluation mode."""
        return self.predictor.classifier

    @property
    def model(self) -> str:
        """The network's name."""
        return self.classifier.backbone.name
