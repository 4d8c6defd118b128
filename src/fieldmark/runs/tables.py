"""Writing a table of images out as a folder that every tool can read."""

from __future__ import annotations

from pathlib import Path

from fieldmark.data.table import Table
from fieldmark.errors import RunExistsError
from fieldmark.runs.files import render_csv, save_text, storage_errors


def save_table(table: Table, folder: Path) -> Path:
    """Write the images and a `table.csv` of `image,label` (and `tags`, where there are any).

    Returns the path of the table. A folder that holds anything is refused.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunExistsError(f"{folder}: is already there and not empty; name a new folder")
    has_tags = any(row.tags is not None for row in table.rows)
    with storage_errors(folder):
        for row in table.rows:
            path = folder / row.image
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(table.store.read(row.image))
    header = ("image", "label", "tags") if has_tags else ("image", "label")
    rows = [(r.image, r.label, ";".join(r.tags or ()))[: len(header)] for r in table.rows]
    save_text(folder / "table.csv", render_csv(header, rows))
    return folder / "table.csv"
