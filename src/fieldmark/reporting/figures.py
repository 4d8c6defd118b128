"""Figures as inline SVG. Colours come from the page's stylesheet, so they follow light and dark.

Every text goes through `Markup.format`, which escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from markupsafe import Markup

from fieldmark.data.table import SPLITS
from fieldmark.reporting.charts import draw_chart
from fieldmark.reporting.classes import ClassRow
from fieldmark.reporting.dataset import ClassSize, Dataset
from fieldmark.reporting.matrix import (
    MAX_CLASSES_NAMED,
    draw_matrix,
    list_matrix,
    short_name,
    width_of_names,
)
from fieldmark.reporting.scores import Score
from fieldmark.reporting.trust_charts import draw_reliability, draw_risk


def draw_interval(score: Score) -> Markup:
    """The value as a tick on its axis, the interval as a bar, the reference as a ring."""
    left, right = (100 * min(max(v, 0.0), score.axis_end) / score.axis_end for v in score.interval)
    place = 100 * min(max(score.value, 0.0), score.axis_end) / score.axis_end
    reference = Markup()
    if score.reference is not None:
        guess = 100 * score.reference.value / score.axis_end
        reference = Markup('<circle class="reference" cx="{:.2f}%" cy="9" r="4"/>').format(guess)
    return Markup(
        '<svg class="interval" width="100%" height="18" aria-hidden="true">'
        '<line class="axis" x1="0" x2="100%" y1="9" y2="9"/>{reference}'
        '<rect class="range" x="{left:.2f}%" width="{width:.2f}%" y="5" height="8" rx="1.5"/>'
        '<line class="value-mark" x1="{place:.2f}%" x2="{place:.2f}%" y1="1" y2="17"/></svg>'
    ).format(reference=reference, left=left, width=max(right - left, 0.5), place=place)


def draw_recall(row: ClassRow) -> Markup:
    """The recall of a class as a tick, its interval as a bar."""
    if row.recall_interval is None:
        return Markup()
    left, right = (100 * bound for bound in row.recall_interval)
    told = f"95% interval {row.recall_interval[0]:.3f} to {row.recall_interval[1]:.3f}"
    return Markup(
        '<svg class="recall" width="76" height="12" viewBox="0 0 100 12" '
        'preserveAspectRatio="none" role="img" aria-label="{told}"><title>{told}</title>'
        '<rect class="axis" y="5" width="100" height="2"/>'
        '<rect class="range" x="{left:.0f}" y="3" width="{width:.0f}" height="6"/>'
        '<rect class="value-mark" x="{place:.0f}" y="0" width="3" height="12"/></svg>'
    ).format(told=told, left=left, width=right - left, place=max(0.0, 100 * row.recall - 3))


def draw_class_size(entry: ClassSize, largest: int) -> Markup:
    """Images of a class as one bar of three parts; the largest class fills the width."""
    scale = 100 / max(largest, 1)
    bars, start = [], 0.0
    for split, count in zip(SPLITS, entry.counts, strict=True):
        bars.append(
            Markup('<rect class="{}" x="{:.2f}%" width="{:.2f}%" height="8"/>').format(
                split, start, count * scale
            )
        )
        start += count * scale
    return Markup('<svg class="size" width="100%" height="8" aria-hidden="true">{}</svg>').format(
        Markup().join(bars)
    )


def draw_tail(dataset: Dataset) -> Markup:
    """Images of every class as a bar of three parts, largest class first."""
    count, height = len(dataset.classes), 100
    width = 1000 / count
    paths = []
    for place, split in enumerate(SPLITS):
        bars = []
        for index, entry in enumerate(dataset.classes):
            below = sum(entry.counts[:place])
            top, size = below + entry.counts[place], entry.counts[place]
            y, h = (height * value / max(dataset.largest, 1) for value in (top, size))
            bar = f"{0.82 * width:.1f}"
            bars.append(f"M{index * width:.1f} {height - y:.1f}h{bar}v{h:.1f}h-{bar}z")
        paths.append(Markup('<path class="{}" d="{}"/>').format(split, "".join(bars)))
    return Markup(
        '<svg class="size tail-bars" viewBox="0 0 1000 {height}" preserveAspectRatio="none" '
        'role="img" aria-label="{label}">{paths}</svg>'
    ).format(
        height=height,
        label=f"Images of each of {count} classes, largest first",
        paths=Markup().join(paths),
    )


FIGURES: Mapping[str, object] = MappingProxyType(
    {
        "draw_interval": draw_interval,
        "draw_recall": draw_recall,
        "draw_class_size": draw_class_size,
        "draw_tail": draw_tail,
        "draw_chart": draw_chart,
        "draw_reliability": draw_reliability,
        "draw_risk": draw_risk,
        "draw_matrix": draw_matrix,
        "list_matrix": list_matrix,
        "short_name": short_name,
        "width_of_names": width_of_names,
        "max_classes_named": MAX_CLASSES_NAMED,
    }
)
