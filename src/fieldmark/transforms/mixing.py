"""Mixup (Zhang et al. 2018, arXiv:1710.09412) and CutMix (Yun et al. 2019, arXiv:1905.04899)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mix_batch(
    images: Tensor, targets: Tensor, *, mixup: float, cutmix: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Mix each image of a batch with another one of it, and their labels by the same shares.

    images: (B, 3, H, W) float. targets: (B, K) float shares of classes. `mixup` and `cutmix` are
    the alphas of the Beta(alpha, alpha) that the share is drawn from, 0 turns one off; where
    both are on, each batch takes one of them with equal probability. All draws come from `seed`.
    Returns new tensors; the given ones stay as they are.
    """
    # torch has no Beta distribution that draws from a generator of its own.
    generator = np.random.default_rng(seed)
    use_cutmix = cutmix > 0.0 and (mixup <= 0.0 or generator.random() < 0.5)
    alpha = cutmix if use_cutmix else mixup
    if alpha <= 0.0:
        return images.clone(), targets.clone()
    kept = float(generator.beta(alpha, alpha))
    partner = torch.from_numpy(generator.permutation(len(images))).to(images.device)  # (B,)
    if use_cutmix:
        mixed, kept = _paste_box(images, images[partner], kept, generator)
    else:
        mixed = torch.lerp(images[partner], images, kept)
    return mixed, torch.lerp(targets[partner], targets, kept)


def _paste_box(
    images: Tensor, others: Tensor, kept: float, generator: np.random.Generator
) -> tuple[Tensor, float]:
    """Paste one box of `others`, in the same place everywhere; return the share really kept.

    The box has the images' aspect and an area of 1 - kept, and is centred anywhere (Yun et al.,
    eq. 2): where it reaches over an edge, less is pasted, and the labels must say so.
    """
    height, width = images.shape[2:]
    half_height = int(height * (1.0 - kept) ** 0.5) // 2
    half_width = int(width * (1.0 - kept) ** 0.5) // 2
    row, column = int(generator.integers(height)), int(generator.integers(width))
    top, bottom = max(0, row - half_height), min(height, row + half_height)
    left, right = max(0, column - half_width), min(width, column + half_width)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return mixed, 1.0 - (bottom - top) * (right - left) / (height * width)
