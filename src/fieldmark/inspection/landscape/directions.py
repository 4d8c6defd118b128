"""Two random directions that are measured by the network's own filters (Li et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fieldmark.inspection.landscape.weights import flatten
from fieldmark.seeds import derive_seed


@dataclass(frozen=True)
class Plane:
    """Two directions through the weights, each (P,) float32, over the parameters `names`.

    In every filter both have the length of the filter itself and are orthogonal, so a step of 1
    along either changes each filter by as much as it is long.
    """

    names: tuple[str, ...]
    first: Tensor
    second: Tensor


def draw_plane(parameters: Mapping[str, Tensor], *, seed: int) -> Plane:
    """Draw two Gaussian directions, made orthogonal and normalised filter by filter.

    "Visualizing the Loss Landscape of Neural Nets" (Li et al. 2018), section 4: each filter of a
    direction d becomes d / ||d|| * ||theta||. A filter is what makes one output: a row of a
    linear layer, a kernel of a convolution. Directions are drawn from a normal distribution, and
    orthogonality is restored before the lengths are set, within each filter; a filter of one
    number has only one direction and is not moved by the second.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "landscape"))
    firsts, seconds = [], []
    for parameter in parameters.values():
        filters = parameter.detach().float().cpu().flatten(1)  # (filters, values)
        drawn = torch.randn((2, *filters.shape), generator=generator, dtype=torch.float64)
        first = _to_units(drawn[0])
        rest = drawn[1] - (drawn[1] * first).sum(dim=1, keepdim=True) * first
        second = _to_units(rest) if filters.shape[1] > 1 else torch.zeros_like(rest)
        lengths = filters.double().norm(dim=1, keepdim=True)
        firsts.append(first * lengths)
        seconds.append(second * lengths)
    return Plane(tuple(parameters), flatten(firsts), flatten(seconds))


def _to_units(rows: Tensor) -> Tensor:
    lengths = rows.norm(dim=1, keepdim=True)
    units: Tensor = rows / lengths.clamp_min(torch.finfo(torch.float64).tiny)
    return units
