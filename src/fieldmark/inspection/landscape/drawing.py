"""Landscapes as contour and surface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from fieldmark.inspection.landscape.line import Line
from fieldmark.inspection.landscape.surface import Grid, Surface
from fieldmark.inspection.style import (
    AMOUNT,
    BLUE,
    FAINT,
    INK,
    ORANGE,
    PAPER,
    RULE,
    SMALL_PT,
    TEXT_PT,
    Box,
    new_figure,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_LEVELS = 18
TINY = 1e-6
VIEW = (28, -58)
"""Height and angle that the surface is seen from, degrees."""


def draw_surface(surface: Surface, *, title: str, subtitle: str, guess: float) -> Figure:
    """One landscape: contours on the left, the same as a surface on the right.

    guess: the loss of a network that knows nothing, drawn as a dashed line where it is reached.
    """
    figure, box = new_figure(8.2, 3.9, title, subtitle)
    norm = _scale([surface])
    _draw_contours(box.axes(0.42, 0.1, 3.35, 3.35), surface, norm, guess, labelled=True)
    _draw_hill(box, (4.0, -0.15, 4.3, 4.15), surface, norm)
    return figure


def draw_side_by_side(surfaces: Mapping[str, Surface], *, title: str, subtitle: str = "") -> Figure:
    """Several landscapes on one scale of loss: contours above, surfaces below."""
    side, gap = 2.3, 0.28
    width = len(surfaces) * (side + gap) + 0.2
    figure, box = new_figure(width, 2 * side + 0.75, title, subtitle)
    norm = _scale(list(surfaces.values()))
    for column, (name, surface) in enumerate(surfaces.items()):
        left = 0.38 + column * (side + gap)
        axes = box.axes(left, 0.3, side, side, title=name)
        _draw_contours(axes, surface, norm, None, labelled=column == 0)
        _draw_hill(box, (left - 0.15, side + 0.45, side + 0.25, side + 0.25), surface, norm)
    return figure


def draw_line(line: Line, *, title: str, subtitle: str, names: tuple[str, str]) -> Figure:
    """The loss from one network to another."""
    figure, box = new_figure(5.6, 2.9, title, subtitle)
    axes = box.axes(0.5, 0.25, 4.95, 2.2)
    plain_axes(axes, "place on the line", "loss, nats")
    axes.plot(line.places, line.losses, color=BLUE, linewidth=1.8)
    if line.losses.max() > 20 * max(line.losses.min(), 1e-3):
        axes.set_yscale("log")
        axes.minorticks_off()
    for place, name in zip((0.0, 1.0), names, strict=True):
        loss = float(line.losses[np.abs(line.places - place).argmin()])
        axes.plot([place], [loss], "o", color=ORANGE, markersize=6, zorder=3)
        axes.annotate(
            f"{name}\n{loss:.3g}",
            (place, loss),
            textcoords="offset points",
            xytext=(0, 10),
            ha="center",
            fontsize=SMALL_PT,
            color=INK,
        )
    axes.margins(y=0.22)
    return figure


def _scale(surfaces: list[Surface]) -> LogNorm:
    """From the lowest loss to the highest; a loss has no upper end, and a colour map has one."""
    low = min(float(s.losses.min()) for s in surfaces)
    high = max(float(s.losses.max()) for s in surfaces)
    return LogNorm(max(low, TINY), max(high, 2 * max(low, TINY)))


def _levels(norm: LogNorm) -> Grid:
    assert norm.vmin is not None and norm.vmax is not None
    return np.geomspace(norm.vmin, norm.vmax * (1 + 1e-9), NUM_LEVELS)


def _draw_contours(
    axes: Axes, surface: Surface, norm: LogNorm, guess: float | None, *, labelled: bool
) -> None:
    losses = np.clip(surface.losses, norm.vmin, None)
    steps, levels = surface.steps, _levels(norm)
    axes.contourf(steps, steps, losses, levels=levels, cmap=AMOUNT, norm=norm, extend="both")
    lines = axes.contour(
        steps, steps, losses, levels=levels, colors="white", linewidths=0.45, alpha=0.75
    )
    axes.clabel(lines, levels[::2].tolist(), fmt=_say, fontsize=6, inline_spacing=2)
    if guess is not None and losses.min() < guess < losses.max():
        dashed = axes.contour(
            steps, steps, losses, levels=[guess], colors=[ORANGE], linewidths=1.4, linestyles="--"
        )
        axes.clabel(dashed, fmt=lambda _: "guessing", fontsize=6.5, inline_spacing=2)
    axes.plot([0], [0], "P", color="white", markeredgecolor=INK, markersize=8, markeredgewidth=0.9)
    plain_axes(axes, "first direction", "second direction" if labelled else "")
    axes.tick_params(labelleft=labelled)
    axes.grid(False)
    axes.set_aspect("equal")


def _draw_hill(
    box: Box, place: tuple[float, float, float, float], surface: Surface, norm: LogNorm
) -> None:
    axes: Any = box.axes(*place)
    position = axes.get_position()
    axes.remove()
    axes = box.figure.add_axes(position, projection="3d", facecolor=PAPER)
    axes.patch.set_alpha(0.0)
    first, second = np.meshgrid(surface.steps, surface.steps)
    losses = surface.losses
    axes.plot_surface(
        first,
        second,
        losses,
        cmap=AMOUNT,
        norm=norm,
        rstride=1,
        cstride=1,
        linewidth=0.15,
        edgecolor=(1, 1, 1, 0.25),
        antialiased=True,
    )
    axes.set_zlim(0, float(norm.vmax or 1.0))
    axes.view_init(*VIEW)
    axes.set_box_aspect((1, 1, 0.72), zoom=1.06)
    axes.tick_params(labelsize=6.5, colors=FAINT, pad=-2)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"].update({"color": RULE, "linewidth": 0.5})
        axis.line.set_color(RULE)
        axis.set_major_locator(_few())
    axes.set_zlabel("loss, nats", fontsize=TEXT_PT - 1.5, color=FAINT, labelpad=-4)


def _few() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)


def _say(loss: float) -> str:
    return f"{loss:.2g}"
