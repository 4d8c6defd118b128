"""From the columns of a table to rows: every fault found together, repeats merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fieldmark.data.sources.faults import FaultKind, Faults, count, show
from fieldmark.data.sources.labels import clean_name, clean_names, merged_note, split_names
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.paths import INVISIBLE
from fieldmark.data.table import Row
from fieldmark.errors import UnsafePathError, hint
from fieldmark.recipes.schema import Task

Cell = str | tuple[str, ...]
Names = tuple[str, ...]

SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}

NO_IMAGE = FaultKind("no image", "Fill in the image path, or remove these rows.")
NO_LABEL = FaultKind("no label", "Fill in the label, or remove these rows.")
UNSAFE = FaultKind(
    "an image path that is not allowed",
    "Image paths are relative to the table's folder or to --image-root; --allow-outside permits "
    "local files elsewhere.",
    unsafe=True,
)
LIST_OF_IMAGES = FaultKind("a list where one image path belongs", "Write one row per image.")
LIST_OF_LABELS = FaultKind(
    "a list where one label belongs", "Lists of labels need --task multilabel."
)
UNKNOWN_SPLIT = FaultKind("an unknown split", "A split is train, val or test.")
NO_SPLIT = FaultKind("no split, while other rows have one", "Fill it in for all rows or for none.")
TWO_LABELS = FaultKind(
    "one image with two labels",
    "Decide on one, or use --task multilabel if both are true.",
)
TWO_SPLITS = FaultKind("one image in two splits", "Keep one of the rows.")
TWO_GROUPS = FaultKind("one image in two groups", "Keep one of the rows.")


@dataclass(frozen=True)
class Cells:
    """The columns of a table as text, an empty text where a value is missing.

    `places` says where each row stands in the source, counted in `unit`s (line or row).
    """

    image: Sequence[Cell]
    places: Sequence[int]
    unit: str
    label: Sequence[Cell] | None = None
    tags: Sequence[Cell] | None = None
    split: Sequence[Cell] | None = None
    group: Sequence[Cell] | None = None


def build_rows(
    cells: Cells, options: Options, *, source: str, locate: Callable[[str], str]
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Return the rows and the notes about them.

    `locate` turns an image path into its key in the store, or raises `UnsafePathError` with a
    reason. A labelled table has one row per image in the end: repeats are merged, and
    contradictions between them are faults. Raises `TableError` or `UnsafePathError`.
    """
    faults = Faults(source, cells.unit)
    notes: list[str] = []
    images = _read_images(cells, locate, faults)
    size = len(images)
    labels: Sequence[Names | None] = [()] * size
    splits: Sequence[str | None] = [None] * size
    groups: Sequence[str | None] = [None] * size
    if options.labelled:
        labels = _read_labels(cells, options.task, faults, notes)
        splits = _read_splits(cells, faults) or splits
        groups = _read_groups(cells) or groups
    tags = _read_tags(cells)
    rows = [
        None if image is None or names is None else Row(image, names, tag, split, group)
        for image, names, tag, split, group in zip(
            images, labels, tags, splits, groups, strict=True
        )
    ]
    if options.labelled:
        rows = _merge_repeats(rows, cells.places, options.task, faults, notes)
    faults.raise_all()
    return tuple(row for row in rows if row is not None), (*_path_note(cells, images), *notes)


def _read_images(cells: Cells, locate: Callable[[str], str], faults: Faults) -> list[str | None]:
    images: list[str | None] = []
    for place, text in zip(cells.places, cells.image, strict=True):
        image = None
        if not isinstance(text, str):
            faults.add(LIST_OF_IMAGES, place)
        elif not text.strip(INVISIBLE):
            faults.add(NO_IMAGE, place)
        else:
            try:
                image = locate(text)
            except UnsafePathError as error:
                faults.add(UNSAFE, place, f"{show(text)} {error}")
        images.append(image)
    return images


def _read_labels(cells: Cells, task: Task, faults: Faults, notes: list[str]) -> list[Names | None]:
    texts = cells.label if cells.label is not None else [""] * len(cells.image)
    names_of: dict[Cell, Names] = {}
    labels: list[Names | None] = []
    for place, text in zip(cells.places, texts, strict=True):
        if text not in names_of:
            names_of[text] = _label_names(text, task)
        names = names_of[text]
        if task == "multilabel":
            labels.append(names)
            continue
        if isinstance(text, tuple) and len(names) > 1:
            faults.add(LIST_OF_LABELS, place)
        elif not names:
            faults.add(NO_LABEL, place)
        labels.append(names if len(names) == 1 else None)
    notes += _label_notes(names_of, labels, task)
    return labels


def _label_names(text: Cell, task: Task) -> Names:
    if isinstance(text, tuple):
        return clean_names(text)
    return split_names(text) if task == "multilabel" else clean_names([text])


def _label_notes(
    names_of: dict[Cell, Names], labels: Sequence[Names | None], task: Task
) -> list[str]:
    texts = [text for text in names_of if isinstance(text, str)]
    if task == "multilabel":
        parts = [part for text in texts for part in text.split(";")]
        notes = merged_note((part, name) for part in parts if (name := clean_name(part)))
        if bare := labels.count(()):
            notes.append(f"{count(bare, 'row')} without a label: none of the classes is in them.")
        return notes
    notes = merged_note((text, names[0]) for text in texts if (names := names_of[text]))
    if any(";" in text for text in texts):
        notes.append("Some labels hold a ';'. If they are lists of labels, use --task multilabel.")
    return notes


def _read_tags(cells: Cells) -> Sequence[Names | None]:
    if cells.tags is None:
        return [None] * len(cells.image)
    return [
        split_names(text) if isinstance(text, str) else clean_names(text) for text in cells.tags
    ]


def _read_splits(cells: Cells, faults: Faults) -> list[str | None] | None:
    if cells.split is None:
        return None
    texts = [clean_name(as_text(text)) for text in cells.split]
    if not any(texts):
        return None
    splits: list[str | None] = []
    for place, text in zip(cells.places, texts, strict=True):
        split = SPLIT_NAMES.get(text.lower())
        if not text:
            faults.add(NO_SPLIT, place)
        elif split is None:
            faults.add(UNKNOWN_SPLIT, place, f"{show(text)}{hint(text, SPLIT_NAMES).rstrip('?')}")
        splits.append(split)
    return splits


def _read_groups(cells: Cells) -> list[str | None] | None:
    if cells.group is None:
        return None
    return [clean_name(as_text(text)) or None for text in cells.group]


def as_text(cell: Cell) -> str:
    """Return a cell as one text; a list as a ';'-separated one."""
    return cell if isinstance(cell, str) else ";".join(cell)


def _merge_repeats(
    rows: Sequence[Row | None],
    places: Sequence[int],
    task: Task,
    faults: Faults,
    notes: list[str],
) -> list[Row | None]:
    """Keep one row per image: the same thing said twice is merged, a contradiction is a fault."""
    kept: dict[str, Row] = {}
    first_places: dict[str, int] = {}
    num_repeats = 0
    for place, row in zip(places, rows, strict=True):
        if row is None:
            continue
        first = kept.get(row.image)
        if first is None:
            kept[row.image] = row
            first_places[row.image] = place
            continue
        num_repeats += 1
        _report_contradictions(first, row, (first_places[row.image], place), task, faults)
        labels = _union(first.labels, row.labels) if task == "multilabel" else first.labels
        kept[row.image] = replace(first, labels=labels, tags=_union_of_tags(first, row))
    if num_repeats:
        notes.append(f"{count(num_repeats, 'row')} repeated an image of another row: merged.")
    return list(kept.values())


def _report_contradictions(
    first: Row, row: Row, places: tuple[int, int], task: Task, faults: Faults
) -> None:
    for kind, before, now in (
        (TWO_LABELS, first.label, row.label),
        (TWO_SPLITS, first.split, row.split),
        (TWO_GROUPS, first.group, row.group),
    ):
        if before != now and not (kind is TWO_LABELS and task == "multilabel"):
            earlier = f"in {faults.unit} {places[0]} {show(before or '')}"
            told = f"{show(row.image)}: {show(now or '')}, {earlier}"
            faults.add(kind, places[1], told)


def _union(first: Names, second: Names) -> Names:
    return tuple(dict.fromkeys((*first, *second)))


def _union_of_tags(first: Row, second: Row) -> Names | None:
    return None if first.tags is None else _union(first.tags, second.tags or ())


def _path_note(cells: Cells, images: Sequence[str | None]) -> list[str]:
    changed = sum(
        image is not None and image != text for image, text in zip(images, cells.image, strict=True)
    )
    if not changed:
        return []
    return [
        f"{count(changed, 'image path')} rewritten relative to the image folder, with '/' "
        "between folders and without blanks around."
    ]
