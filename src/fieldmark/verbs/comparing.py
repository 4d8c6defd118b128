"""`compare`: runs in, what they differ by and how sure that is out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.evaluation.comparison.comparing import compare_runs
from fieldmark.evaluation.comparison.records import Comparison
from fieldmark.verbs.run import Run


def compare(
    runs: Sequence[Run | str | Path],
    *,
    baseline: Run | str | Path | None = None,
    metric: str = "accuracy",
    split: str = "test",
) -> Comparison:
    """Compare runs on their stored predictions; no model is loaded and no image is read.

    Runs of one recipe with several seeds are one row: mean, spread between seeds, interval. Pairs
    have the difference with its 95% interval, a paired test, Holm's correction, and a verdict.
    `split` is train, val, test or another name that `evaluate` stored predictions under. Raises
    as `compare_runs` does.
    """
    return compare_runs(
        [_path_of(run) for run in runs],
        baseline=None if baseline is None else _path_of(baseline),
        metric=metric,
        split=split,
    )


def _path_of(run: Run | str | Path) -> str | Path:
    return run.path if isinstance(run, Run) else run
