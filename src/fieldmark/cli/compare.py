"""`fieldmark compare`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich import box
from rich.table import Table
from rich.text import Text

from fieldmark.cli.output import Output, stdout_for_results

if TYPE_CHECKING:
    from fieldmark.evaluation.comparison.records import ComparedPair, ComparedRow, Comparison

DASH = "–"


def compare(
    runs: Annotated[list[str], Parameter(name="RUN")],
    /,
    *,
    baseline: str | None = None,
    metric: str = "accuracy",
    split: str = "test",
    output: Output = Output(),
) -> None:
    """Hold runs against each other on their stored predictions.

    Runs of one recipe with several seeds are one row. Differences come with a 95% interval, a
    paired test corrected for the number of pairs, and a verdict in words.

    Parameters
    ----------
    runs
        Run folders, in any order.
    baseline
        Hold all others against the row of this run. Default: every row against every other.
    metric
        What to compare by: accuracy, balanced_accuracy, top5_accuracy, macro_f1, kappa, sum, nll,
        ece, brier, auroc or average_precision.
    split
        train, val, test, or another name that `evaluate` stored predictions under.
    """
    from fieldmark.verbs import compare as compare_runs

    with stdout_for_results():
        found = compare_runs(runs, baseline=baseline, metric=metric, split=split)
    notes = "\n".join(f"note     {note}" for note in found.notes)
    output.answer(_as_json(found), _draw_rows(found), _draw_pairs(found), Text(notes))


def _as_json(found: Comparison) -> dict[str, object]:
    return {
        "metric": found.metric,
        "split": found.split,
        "num_images": found.num_images,
        "rows": [asdict(row) for row in found.rows],
        "pairs": [asdict(pair) for pair in found.pairs],
        "notes": list(found.notes),
    }


def _draw_rows(found: Comparison) -> Table:
    """Scores and costs; spread only where there are seeds to have one."""
    table = start_table(f"{found.split}: {found.num_images:,} images")
    table.add_column("run", overflow="fold", ratio=1)
    table.add_column(found.metric.replace("_", " "), justify="right", no_wrap=True)
    table.add_column("seeds ± sd", justify="right", no_wrap=True)
    for name in ("params", "time", "img/s", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        low, high = row.intervals[found.metric]
        table.add_row(
            row.name,
            f"{row.metrics[found.metric]:.4f}\n{low:.3f} {DASH} {high:.3f}",
            _name_seeds(row, found.metric),
            _shorten(row.parameters),
            name_seconds(row.seconds),
            _shorten(row.images_per_second),
            DASH if row.peak_memory_mb is None else f"{row.peak_memory_mb:,.0f}",
        )
    return table


def _draw_pairs(found: Comparison) -> Table:
    table = start_table("differences")
    table.add_column("run, against", overflow="fold", ratio=2)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("relative", justify="right", no_wrap=True)
    table.add_column("p (Holm)", justify="right", no_wrap=True)
    table.add_column("verdict", ratio=3)
    for pair in found.pairs:
        low, high = pair.interval
        change = DASH if pair.relative_change is None else f"{pair.relative_change:+.1%}"
        table.add_row(
            f"{pair.a}\n{pair.b}",
            f"{pair.difference:+.4f}\n{low:+.3f} {DASH} {high:+.3f}",
            change,
            name_p(pair.p_adjusted),
            Text.assemble(_colour(pair), (f"\n{pair.test}", "dim")),
        )
    return table


def start_table(title: str | None = None) -> Table:
    """An empty table in the look of results."""
    return Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 1),
        pad_edge=False,
    )


def _colour(pair: ComparedPair) -> Text:
    styles = {"better": "bold green", "worse": "bold red"}
    return Text(pair.verdict, style=styles.get(pair.verdict, ""))


def _name_seeds(row: ComparedRow, metric: str) -> str:
    if row.spread is None:
        return "1"
    return f"{row.num_seeds} ± {row.spread[metric]:.3f}"


def name_p(value: float) -> str:
    """A p-value in four digits."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _shorten(value: float | None) -> str:
    """A count in three digits."""
    if value is None:
        return DASH
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def name_seconds(value: float | None) -> str:
    """A duration in two or three digits."""
    if value is None:
        return DASH
    if value < 60:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 3600 else f"{value / 3600:.1f} h"
