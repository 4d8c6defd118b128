"""The loss of a fixed set of images: what a landscape is the landscape of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.data.loaders import Batch
from fieldmark.data.table import Table
from fieldmark.errors import InspectionError
from fieldmark.inspection.readings import iterate_batches
from fieldmark.inspection.subject import Subject
from fieldmark.models.classifier import Classifier, HeadOnly
from fieldmark.seeds import derive_seed

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, K) and targets -> the loss of each image (B,)."""


@dataclass(frozen=True)
class Sample:
    """Images and what is known of them, all in memory: nothing is drawn anew between points.

    inputs: what the network takes, each (N, ...): images, and tags where it takes them.
    targets: (N,) class indices, or (N, K). describe: which images these are, for people.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    loss: Loss
    describe: str

    def __len__(self) -> int:
        return len(self.targets)

    def first(self, count: int) -> Sample:
        """The first so many of them."""
        return Sample(
            tuple(part[:count] for part in self.inputs),
            self.targets[:count],
            self.loss,
            self.describe if count >= len(self) else f"{count} of {self.describe}",
        )

    def rest(self, count: int) -> Sample:
        """All but the first so many."""
        return Sample(
            tuple(part[count:] for part in self.inputs),
            self.targets[count:],
            self.loss,
            self.describe,
        )

    def to(self, dtype: torch.dtype) -> Sample:
        """The same in the numbers that a network computes in; token ids stay whole."""
        return Sample(
            tuple(part.to(dtype) if part.is_floating_point() else part for part in self.inputs),
            self.targets,
            self.loss,
            self.describe,
        )


def draw_sample(
    subject: Subject, table: Table, *, split: str, num_images: int, seed: int
) -> Sample:
    """Take `num_images` of a split at random by `seed`; 0: all.

    Raises `InspectionError` where the split has no labelled image that can be read.
    """
    rows = [row for row in table.select(split).rows if row.labels]
    order = torch.randperm(
        len(rows), generator=torch.Generator().manual_seed(derive_seed(seed, "sample"))
    ).tolist()
    chosen = tuple(rows[place] for place in order[: num_images or len(rows)])
    batches = [b for b in iterate_batches(subject, table.with_rows(chosen)) if len(b)]
    if not batches:
        raise InspectionError(
            f"landscape: {subject.folder.path} has no labelled image in its {split} split that "
            "can be read. Choose another by --split"
        )
    targets = torch.cat([batch.targets for batch in batches]).to(subject.predictor.device)
    which = "all" if len(targets) == len(rows) else f"{len(targets)} fixed"
    return Sample(
        inputs=_stack(batches),
        targets=targets,
        loss=loss_of(subject.predictor.task),
        describe=f"{which} images of the {split} split",
    )


def _stack(batches: Sequence[Batch]) -> tuple[Tensor, ...]:
    images = torch.cat([batch.images for batch in batches])
    tags = [batch.tags for batch in batches if batch.tags is not None]
    return (images, torch.cat(tags)) if tags else (images,)


def loss_of(task: str) -> Loss:
    """Cross-entropy in nats; for several labels or two classes, binary cross-entropy."""
    if task == "multiclass":
        return lambda logits, targets: functional.cross_entropy(
            logits.float(), targets, reduction="none"
        )
    return lambda logits, targets: functional.binary_cross_entropy_with_logits(
        logits.float(), targets.reshape(logits.shape).float(), reduction="none"
    ).mean(dim=1)


def mean_loss(
    network: nn.Module, sample: Sample, *, batch_size: int, precision: torch.dtype = torch.float32
) -> float:
    """The mean loss of the sample, in evaluation mode as the network stands."""
    total = 0.0
    with torch.inference_mode():
        parts = [torch.split(part, batch_size) for part in (*sample.inputs, sample.targets)]
        for *inputs, targets in zip(*parts, strict=True):
            logits = network(*(i.to(precision) if i.is_floating_point() else i for i in inputs))
            total += float(sample.loss(logits, targets).double().sum())
    return total / len(sample)


def trained_part(classifier: Classifier, sample: Sample) -> tuple[nn.Module, Sample]:
    """What training moved, with what it reads.

    Where the backbone is frozen only the head was trained: the landscape is the head's, and the
    backbone runs once.
    """
    if not classifier.is_frozen:
        return classifier, sample
    with torch.inference_mode():
        parts = [torch.split(part, 32) for part in sample.inputs]
        read = [
            getattr(classifier.features(*inputs), classifier.head.reads)
            for inputs in zip(*parts, strict=True)
        ]
    features = torch.cat(read).clone()
    return HeadOnly(classifier), Sample((features,), sample.targets, sample.loss, sample.describe)
