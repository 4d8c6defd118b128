"""The confusion matrix as inline SVG, one cell per pair that occurs."""

from __future__ import annotations

import math

from markupsafe import Markup

from fieldmark.reporting.confusion import Cell, Confusion
from fieldmark.reporting.wording import say_share, shorten

MAX_NAME = 22
MAX_CLASSES_COUNTED = 20
_LETTER = 0.56
_STRONG = 0.6


def draw_matrix(confusion: Confusion) -> Markup:
    """Rows are true classes, columns predicted ones; colour is the share of the row.

    The drawing is as wide as its names need to be read; the page may show it smaller.
    """
    count = len(confusion.names)
    side = cell_side(count)
    font = min(13.0, 0.82 * side)
    margin = round(_LETTER * font * max(len(shorten(n, MAX_NAME)) for n in confusion.names) + 12)
    size = margin + count * side + 2
    return Markup(
        '<svg class="matrix" viewBox="0 0 {size} {size}" width="{size}" height="{size}" '
        'role="img" aria-label="{label}" style="font-size:{font:.1f}px">'
        '<g class="names">{names}</g><g transform="translate({margin} {margin})">'
        '<rect class="frame" x="-1" y="-1" width="{inner}" height="{inner}"/>{cells}</g></svg>'
    ).format(
        size=size,
        margin=margin,
        inner=count * side + 2,
        font=font,
        label=f"Confusion matrix of {count} classes. The table of confusions below tells "
        "the most frequent in words.",
        names=_draw_names(confusion.names, side, margin),
        cells=Markup().join(_draw_cell(cell, confusion, side) for cell in confusion.cells),
    )


def cell_side(num_classes: int) -> int:
    """Side of a cell in px: large for few classes, still with a readable name for many."""
    return next(
        side
        for most, side in ((6, 64), (12, 46), (20, 36), (40, 18), (10**9, 12))
        if num_classes <= most
    )


def _draw_names(names: tuple[str, ...], side: int, margin: int) -> Markup:
    corner = Markup(
        '<text class="axis" x="{x}" y="{upper:.1f}" text-anchor="end">taken for →</text>'
        '<text class="axis" x="{x}" y="{lower:.1f}" text-anchor="end">true ↓</text>'
    ).format(x=margin - 7, upper=margin - 0.6 * side - 10, lower=margin - 8)
    parts = [corner]
    for place, name in enumerate(names):
        middle = margin + (place + 0.5) * side
        short = shorten(name, MAX_NAME)
        parts.append(
            Markup(
                '<text x="{x}" y="{y:g}" dy=".35em" text-anchor="end">{name}</text>'
                '<text transform="translate({y:g} {x}) rotate(-90)" dy=".35em">{name}</text>'
            ).format(x=margin - 7, y=middle, name=short)
        )
    return Markup().join(parts)


def _draw_cell(cell: Cell, confusion: Confusion, side: int) -> Markup:
    true, predicted = confusion.names[cell.row], confusion.names[cell.column]
    right = cell.row == cell.column
    title = f"{true}: " if right else f"{true} taken for {predicted}: "
    title += f"{cell.count} of {confusion.support[cell.row]} ({say_share(cell.share)})"
    x, y = cell.column * side, cell.row * side
    drawn = Markup(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}" fill-opacity="{:.2g}">'
        "<title>{}</title></rect>"
    ).format("right" if right else "wrong", x, y, side, side, _opacity(cell.share), title)
    if len(confusion.names) > MAX_CLASSES_COUNTED:
        return drawn
    return drawn + Markup(
        '<text class="{}" x="{}" y="{}" dy=".35em" text-anchor="middle">{}</text>'
    ).format(
        "on-strong" if _opacity(cell.share) >= _STRONG else "on-faint",
        x + side / 2,
        y + side / 2,
        cell.count,
    )


def _opacity(share: float) -> float:
    """Rises faster than the share, so that a single mistake is still seen."""
    return round(0.12 + 0.88 * math.pow(share, 0.7), 2)
