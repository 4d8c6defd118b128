"""`fieldmark report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fieldmark.cli.output import Output, stdout_for_results


def report(
    runs: Annotated[list[Path], Parameter(name="RUN")], /, *, output: Output = Output()
) -> None:
    """Write the report of each run anew: one HTML file that needs nothing else.

    Parameters
    ----------
    runs
        Run folders.
    """
    from fieldmark.verbs import load_run

    # All are opened before the first is written, so that a wrong name costs nothing.
    opened = [load_run(run) for run in runs]
    with stdout_for_results():
        written = [run.report() for run in opened]
    shown = []
    for page in written:
        shown += [f"note     {note}" for note in page.notes]
        shown.append(f"report   {page.path}")
    result = {
        "reports": [
            {
                "run": str(run.path),
                "report": str(page.path),
                "split": page.split,
                "notes": list(page.notes),
            }
            for run, page in zip(opened, written, strict=True)
        ]
    }
    output.answer(result, *shown)
