"""Images of a table for sheets of many: which, and their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmark.data.images import decode_image
from fieldmark.data.stores import ImageStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import UnreadableImageError
from fieldmark.seeds import derive_seed

Pixels = NDArray[np.uint8]
BLANK = 236


def read_picture(store: ImageStore, image: str, side_px: int = 160) -> Pixels:
    """(h, w, 3) with the longer side at most `side_px`; grey where the image cannot be read."""
    try:
        picture = decode_image(store.read(image))
    except UnreadableImageError:
        return np.full((side_px, side_px, 3), BLANK, dtype=np.uint8)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return np.asarray(picture.convert("RGB"))


def shorten(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def say(label: str) -> str:
    """A class name for people: `acer_rubrum` -> `acer rubrum`; it cannot become mathematics."""
    return label.replace("_", " ").replace("$", r"\$")


def say_file(image: str, length: int = 22) -> str:
    """The end of an image's path."""
    name = image.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("$", r"\$")
    return name if len(name) <= length else "…" + name[-(length - 1) :]


def choose_rows(table: Table, most: int, seed: int) -> list[Row]:
    """At most so many rows, in random order, the first of each class before the second of any."""
    order = np.random.default_rng(derive_seed(seed, "rows")).permutation(len(table.rows))
    seen: dict[str, int] = {}
    ranked = []
    for place, index in enumerate(order.tolist()):
        row = table.rows[index]
        seen[row.label] = seen.get(row.label, 0) + 1
        ranked.append((seen[row.label], place, row))
    return [row for _, _, row in sorted(ranked, key=lambda entry: entry[:2])[:most]]
