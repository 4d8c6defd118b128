"""Charts of layers: bars of weights, scores with intervals, a matrix of similarities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fieldmark.inspection.layers.probes import Probe
from fieldmark.inspection.style import (
    AMOUNT,
    BLUE,
    FAINT,
    INK,
    ORANGE,
    RULE,
    SMALL_PT,
    TEXT_PT,
    colour_bar,
    new_figure,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, PANEL, GAP = 6.6, 1.55, 0.42
COLOURS = {"val": ORANGE, "test": BLUE}


def draw_contributions(
    weights: NDArray[np.float32] | None,
    shares: NDArray[np.float64] | None,
    probes: list[Probe],
    *,
    title: str,
) -> tuple[Figure, str]:
    """The panels that there are numbers for, one above the other; and what they show, in words."""
    panels = [values is not None and len(values) > 0 for values in (weights, shares, probes)]
    words = [
        text
        for text, is_there in zip(
            (
                "the learned weight of each layer in the IFA head",
                "the share of each layer's weighted token in their sum",
                "what each layer alone would score",
            ),
            panels,
            strict=True,
        )
        if is_there
    ]
    subtitle = f"{', '.join(words)}."
    height = sum(panels) * (PANEL + GAP) + (0.5 if panels[2] else 0.0)
    figure, box = new_figure(WIDTH, height, title, subtitle[0].upper() + subtitle[1:])
    top = 0.1
    for values, label in ((weights, "weight"), (shares, "share of the sum")):
        if values is not None:
            _draw_bars(box.axes(0.55, top, WIDTH - 0.6, PANEL), np.asarray(values), label)
            top += PANEL + GAP
    if probes:
        _draw_scores(box.axes(0.55, top, WIDTH - 0.6, PANEL + 0.4), probes)
    return figure, subtitle


def _draw_bars(axes: Axes, values: NDArray[np.floating], label: str) -> None:
    plain_axes(axes, "", label)
    axes.grid(False, axis="x")
    places = np.arange(1, len(values) + 1)
    colours = [BLUE if value >= 0 else ORANGE for value in values]
    axes.bar(places, values, color=colours, width=0.66)
    axes.axhline(0, color=FAINT, linewidth=0.7)
    axes.set_xticks(places)
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    room = 0.16 * (high - low)
    axes.set_ylim(low - (room if low < 0 else 0), high + room)
    for place, value in zip(places.tolist(), values.tolist(), strict=True):
        axes.annotate(
            f"{value:.2f}",
            (place, value),
            textcoords="offset points",
            xytext=(0, 2 if value >= 0 else -2),
            ha="center",
            va="bottom" if value >= 0 else "top",
            fontsize=6.5,
            color=INK,
        )


def _draw_scores(axes: Axes, probes: list[Probe]) -> None:
    plain_axes(axes, "layer, first to last", "accuracy of a probe")
    axes.grid(False, axis="x")
    splits = list(probes[0].scores)
    for index, split in enumerate(splits):
        scores = [probe.scores[split] for probe in probes]
        places = np.arange(1, len(probes) + 1) + 0.18 * (index - (len(splits) - 1) / 2)
        values = np.array([s.accuracy for s in scores])
        reach = np.array([[s.accuracy - s.low, s.high - s.accuracy] for s in scores]).T
        axes.errorbar(
            places,
            values,
            yerr=np.maximum(reach, 0.0),
            fmt="o-",
            color=COLOURS.get(split, INK),
            markersize=3.5,
            linewidth=1.1,
            elinewidth=1.0,
            capsize=0,
            label=f"{split} ({scores[0].num_images} images)",
        )
    axes.set_xticks(np.arange(1, len(probes) + 1))
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=SMALL_PT, frameon=False, loc="lower right", labelcolor=INK)


def draw_similarity(
    matrix: NDArray[np.float64], *, title: str, subtitle: str, names: tuple[str, ...]
) -> Figure:
    """(L, M) similarities: the first network's layers upwards, the second's to the right."""
    rows, columns = matrix.shape
    cell = min(0.42, 4.4 / max(rows, columns))
    width, height = max(4.6, columns * cell + 0.8), rows * cell + 0.95
    figure, box = new_figure(width, height, title, subtitle)
    axes = box.axes(0.5, 0.1, columns * cell, rows * cell)
    shown = axes.imshow(matrix, cmap=AMOUNT, vmin=0, vmax=1, origin="lower", aspect="auto")
    axes.set_xticks(range(columns), [str(i + 1) for i in range(columns)])
    axes.set_yticks(range(rows), [str(i + 1) for i in range(rows)])
    axes.tick_params(labelsize=SMALL_PT, colors=FAINT, length=0)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    axes.set_xlabel(f"layer of {names[1]}", fontsize=SMALL_PT, color=FAINT, labelpad=2)
    axes.set_ylabel(f"layer of {names[0]}", fontsize=SMALL_PT, color=FAINT, labelpad=2)
    if cell >= 0.3:
        for row in range(rows):
            for column in range(columns):
                value = matrix[row, column]
                axes.text(
                    column,
                    row,
                    f"{value:.2f}".removeprefix("0") if value < 0.995 else "1",
                    ha="center",
                    va="center",
                    fontsize=TEXT_PT - 2,
                    color="white" if value < 0.6 else INK,
                )
    colour_bar(
        box, shown, "linear CKA", left=0.5, top=rows * cell + 0.5, width=min(2.2, columns * cell)
    )
    return figure
