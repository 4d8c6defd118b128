"""Every form of the argument DATA, read into a `Table`.

One module per form: `folders`, `tabular` (with `delimited`, `jsonlines` and `parquet`),
`huggingface`, `torchvision_sets`, `daf`. What they share: `paths` keeps image paths inside their
folder, `columns` finds the columns, `rows` and `labels` hold the rules for what is in them, and
`faults` tells of everything that is wrong at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from fieldmark.data.sources.columns import check_roles
from fieldmark.data.sources.daf import read_daf
from fieldmark.data.sources.faults import quoted
from fieldmark.data.sources.folders import IMAGE_ENDINGS, read_folder
from fieldmark.data.sources.huggingface import read_huggingface
from fieldmark.data.sources.labels import with_classes
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.paths import is_file, is_folder, list_folder
from fieldmark.data.sources.rows import SPLIT_NAMES
from fieldmark.data.sources.tabular import READERS, read_tabular
from fieldmark.data.sources.torchvision_sets import read_torchvision
from fieldmark.data.table import Table
from fieldmark.errors import TableError, hint, nearest
from fieldmark.recipes.schema import Data, Task

FORMS = (
    "sample:leaves or sample:characters; a folder of class folders; a .csv, .tsv, .parquet or "
    ".jsonl table; hf:owner/name or hf:DIR; torchvision:NAME; daf:ROOT[:full|:moeimouto]"
)

__all__ = ["FORMS", "build_table", "read_table"]


def read_table(
    source: str | Path,
    *,
    task: Task | None = None,
    columns: Mapping[str, str] | None = None,
    image_root: str | Path | None = None,
    allow_outside: bool = False,
    labelled: bool = True,
) -> Table:
    """Read the images and labels of `source`, whatever form it has.

    source: see `FORMS`; a `Path` is always a file or folder.
    task: what the labels are for; None means multi-class.
    columns: role -> column name, for tables and Hugging Face datasets whose columns are not
        called image, label, tags, split and group.
    image_root: folder that a table's image paths start from (default: the table's own), or
        that holds the files of a torchvision dataset (default: `./data`).
    allow_outside: permit image paths and links that leave that folder. URLs never are.
    labelled: False for images to predict: labels and splits are not read, and rows that
        repeat an image stay.

    Images are not opened here. Raises `TableError` and `UnsafePathError`, whose text tells of
    all faults of the table at once.
    """
    options = Options(
        task=task or "multiclass",
        columns=dict(columns or {}),
        image_root=None if image_root is None else Path(image_root),
        allow_outside=allow_outside,
        labelled=labelled,
    )
    text = str(source)
    if "\0" in text or not text:
        raise TableError(f"{text!r} names no data. DATA is one of: {FORMS}.")
    if isinstance(source, str) and "://" in source:
        raise TableError(f"{text} is a URL: download it first. DATA is one of: {FORMS}.")
    prefix, _, rest = text.partition(":")
    if isinstance(source, str) and prefix in _FORM_READERS:
        _check_options(prefix, options)
        table = _FORM_READERS[prefix](rest, options)
    else:
        table = _read_path(_expand_home(Path(text)), options)
    return replace(
        table,
        image_root=options.image_root,
        columns=options.columns,
        allow_outside=options.allow_outside,
    )


def build_table(data: Data, task: Task) -> Table:
    """Read the table that a recipe names as `data.source`."""
    return read_table(
        data.source or "",
        task=task,
        columns=data.columns,
        image_root=data.image_root,
        allow_outside=data.allow_outside,
    )


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # "~name" of no user: an ordinary name then
        return path


def _read_path(path: Path, options: Options) -> Table:
    ending = path.suffix.lower()
    if is_folder(path):
        inside = _find_table(path) if options.labelled else None
        if inside is not None:
            table = read_tabular(inside, options)
            note = f"{path} holds no class folders but one table, {inside.name}, which was read."
            return replace(table, notes=(note, *table.notes))
        _check_options("folder", options)
        return read_folder(path, options)
    if not is_file(path):
        raise TableError(_no_such_source(path))
    if ending in READERS:
        return read_tabular(path, options)
    if ending in IMAGE_ENDINGS:
        raise TableError(f"{path} is one image. DATA is a set of them: {FORMS}.")
    if ending in {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}:
        raise TableError(f"{path} is an archive: unpack it, and give the folder or table inside.")
    raise TableError(
        f"{path} is no table that can be read: a table ends in {quoted(READERS)}. "
        "A spreadsheet can be saved as .csv (UTF-8)."
    )


def _find_table(folder: Path) -> Path | None:
    """The only table in a folder whose sub-folders, one at most, cannot be classes."""
    inside = [path for path in list_folder(folder) if not path.name.startswith(".")]
    folders = [path for path in inside if is_folder(path)]
    tables = [path for path in inside if path.suffix.lower() in READERS and is_file(path)]
    is_split = any(path.name.lower() in SPLIT_NAMES for path in folders)
    return tables[0] if len(tables) == 1 and len(folders) <= 1 and not is_split else None


def _no_such_source(path: Path) -> str:
    text = str(path)
    prefix, separator, rest = text.partition(":")
    close = nearest(prefix, _FORM_READERS) if separator else []
    if close:
        return f"{text}: there is no such form of data. Did you mean '{close[0]}:{rest}'?"
    neighbours = [str(other) for other in list_folder(path.parent)]
    return (
        f"{text}: there is no such file or folder.{hint(text, neighbours)} DATA is one of: {FORMS}."
    )


def _check_options(form: str, options: Options) -> None:
    """Refuse options that the form has no use for, instead of ignoring them."""
    check_roles(options.columns)
    if options.columns and form != "hf":
        raise TableError(
            f"--column goes with tables and hf: datasets, not with {_FORM_NAMES[form]}."
        )
    if options.image_root is not None and form != "torchvision":
        raise TableError(f"--image-root goes with table files, not with {_FORM_NAMES[form]}.")


_FORM_NAMES = {
    "folder": "a folder",
    "sample": "a drawn sample",
    "hf": "an hf: dataset",
    "torchvision": "a torchvision dataset",
    "daf": "a daf: folder",
    "wds": "wds: shards",
}


def _read_sample(kind: str, options: Options) -> Table:
    from fieldmark.data.samples import draw_sample

    table = draw_sample(kind)
    if not options.labelled:
        rows = tuple(replace(row, labels=(), split=None, group=None) for row in table.rows)
        table = replace(table, rows=rows, class_names=())
    return with_classes(table, options, order=table.class_names)


def _refuse_shards(rest: str, _options: Options) -> Table:
    raise TableError(
        f"wds:{rest}: WebDataset shards cannot be read yet. Unpack them into a folder, or "
        f"convert them to a table. DATA is one of: {FORMS}."
    )


_FORM_READERS: Mapping[str, Callable[[str, Options], Table]] = {
    "sample": _read_sample,
    "hf": read_huggingface,
    "torchvision": read_torchvision,
    "daf": read_daf,
    "wds": _refuse_shards,
}
