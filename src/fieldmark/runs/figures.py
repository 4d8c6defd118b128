"""The figures of a run: PNG and SVG files in `figures/`, and what each of them shows."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fieldmark.errors import RunChangedError
from fieldmark.runs.files import save_bytes, save_json, save_text
from fieldmark.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG_DPI = 160


@dataclass(frozen=True)
class Drawing:
    """A figure and what it shows.

    what: the kind, such as "attention"; model: the network's name; detail: what tells it from
    others of its kind, such as "block11-leaf.jpg". title and caption are for people; the caption
    names model, layer, image and split. page: the same as a web page, where there is one.
    """

    what: str
    model: str
    detail: str
    title: str
    caption: str
    figure: Figure
    page: str | None = None

    @property
    def stem(self) -> str:
        """`<what>-<model>-<detail>`, safe as a file name."""
        words = "-".join((self.what, self.model, self.detail))
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in words)


@dataclass(frozen=True)
class FigureEntry:
    """A stored figure: `<stem>.png` and `<stem>.svg` in the run's `figures/`, perhaps `.html`."""

    stem: str
    what: str
    title: str
    caption: str
    has_page: bool = False


def save_drawings(folder: RunFolder, drawings: Iterable[Drawing]) -> list[FigureEntry]:
    """Write each drawing as PNG and SVG and list it; one of the same name is replaced."""
    known = {entry.stem: entry for entry in load_figures(folder)}
    saved = []
    for drawing in drawings:
        for suffix in ("png", "svg"):
            content = io.BytesIO()
            drawing.figure.savefig(
                content,
                format=suffix,
                dpi=PNG_DPI,
                # The same figure gives the same bytes.
                metadata={"Software": None} if suffix == "png" else {"Date": None},
            )
            save_bytes(folder.figures_dir / f"{drawing.stem}.{suffix}", content.getvalue())
        if drawing.page is not None:
            save_text(folder.figures_dir / f"{drawing.stem}.html", drawing.page)
        entry = FigureEntry(
            drawing.stem, drawing.what, drawing.title, drawing.caption, drawing.page is not None
        )
        known[entry.stem] = entry
        saved.append(entry)
        save_json(folder.figures_dir / "index.json", [asdict(e) for e in known.values()])
    return saved


def load_figures(folder: RunFolder) -> list[FigureEntry]:
    """The stored figures, in the order they were first drawn; none before any was drawn."""
    path = folder.figures_dir / "index.json"
    if not path.is_file():
        return []
    try:
        entries = [FigureEntry(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise RunChangedError(
            f"{path}: is not a list of figures by fieldmark or was changed: {error}. Remove it, "
            "and draw the figures anew by `fieldmark inspect`"
        ) from error
    return [e for e in entries if (folder.figures_dir / f"{e.stem}.png").is_file()]
