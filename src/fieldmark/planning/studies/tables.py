"""Scores of a study over its seeds, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from fieldmark.planning.studies.expansion import Axis, write_value


@dataclass(frozen=True)
class Spreading:
    """Mean over seeds, and the standard deviation between them (None for a single seed)."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Pivot:
    """A table of two axes. cells: by row, then by column; None where no run succeeded."""

    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Spreading | None, ...], ...]


def measure_spread(values: Sequence[float]) -> Spreading:
    """The mean of one value at least, and how far they lie apart."""
    return Spreading(mean(values), stdev(values) if len(values) > 1 else None)


def build_pivot(
    axes: Sequence[Axis], scores: Sequence[tuple[Mapping[str, Any], Spreading | None]]
) -> Pivot | None:
    """The first axis down, the second across; None where there are not exactly two.

    scores: of each variant its value on each axis, by key, and its score.
    """
    if len(axes) != 2:
        return None
    down, across = axes
    cells = tuple(
        tuple(
            next(
                score
                for settings, score in scores
                if settings[down.key] == row and settings[across.key] == column
            )
            for column in across.values
        )
        for row in down.values
    )
    return Pivot(
        row_label=down.label,
        column_label=across.label,
        rows=tuple(map(write_value, down.values)),
        columns=tuple(map(write_value, across.values)),
        cells=cells,
    )
