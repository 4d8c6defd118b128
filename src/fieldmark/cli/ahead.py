"""What can be done while torch is imported, which takes seconds and one core."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from fieldmark.cores import num_cores
from fieldmark.errors import FieldmarkError

if TYPE_CHECKING:
    from fieldmark.data.table import Table
    from fieldmark.recipes.schema import Task


@dataclass(frozen=True)
class Drawing:
    """A table that another process makes."""

    answer: Connection
    data: str
    task: Task

    def result(self) -> Table:
        """Wait for the table, or raise what is wrong with the name."""
        from fieldmark.data.sources import read_table

        try:
            with self.answer:
                found: Table | FieldmarkError = self.answer.recv()
        except EOFError:  # it was ended, or met what it did not expect: that shows here
            found = read_table(self.data, task=self.task)
        if isinstance(found, FieldmarkError):
            raise found
        return found


def draw_ahead(data: str | None, recipe: str | None, overrides: Sequence[str]) -> Drawing | None:
    """Draw a sample set in a process of its own; None where nothing is to be drawn.

    Only on Linux, where a process starts in milliseconds by fork; that is safe here because
    nothing has started a thread yet.
    """
    is_worth_it = sys.platform == "linux" and num_cores() > 1
    if data is None or not data.startswith("sample:") or not is_worth_it:
        return None
    from fieldmark.recipes import read_recipe

    chosen = read_recipe(recipe, overrides)
    section = chosen.data
    if section.columns or section.image_root or section.allow_outside:
        return None  # not for a sample, which is told where the table is read
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    context.Process(target=_answer, args=(ours, theirs, data, chosen.task), daemon=True).start()
    theirs.close()
    return Drawing(ours, data, chosen.task)


def _answer(reader: Connection, writer: Connection, data: str, task: Task) -> None:
    from fieldmark.data.sources import read_table

    # With no other reader left, writing fails once the asking process is gone, and this one ends.
    reader.close()
    try:
        found: Table | FieldmarkError = read_table(data, task=task)
    except FieldmarkError as error:
        found = error
    writer.send(found)
