"""How a run learned: loss and scores by epoch, and which epoch was kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldmark.reporting.material import Material

MAX_EPOCHS_SHOWN = 400


@dataclass(frozen=True)
class Series:
    """One line: its name, its style in the stylesheet, and (epoch, value) pairs."""

    name: str
    style: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Chart:
    """Lines on common axes; epochs run from `first_epoch` to `last_epoch`."""

    title: str
    series: tuple[Series, ...]
    first_epoch: int
    last_epoch: int
    best_epoch: int


@dataclass(frozen=True)
class Curves:
    """Charts of the epochs, and the same values as a table.

    `best_value` is what the kept epoch reached in the metric that selected it; None without a
    val split. Of very many epochs only every `every`-th is shown.
    """

    charts: tuple[Chart, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[float | None, ...]], ...]
    num_epochs: int
    every: int
    best_epoch: int
    best_value: float | None
    metric: str


@dataclass(frozen=True)
class _Line:
    key: str
    name: str
    style: str


_CHARTS = {
    "Loss": (_Line("train_loss", "train", "first"), _Line("val_nll", "val (NLL)", "second")),
    "Scores on the val split": (
        _Line("val_accuracy", "accuracy", "first"),
        _Line("val_macro_f1", "macro-F1", "second"),
    ),
}


def build_curves(material: Material) -> Curves | None:
    """The curves of metrics.jsonl; None where no epoch was finished."""
    epochs = material.epochs
    if not epochs:
        return None
    best = _find_best(epochs)
    every = -(-len(epochs) // MAX_EPOCHS_SHOWN)
    shown = [line for place, line in enumerate(epochs) if place % every == 0 or line is best]
    charts = [_build_chart(title, lines, shown, best) for title, lines in _CHARTS.items()]
    lines = [line for lines in _CHARTS.values() for line in lines]
    metric = material.recipe.select
    return Curves(
        charts=tuple(chart for chart in charts if chart.series),
        columns=("train loss", "val NLL", "val accuracy", "val macro-F1"),
        rows=tuple(
            (epoch["epoch"], tuple(_read(epoch, line.key) for line in lines)) for epoch in shown
        ),
        num_epochs=len(epochs),
        every=every,
        best_epoch=best["epoch"],
        best_value=_read(best, f"val_{metric}"),
        metric=metric,
    )


def _find_best(epochs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The epoch whose weights were kept: the last that was the best so far, else the last."""
    return next((line for line in reversed(epochs) if line.get("is_best")), epochs[-1])


def _build_chart(
    title: str,
    lines: Sequence[_Line],
    epochs: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
) -> Chart:
    series = [
        Series(
            line.name,
            line.style,
            tuple(
                (int(epoch["epoch"]), value)
                for epoch in epochs
                if (value := _read(epoch, line.key)) is not None
            ),
        )
        for line in lines
    ]
    return Chart(
        title,
        tuple(one for one in series if one.points),
        int(epochs[0]["epoch"]),
        int(epochs[-1]["epoch"]),
        int(best["epoch"]),
    )


def _read(epoch: Mapping[str, Any], key: str) -> float | None:
    """A finite value of an epoch, or None."""
    value = epoch.get(key)
    return float(value) if value is not None and math.isfinite(value) else None
