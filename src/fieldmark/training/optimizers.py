"""Optimizers and their parameter groups."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from fieldmark.models.classifier import Classifier
from fieldmark.recipes.schema import Optim


def build_optimizer(classifier: Classifier, optim: Optim) -> Optimizer:
    """Build the optimizer of a recipe over the parameters that are trained.

    AdamW decays matrices and kernels only (no biases, no norms), unless `decay_all`; SGD and Adam
    add the L2 term to every parameter, as the published systems do. With `layer_decay` d, a block
    that is m blocks below the head learns at lr d^m (Clark et al. 2020, section 3.5). Each group
    keeps its factor as `lr_scale`.

    AdamW subtracts lr x weight_decay x parameter in each update. TensorFlow Addons' subtracts
    weight_decay x parameter, from every parameter: at a constant rate, its decay of 1e-4 at lr
    1e-3 is weight_decay 0.1 with `decay_all` here. Keras adds eps before, torch after the
    correction of the second moment's bias, so its eps of 1e-7 is 3.2e-6 in torch's first update
    and comes down to 1e-7; that matters only where gradients are as small.

    All three are fused: one kernel goes over each parameter once.
    """
    groups = group_parameters(classifier, optim)
    if optim.name == "sgd":
        return SGD(
            groups,
            lr=optim.lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
            fused=True,
        )
    kind: type[Adam] = Adam if optim.name == "adam" else AdamW
    return kind(
        groups,
        lr=optim.lr,
        betas=(optim.momentum, 0.999),
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        fused=True,
    )


def group_parameters(classifier: Classifier, optim: Optim) -> list[dict[str, Any]]:
    """Trained parameters by (learning-rate factor, weight decay), in a stable order."""
    scales = _layer_scales(classifier, optim.layer_decay)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in classifier.named_parameters():
        if parameter.requires_grad:
            is_spared = parameter.ndim <= 1 or _is_embedding(name)
            exempt = optim.name == "adamw" and not optim.decay_all and is_spared
            decay = 0.0 if exempt else optim.weight_decay
            groups[scales.get(name, 1.0), decay].append(parameter)
    return [
        {"params": parameters, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def take_step(optimizer: Optimizer, *, scales_losses: bool) -> None:
    """Change the weights and forget the gradients, past Accelerate where losses are not scaled.

    In each step Accelerate looks on the disk for a package: 0.2 to 0.5 ms.
    """
    if isinstance(optimizer, AcceleratedOptimizer) and not scales_losses:
        optimizer = optimizer.optimizer
    optimizer.step()
    for group in optimizer.param_groups:  # sooner than zero_grad, which notes itself for profilers
        for parameter in group["params"]:
            parameter.grad = None


def _layer_scales(classifier: Classifier, decay: float) -> dict[str, float]:
    if decay == 1.0:
        return {}
    depth = classifier.backbone.parameter_depths()
    top = max(depth.values(), default=0) + 1
    return {f"backbone.{name}": decay ** (top - level) for name, level in depth.items()}


def _is_embedding(name: str) -> bool:
    """Class token and position embeddings: tables of offsets, which decay would pull to zero."""
    last = name.rsplit(".", 1)[-1]
    return last in {"cls_token", "dist_token", "pos_embed", "reg_token"}


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """(all, trained) parameters."""
    every = [p.numel() for p in module.parameters()]
    trained = [p.numel() for p in module.parameters() if p.requires_grad]
    return sum(every), sum(trained)
