"""Figures of saliency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fieldmark.inspection.saliency.trust import Faithfulness
from fieldmark.inspection.style import (
    BLUE,
    FAINT,
    SMALL_PT,
    new_figure,
    overlay,
    plain_axes,
    scale_to_most,
)

Floats = NDArray[np.float32]
SIDE, GAP, CHART = 2.05, 0.2, 1.75


@dataclass(frozen=True)
class Sheet:
    """What is shown of one method.

    values: (H, W) the map. shuffled: (H, W) that of the first network with shuffled weights.
    correlations: of the map with those of each shuffled network.
    """

    label: str
    values: Floats
    faithfulness: Faithfulness
    shuffled: Floats
    correlations: tuple[float, ...]


def plot_saliency(
    image: NDArray[np.uint8], sheets: Sequence[Sheet], *, verdict: str, title: str, subtitle: str
) -> Figure:
    """One method a row: the map, deletion, insertion, and the map of shuffled weights."""
    head, foot = 0.24, 0.5
    step = head + SIDE + foot
    chart_left = 2 * (SIDE + GAP) + 0.28
    second = chart_left + CHART + 0.5
    last = second + CHART + 0.3
    figure, box = new_figure(last + SIDE, len(sheets) * step - 0.16, title, subtitle)
    box.text(0, 0, "image", bold=True)
    box.show(0, head, SIDE, SIDE, image)
    box.text(0, head + SIDE + 0.07, f"evidence for {verdict}", fontsize=SMALL_PT, color=FAINT)
    for row, sheet in enumerate(sheets):
        top = row * step
        left = SIDE + GAP
        box.text(left, top, sheet.label, bold=True)
        shown = overlay(image, scale_to_most(sheet.values, 99.0))
        box.show(left, top + head, SIDE, SIDE, shown)
        _plot_curves(box.axes(chart_left, top + head, CHART, SIDE), sheet, "deletion")
        _plot_curves(box.axes(second, top + head, CHART, SIDE), sheet, "insertion")
        box.text(chart_left, top, "deletion: low is good", bold=True)
        box.text(second, top, "insertion: high is good", bold=True)
        box.text(last, top, "same, shuffled weights", bold=True)
        shown = overlay(image, scale_to_most(sheet.shuffled, 99.0))
        box.show(last, top + head, SIDE, SIDE, shown)
        low, high = min(sheet.correlations), max(sheet.correlations)
        text = f"rank correlation {low:.2f} to {high:.2f}"
        box.text(last, top + head + SIDE + 0.07, text, fontsize=SMALL_PT, color=FAINT)
    return figure


def _plot_curves(axes: Axes, sheet: Sheet, kind: str) -> None:
    """The curve of the map, and the band and mean of the random maps."""
    found = sheet.faithfulness
    curve: Floats = getattr(found.curves, kind)
    random = np.stack([getattr(each, kind) for each in found.random])
    shares = np.linspace(0, 1, len(curve))
    plain_axes(axes, x_label=f"share of pixels {'deleted' if kind == 'deletion' else 'inserted'}")
    axes.fill_between(
        shares, random.min(axis=0), random.max(axis=0), color=FAINT, alpha=0.22, linewidth=0
    )
    areas = [getattr(each, f"{kind}_area") for each in found.random]
    random_label = f"{len(random)} random maps  {np.mean(areas):.2f}"
    axes.plot(
        shares, random.mean(axis=0), color=FAINT, linewidth=1, linestyle="--", label=random_label
    )
    area = getattr(found.curves, f"{kind}_area")
    axes.plot(shares, curve, color=BLUE, linewidth=1.6, label=f"this map  {area:.2f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(1.0, float(curve.max())) * 1.32)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("probability", fontsize=SMALL_PT, color=FAINT, labelpad=3)
    axes.legend(
        loc="upper right",
        frameon=False,
        fontsize=SMALL_PT - 0.5,
        labelcolor=FAINT,
        handlelength=1.4,
        borderaxespad=0.1,
        title="area under the curve",
        title_fontsize=SMALL_PT - 0.5,
        alignment="left",
    )
