"""A second run, for figures that compare two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fieldmark.inspection.subject import Subject
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.predictor import load_predictor


def load_other(path: str, subject: Subject | None = None) -> Subject:
    """Open the run at `path`; with a `subject` it looks at that one's images, on its device.

    Raises `RunNotFoundError`.
    """
    folder = RunFolder.open(Path(path).expanduser())
    device = "cpu" if subject is None else subject.predictor.device
    loaded = Subject(folder, load_predictor(folder, device), None)
    return loaded if subject is None else replace(loaded, table=subject.table)
