"""The page about several runs: how good each is, what it costs, and which differences are real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from fieldmark.evaluation.comparison.records import ComparedPair, ComparedRow, Comparison
from fieldmark.evaluation.metrics import LOWER_IS_BETTER
from fieldmark.reporting.page import render_page
from fieldmark.reporting.wording import name_metric, nice_ticks, say_duration, say_memory
from fieldmark.runs.files import save_text

COMPARISON_NAME = "comparison.html"
FIRST_METRICS = (
    "accuracy",
    "macro_f1",
    "kappa",
    "top5_accuracy",
    "balanced_accuracy",
    "nll",
    "ece",
)


@dataclass(frozen=True)
class Axis:
    """Maps values to per cent of a width."""

    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where a value stands, 0 to 100."""
        low, high = self.ticks[0], self.ticks[-1]
        return 100 * min(max((value - low) / (high - low), 0.0), 1.0)


@dataclass(frozen=True)
class Cost:
    """A cost in words, with what it is sorted by; None where no run recorded it."""

    value: float | None
    words: str


def render_comparison(comparison: Comparison) -> str:
    """The page about a comparison, as HTML."""
    rows, pairs = comparison.rows, comparison.pairs
    metric = comparison.metric
    shown = [name for name in (metric, *FIRST_METRICS) if any(name in r.metrics for r in rows)]
    bounds = [bound for row in rows for bound in (row.metrics[metric], *_interval(row, metric))]
    reach = [bound for pair in pairs for bound in (*pair.interval, 0.0)]
    return render_page(
        "comparison.html.j2",
        comparison=comparison,
        metric_names={name: name_metric(name) for name in dict.fromkeys(shown)},
        lower_is_better=metric in LOWER_IS_BETTER,
        costs={row.name: _say_costs(row) for row in rows},
        axis=Axis(tuple(nice_ticks(min(bounds), max(bounds), 5))) if bounds else None,
        pair_axis=Axis(tuple(nice_ticks(min(reach), max(reach), 5))) if reach else None,
        kind_of=_kind_of,
        draw_row=_draw_row,
        draw_pair=_draw_pair,
    )


def save_comparison(path: Path, page: str) -> Path:
    """Write the page and return its path."""
    save_text(path, page)
    return path


def _interval(row: ComparedRow, metric: str) -> tuple[float, float]:
    value = row.metrics[metric]
    return row.intervals.get(metric, (value, value))


def _kind_of(pair: ComparedPair) -> str:
    """`better`, `worse` or `undecided`."""
    return pair.verdict if pair.verdict in ("better", "worse") else "undecided"


def _say_costs(row: ComparedRow) -> dict[str, Cost]:
    return {
        "Parameters": Cost(row.parameters, _in_millions(row.parameters)),
        "Training time": Cost(row.seconds, _or_dash(row.seconds, say_duration)),
        "Images/s": Cost(row.images_per_second, _or_dash(row.images_per_second, "{:,.0f}".format)),
        "Peak memory": Cost(row.peak_memory_mb, _or_dash(row.peak_memory_mb, say_memory)),
    }


def _in_millions(count: int | None) -> str:
    return "–" if count is None else f"{count / 1e6:.2f} M"


def _draw_row(row: ComparedRow, metric: str, axis: Axis) -> Markup:
    """The value as a tick and its interval as a bar on the axis of all rows."""
    low, high = _interval(row, metric)
    return _draw_span(axis, low, row.metrics[metric], high, None, "range")


def _draw_pair(pair: ComparedPair, axis: Axis) -> Markup:
    """The difference and its interval, with the place of no difference."""
    low, high = pair.interval
    return _draw_span(axis, low, pair.difference, high, 0.0, f"range {_kind_of(pair)}")


def _draw_span(
    axis: Axis, low: float, value: float, high: float, zero: float | None, style: str
) -> Markup:
    left, place, right = map(axis.place, (low, value, high))
    mark = Markup()
    if zero is not None:
        mark = Markup('<rect class="zero" x="{:.1f}" width=".8" height="14"/>').format(
            axis.place(zero) - 0.4
        )
    return Markup(
        '<svg class="span" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="axis" y="6.5" width="100" height="1"/>{mark}'
        '<rect class="{style}" x="{left:.1f}" width="{width:.1f}" y="3.5" height="7"/>'
        '<rect class="value-mark" x="{place:.1f}" width="1.2" height="14"/></svg>'
    ).format(
        mark=mark, style=style, left=left, width=max(right - left, 0.6), place=max(place - 0.6, 0)
    )


def _or_dash(value: float | None, say: Callable[[float], str]) -> str:
    return "–" if value is None else say(value)
