"""`Predictor`: transform, network and class names as one; what was validated is what predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fieldmark.data.images import decode_image
from fieldmark.errors import FieldmarkError
from fieldmark.models.classifier import Classifier
from fieldmark.models.probabilities import log_probabilities
from fieldmark.recipes.schema import Task
from fieldmark.runs.best import load_best
from fieldmark.runs.folder import RunFolder
from fieldmark.transforms import build_eval_transform


@dataclass(frozen=True)
class ClassProbability:
    """A class name and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class Predictor:
    """Classifies images as the run's evaluation does.

    `transform` maps an RGB image to (3, H, W) float32.
    """

    classifier: Classifier
    task: Task
    class_names: tuple[str, ...]
    transform: Callable[[Image.Image], Tensor]
    device: str = "cpu"

    def __call__(
        self, image: str | Path | bytes | Image.Image, top: int = 5
    ) -> list[ClassProbability]:
        """Return the `top` most probable classes of one image, most probable first.

        Raises `UnreadableImageError` where the image cannot be decoded.
        """
        if top < 1:
            raise FieldmarkError(f"top: expected a number of classes from 1, not {top}")
        picture = image.convert("RGB") if isinstance(image, Image.Image) else decode_image(image)
        batch = self.transform(picture)[None].to(self.device)  # (1, 3, H, W)
        with torch.inference_mode():
            logits = self.classifier(batch).float().cpu()  # (1, outputs)
        probability = log_probabilities(logits, self.task).exp()[0]  # (K,)
        best = probability.topk(min(top, len(self.class_names)))
        return [
            ClassProbability(self.class_names[index], value)
            for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def load_predictor(folder: RunFolder, device: str = "cpu") -> Predictor:
    """Load the selected weights of a run."""
    classifier, identity = load_best(folder.find_best())
    return Predictor(
        classifier=classifier.to(device),
        task=identity.task,
        class_names=identity.class_names,
        transform=build_eval_transform(identity.transform),
        device=device,
    )
