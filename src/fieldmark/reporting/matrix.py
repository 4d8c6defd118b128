"""The confusion matrix as inline SVG, one cell per pair that occurs."""

from __future__ import annotations

import math
from unicodedata import east_asian_width

from markupsafe import Markup

from fieldmark.reporting.confusion import Cell, Confusion
from fieldmark.reporting.wording import say_share, shorten

MAX_NAME = 22
MAX_CLASSES_COUNTED = 20
_COLUMNS_TITLE, _ROWS_TITLE = "taken for →", "true ↓"
_GAP = 7


def draw_matrix(confusion: Confusion) -> Markup:
    """Rows are true classes, columns predicted ones; colour is the share of the row.

    The drawing is as large as its names need to be read; the page may show it smaller.
    """
    count = len(confusion.names)
    side = _cell_side(count)
    font = min(13.0, 0.82 * side)
    shown = [*(shorten(name, MAX_NAME) for name in confusion.names), _COLUMNS_TITLE]
    margin = round(font * max(map(_width, shown))) + 2 * _GAP
    size = margin + count * side + 2
    return Markup(
        '<svg class="matrix" viewBox="0 0 {size} {size}" width="{size}" height="{size}" '
        'role="img" aria-label="{label}" style="font-size:{font:.1f}px">'
        '<g class="names">{titles}{names}</g><g transform="translate({margin} {margin})">'
        '<rect class="frame" x="-1" y="-1" width="{inner}" height="{inner}"/>{cells}</g></svg>'
    ).format(
        size=size,
        margin=margin,
        inner=count * side + 2,
        font=font,
        label=f"Confusion matrix of {count} classes. The table below it names the most "
        "frequent confusions.",
        titles=_draw_titles(margin, font),
        names=_join(
            _draw_name(name, margin + (place + 0.5) * side, margin)
            for place, name in enumerate(confusion.names)
        ),
        cells=_join(_draw_cell(cell, confusion, side) for cell in confusion.cells),
    )


def _cell_side(num_classes: int) -> int:
    """Side of a cell in px: large for few classes, still with a readable name for many."""
    sides = ((6, 64), (12, 46), (20, 36), (40, 18))
    return next((side for most, side in sides if num_classes <= most), 12)


def _width(text: str) -> float:
    """A generous estimate of how wide a text is, in font sizes."""
    return sum(1.05 if east_asian_width(letter) in "WF" else 0.62 for letter in text)


def _draw_titles(margin: int, font: float) -> Markup:
    return Markup(
        '<text class="axis" x="{x}" y="{upper:.1f}" text-anchor="end">{columns}</text>'
        '<text class="axis" x="{x}" y="{lower:.1f}" text-anchor="end">{rows}</text>'
    ).format(
        x=margin - _GAP,
        upper=margin - _GAP - 1.6 * font,
        lower=margin - _GAP,
        columns=_COLUMNS_TITLE,
        rows=_ROWS_TITLE,
    )


def _draw_name(name: str, middle: float, margin: int) -> Markup:
    """The name of a class at its row and at its column."""
    return Markup(
        '<text x="{edge}" y="{middle:g}" dy=".35em" text-anchor="end">{name}</text>'
        '<text transform="translate({middle:g} {edge}) rotate(-90)" dy=".35em">{name}</text>'
    ).format(edge=margin - _GAP, middle=middle, name=shorten(name, MAX_NAME))


def _draw_cell(cell: Cell, confusion: Confusion, side: int) -> Markup:
    """A coloured square with its meaning as a title, and its count where there is room."""
    true, predicted = confusion.names[cell.row], confusion.names[cell.column]
    is_right = cell.row == cell.column
    what = f"{true}, named rightly" if is_right else f"{true}, taken for {predicted}"
    opacity = _opacity(cell.share)
    x, y = cell.column * side, cell.row * side
    square = Markup(
        '<rect class="{kind}" x="{x}" y="{y}" width="{side}" height="{side}" '
        'fill-opacity="{opacity:g}"><title>{title}</title></rect>'
    ).format(
        kind="right" if is_right else "wrong",
        x=x,
        y=y,
        side=side,
        opacity=opacity,
        title=f"{what}: {cell.count} of {confusion.support[cell.row]} ({say_share(cell.share)})",
    )
    if len(confusion.names) > MAX_CLASSES_COUNTED:
        return square
    return square + Markup(
        '<text class="{}" x="{}" y="{}" dy=".35em" text-anchor="middle">{}</text>'
    ).format(_ink_on(opacity), x + side / 2, y + side / 2, cell.count)


def _opacity(share: float) -> float:
    """Rises faster than the share, so that a single mistake is still seen."""
    return round(0.12 + 0.88 * math.pow(share, 0.7), 2)


def _ink_on(opacity: float) -> str:
    """The style whose colour is read best; on middling ones light and dark pages differ."""
    if opacity < 0.58:
        return "on-faint"
    return "on-middle" if opacity < 0.84 else "on-strong"


_join = Markup().join
