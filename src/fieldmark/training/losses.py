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
        self.is_weighted = bool((class_weights != 1.0).any())
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
        # What changes nothing is left out: with a small head, each of them is felt.
        if self.logit_adjustment:
            logits = logits + self.logit_adjustment * self.priors.log()
        log_probability = logits.log_softmax(dim=1)
        if self.label_smoothing:
            even = torch.full_like(targets, 1.0 / self.num_classes)
            targets = torch.lerp(targets, even, self.label_smoothing)
        if self.is_weighted:
            targets = targets * self.class_weights
        terms = targets * log_probability
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
    # In one step: one_hot makes whole numbers, eight bytes each, and looks through all of them.
    shares = torch.zeros(len(targets), num_classes, device=targets.device)
    return shares.scatter_(1, targets[:, None], 1.0)


def distill_hard(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy with the teacher's first class (Touvron et al. 2021, section 4, eq. 3).

    Logits (B, K) of the student and answers (B, K), the shares of the teacher's classes: one-hot,
    or a mixture where images are mixed -> scalar, nats.
    """
    return -(answers * logits.log_softmax(dim=1)).sum(dim=1).mean()


def distill_soft(logits: Tensor, answers: Tensor, tau: float) -> Tensor:
    """tau^2 KL(teacher || student) at temperature tau, by DeiT's official normalisation.

    Logits (B, K) of the student, not yet divided by tau, and answers (B, K), the probabilities of
    the teacher at tau -> scalar, nats. The sum over images and classes is divided by B K, as in
    the code published with Touvron et al. 2021; a mean over images alone ("batchmean", the
    equation of Hinton et al. 2015) is K times as large.
    """
    divergence = functional.kl_div((logits / tau).log_softmax(dim=1), answers, reduction="sum")
    return divergence * tau**2 / logits.numel()


def measure_exclusion(layers: Tensor, *, distance: int, tau: float) -> Tensor:
    """tau^2 times the divergence of class tokens that lie `distance` layers apart.

    layers: (B, D, L) -> scalar: the sum over i = 0 .. L-1-distance of the mean over images of
    KL(softmax(layer_(i+distance) / tau) || softmax(layer_i / tau)), the softmax over D. Animesion
    rewards it: its code subtracts 0.01 times this, with distance 2 and tau 1, from the loss.
    """
    log_probability = (layers / tau).log_softmax(dim=1)  # (B, D, L)
    nearer, farther = log_probability[..., :-distance], log_probability[..., distance:]
    divergence = functional.kl_div(nearer, farther, reduction="sum", log_target=True)
    return divergence * tau**2 / len(layers)


def bernoulli_likelihood(probability: Tensor, labels: Tensor) -> Tensor:
    """Likelihood of independent yes-or-no labels: the product of p^y (1 - p)^(1 - y).

    Probabilities (N,) of yes and labels (N,), 1 or 0 -> scalar. An image-classification lecture
    (Willi) computes this one where its text derives `categorical_likelihood`.
    """
    labels = labels.to(probability.dtype)
    terms = torch.xlogy(labels, probability) + torch.xlogy(1.0 - labels, 1.0 - probability)
    return terms.sum().exp()


def categorical_likelihood(probability: Tensor, shares: Tensor) -> Tensor:
    """Likelihood of one class for each image: the product of p_ij^y_ij.

    Probabilities (B, K), rows summing to 1, and shares (B, K), one-hot -> scalar.
    """
    return torch.exp(-negative_log_likelihood(probability, shares))


def negative_log_likelihood(probability: Tensor, shares: Tensor) -> Tensor:
    """-sum_i sum_j y_ij log p_ij, nats: the cross-entropy, summed over images.

    Probabilities (B, K) and shares (B, K) -> scalar.
    """
    return -torch.xlogy(shares.to(probability.dtype), probability).sum()
