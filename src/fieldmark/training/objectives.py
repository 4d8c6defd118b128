"""What a network is told to do with a batch: from images and labels to one number to minimise.

The loop knows an `Objective` and no more. `ClassificationObjective` is the loss of the labels;
`ComposedObjective` joins to it what a teacher says, how far the layers lie apart, and the tags
that were hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fieldmark.data.loaders import Batch
from fieldmark.errors import RecipeError
from fieldmark.models.classifier import Classifier, Outputs
from fieldmark.recipes import Recipe
from fieldmark.training.distillation import Distillation
from fieldmark.training.losses import ClassificationLoss, as_shares, measure_exclusion
from fieldmark.training.moments import Moment
from fieldmark.training.tag_masking import TagMasking, tag_loss


class Objective(Protocol):
    """What one batch is learned by. Batches are on the model's device, but for `positions`."""

    @property
    def needs_images(self) -> bool:
        """Whether it looks at the images themselves, not at what a backbone made of them."""
        ...

    def shares(self, batch: Batch) -> Tensor:
        """What is mixed along with the images: (B, S) columns of shares, the labels' K first."""
        ...

    def __call__(self, model: nn.Module, batch: Batch, shares: Tensor, moment: Moment, /) -> Tensor:
        """Return the scalar loss of a batch whose images and shares may have been mixed."""
        ...


@dataclass(frozen=True)
class ClassificationObjective:
    """The loss of the labels alone."""

    loss: ClassificationLoss

    @property
    def needs_images(self) -> bool:
        """Never."""
        return False

    def shares(self, batch: Batch) -> Tensor:
        """(B, K)."""
        return as_shares(batch.targets, self.loss.num_classes)

    def __call__(self, model: nn.Module, batch: Batch, shares: Tensor, _: Moment, /) -> Tensor:
        """Shares (B, K) -> scalar."""
        inputs = (batch.images,) if batch.tags is None else (batch.images, batch.tags)
        logits = model(*inputs).float()  # (B, K)
        loss: Tensor = self.loss(logits, shares)
        return loss


@dataclass(frozen=True)
class Exclusion:
    """A reward for class tokens that differ between layers (Animesion's code, not its paper).

    The loss falls by `weight` times `measure_exclusion`.
    """

    weight: float
    distance: int
    tau: float

    def __call__(self, layers: Tensor) -> Tensor:
        """Features of layers (B, D, L) -> scalar, at most 0."""
        return -self.weight * measure_exclusion(layers, distance=self.distance, tau=self.tau)


@dataclass(frozen=True)
class ComposedObjective:
    """The loss of the labels, with whatever else there is to learn from; None where it is not.

    (1 - alpha) labels + alpha teacher - exclusion + tags. A network with a distillation token
    gives the labels its class token and the teacher the other one.
    """

    loss: ClassificationLoss
    distillation: Distillation | None = None
    exclusion: Exclusion | None = None
    masking: TagMasking | None = None

    @property
    def needs_images(self) -> bool:
        """Where its teacher answers to each batch."""
        return self.distillation is not None and not self.distillation.is_stored

    def shares(self, batch: Batch) -> Tensor:
        """(B, K), or (B, 2 K) with the stored answers of a teacher."""
        labels = as_shares(batch.targets, self.loss.num_classes)
        if self.distillation is None or not self.distillation.is_stored:
            return labels
        return torch.cat([labels, self.distillation.answer(batch)], dim=1)

    def __call__(self, model: nn.Module, batch: Batch, shares: Tensor, moment: Moment, /) -> Tensor:
        """Shares (B, K) or (B, 2 K) -> scalar."""
        masked = None
        if self.masking is not None and batch.tags is not None:
            masked = self.masking.mask(batch.tags, moment)
        shown = batch.tags if masked is None else masked.shown
        inputs = (batch.images,) if shown is None else (batch.images, shown)
        outputs: Outputs = model(*inputs, full=True)
        total = self._classify(outputs, batch, shares)
        if self.exclusion is not None:
            assert outputs.features.layers is not None
            total = total + self.exclusion(outputs.features.layers.float())
        if masked is not None:
            assert outputs.tag_logits is not None
            total = total + tag_loss(outputs.tag_logits.float(), masked.wanted)
        return total

    def _classify(self, outputs: Outputs, batch: Batch, shares: Tensor) -> Tensor:
        labels = shares[:, : self.loss.num_classes]
        if self.distillation is None:
            plain: Tensor = self.loss(outputs.logits.float(), labels)
            return plain
        branches = outputs.branches or (outputs.logits, outputs.logits)
        own, taught = (logits.float() for logits in branches)  # (B, K) each
        answers = shares[:, self.loss.num_classes :]
        if not self.distillation.is_stored:
            answers = self.distillation.answer(batch)  # of the images as they were mixed
        alpha = self.distillation.alpha
        loss: Tensor = self.loss(own, labels)
        return (1.0 - alpha) * loss + alpha * self.distillation.measure(taught, answers)


def check_objective(recipe: Recipe) -> None:
    """Raise `RecipeError` where parts of the loss do not go with the rest of the recipe."""
    loss, tags = recipe.loss, recipe.model.tags
    faults = []
    if loss.distill.teacher is not None and recipe.task != "multiclass":
        faults.append(
            f"loss.distill: a teacher needs task multiclass, not {recipe.task}. Leave it out"
        )
    if loss.exclusion and recipe.model.head != "ifa":
        faults.append(
            "loss.exclusion: compares the layers that the head ifa joins, but model.head is "
            f"{recipe.model.head}. Set model.head=ifa, or loss.exclusion=0"
        )
    if tags.propose != "off" and tags.tokenizer == "off":
        faults.append(
            f"model.tags.propose: is {tags.propose}, but there are no tags. Set "
            "model.tags.tokenizer=whole, or model.tags.propose=off"
        )
    if tags.tokenizer != "off" and (loss.mixup or loss.cutmix):
        faults.append(
            "loss.mixup, loss.cutmix: mix two images but not their tags. Set both to 0, or "
            "model.tags=off"
        )
    if faults:
        raise RecipeError("\n".join(faults))


def check_layers(recipe: Recipe, classifier: Classifier) -> None:
    """Raise `RecipeError` where the network has no two layers that exclusion can compare."""
    widths, distance = classifier.backbone.layer_widths, recipe.loss.exclusion_distance
    if len(set(widths)) > 1:
        raise RecipeError(
            f"loss.exclusion: the layers of '{recipe.model.name}' differ in width "
            f"({', '.join(map(str, widths))}), so they cannot be compared. Choose a Vision "
            "Transformer, or set loss.exclusion=0"
        )
    if len(widths) <= distance:
        raise RecipeError(
            f"loss.exclusion_distance: {distance} is not below the {len(widths)} layers of "
            f"'{recipe.model.name}', so no two are compared. Choose {len(widths) - 1} or less"
        )
