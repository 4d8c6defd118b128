"""Table files: a row per image, the images in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fieldmark.data.sources.delimited import read_delimited
from fieldmark.data.sources.faults import show
from fieldmark.data.sources.folders import IMAGE_ENDINGS
from fieldmark.data.sources.jsonlines import read_jsonlines
from fieldmark.data.sources.labels import with_classes
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.parquet import read_parquet
from fieldmark.data.sources.paths import ImagePaths, is_file, is_folder, list_folder
from fieldmark.data.sources.rows import Cells, build_rows
from fieldmark.data.stores import FolderStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import TableError

READERS: Mapping[str, Callable[[Path, Options], Cells]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_jsonlines,
    ".parquet": read_parquet,
}


def read_tabular(path: Path, options: Options) -> Table:
    """Read a table file whose ending is one of `READERS`.

    A path without a file behind it stays in the table: it becomes an unreadable image when the
    images are read. Raises `TableError`, also if not one image exists, and `UnsafePathError`.
    """
    root = options.image_root or path.parent
    if not is_folder(root):
        raise TableError(f"--image-root {root}: there is no such folder")
    cells = READERS[path.suffix.lower()](path, options)
    if not cells.image:
        raise TableError(f"{path} has a header but no rows.")
    paths = ImagePaths(root, allow_outside=options.allow_outside)
    rows, notes = build_rows(cells, options, source=str(path), locate=paths.key)
    _check_some_exist(rows, paths, path)
    table = Table(rows, FolderStore(paths.root), source=str(path), notes=notes)
    return with_classes(table, options)


def _check_some_exist(rows: tuple[Row, ...], paths: ImagePaths, path: Path) -> None:
    if any(paths.exists(row.image) for row in rows):
        return
    first = rows[0].image
    raise TableError(
        f"{path}: none of its {len(rows):,} images exists. Looked for {show(first)} and the others "
        f"in {paths.root}. {_suggestion(paths.root, first)}"
    )


def _suggestion(root: Path, image: str) -> str:
    for ending in sorted(IMAGE_ENDINGS):
        if is_file(root / f"{image}{ending}"):
            return f"There is '{image}{ending}': write the ending into the table."
    for folder in sorted(path for path in list_folder(root) if is_folder(path)):
        if is_file(folder / image):
            return f"They seem to be in another folder: --image-root {folder}"
    return "--image-root names the folder that the image paths start from."
