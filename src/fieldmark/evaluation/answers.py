"""What is said of one image, in plain values: imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fieldmark.runs.answers import ClassProbability

if TYPE_CHECKING:
    from fieldmark.evaluation.proposals import ProposedTag


@dataclass(frozen=True)
class PredictedRow:
    """The most probable classes of an image, or the reason why it could not be read.

    `tags` are proposed ones, most likely first, `label_set` the classes of its conformal set, most
    probable first, and `unknown` whether it was rejected, where they were asked for.
    """

    image: str
    top: tuple[ClassProbability, ...] = ()
    tags: tuple[ProposedTag, ...] = ()
    error: str | None = None
    label_set: tuple[str, ...] | None = None
    unknown: bool | None = None

    @property
    def label(self) -> str:
        """The first class; empty where the image could not be read."""
        return self.top[0].label if self.top else ""
