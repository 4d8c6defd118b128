"""`fieldmark report`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fieldmark.cli.output import Output, stdout_for_results

if TYPE_CHECKING:
    from fieldmark.verbs import Run


def report(
    runs: Annotated[list[Path], Parameter(name="RUN")],
    /,
    *,
    compare: Path | None = None,
    search_seconds: float = 60.0,
    output: Output = Output(),
) -> None:
    """Write the report of each run anew, and of several runs a page that compares them.

    Every page is one HTML file that needs nothing else.

    Parameters
    ----------
    runs
        Run folders.
    compare
        Where the page that compares several runs goes. Default: comparison.html beside them.
    search_seconds
        How long to look, for each run, for the training images most like its worst mistakes. A
        search that took longer goes on from there the next time. 0: not at all.
    """
    from fieldmark.errors import FieldmarkError
    from fieldmark.verbs import load_run
    from fieldmark.verbs.reporting import write_comparison

    if search_seconds < 0:
        raise FieldmarkError(f"--search-seconds: expected seconds from 0, not {search_seconds:g}")
    if compare is not None and len(runs) < 2:
        raise FieldmarkError("--compare: there is one run, and a comparison takes two or more")
    # All are opened before the first is written, so that a wrong name costs nothing.
    opened = [load_run(run) for run in runs]
    page, refusal = None, None
    with stdout_for_results():
        if len(opened) > 1:
            try:
                page = write_comparison(opened, compare or _beside(opened))
            except FieldmarkError as error:
                if compare is not None:
                    raise
                refusal = str(error)
        written = [run.report(search_seconds=search_seconds) for run in opened]
    shown = []
    for one in written:
        shown += [f"note     {note}" for note in one.notes]
        shown.append(f"report   {one.path}")
    if refusal is not None:
        shown.append(f"note     no page compares them: {refusal}")
    if page is not None:
        shown.append(f"compare  {page}")
    result = {
        "reports": [
            {
                "run": str(run.path),
                "report": str(one.path),
                "split": one.split,
                "notes": list(one.notes),
            }
            for run, one in zip(opened, written, strict=True)
        ],
        "comparison": None if page is None else str(page),
        "comparison_refused": refusal,
    }
    output.answer(result, *shown)


def _beside(runs: Sequence[Run]) -> Path:
    """In the folder that holds all of the runs."""
    return Path(os.path.commonpath([run.path.parent for run in runs])) / "comparison.html"
