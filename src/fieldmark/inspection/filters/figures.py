"""Figures of filters."""

from __future__ import annotations

from math import ceil

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fieldmark.inspection.filters.numbers import Components, to_colours
from fieldmark.inspection.style import (
    AMOUNT,
    FAINT,
    SIGNED,
    SMALL_PT,
    colour_bar,
    new_figure,
)

Floats = NDArray[np.float32]


def plot_kernels(kernels: Floats, *, title: str, subtitle: str) -> Figure:
    """First-layer kernels (O, k, k, 3) in colour, on one scale."""
    columns = _columns(len(kernels))
    tile = min(0.95, 9.0 / columns)
    rows = ceil(len(kernels) / columns)
    figure, box = new_figure(columns * tile, rows * tile, title, subtitle)
    for index, colours in enumerate(to_colours(kernels)):
        row, column = divmod(index, columns)
        box.show(column * tile, row * tile, tile * 0.92, tile * 0.92, colours)
    return figure


def plot_slices(kernels: Floats, *, title: str, subtitle: str) -> Figure:
    """Kernels (O, k, k) of one input channel, on one scale with zero in white."""
    columns = _columns(len(kernels), widest=16)
    tile = min(0.95, 9.0 / columns)
    rows = ceil(len(kernels) / columns)
    width = max(columns * tile, 4.0)
    figure, box = new_figure(width, rows * tile + 0.5, title, subtitle)
    largest = float(np.abs(kernels).max()) or 1.0
    shown = None
    for index, kernel in enumerate(kernels):
        row, column = divmod(index, columns)
        shown = box.show(
            column * tile,
            row * tile,
            tile * 0.92,
            tile * 0.92,
            kernel,
            cmap=SIGNED,
            limits=(-largest, largest),
        )
    if shown is not None:
        colour_bar(box, shown, "weight", left=0, top=rows * tile + 0.1, width=3.0)
    return figure


def plot_components(components: Components, *, title: str, subtitle: str) -> Figure:
    """Leading components (M, 1, P, P, 3) in colour, each on its own scale, with their share."""
    filters = components.filters[:, 0]
    columns, tile, room = 7, 1.12, 0.2
    rows = ceil(len(filters) / columns)
    figure, box = new_figure(columns * tile, rows * (tile + room), title, subtitle)
    for index, (kernel, share) in enumerate(zip(filters, components.share, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * tile, row * (tile + room)
        box.show(left, top, tile * 0.92, tile * 0.92, to_colours(kernel))
        label = f"{index + 1}  ·  {share:.1%}"
        box.text(left, top + tile * 0.94, label, fontsize=SMALL_PT, color=FAINT)
    return figure


def plot_view_components(
    components: Components, view_names: tuple[str, ...], *, title: str, subtitle: str
) -> Figure:
    """Components (M, V, P, P, 3): one a row, one view a column, on one scale per component."""
    tile, left_room, head = 0.98, 1.0, 0.24
    count, num_views = components.filters.shape[:2]
    width, height = left_room + num_views * tile, head + count * tile
    figure, box = new_figure(width, height, title, subtitle)
    for view, name in enumerate(view_names):
        centre = left_room + (view + 0.46) * tile
        box.text(centre, 0.02, name, ha="center", fontsize=SMALL_PT)
    for index, (kernels, share) in enumerate(
        zip(components.filters, components.share, strict=True)
    ):
        top = head + index * tile
        box.text(0, top + tile * 0.46, f"{index + 1}  ·  {share:.1%}", va="center", color=FAINT)
        for view, colours in enumerate(to_colours(kernels)):
            box.show(left_room + view * tile, top, tile * 0.92, tile * 0.92, colours)
    return figure


def plot_positions(similarity: Floats, *, title: str, subtitle: str) -> Figure:
    """Similarity (h, w, h, w): in the place of each patch, a map of all patches."""
    rows, columns = similarity.shape[:2]
    gap = 1
    mosaic = np.full((rows * (rows + gap) - gap, columns * (columns + gap) - gap), np.nan)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (rows + gap), column * (columns + gap)
            mosaic[top : top + rows, left : left + columns] = similarity[row, column]
    side = 6.4
    height = side * mosaic.shape[0] / mosaic.shape[1]
    figure, box = new_figure(side, height + 0.55, title, subtitle)
    low = float(similarity.min())
    shown = box.show(0, 0, side, height, mosaic, cmap=AMOUNT, limits=(low, 1.0))
    colour_bar(box, shown, "cosine of the position embeddings", left=0, top=height + 0.12, width=3)
    return figure


def _columns(count: int, widest: int = 12) -> int:
    """Columns of a mosaic about twice as wide as high."""
    return max(1, min(widest, count, round((2 * count) ** 0.5)))
