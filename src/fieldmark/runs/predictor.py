"""`Predictor`: transform, network and class names as one; what was validated is what predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fieldmark.data.images import decode_pixels
from fieldmark.data.tags import TagEncoder
from fieldmark.errors import DataError, FieldmarkError
from fieldmark.models.classifier import Classifier
from fieldmark.models.probabilities import log_probabilities, rank_classes
from fieldmark.recipes.schema import Task
from fieldmark.runs.answers import ClassProbability
from fieldmark.runs.best import Identity, load_best
from fieldmark.runs.folder import RunFolder
from fieldmark.transforms import Picture, build_eval_transform


@dataclass(frozen=True)
class Predictor:
    """Classifies images as the run's evaluation does.

    `transform` maps an RGB image, or its pixels, to (3, H, W) float32. `encode_tags` is there where
    the network takes tags. `forward` computes what `classifier` does for whole tables, where
    something faster was chosen: images (B, 3, H, W) and ids of tags (B, T) or None -> logits
    (B, outputs).
    """

    classifier: Classifier
    task: Task
    class_names: tuple[str, ...]
    transform: Callable[[Picture], Tensor]
    device: str = "cpu"
    encode_tags: TagEncoder | None = None
    forward: Callable[[Tensor, Tensor | None], Tensor] | None = None

    @property
    def network(self) -> Callable[..., Tensor]:
        """What classifies batches, given images and, where there are any, tags."""
        forward = self.forward
        if forward is None:
            return self.classifier
        return lambda images, tags=None: forward(images, tags)

    def __call__(
        self,
        image: str | Path | bytes | Image.Image,
        top: int = 5,
        tags: Sequence[str] | None = None,
    ) -> list[ClassProbability]:
        """Return the `top` most probable classes of one image, most probable first.

        `tags` are those of the image; without any a network that takes tags sees the image
        alone. Raises `UnreadableImageError` where the image cannot be decoded, `DataError` for
        tags that the network does not take.
        """
        if top < 1:
            raise FieldmarkError(f"top: expected a number of classes from 1, not {top}")
        ids = self._encode(tags)
        picture: Picture = (
            image.convert("RGB") if isinstance(image, Image.Image) else decode_pixels(image)
        )
        batch = self.transform(picture)[None].to(self.device)  # (1, 3, H, W)
        with torch.inference_mode():
            logits = self.classifier(batch, ids).float().cpu()  # (1, outputs)
        probability = log_probabilities(logits, self.task).exp()  # (1, K)
        values, indices = rank_classes(probability, top)
        return [
            ClassProbability(self.class_names[index], value)
            for value, index in zip(values[0].tolist(), indices[0].tolist(), strict=True)
        ]

    def _encode(self, tags: Sequence[str] | None) -> Tensor | None:
        """(1, T) token ids; None where the network takes none."""
        if self.encode_tags is not None:
            return self.encode_tags(tags)[None].to(self.device)
        if tags:
            raise DataError(
                f"tags: got {', '.join(tags[:5])}, but this run was trained without tags. Leave "
                "them out, or train with model.tags=whole"
            )
        return None


def load_predictor(folder: RunFolder, device: str = "cpu") -> Predictor:
    """Load the selected weights of a run."""
    classifier, identity = load_best(folder.find_best())
    return Predictor(
        classifier=classifier.to(device),
        task=identity.task,
        class_names=identity.class_names,
        transform=build_eval_transform(identity.transform),
        device=device,
        encode_tags=_build_encoder(identity),
    )


def _build_encoder(identity: Identity) -> TagEncoder | None:
    if identity.vocabulary is None:
        return None
    return TagEncoder(identity.vocabulary, identity.model.tags)
