"""The confusion matrix as inline SVG: a square per pair that occurs, and what the page reads of it.

The names of the classes are not in the drawing. They are lists beside it, which stay in sight and
keep their size when the page makes the squares larger.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from unicodedata import east_asian_width

from markupsafe import Markup

from fieldmark.reporting.confusion import Cell, Confusion
from fieldmark.reporting.wording import shorten

MAX_NAME = 24
MAX_CLASSES_COUNTED = 20
MAX_CLASSES_NAMED = 60
_SHADES = 24
_SIDE = 20


def draw_matrix(confusion: Confusion) -> Markup:
    """Rows are true classes, columns predicted ones; colour is the share of the row.

    Squares of one shade are one path, so that 200 x 200 of them are drawn at once.
    """
    count = len(confusion.names)
    by_shade: defaultdict[tuple[str, float], list[Cell]] = defaultdict(list)
    for cell in confusion.cells:
        kind = "right" if cell.row == cell.column else "wrong"
        by_shade[kind, _opacity(cell.share)].append(cell)
    squares = (
        Markup('<path class="{}" fill-opacity="{:g}" d="{}"/>').format(kind, shade, _squares(cells))
        for (kind, shade), cells in sorted(by_shade.items())
    )
    counts = map(_draw_count, confusion.cells) if count <= MAX_CLASSES_COUNTED else ()
    return Markup(
        '<svg class="cells" viewBox="0 0 {size} {size}" role="img" aria-label="{label}">'
        '{squares}{counts}<rect class="cursor" width="{side}" height="{side}" hidden=""/></svg>'
    ).format(
        size=count * _SIDE,
        side=_SIDE,
        label=f"Confusion matrix of {count} classes. The table below it names the most "
        "frequent confusions.",
        squares=_join(squares),
        counts=_join(counts),
    )


def list_matrix(confusion: Confusion) -> dict[str, object]:
    """What the page needs to say what a square means.

    Per row one flat list: column, count, column, count, and so on.
    """
    rows: list[list[int]] = [[] for _ in confusion.names]
    for cell in confusion.cells:
        rows[cell.row] += cell.column, cell.count
    return {"names": confusion.names, "support": confusion.support, "rows": rows}


def short_name(name: str) -> str:
    """The name as it stands beside its row and over its column."""
    return shorten(name, MAX_NAME)


def width_of_names(names: Iterable[str]) -> float:
    """A generous estimate of how wide the longest of them is, in font sizes."""
    return round(max(map(_width, map(short_name, names))) + 0.8, 1)


def _width(text: str) -> float:
    return sum(1.05 if east_asian_width(letter) in "WF" else 0.58 for letter in text)


def _squares(cells: Iterable[Cell]) -> str:
    side = _SIDE
    return "".join(f"M{c.column * side} {c.row * side}h{side}v{side}h-{side}z" for c in cells)


def _draw_count(cell: Cell) -> Markup:
    digits = len(str(cell.count))
    return Markup(
        '<text class="{}" x="{}" y="{}" dy=".36em" font-size="{}" text-anchor="middle">{}</text>'
    ).format(
        _ink_on(_opacity(cell.share)),
        (cell.column + 0.5) * _SIDE,
        (cell.row + 0.5) * _SIDE,
        7.5 if digits < 4 else 5.5,
        cell.count,
    )


def _opacity(share: float) -> float:
    """Rises faster than the share, so that a single mistake is still seen."""
    exact = 0.2 + 0.8 * math.pow(share, 0.75)
    return round(math.ceil(exact * _SHADES) / _SHADES, 2)


def _ink_on(opacity: float) -> str:
    """The style whose colour is read best; on middling ones light and dark pages differ."""
    if opacity < 0.58:
        return "on-faint"
    return "on-middle" if opacity < 0.84 else "on-strong"


_join = Markup().join
