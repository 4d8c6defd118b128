"""A small SVG canvas: one visual language for all figures of docs/models.md.

Every figure is 760 px wide, has its own paper (a page may be dark where the reader's system is
light, and the other way round) and two sets of colours, chosen by `prefers-color-scheme`.
Kinds mean the same everywhere: "image" tokens and pixels, "class" token, "tags", "head" for what
classifies, "teacher" for what comes from another network, "skip" for what goes round a layer or
weighs it, "plain" for the rest.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH = 760
Pixels = NDArray[np.uint8]
Points = Sequence[tuple[float, float]]

_LIGHT = {
    "paper": "#fbfaf6",
    "ink": "#22261f",
    "muted": "#5c6257",
    "rule": "#d5d3c8",
    "image": "#2c6a99",
    "image-tint": "#dbe8f2",
    "class": "#b8690f",
    "class-tint": "#fae5c8",
    "tags": "#3d7a35",
    "tags-tint": "#dcedd7",
    "head": "#74489b",
    "head-tint": "#eadff3",
    "teacher": "#b03a3a",
    "teacher-tint": "#f7dcd9",
    "skip": "#0f7d78",
    "skip-tint": "#d3ecea",
    "plain": "#5c6257",
    "plain-tint": "#ecebe3",
}
_DARK = {
    "paper": "#15181a",
    "ink": "#e6e4dc",
    "muted": "#a2a79d",
    "rule": "#3d4345",
    "image": "#6aaede",
    "image-tint": "#1f3a4f",
    "class": "#e8a94f",
    "class-tint": "#4a3413",
    "tags": "#84c077",
    "tags-tint": "#213b1d",
    "head": "#bd97de",
    "head-tint": "#3a274b",
    "teacher": "#ea8a80",
    "teacher-tint": "#4b2422",
    "skip": "#5cc4bd",
    "skip-tint": "#163c3a",
    "plain": "#a2a79d",
    "plain-tint": "#2a2f31",
}
KINDS = ("image", "class", "tags", "head", "teacher", "skip", "plain")


class Figure:
    """Shapes in the order in which they are drawn, on a page of 760 x `height` px."""

    def __init__(self, height: int, *, title: str, text: str) -> None:
        """`title` and `text` are read to those who cannot see the picture."""
        self.height = height
        self._title, self._description = title, text
        self._parts: list[str] = []

    def render(self) -> str:
        """The whole file."""
        parts = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
            f'width="{WIDTH}" height="{self.height}" role="img">\n'
            f"<title>{escape(self._title)}</title>\n<desc>{escape(self._description)}</desc>\n"
            f"<style>\n{_style()}</style>\n"
            f'<rect class="paper" width="{WIDTH}" height="{self.height}" rx="8"/>\n'
            f"{parts}\n</svg>\n"
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 13,
        anchor: str = "start",
        kind: str = "ink",
        bold: bool = False,
        mono: bool = False,
    ) -> None:
        """One line whose baseline starts, is centred or ends at (x, y); kind: a colour."""
        faces = f"{' bold' if bold else ''}{' mono' if mono else ''}"
        self._parts.append(
            f'<text class="t-{kind}{faces}" x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" '
            f'text-anchor="{anchor}">{escape(words)}</text>'
        )

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        kind: str,
        *,
        form: str = "box",
        opacity: float = 1.0,
        radius: float = 3,
    ) -> None:
        """form: "box" (tinted, with a border), "full" (one colour), "open" or "dashed" (border)."""
        faded = "" if opacity == 1.0 else f' opacity="{opacity:.3f}"'
        self._parts.append(
            f'<rect class="{form}-{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" '
            f'height="{_n(height)}" rx="{_n(radius)}"{faded}/>'
        )

    def box(self, x: float, y: float, width: float, height: float, kind: str, *lines: str) -> None:
        """A tinted box with centred lines, the first one bold, the others smaller."""
        self.rect(x, y, width, height, kind)
        first, *rest = lines or ("",)
        top = y + height / 2 + 4.5 - 7.5 * len(rest)
        self.text(x + width / 2, top, first, size=13, anchor="middle", bold=True)
        for index, line in enumerate(rest, start=1):
            self.text(x + width / 2, top + 15 * index, line, size=11.5, anchor="middle")

    def line(self, points: Points, kind: str = "plain", *, form: str = "line") -> None:
        """form: "line", "curve" (thicker), "thin" or "dash"."""
        path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self._parts.append(f'<path class="{form}-{kind}" d="{path}"/>')

    def area(self, points: Points, kind: str) -> None:
        """A tinted area."""
        path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self._parts.append(f'<path class="area-{kind}" d="{path}Z"/>')

    def arrow(self, points: Points, kind: str = "plain") -> None:
        """A line with a head at its last point, whose last piece runs along an axis."""
        (x0, y0), (x1, y1) = points[-2], points[-1]
        length = max(abs(x1 - x0), abs(y1 - y0))
        right, down = (x1 - x0) / length, (y1 - y0) / length
        back = (x1 - 5 * right, y1 - 5 * down)
        self.line([*points[:-1], back], kind)
        tips = [
            (x1, y1),
            (x1 - 8 * right - 4 * down, y1 - 8 * down + 4 * right),
            (x1 - 8 * right + 4 * down, y1 - 8 * down - 4 * right),
        ]
        path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in tips)
        self._parts.append(f'<path class="full-{kind}" d="{path}Z"/>')

    def dot(self, x: float, y: float, radius: float, kind: str, *, form: str = "full") -> None:
        """A circle; form as of `rect`."""
        self._parts.append(
            f'<circle class="{form}-{kind}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"/>'
        )

    def mark(self, x: float, y: float, side: float) -> None:
        """A square frame that shows on any picture."""
        for form in ("outer", "inner"):
            self._parts.append(
                f'<rect class="mark-{form}" x="{_n(x)}" y="{_n(y)}" width="{_n(side)}" '
                f'height="{_n(side)}"/>'
            )

    def picture(self, x: float, y: float, side: float, pixels: Pixels, *, label: str) -> None:
        """Pixels (H, W, 3) in a square with a border."""
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=88, subsampling=0)
        data = b64encode(stream.getvalue()).decode("ascii")
        self._parts.append(
            f'<image x="{_n(x)}" y="{_n(y)}" width="{_n(side)}" height="{_n(side)}" '
            f'href="data:image/jpeg;base64,{data}"><title>{escape(label)}</title>'
            "</image>"
        )
        self.rect(x, y, side, side, "plain", form="open", radius=0)


def _style() -> str:
    lines = [
        f"svg {{ {_variables(_LIGHT)} }}",
        f"@media (prefers-color-scheme: dark) {{ svg {{ {_variables(_DARK)} }} }}",
        'text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", '
        '"Helvetica Neue", Arial, sans-serif; }',
        '.mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", '
        "monospace; }",
        ".bold { font-weight: 600; }",
        ".paper { fill: var(--paper); stroke: var(--rule); }",
        *(f".t-{name} {{ fill: var(--{name}); }}" for name in ("ink", "muted", *KINDS)),
        ".full-rule { fill: var(--rule); } .thin-rule { stroke: var(--rule); fill: none; }",
        ".full-ink { fill: var(--ink); } .full-paper { fill: var(--paper); }",
        ".mark-outer { fill: none; stroke: #ffffff; stroke-width: 4; }",
        ".mark-inner { fill: none; stroke: #b8290f; stroke-width: 1.8; }",
    ]
    for kind in KINDS:
        colour, tint = f"var(--{kind})", f"var(--{kind}-tint)"
        lines += [
            f".box-{kind} {{ fill: {tint}; stroke: {colour}; stroke-width: 1.2; }}",
            f".full-{kind} {{ fill: {colour}; }} .area-{kind} {{ fill: {tint}; }}",
            f".open-{kind} {{ fill: none; stroke: {colour}; stroke-width: 1.5; }}",
            f".dashed-{kind} {{ fill: none; stroke: {colour}; stroke-width: 1.5; "
            "stroke-dasharray: 5 4; }",
            f".line-{kind} {{ fill: none; stroke: {colour}; stroke-width: 1.6; }}",
            f".curve-{kind} {{ fill: none; stroke: {colour}; stroke-width: 2.4; "
            "stroke-linejoin: round; }",
            f".thin-{kind} {{ fill: none; stroke: {colour}; stroke-width: 0.8; }}",
            f".dash-{kind} {{ fill: none; stroke: {colour}; stroke-width: 1.4; "
            "stroke-dasharray: 4 4; }",
        ]
    return "\n".join(lines) + "\n"


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def _n(value: float) -> str:
    """A number with at most one decimal, so that rounding of floats never shows."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
