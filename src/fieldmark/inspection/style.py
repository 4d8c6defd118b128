"""One look for all figures: paper, ink, fonts, colour maps, titles and captions.

Figures are made by matplotlib's objects alone (`Figure`, no pyplot), so that nothing global
changes in the program that draws them. The paper is nearly white in light and dark pages alike:
pictures and colour maps keep their meaning on it.
"""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

PAPER = "#fcfcfa"
INK = "#1d2321"
FAINT = "#66706c"
RULE = "#d5d9d6"

AMOUNT = "viridis"
"""For what is none or some: attention, activity, evidence."""
AMOUNT_ON_IMAGE = "magma"
SIGNED = "RdBu_r"
"""For what has a sign: weights; zero is white."""
GREY = "cividis"

BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SERIES = (BLUE, ORANGE, GREEN, PINK, "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's colours, told apart by people who see no red or no green."""

FONT = FontProperties(family="DejaVu Sans")
TITLE_PT, TEXT_PT, SMALL_PT = 12.5, 8.5, 7.5
MARGIN = 0.28
"""Inches around the figure."""
TITLE_ROOM = 0.34
LINE_ROOM = 0.155
"""Inches of the title, and of one line below it."""


def new_figure(width: float, height: float, title: str, subtitle: str = "") -> tuple[Figure, Box]:
    """Return a figure whose content takes `width` x `height` inches, and the box of the content.

    The title and the subtitle (wrapped to the width) stand above, so that figures of any size
    have the same margins.
    """
    per_line = max(30, int(width * 14.6))
    titles = wrap(title, max(20, int(width * 9.4)))
    lines = wrap(subtitle, per_line)
    head = TITLE_ROOM * len(titles) + LINE_ROOM * len(lines) + 0.08
    total_width, total_height = width + 2 * MARGIN, height + head + 2 * MARGIN
    figure = Figure(figsize=(total_width, total_height), facecolor=PAPER)
    top = total_height - MARGIN
    for index, line in enumerate([*titles, *lines]):
        is_title = index < len(titles)
        figure.text(
            MARGIN / total_width,
            top / total_height,
            line,
            ha="left",
            va="top",
            color=INK if is_title else FAINT,
            fontsize=TITLE_PT if is_title else TEXT_PT,
            fontweight="bold" if is_title else "normal",
        )
        top -= TITLE_ROOM * 0.82 if is_title else LINE_ROOM
    return figure, Box(figure, MARGIN, MARGIN, width, height)


class Box:
    """A rectangle of a figure in inches, from its lower left corner."""

    def __init__(self, figure: Figure, left: float, bottom: float, width: float, height: float):
        self.figure = figure
        self.left, self.bottom, self.width, self.height = left, bottom, width, height
        self._shared: Axes | None = None

    def axes(self, left: float, top: float, width: float, height: float, title: str = "") -> Axes:
        """Add axes at inches from the box's left and top."""
        total_width, total_height = self.figure.get_size_inches()
        rectangle = (
            (self.left + left) / total_width,
            (self.bottom + self.height - top - height) / total_height,
            width / total_width,
            height / total_height,
        )
        axes = self.figure.add_axes(rectangle, facecolor=PAPER)
        if title:
            axes.set_title(title, fontsize=TEXT_PT, color=INK, pad=4)
        return axes

    def show(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        pixels: NDArray[np.generic],
        *,
        cmap: str | None = None,
        limits: tuple[float, float] | None = None,
    ) -> AxesImage:
        """Show (h, w) values or (h, w, 3) colours upright, at inches from the box's left and top.

        All pictures of a box share one pair of axes in inches: a hundred of them cost little.
        """
        low, high = limits or (None, None)
        left_edge, top_edge = (
            self.left + left,
            self.figure.get_size_inches()[1] - (self.bottom + self.height - top),
        )
        return self._inches().imshow(
            pixels,
            cmap=cmap,
            vmin=low,
            vmax=high,
            interpolation="nearest",
            aspect="auto",
            extent=(left_edge, left_edge + width, top_edge + height, top_edge),
        )

    def _inches(self) -> Axes:
        """Axes as large as the figure, in inches from its upper left corner."""
        if self._shared is None:
            total_width, total_height = self.figure.get_size_inches()
            axes = self.figure.add_axes((0, 0, 1, 1), facecolor="none")
            axes.set_axis_off()
            axes.set_xlim(0, total_width)
            axes.set_ylim(total_height, 0)
            axes.set_autoscale_on(False)
            self._shared = axes
        return self._shared

    def text(
        self, left: float, top: float, text: str, *, bold: bool = False, **settings: object
    ) -> None:
        """Write at inches from the box's left and top."""
        total_width, total_height = self.figure.get_size_inches()
        chosen: dict[str, object] = {
            "ha": "left",
            "va": "top",
            "fontsize": TEXT_PT,
            "color": INK,
            "fontweight": "bold" if bold else "normal",
            **settings,
        }
        self.figure.text(
            (self.left + left) / total_width,
            (self.bottom + self.height - top) / total_height,
            text,
            **chosen,  # type: ignore[arg-type]
        )


def overlay(image: NDArray[np.uint8], values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Colour the image (H, W, 3) by values (h, w) in 0..1: (H, W, 3) in 0..1.

    The image turns grey, and the more a place counts, the more it takes the colour. Values stay
    a grid of cells: smoothing would pretend to know more than there is.
    """
    height, width = image.shape[:2]
    clipped = np.clip(np.asarray(values, dtype=np.float32), 0.0, 1.0)
    grid = to_size(clipped, height, width)[..., None]
    grey = (image.astype(np.float32) / 255.0) @ np.array((0.299, 0.587, 0.114), np.float32)
    colours = colormaps[AMOUNT](0.2 + 0.8 * grid[..., 0])[..., :3].astype(np.float32)
    weight = 0.06 + 0.8 * np.sqrt(grid)
    blended: NDArray[np.float32] = (1.0 - weight) * (0.12 + 0.83 * grey[..., None])
    return blended + weight * colours


def to_size(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Repeat the cells of a grid (h, w) to (height, width) pixels."""
    rows = (np.arange(height) * values.shape[0]) // height
    columns = (np.arange(width) * values.shape[1]) // width
    return values[rows][:, columns]


def scale_to_most(values: NDArray[np.floating], percentile: float = 95.0) -> NDArray[np.float32]:
    """From 0 to a percentile of the values becomes 0..1; those above it are 1.

    Vision Transformers store things in a few tokens of the background, whose lengths and shares
    are many times those of the others: on a scale up to the maximum nothing else would be seen.
    Where that percentile is 0 the maximum takes its place.
    """
    positive = np.clip(np.asarray(values, dtype=np.float32), 0.0, None)
    top = float(np.percentile(positive, percentile)) or float(positive.max())
    return np.clip(positive / top, 0.0, 1.0) if top > 0.0 else positive


def plain_axes(axes: Axes, x_label: str = "", y_label: str = "") -> None:
    """Make a chart of two thin rules and small labels."""
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.tick_params(labelsize=SMALL_PT, colors=FAINT, length=2.5, width=0.6)
    axes.set_xlabel(x_label, fontsize=SMALL_PT, color=FAINT, labelpad=2)
    axes.set_ylabel(y_label, fontsize=SMALL_PT, color=FAINT, labelpad=3)
    axes.grid(True, color=RULE, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)


def colour_bar(
    box: Box,
    shown: AxesImage,
    label: str,
    *,
    left: float,
    top: float,
    width: float,
    height: float = 0.09,
) -> Colorbar:
    """A thin scale that lies below what it explains, at inches from the box's left and top."""
    axes = box.axes(left, top, width, height)
    bar = box.figure.colorbar(shown, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=SMALL_PT, colors=FAINT, length=2, width=0.6)
    bar.ax.xaxis.set_major_locator(_few_ticks())
    bar.set_label(label, fontsize=SMALL_PT, color=FAINT, labelpad=2)
    return bar


def _few_ticks() -> object:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)
