"""`Answer`: what the network says of one class, as a function of the pixels alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fieldmark.errors import InspectionError, hint
from fieldmark.inspection.pictures import Picture
from fieldmark.models.classifier import Classifier
from fieldmark.models.probabilities import log_probabilities
from fieldmark.recipes.schema import Task
from fieldmark.runs.predictor import Predictor


@dataclass(frozen=True)
class Answer:
    """The score of one class for images (B, 3, H, W), all with the tags of one picture.

    tag_ids: (T,) or None. rival_index: another class whose score is taken off, so that what
    counts is what separates the two.
    """

    classifier: Classifier
    task: Task
    class_index: int
    tag_ids: Tensor | None = None
    rival_index: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B,) logits; of the two classes of a binary task, z and -z."""
        logits = self._logits(images)
        if self.rival_index is not None and self.task != "binary":
            return logits[:, self.class_index] - logits[:, self.rival_index]
        if self.task == "binary":
            return logits[:, 0] if self.class_index else -logits[:, 0]
        return logits[:, self.class_index]

    def probability(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B,) probabilities."""
        return log_probabilities(self._logits(images), self.task).exp()[:, self.class_index]

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images, repeat_tags(self.tag_ids, len(images)))
        return logits


def repeat_tags(tag_ids: Tensor | None, num_images: int) -> Tensor | None:
    """(T,) -> (B, T)."""
    return None if tag_ids is None else tag_ids.expand(num_images, -1)


@dataclass(frozen=True)
class Verdict:
    """The class that a figure is about, and how probable the network finds it."""

    class_index: int
    name: str
    probability: float
    is_first: bool

    @property
    def words(self) -> str:
        """For a title or caption: "acer 0.93"."""
        return f"{self.name} {self.probability:.2f}"


@torch.no_grad()
def find_verdict(predictor: Predictor, picture: Picture, target: str | None = None) -> Verdict:
    """Return the named class of a picture, or the most probable one.

    Raises `InspectionError` for a name that is no class of the run.
    """
    names = predictor.class_names
    if target is not None and target not in names:
        raise InspectionError(
            f"--target {target}: is none of the run's {len(names)} classes.{hint(target, names)}"
        )
    logits = predictor.classifier(picture.pixels[None], repeat_tags(picture.tag_ids, 1))
    probabilities = log_probabilities(logits.float(), predictor.task).exp()[0]  # (K,)
    first = int(probabilities.argmax())
    index = first if target is None else names.index(target)
    return Verdict(index, names[index], float(probabilities[index]), index == first)


def answer_of(predictor: Predictor, picture: Picture, verdict: Verdict) -> Answer:
    """The answer that a picture's figure is about."""
    return Answer(predictor.classifier, predictor.task, verdict.class_index, picture.tag_ids)
