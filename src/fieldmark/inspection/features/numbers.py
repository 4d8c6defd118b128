"""Feature maps as numbers: strongest channels, token lengths, tokens as colours."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]


def strongest_channels(maps: Tensor, count: int) -> list[int]:
    """Indices of the `count` channels of (C, h, w) that vary most over the plane."""
    spread = maps.detach().float().flatten(1).std(dim=1, correction=0)
    return [int(index) for index in spread.argsort(descending=True, stable=True)[:count]]


def scale_channel(channel: Floats) -> Floats:
    """(h, w) -> 0..1 from its lowest to its highest value; a constant one is 0."""
    low, high = float(channel.min()), float(channel.max())
    return (channel - low) / (high - low) if high > low else np.zeros_like(channel)


def scale_to_percentile(values: Floats, percentile: float = 95.0) -> Floats:
    """(h, w) -> 0..1 from the lowest value to a percentile, so that few giants hide nothing."""
    return scale_channel(np.minimum(values, np.percentile(values, percentile)))


def token_norms(maps: Tensor) -> Floats:
    """(D, h, w) -> (h, w): the Euclidean length of each token."""
    return maps.detach().float().norm(dim=0).cpu().numpy()


@torch.no_grad()
def colour_tokens(maps: Tensor, before: Tensor | None = None) -> tuple[Floats, Tensor]:
    """(D, h, w) -> colours (h, w, 3) in 0..1, and the scores (h w, 3) behind them.

    The first three principal components of one image's tokens are red, green and blue, each
    from its 2nd to its 98th percentile. A component's sign is free: it is chosen so that it agrees
    with `before`, the scores of the block before, and so that colours do not flip on the way.
    """
    tokens = maps.detach().float().cpu().flatten(1).T  # (h w, D)
    centred = tokens - tokens.mean(dim=0)
    vectors, values, _ = torch.linalg.svd(centred, full_matrices=False)
    scores = torch.zeros(len(tokens), 3)
    count = min(3, len(values))
    scores[:, :count] = vectors[:, :count] * values[:count]
    if before is not None:
        scores = _follow(scores, before)
    low, high = scores.quantile(0.02, dim=0), scores.quantile(0.98, dim=0)
    span = (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    colours = ((scores - low) / span).clamp(0, 1)
    return colours.unflatten(0, maps.shape[1:]).numpy(), scores


def _follow(scores: Tensor, before: Tensor) -> Tensor:
    """Order and sign the components so that they agree with those of the block before."""
    agreement = before.T @ scores  # (3, 3): component before, component now
    free, ordered = [0, 1, 2], []
    for place in range(3):
        chosen = max(free, key=lambda index: abs(float(agreement[place, index])))
        free.remove(chosen)
        sign = -1.0 if agreement[place, chosen] < 0 else 1.0
        ordered.append(scores[:, chosen] * sign)
    return torch.stack(ordered, dim=1)
