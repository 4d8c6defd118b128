"""Figures of attention."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fieldmark.inspection.style import (
    AMOUNT,
    FAINT,
    INK,
    SMALL_PT,
    colour_bar,
    new_figure,
    overlay,
    scale_to_most,
)

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def plot_overview(
    image: Bytes, rollout: Floats, last: Floats, *, reader: str, title: str, subtitle: str
) -> Figure:
    """The image; attention over all layers; attention of the last layer, heads' mean."""
    side, gap, room = 2.75, 0.16, 0.24
    figure, box = new_figure(3 * side + 2 * gap, side + room, title, subtitle)
    panels = (
        ("image", image),
        (f"rollout: what reaches {reader}", overlay(image, scale_to_most(rollout))),
        (f"last layer: what {reader} reads", overlay(image, scale_to_most(last))),
    )
    for place, (name, pixels) in enumerate(panels):
        left = place * (side + gap)
        box.text(left, 0, name, bold=True)
        box.show(left, room, side, side, pixels)
    return figure


def plot_heads(
    maps: Floats,
    shares: Floats,
    *,
    layers: Sequence[str],
    heads: Sequence[int],
    title: str,
    subtitle: str,
) -> Figure:
    """Maps (L, heads, h, w), each on its own scale; layers are rows, or columns if heads are few.

    shares: (L, heads) of attention that goes to patches, written below each map.
    """
    is_wide = len(heads) < len(layers)
    across, down = (len(layers), len(heads)) if is_wide else (len(heads), len(layers))
    tile, room, left_room, head = min(1.2, max(0.78, 9.6 / across)), 0.17, 0.82, 0.22
    ratio = maps.shape[2] / maps.shape[3]
    step = tile * ratio + room
    figure, box = new_figure(left_room + across * tile, head + down * step, title, subtitle)
    names = [f"head {index}" for index in heads]
    for place, name in enumerate(layers if is_wide else names):
        box.text(left_room + (place + 0.47) * tile, 0, name, ha="center", fontsize=SMALL_PT)
    for place, name in enumerate(names if is_wide else layers):
        box.text(0, head + place * step + tile * ratio / 2, name, va="center", fontsize=SMALL_PT)
    for layer in range(len(layers)):
        for index in range(len(heads)):
            row, column = (index, layer) if is_wide else (layer, index)
            left, top = left_room + column * tile, head + row * step
            values = maps[layer, index]
            box.show(
                left,
                top,
                tile * 0.94,
                tile * 0.94 * ratio,
                scale_to_most(values),
                cmap=AMOUNT,
                limits=(0, 1),
            )
            box.text(
                left + 0.47 * tile,
                top + tile * 0.95 * ratio,
                f"{shares[layer, index]:.0%}",
                ha="center",
                fontsize=SMALL_PT - 1,
                color=FAINT,
            )
    return figure


def plot_words(
    image: Bytes,
    maps: Floats,
    words: Sequence[str],
    *,
    title: str,
    subtitle: str,
) -> Figure:
    """Where each word looks: maps (T, h, w) over the image, all on one scale."""
    columns = min(5, len(words) + 1)
    tile, room = 1.62, 0.24
    rows = ceil((len(words) + 1) / columns)
    figure, box = new_figure(columns * tile, rows * (tile + room) - 0.08, title, subtitle)
    scaled = scale_to_most(maps, 98.0)
    panels = [
        ("image", image),
        *((w, overlay(image, m)) for w, m in zip(words, scaled, strict=True)),
    ]
    for place, (word, pixels) in enumerate(panels):
        row, column = divmod(place, columns)
        left, top = column * tile, row * (tile + room)
        box.text(left, top, shorten(word, 22), bold=place == 0)
        box.show(left, top + 0.18, tile * 0.94, tile * 0.94, pixels)
    return figure


def plot_reading(
    amounts: Floats,
    words: Sequence[str],
    layers: Sequence[str],
    *,
    reader: str,
    title: str,
    subtitle: str,
) -> Figure:
    """How much of each word is read in each layer: (L, T), words down, layers across."""
    cell, left_room, head = 0.42, 1.75, 0.72
    width, height = left_room + len(layers) * cell, head + len(words) * 0.27
    figure, box = new_figure(max(width, 5.0), height + 0.55, title, subtitle)
    limits = (0.0, float(amounts.max()) or 1.0)
    across, down = len(layers) * cell, len(words) * 0.27
    shown = box.show(left_room, head, across, down, amounts.T, cmap=AMOUNT, limits=limits)
    for place, layer in enumerate(layers):
        left = left_room + (place + 0.5) * cell
        box.text(
            left,
            head - 0.06,
            layer,
            ha="left",
            va="bottom",
            rotation=45,
            rotation_mode="anchor",
            fontsize=SMALL_PT,
            color=FAINT,
        )
    for place, word in enumerate(words):
        top = head + (place + 0.5) * 0.27
        box.text(left_room - 0.1, top, shorten(word, 24), ha="right", va="center", color=INK)
    label = f"share of what {reader} reads"
    colour_bar(box, shown, label, left=left_room, top=height + 0.12, width=2.6)
    return figure


def shorten(text: str, most: int) -> str:
    """At most so many characters, with an ellipsis for the rest."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
