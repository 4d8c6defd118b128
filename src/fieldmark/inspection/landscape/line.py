"""The loss on the straight line between two sets of weights (Goodfellow et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fieldmark.inspection.landscape.losses import Sample, mean_loss
from fieldmark.inspection.landscape.weights import MovedCopy, expect_same_network, flatten

BATCH_SIZE = 64


@dataclass(frozen=True)
class Line:
    """Losses (A,) at the weights (1 - t) start + t end, for each t of `places` (A,)."""

    places: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def barrier(self) -> float:
        """How far the loss between both ends rises above the straight line between theirs.

        Frankle et al. 2020, "Linear mode connectivity", section 2: 0 where both lie in one
        valley.
        """
        start, end = (self.losses[np.abs(self.places - at).argmin()] for at in (0.0, 1.0))
        between = (self.places >= 0) & (self.places <= 1)
        straight = start + (end - start) * self.places[between]
        return float(max(0.0, (self.losses[between] - straight).max()))


def compute_line(
    start: nn.Module,
    end: nn.Module,
    sample: Sample,
    *,
    points: int = 41,
    beyond: float = 0.25,
    names: tuple[str, str] = ("the first", "the second"),
) -> Line:
    """Compute the loss from `beyond` before `start` to `beyond` behind `end`.

    All parameters move, and the moving statistics of batch norms with them; t = 0 and t = 1 are
    among the places and give both networks bit for bit. Neither network is written to. Raises
    `ModelError` where they are not of one design.
    """
    weights = [dict(network.state_dict()) for network in (start, end)]
    expect_same_network(weights[0], weights[1], names)
    moving = [key for key, value in weights[0].items() if value.is_floating_point()]
    # Parameters that are shared stand in the state under each name.
    named = {**dict(start.named_buffers()), **dict(start.named_parameters())}
    moving = [key for key in moving if key in named]
    moved = MovedCopy(start, moving)
    goal = flatten(weights[1][key] for key in moving)
    inner = np.linspace(-beyond, 1 + beyond, points)
    places = np.unique(np.concatenate([inner, [0.0, 1.0]]))
    losses = []
    for place in places.tolist():
        ends = {0.0: moved.centre, 1.0: goal}
        values = ends[place] if place in ends else torch.lerp(moved.centre, goal, place)
        losses.append(mean_loss(moved.put(values), sample, batch_size=BATCH_SIZE))
    return Line(places, np.array(losses))
