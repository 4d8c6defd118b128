"""Test-time augmentation: each image is shown in several ways, and the probabilities averaged.

`--tta 4` takes the first four of `AUGMENTATIONS`, whose order is fixed; `--tta flip,scales` takes
those of the names. The plain image is always the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.errors import FieldmarkError, hint
from fieldmark.recipes.schema import Task
from fieldmark.runs.predictor import Predictor
from fieldmark.transforms import EvalTransform, Picture, TransformRecord

SHIFT, CROP_ZOOM, LARGER, SMALLER = 1 / 16, 1 / 0.875, 1.25, 0.8


@dataclass(frozen=True)
class Augmentation:
    """One fixed way to show an image.

    zoom: the evaluation transform at so many times the side; what is larger than the network's
    input is cut, what is smaller continues its edge pixels outward. place: (x, y) of the cut from
    -1 (left, top) to 1. shift: (x, y) by which the picture moves, as a share of the side; the edge
    it leaves is continued likewise. flip: left and right exchanged.
    """

    name: str
    group: str
    zoom: float = 1.0
    place: tuple[int, int] = (0, 0)
    shift: tuple[float, float] = (0.0, 0.0)
    flip: bool = False


AUGMENTATIONS = (
    Augmentation("plain", "plain"),
    Augmentation("flipped", "flip", flip=True),
    Augmentation("moved left", "shifts", shift=(-SHIFT, 0.0)),
    Augmentation("moved right", "shifts", shift=(SHIFT, 0.0)),
    Augmentation("moved up", "shifts", shift=(0.0, -SHIFT)),
    Augmentation("moved down", "shifts", shift=(0.0, SHIFT)),
    Augmentation("crop, centre", "five-crop", zoom=CROP_ZOOM),
    Augmentation("crop, top left", "five-crop", zoom=CROP_ZOOM, place=(-1, -1)),
    Augmentation("crop, top right", "five-crop", zoom=CROP_ZOOM, place=(1, -1)),
    Augmentation("crop, bottom left", "five-crop", zoom=CROP_ZOOM, place=(-1, 1)),
    Augmentation("crop, bottom right", "five-crop", zoom=CROP_ZOOM, place=(1, 1)),
    Augmentation("larger", "scales", zoom=LARGER),
    Augmentation("smaller", "scales", zoom=SMALLER),
)
GROUPS = ("flip", "shifts", "five-crop", "scales")


def choose_augmentations(words: str) -> tuple[Augmentation, ...]:
    """Read `--tta`: a number from 2, or names of `GROUPS` with commas between.

    Raises `FieldmarkError` for any other.
    """
    if words.strip().lstrip("-").isdigit():
        count = int(words)
        if not 2 <= count <= len(AUGMENTATIONS):
            raise FieldmarkError(
                f"tta: expected a number from 2 to {len(AUGMENTATIONS)}, not {count}. They are, "
                f"in order: {', '.join(a.name for a in AUGMENTATIONS)}"
            )
        return AUGMENTATIONS[:count]
    names = [name.strip() for name in words.split(",")]
    for name in names:
        if name not in GROUPS:
            raise FieldmarkError(
                f"tta '{name}': expected a number of views, or some of {', '.join(GROUPS)} with "
                f"commas between.{hint(name, GROUPS)}"
            )
    return tuple(a for a in AUGMENTATIONS if a.group == "plain" or a.group in names)


def name_augmentations(words: str) -> str:
    """What the predictions file is called after: `tta2`, or `tta-flip-scales` in fixed order."""
    if words.strip().isdigit():
        return f"tta{int(words)}"
    names = {name.strip() for name in words.split(",")}
    return "-".join(["tta", *(group for group in GROUPS if group in names)])


def augment_predictor(
    predictor: Predictor, record: TransformRecord, augmentations: Sequence[Augmentation]
) -> Predictor:
    """The same predictor with the mean of probabilities over the augmented images.

    `record` is that of the predictor's own transform.
    """
    averaged = AveragedClassifier(predictor.classifier, predictor.task)
    return replace(
        predictor,
        classifier=averaged,  # type: ignore[arg-type]
        transform=AugmentedTransform(record, augmentations),
    )


class AugmentedTransform:
    """RGB image -> (V, 3, image_size, image_size) float32, normalised: one of V augmentations each.

    The first of `AUGMENTATIONS` is bit for bit the evaluation transform.
    """

    def __init__(self, record: TransformRecord, augmentations: Sequence[Augmentation]) -> None:
        self._augmentations = tuple(augmentations)
        self._side = record.image_size
        sides = {self._side_of(a) for a in augmentations}
        self._transforms = {
            side: EvalTransform(replace(record, image_size=side)) for side in sorted(sides)
        }

    def __call__(self, image: Picture) -> Tensor:
        """Transform one image; each size is computed once."""
        canvases = {side: transform(image) for side, transform in self._transforms.items()}
        return torch.stack([self._show(canvases[self._side_of(a)], a) for a in self._augmentations])

    def _side_of(self, augmentation: Augmentation) -> int:
        return max(1, round(self._side * augmentation.zoom))

    def _show(self, canvas: Tensor, augmentation: Augmentation) -> Tensor:
        """(3, side, side) at the augmentation's zoom -> (3, image_size, image_size)."""
        moved = tuple(round(self._side * share) for share in augmentation.shift)
        margin = max(0, self._side - canvas.shape[1] + 1) // 2 + max(map(abs, moved))
        if margin:
            canvas = functional.pad(canvas[None], [margin] * 4, mode="replicate")[0]
        left, top = (
            (canvas.shape[1] - self._side) * (1 + place) // 2 - by
            for place, by in zip(augmentation.place, moved, strict=True)
        )
        shown = canvas[:, top : top + self._side, left : left + self._side]
        return shown.flip(2) if augmentation.flip else shown


class AveragedClassifier(nn.Module):
    """A classifier that is shown each image V times, and answers with the mean."""

    def __init__(self, classifier: nn.Module, task: Task) -> None:
        super().__init__()
        self.classifier = classifier
        self.task = task

    def forward(self, images: Tensor, tags: Tensor | None = None) -> Tensor:
        """Images (B, V, 3, H, W) -> logits (B, outputs) of the mean of their probabilities."""
        # One view at a time takes no more memory than the plain image.
        rest = () if tags is None else (tags,)
        answers = [self.classifier(view, *rest) for view in images.unbind(1)]
        return average_logits(torch.stack(answers), self.task)


def average_logits(logits: Tensor, task: Task, weights: Tensor | None = None) -> Tensor:
    """Logits (V, B, outputs) -> logits (B, outputs) of the weighted mean of the probabilities.

    `weights` (V,) sum to 1; None: all alike. Multi-class: log sum exp of the result is the mean
    of those of the V, so it can serve as an energy as they do.
    """
    logits = logits.cpu().double()  # some accelerators have no 64 bits
    if weights is None:
        weights = torch.full((len(logits),), 1.0 / len(logits), dtype=torch.float64)
    shares = weights.double()[:, None, None]  # (V, 1, 1)
    if task == "multiclass":
        energy = (shares * logits.logsumexp(dim=2, keepdim=True)).sum(dim=0)  # (B, 1)
        return (shares.log() + logits.log_softmax(dim=2)).logsumexp(dim=0) + energy
    positive = (shares.log() + functional.logsigmoid(logits)).logsumexp(dim=0)  # (B, outputs)
    negative = (shares.log() + functional.logsigmoid(-logits)).logsumexp(dim=0)
    return positive - negative
