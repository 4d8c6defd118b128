"""The DAF:re layout of Animesion: images in buckets, labels and tags in files per split.

```
ROOT/faces/0123/456123.jpg         head crops; ROOT/fullMin256 holds the whole pictures
ROOT/labels/{train,val,test}.csv   class id, path; no header
ROOT/labels/{...}_tags.csv         id, dir, class_id, tags_cat0, ...; tags are Python lists
ROOT/labels/classid_classname.csv  class id, class name; no header
```

moeImouto has its `train.csv`, `test.csv` and `classid_classname.csv` in ROOT itself, its images
in `ROOT/data`, and no tags. Source: github.com/arkel23/animesion.
"""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fieldmark.data.sources.delimited import read_text
from fieldmark.data.sources.faults import FaultKind, Faults
from fieldmark.data.sources.labels import clean_name, clean_names, with_classes
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.paths import ImagePaths, is_file, is_folder
from fieldmark.data.sources.rows import Cells, build_rows
from fieldmark.data.stores import FolderStore
from fieldmark.data.table import SPLITS, Row, Table
from fieldmark.errors import TableError, hint

NOT_TWO = FaultKind("not 'class id, path'", "Each line holds a number, a comma and a path.")
NOT_A_CLASS = FaultKind(
    "not 'class id, class name'", "Each line holds a number and a name of its own."
)
NO_SUCH_CLASS = FaultKind("a class id without a name", "Add it to classid_classname.csv.")
NOT_A_LIST = FaultKind(
    "tags that are not a Python list of texts", "A cell is like ['long_hair', 'smile']."
)


@dataclass(frozen=True)
class _Layout:
    images: str
    labels: str
    splits: tuple[str, ...]
    note: str = ""


# Nearly all of half a million cells are like this, and a parser of Python takes a minute for them.
_PLAIN_LIST = re.compile(r"\[('[^'\\\r\n]*'(, '[^'\\\r\n]*')*)?\]")
_QUOTED = re.compile(r"'([^']*)'")

LAYOUTS: Mapping[str, _Layout] = {
    "faces": _Layout("faces", "labels", SPLITS),
    "full": _Layout("fullMin256", "labels", SPLITS),
    "moeimouto": _Layout(
        "data",
        "",
        ("train", "test"),
        "moeImouto has no validation split. Animesion's code takes the test images for it; here "
        "they stay test images only.",
    ),
}


def read_daf(text: str, options: Options) -> Table:
    """Read `ROOT`, `ROOT:full` or `ROOT:moeimouto`; classes are in the order of their ids.

    Of the tags only category 0 (general) is taken, as in the publication. Raises `TableError`
    and `UnsafePathError`.
    """
    root, layout = _layout(text)
    labels_dir, images_dir = root / layout.labels, root / layout.images
    class_names = _read_class_names(labels_dir / "classid_classname.csv")
    paths = ImagePaths(images_dir, allow_outside=options.allow_outside)
    rows: list[Row] = []
    notes = [layout.note] if layout.note else []
    for split in layout.splits:
        path = labels_dir / f"{split}.csv"
        cells = _read_split(path, class_names, split)
        split_rows, split_notes = build_rows(cells, options, source=str(path), locate=paths.key)
        rows += split_rows
        notes += [f"{split}: {note}" for note in split_notes]
    _check_images(rows, paths, text)
    table = Table(
        tuple(rows),
        FolderStore(paths.root),
        source=f"daf:{text}",
        notes=tuple(notes),
    )
    return with_classes(table, options, order=tuple(class_names.values()))


def _layout(text: str) -> tuple[Path, _Layout]:
    folder, separator, name = text.rpartition(":")
    if name in LAYOUTS and separator:
        root, layout = Path(folder), LAYOUTS[name]
    elif separator and not is_folder(Path(text)) and is_folder(Path(folder)):
        known = ", ".join(f"'{other}'" for other in LAYOUTS)
        raise TableError(
            f"daf:{text}: '{name}' is no form of DAF; there are {known}.{hint(name, LAYOUTS)}"
        )
    else:
        root, layout = Path(text), LAYOUTS["faces"]
    if not is_folder(root):
        raise TableError(f"daf:{text}: there is no folder {root}")
    if not is_folder(root / layout.images):
        raise TableError(
            f"daf:{text}: there is no folder {root / layout.images}. DAF:re keeps the head crops "
            "in 'faces' (daf:ROOT) and the whole pictures in 'fullMin256' (daf:ROOT:full); "
            "moeImouto keeps its images in 'data' (daf:ROOT:moeimouto)."
        )
    return root, layout


def _read_class_names(path: Path) -> dict[str, str]:
    """Return class id -> name, in the order of the ids."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    faults = Faults(str(path), "line")
    for line, record in _records(path):
        class_id = _class_id(record[0])
        name = clean_name(",".join(record[1:]))
        if not class_id or not name or class_id in names or name in taken:
            faults.add(NOT_A_CLASS, line)
        names.setdefault(class_id, name)
        taken.add(name)
    faults.raise_all()
    return dict(sorted(names.items(), key=lambda item: int(item[0])))


def _read_split(path: Path, class_names: Mapping[str, str], split: str) -> Cells:
    lines, images, labels = [], [], []
    faults = Faults(str(path), "line")
    for line, record in _records(path):
        class_id = _class_id(record[0])
        if not class_id or len(record) != 2:
            faults.add(NOT_TWO, line)
        elif class_id not in class_names:
            faults.add(NO_SUCH_CLASS, line, class_id)
        else:
            lines.append(line)
            images.append(record[1])
            labels.append(class_names[class_id])
    faults.raise_all()
    tags = _read_tags(path.with_name(f"{split}_tags.csv"))
    return Cells(
        image=images,
        label=labels,
        tags=None if tags is None else [tags.get(image, ()) for image in images],
        split=[split] * len(images),
        places=lines,
        unit="line",
    )


def _read_tags(path: Path) -> dict[str, tuple[str, ...]] | None:
    """Return image path -> tags of category 0, or None if there is no such file."""
    if not is_file(path):
        return None
    records = _records(path)
    _, header = next(records, (1, []))
    for name in ("dir", "tags_cat0"):
        if name not in header:
            raise TableError(f"{path}: there is no column '{name}'; it has {', '.join(header)}")
    image_place, tags_place = header.index("dir"), header.index("tags_cat0")
    tags: dict[str, tuple[str, ...]] = {}
    faults = Faults(str(path), "line")
    for line, record in records:
        names = _names(record[tags_place]) if len(record) == len(header) else None
        if names is None:
            faults.add(NOT_A_LIST, line)
        else:
            tags[record[image_place]] = names
    faults.raise_all()
    return tags


def _names(cell: str) -> tuple[str, ...] | None:
    """Return the texts of a Python list literal, or None if it is something else."""
    if _PLAIN_LIST.fullmatch(cell):
        return clean_names(_QUOTED.findall(cell))
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    return clean_names(value)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    if not is_file(path):
        raise TableError(f"{path}: this file of the DAF layout is missing")
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for record in reader:
            if any(record):
                yield reader.line_num, record
    except csv.Error as error:
        raise TableError(f"{path}, line {reader.line_num}: {error}") from error


def _class_id(text: str) -> str:
    """Return a class id without leading zeros; an empty text if it is no number."""
    return str(int(text)) if text.strip().isdecimal() and len(text) < 10 else ""


def _check_images(rows: list[Row], paths: ImagePaths, text: str) -> None:
    if rows and not any(paths.exists(row.image) for row in rows):
        raise TableError(
            f"daf:{text}: none of its {len(rows):,} images exists. Looked for '{rows[0].image}' "
            f"and the others in {paths.root}."
        )
