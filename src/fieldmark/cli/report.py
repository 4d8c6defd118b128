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
    from fieldmark.reporting.writing import write_report
    from fieldmark.runs.folder import RunFolder

    # All are opened before the first is written, so that a wrong name costs nothing.
    folders = [RunFolder.open(run) for run in runs]
    with stdout_for_results():
        written = [write_report(folder) for folder in folders]
    shown = []
    for page in written:
        shown += [f"note     {note}" for note in page.notes]
        shown.append(f"report   {page.path}")
    result = {
        "reports": [
            {
                "run": str(folder.path),
                "report": str(page.path),
                "split": page.split,
                "notes": list(page.notes),
            }
            for folder, page in zip(folders, written, strict=True)
        ]
    }
    output.answer(result, *shown)
