"""Figures as inline SVG. Colours come from the page's stylesheet, so they follow light and dark.

Every text goes through `Markup.format`, which escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from markupsafe import Markup

from fieldmark.data.table import SPLITS
from fieldmark.reporting.charts import draw_chart
from fieldmark.reporting.dataset import ClassSize
from fieldmark.reporting.matrix import (
    MAX_CLASSES_NAMED,
    draw_matrix,
    list_matrix,
    short_name,
    width_of_names,
)
from fieldmark.reporting.scores import Score


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


FIGURES: Mapping[str, object] = MappingProxyType(
    {
        "draw_interval": draw_interval,
        "draw_class_size": draw_class_size,
        "draw_chart": draw_chart,
        "draw_matrix": draw_matrix,
        "list_matrix": list_matrix,
        "short_name": short_name,
        "width_of_names": width_of_names,
        "max_classes_named": MAX_CLASSES_NAMED,
    }
)
