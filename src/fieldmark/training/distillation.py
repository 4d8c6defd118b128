"""Learning from a teacher: `Distillation`, and where the teacher's answers come from.

They are either computed for each batch, from the images that the student sees, or once for the
whole training split; those are stored with the run, so that a resumed one learns from the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fieldmark.data.loaders import Batch, Loader
from fieldmark.errors import UnreadableImageError
from fieldmark.evaluation.collect import autocast
from fieldmark.training.losses import distill_hard, distill_soft
from fieldmark.training.teachers import Teacher
from fieldmark.transforms import TransformRecord

Answers = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Distillation:
    """The teacher's part of the loss.

    ask: logits (B, K) of the teacher for a batch, in the student's order of classes.
    is_stored: whether they were computed for each image beforehand. Then they are mixed as labels
        are, where images are mixed; else the teacher sees the mixed images.
    alpha: share of the teacher's part. tau: temperature of mode soft.
    """

    ask: Answers
    is_stored: bool
    mode: Literal["hard", "soft"]
    alpha: float
    tau: float

    def answer(self, batch: Batch) -> Tensor:
        """(B, K): hard, the teacher's first class as one-hot; soft, its probabilities at tau."""
        logits = self.ask(batch)
        if self.mode == "hard":
            return functional.one_hot(logits.argmax(dim=1), logits.shape[1]).float()
        return (logits / self.tau).softmax(dim=1)

    def measure(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Logits (B, K) of the student and answers (B, K) -> scalar."""
        if self.mode == "hard":
            return distill_hard(logits, answers)
        return distill_soft(logits, answers, self.tau)


@dataclass(frozen=True)
class StoredAnswers:
    """Logits (num_images, K) by the row of the training table, mostly a file mapped to memory."""

    logits: NDArray[np.float32]

    def __call__(self, batch: Batch) -> Tensor:
        """(B, K) on the device of the batch."""
        rows = self.logits[batch.positions.cpu().numpy()]
        return torch.from_numpy(np.ascontiguousarray(rows)).to(batch.images.device)


@dataclass(frozen=True)
class LiveAnswers:
    """The teacher itself, looking at the student's images."""

    teacher: Teacher
    student: TransformRecord
    device: str
    precision: str

    def __call__(self, batch: Batch) -> Tensor:
        """(B, K) float32, without gradient."""
        images = renormalize(batch.images, self.student, self.teacher.transform)
        with torch.no_grad(), autocast(self.device, self.precision):
            return self.teacher.classify(images)


def renormalize(images: Tensor, given: TransformRecord, wanted: TransformRecord) -> Tensor:
    """Images (B, 3, H, W) made for one network -> as another one expects them.

    Other pixel statistics, and another side in pixels (bilinear, antialiased). Equal ones change
    nothing.
    """
    if (given.mean, given.std) != (wanted.mean, wanted.std):
        mean, std, new_mean, new_std = (
            torch.tensor(values, device=images.device)[:, None, None]  # (3, 1, 1)
            for values in (given.mean, given.std, wanted.mean, wanted.std)
        )
        images = (images * std + mean - new_mean) / new_std
    if images.shape[-1] != wanted.image_size:
        side = (wanted.image_size, wanted.image_size)
        images = functional.interpolate(images, side, mode="bilinear", antialias=True)
    return images


def ask_all(
    teacher: Teacher,
    loader: Loader,
    *,
    given: TransformRecord | None,
    device: str,
    precision: str,
) -> Iterator[NDArray[np.float32]]:
    """Yield logits (B, K) of the images that `loader` gives, in its order.

    given: what the loader's images were made by, where that is not the teacher's own transform.
    Raises `UnreadableImageError` for an image that could be read when the data was prepared.
    """
    for batch in loader.epoch(0):
        if batch.unreadable:
            position, reason = batch.unreadable[0]
            raise UnreadableImageError(
                f"row {position + 1} of the training split was readable before and is no more: "
                f"{reason}. Restore the image and go on with --resume"
            )
        images = batch.images.to(device, non_blocking=True)
        tags = None if batch.tags is None else batch.tags.to(device)
        if given is not None:
            images = renormalize(images, given, teacher.transform)
        with torch.no_grad(), autocast(device, precision):
            logits = teacher.classify(images, tags)
        yield logits.cpu().numpy()
