"""What a caller may say about any source, as one record for its readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fieldmark.recipes.schema import Task


@dataclass(frozen=True)
class Options:
    """See `read_table` for the meaning of each."""

    task: Task = "multiclass"
    columns: Mapping[str, str] = field(default_factory=dict)
    image_root: Path | None = None
    allow_outside: bool = False
    labelled: bool = True
