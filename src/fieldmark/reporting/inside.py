"""What `fieldmark inspect` drew of a run, made small enough to live in its page."""

from __future__ import annotations

from base64 import b64encode
from collections import defaultdict
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from fieldmark.reporting.material import Material
from fieldmark.runs.figures import load_figures

MAX_WIDTH_PX = 1280
MAX_HEIGHT_PX = 2400
QUALITY = 82
# The page is to stay under 6 MB: 2.4 MB of figures are 3.2 MB as text.
MAX_TOTAL_BYTES = 2_400_000

_TITLES = {
    "filters": "Filters",
    "features": "Feature maps",
    "attention": "Attention",
    "saliency": "What mattered",
    "layers": "Layers",
    "landscape": "Loss landscape",
    "neighbours": "Neighbours",
    "mistakes": "Mistakes",
    "classes": "Classes",
}


@dataclass(frozen=True)
class ShownFigure:
    """A figure as a data URI, with its size in px and its words."""

    title: str
    caption: str
    source: str
    width: int
    height: int
    page: str | None


@dataclass(frozen=True)
class FigureGroup:
    """Figures of one kind."""

    title: str
    figures: tuple[ShownFigure, ...]


@dataclass(frozen=True)
class Inside:
    """The figures by kind; `left_out` are the files of those the page has no room for."""

    groups: tuple[FigureGroup, ...]
    left_out: tuple[str, ...]


def build_inside(material: Material) -> Inside | None:
    """Embed the stored figures, in the order they were drawn; None where there are none."""
    groups: defaultdict[str, list[ShownFigure]] = defaultdict(list)
    left_out, room = [], MAX_TOTAL_BYTES
    for entry in load_figures(material.folder):
        path = material.folder.figures_dir / f"{entry.stem}.png"
        shrunk = _shrink(path) if room > 0 else None
        if shrunk is None or len(shrunk[0]) > room:
            left_out.append(path.name)
            continue
        content, (width, height) = shrunk
        room -= len(content)
        source = "data:image/webp;base64," + b64encode(content).decode("ascii")
        page = f"figures/{entry.stem}.html" if entry.has_page else None
        groups[entry.what].append(
            ShownFigure(entry.title, entry.caption, source, width, height, page)
        )
    if not groups and not left_out:
        return None
    return Inside(
        tuple(
            FigureGroup(_TITLES.get(what, what.capitalize()), tuple(figures))
            for what, figures in groups.items()
        ),
        tuple(left_out),
    )


def _shrink(path: Path) -> tuple[bytes, tuple[int, int]] | None:
    """The picture as WebP and its size; None where the file is no picture any more."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    # Drawn for white paper; without it the dark page would swallow the ink.
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture.getchannel("A"))
    paper.thumbnail((MAX_WIDTH_PX, MAX_HEIGHT_PX), Image.Resampling.LANCZOS)
    out = BytesIO()
    paper.save(out, "WEBP", quality=QUALITY, method=4)
    return out.getvalue(), paper.size
