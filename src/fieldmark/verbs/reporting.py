"""`write_comparison`: several runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.reporting.comparison_page import render_comparison, save_comparison
from fieldmark.verbs.comparing import compare
from fieldmark.verbs.run import Run


def write_comparison(
    runs: Sequence[Run | str | Path],
    path: str | Path,
    *,
    baseline: Run | str | Path | None = None,
    metric: str = "accuracy",
    split: str = "test",
) -> Path:
    """Compare runs as `compare` does, raising what it raises, and write the HTML page about it."""
    comparison = compare(runs, baseline=baseline, metric=metric, split=split)
    return save_comparison(Path(path).absolute(), render_comparison(comparison))
