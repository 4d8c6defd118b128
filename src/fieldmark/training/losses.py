"""What training minimises: cross-entropy for one label, sigmoid for two classes or many labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.recipes import schema
from fieldmark.recipes.schema import Task


def build_loss(loss: schema.Loss, *, task: Task, class_counts: Sequence[int]) -> ClassificationLoss:
    """Build the loss of a recipe; `class_counts` are the training images of each class."""
    counts = torch.tensor(class_counts, dtype=torch.float32).clamp(min=1.0)
    balanced = counts.sum() / (len(counts) * counts)
    kind = SoftmaxLoss if task == "multiclass" else SigmoidLoss
    return kind(
        priors=counts / counts.sum(),
        class_weights=balanced if loss.class_weights == "balanced" else torch.ones_like(counts),
        label_smoothing=loss.label_smoothing,
        focal=loss.focal,
        logit_adjustment=loss.logit_adjustment,
    )


class ClassificationLoss(nn.Module):
    """Mean loss of a batch, in nats.

    Targets are shares of classes (B, K): one-hot, smoothed or mixed. Each class's term is weighed
    by its class weight and by (1 - p)^focal (Lin et al. 2017); `logit_adjustment` tau adds
    tau log(prior) to the logits (Menon et al. 2021). Weights do not divide the mean again.
    """

    priors: Tensor
    class_weights: Tensor

    def __init__(
        self,
        *,
        priors: Tensor,
        class_weights: Tensor,
        label_smoothing: float = 0.0,
        focal: float = 0.0,
        logit_adjustment: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("priors", priors)
        self.register_buffer("class_weights", class_weights)
        self.label_smoothing = label_smoothing
        self.focal = focal
        self.logit_adjustment = logit_adjustment

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.priors)


class SoftmaxLoss(ClassificationLoss):
    """Cross-entropy of a softmax: -sum_k t_k log p_k."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (B, K) and targets (B, K) -> scalar."""
        adjusted = logits + self.logit_adjustment * self.priors.log()
        log_probability = adjusted.log_softmax(dim=1)
        smoothed = torch.lerp(
            targets, torch.full_like(targets, 1.0 / self.num_classes), self.label_smoothing
        )
        terms = smoothed * self.class_weights * log_probability
        if self.focal:
            terms = terms * (1.0 - log_probability.exp()) ** self.focal
        return -terms.sum(dim=1).mean()


class SigmoidLoss(ClassificationLoss):
    """Binary cross-entropy; of one logit for two classes, of a logit per class for many labels."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (B, 1) with targets (B, 2), or logits and targets (B, K) -> scalar."""
        is_binary = logits.shape[1] == 1
        prior = self.priors[1:] if is_binary else self.priors
        true = targets[:, 1:] if is_binary else targets
        adjusted = logits + self.logit_adjustment * torch.logit(prior, eps=1e-6)
        smoothed = true * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        terms = functional.binary_cross_entropy_with_logits(adjusted, smoothed, reduction="none")
        if is_binary:
            weights = (targets * self.class_weights).sum(dim=1, keepdim=True)
        else:
            weights = 1.0 + true * (self.class_weights - 1.0)
        if self.focal:
            probability = adjusted.sigmoid()
            miss = smoothed * (1.0 - probability) + (1.0 - smoothed) * probability
            terms = terms * miss**self.focal
        return (terms * weights).mean()


def as_shares(targets: Tensor, num_classes: int) -> Tensor:
    """Class indices (B,) or label sets (B, K) -> float shares (B, K)."""
    if targets.ndim == 2:
        return targets.float()
    return functional.one_hot(targets, num_classes).float()
