"""What can be done while torch is imported, which takes seconds and one core."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fieldmark.data.table import Table


@contextmanager
def drawn_ahead(
    data: str | None, recipe: str | None, overrides: Sequence[str]
) -> Iterator[Future[Table] | None]:
    """Draw a sample set in a process of its own; None where nothing is to be drawn.

    Only on Linux, where a process starts in milliseconds by fork; that is safe here because
    nothing has started a thread yet.
    """
    is_worth_it = sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1
    if data is None or not data.startswith("sample:") or not is_worth_it:
        yield None
        return
    from fieldmark.recipes import read_recipe

    chosen = read_recipe(recipe, overrides)
    section = chosen.data
    if section.columns or section.image_root or section.allow_outside:
        yield None  # not for a sample, which is told where the table is read
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        yield pool.submit(_read, data, chosen.task)


def _read(data: str, task: str) -> Table:
    from fieldmark.data.sources import read_table

    return read_table(data, task=task)  # type: ignore[arg-type]
