"""What the labels of a source must be for each task, and the order of its classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from fieldmark.data.sources.faults import count, quoted, show
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.paths import INVISIBLE
from fieldmark.data.table import Table
from fieldmark.errors import TableError
from fieldmark.recipes.schema import Task


# Names recur: the cache also makes a million tags share a few thousand texts.
@lru_cache(maxsize=100_000)
def clean_name(text: str) -> str:
    """Return a label or tag without blanks around it and in one Unicode form (NFC).

    Two spellings that look the same are one class, on every operating system.
    """
    bare = text.strip(INVISIBLE)
    return bare if bare.isascii() else unicodedata.normalize("NFC", bare)


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a ';'-separated list: cleaned, without empty and repeated ones."""
    return clean_names(text.split(";"))


def clean_names(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names cleaned, without empty and repeated ones."""
    return tuple(dict.fromkeys(name for text in texts if (name := clean_name(text))))


def merged_note(spellings: Iterable[tuple[str, str]]) -> list[str]:
    """Return a note if several texts among (text, cleaned name) pairs mean one name."""
    by_name: dict[str, set[str]] = {}
    for text, name in spellings:
        by_name.setdefault(name, set()).add(text)
    merged = sorted(name for name, texts in by_name.items() if len(texts) > 1)
    if not merged:
        return []
    return [
        f"{count(len(merged), 'label')} came in several spellings that look the same (blanks "
        f"around it, or two Unicode forms) and were read as one: {quoted(merged)}."
    ]


def with_classes(table: Table, options: Options, order: Sequence[str] | None = None) -> Table:
    """Return the table with its task and class names; `order` if the source has an order.

    Without one, classes are sorted by name. Raises `TableError` if there are no rows, or if the
    number of classes does not fit the task.
    """
    if not table.rows:
        met = "".join(f" {note}" for note in table.notes)
        raise TableError(f"{table.source} holds no images that can be used.{met}")
    table = replace(table, task=options.task)
    if not options.labelled:
        return table
    present = set(table.class_counts())
    names = tuple(sorted(present) if order is None else (n for n in order if n in present))
    _check_number(names, options.task, table.source)
    notes = [*_absent_note(order, present), *_case_note(names)]
    return replace(table, class_names=names, notes=(*table.notes, *notes))


def _check_number(names: Sequence[str], task: Task, source: str) -> None:
    if not names:
        raise TableError(f"{source}: no image has a label. A classifier needs at least 2 classes.")
    if len(names) == 1:
        raise TableError(
            f"{source}: every labelled image has the label {show(names[0])}. "
            "A classifier needs images of at least 2 classes."
        )
    if task == "binary" and len(names) != 2:
        raise TableError(
            f"{source}: --task binary takes exactly 2 classes, but there are {len(names)}: "
            f"{quoted(names)}. Use --task multiclass, or keep the rows of two classes."
        )


def _absent_note(order: Sequence[str] | None, present: set[str]) -> list[str]:
    absent = [name for name in order or () if name not in present]
    if not absent:
        return []
    classes = count(len(absent), "class", "classes")
    return [f"{classes} without images left out: {quoted(absent)}."]


def _case_note(names: Sequence[str]) -> list[str]:
    by_folded: dict[str, list[str]] = {}
    for name in names:
        by_folded.setdefault(name.casefold(), []).append(name)
    alike = [name for group in by_folded.values() if len(group) > 1 for name in group]
    if not alike:
        return []
    return [f"Some classes differ only in upper and lower case and stay apart: {quoted(alike)}."]
