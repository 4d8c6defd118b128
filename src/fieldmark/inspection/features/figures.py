"""Figures of feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fieldmark.inspection.features.flow import Stage
from fieldmark.inspection.features.numbers import (
    colour_tokens,
    scale_channel,
    scale_to_percentile,
    strongest_channels,
    token_norms,
)
from fieldmark.inspection.style import (
    AMOUNT,
    FAINT,
    SMALL_PT,
    Box,
    new_figure,
)

Bytes = NDArray[np.uint8]
MOST_BLOCKS = 12
NUM_CHANNELS = 6
TILE = 1.25


def plot_maps(
    image: Bytes, stage: Stage, channels: Sequence[int], *, title: str, subtitle: str
) -> Figure:
    """The image and chosen channels of one layer, each from its lowest to its highest value."""
    columns = min(8, max(4, ceil((len(channels) * 2.6) ** 0.5)))
    room = 0.19
    rows = ceil(len(channels) / columns)
    large = 2 * TILE + room
    width = large + 0.22 + columns * TILE
    figure, box = new_figure(width, max(rows * (TILE + room), large), title, subtitle)
    box.show(0, 0, large, large, image)
    for place, channel in enumerate(channels):
        row, column = divmod(place, columns)
        left, top = large + 0.22 + column * TILE, row * (TILE + room)
        values = stage.maps[channel].detach().float().cpu().numpy()
        box.show(
            left, top, TILE * 0.94, TILE * 0.94, scale_channel(values), cmap=AMOUNT, limits=(0, 1)
        )
        label = f"{channel}:  {values.min():.2g} to {values.max():.2g}"
        box.text(left, top + TILE * 0.955, label, fontsize=SMALL_PT, color=FAINT)
    return figure


def plot_token_flow(image: Bytes, stages: Sequence[Stage], *, title: str, subtitle: str) -> Figure:
    """Blocks of a Vision Transformer: above tokens as colours, below their lengths."""
    shown = pick_evenly(stages, MOST_BLOCKS)
    columns = min(6, len(shown))
    bands = ceil(len(shown) / columns)
    band = 2 * TILE + 0.62
    large = 2 * TILE + 0.06
    figure, box = new_figure(large + 0.3 + columns * TILE, bands * band - 0.1, title, subtitle)
    box.text(0, 0.0, "image", bold=True)
    box.show(0, 0.22, large, large, image)
    _explain_tokens(box, large + 0.5)
    before = None
    for place, stage in enumerate(shown):
        row, column = divmod(place, columns)
        left, top = large + 0.3 + column * TILE, row * band
        colours, before = colour_tokens(stage.maps, before)
        norms = token_norms(stage.maps)
        box.text(left, top, stage.layer, bold=True)
        box.show(left, top + 0.22, TILE * 0.94, TILE * 0.94, colours)
        box.show(
            left,
            top + 0.22 + TILE,
            TILE * 0.94,
            TILE * 0.94,
            scale_to_percentile(norms),
            cmap=AMOUNT,
            limits=(0, 1),
        )
        label = f"{norms.min():.3g} to {norms.max():.3g}"
        box.text(left, top + 0.2 + 1.97 * TILE, label, fontsize=SMALL_PT, color=FAINT)
    return figure


def _explain_tokens(box: Box, top: float) -> None:
    lines = (
        "Upper map: tokens as colours,",
        "their three main components.",
        "Equal colours, equal content.",
        "",
        "Lower map: length of each token,",
        "dark the shortest, light those",
        "from the 95th percentile on.",
    )
    for index, line in enumerate(lines):
        box.text(0, top + 0.165 * index, line, fontsize=SMALL_PT, color=FAINT)


def plot_map_flow(image: Bytes, stages: Sequence[Stage], *, title: str, subtitle: str) -> Figure:
    """Stages of a CNN, one a row: the mean of all channels, then those that vary most."""
    room = 0.34
    step = TILE + room
    large = 2 * TILE
    width = large + 0.3 + (1 + NUM_CHANNELS) * TILE + 0.12
    figure, box = new_figure(width, len(stages) * step - 0.1, title, subtitle)
    box.text(0, 0.0, "image", bold=True)
    box.show(0, 0.22, large, large, image)
    for row, stage in enumerate(stages):
        left, top = large + 0.3, row * step
        box.text(left, top, stage.layer, bold=True)
        size = f"{stage.size}     mean of all, then the channels that vary most"
        box.text(left + TILE + 0.12, top, size if row == 0 else stage.size, color=FAINT)
        mean = stage.maps.detach().float().mean(dim=0).cpu().numpy()
        box.show(
            left,
            top + 0.22,
            TILE * 0.94,
            TILE * 0.94,
            scale_channel(mean),
            cmap=AMOUNT,
            limits=(0, 1),
        )
        for place, channel in enumerate(strongest_channels(stage.maps, NUM_CHANNELS)):
            values = stage.maps[channel].detach().float().cpu().numpy()
            here = left + 0.12 + (1 + place) * TILE
            box.show(
                here,
                top + 0.22,
                TILE * 0.94,
                TILE * 0.94,
                scale_channel(values),
                cmap=AMOUNT,
                limits=(0, 1),
            )
            box.text(
                here + 0.05,
                top + 0.28,
                str(channel),
                fontsize=SMALL_PT - 1,
                color="white",
                bbox={"facecolor": "#00000088", "edgecolor": "none", "pad": 1.2},
            )
    return figure


def pick_evenly(stages: Sequence[Stage], most: int) -> list[Stage]:
    """At most so many, evenly spaced, the first and the last among them."""
    if len(stages) <= most:
        return list(stages)
    return [stages[round(i * (len(stages) - 1) / (most - 1))] for i in range(most)]
