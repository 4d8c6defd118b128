"""Curves over epochs as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from fieldmark.reporting.curves import Chart, Series
from fieldmark.reporting.wording import nice_ticks, say_number

_WIDTH, _HEIGHT = 520, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 92, 26, 40
_NAME_GAP = 16
_MAX_POINTS_DOTTED = 30


@dataclass(frozen=True)
class _Frame:
    """Maps epochs and values to places; a single epoch stands in the middle."""

    first: int
    last: int
    ticks: tuple[float, ...]

    def x(self, epoch: float) -> float:
        width = _WIDTH - _LEFT - _RIGHT
        if self.first == self.last:
            return _LEFT + width / 2
        return _LEFT + width * (epoch - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)


def draw_chart(chart: Chart) -> Markup:
    """Lines with their names at the right end, and the kept epoch marked."""
    values = [value for series in chart.series for _, value in series.points]
    low = min(values) if len(set(values)) > len(chart.series) else 0.0
    frame = _Frame(chart.first_epoch, chart.last_epoch, tuple(nice_ticks(low, max(values))))
    trends = "; ".join(
        f"{series.name} from {say_number(series.points[0][1])} "
        f"to {say_number(series.points[-1][1])}"
        for series in chart.series
    )
    return Markup(
        '<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        "{axes}{best}{lines}{names}{bands}</svg>"
    ).format(
        width=_WIDTH,
        height=_HEIGHT,
        label=f"{chart.title}, epochs {chart.first_epoch} to {chart.last_epoch}: {trends}. "
        f"Epoch {chart.best_epoch} was kept.",
        axes=_draw_axes(frame),
        best=_draw_best(chart.best_epoch, frame),
        lines=_join(_draw_line(series, chart.best_epoch, frame) for series in chart.series),
        names=_draw_names(chart.series, frame),
        bands=_draw_bands(chart.series, frame),
    )


def _draw_axes(frame: _Frame) -> Markup:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    decimals = max(len(f"{tick:g}".partition(".")[2]) for tick in frame.ticks)
    rules = (
        Markup(
            '<line class="rule" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text class="tick" x="{x}" y="{y:.1f}" dy=".35em" text-anchor="end">{text}</text>'
        ).format(left=_LEFT, right=right, x=_LEFT - 8, y=frame.y(tick), text=f"{tick:.{decimals}f}")
        for tick in frame.ticks
    )
    epochs = (
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            frame.x(epoch), bottom + 18, epoch
        )
        for epoch in _epoch_ticks(frame.first, frame.last)
    )
    title = Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">epoch</text>').format(
        (_LEFT + right) / 2, bottom + 35
    )
    return _join([*rules, *epochs, title])


def _epoch_ticks(first: int, last: int) -> list[int]:
    """Whole epochs at round distances, with the first and, where there is room, the last."""
    if last - first < 8:
        return list(range(first, last + 1))
    step = max(1, round(nice_ticks(0, last - first, 6)[1]))
    inner = [epoch for epoch in range(0, last + 1, step) if first + step / 2 < epoch]
    return [first, *(e for e in inner if e <= last - step / 2), last]


def _draw_best(epoch: int, frame: _Frame) -> Markup:
    return Markup(
        '<line class="best" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        '<text class="best-name" x="{x:.1f}" y="{y}" text-anchor="middle">kept: {epoch}</text>'
    ).format(
        x=frame.x(epoch),
        top=_TOP - 6,
        bottom=_HEIGHT - _BOTTOM,
        y=_TOP - 11,
        epoch=epoch,
    )


def _draw_line(series: Series, best_epoch: int, frame: _Frame) -> Markup:
    places = [(epoch, frame.x(epoch), frame.y(value)) for epoch, value in series.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for _, x, y in places)
    few = len(places) <= _MAX_POINTS_DOTTED
    dots = (
        Markup('<circle class="{} {}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(
            series.style,
            "kept" if epoch == best_epoch else "point",
            x,
            y,
            4.5 if epoch == best_epoch else 2.2,
        )
        for epoch, x, y in places
        if few or epoch == best_epoch
    )
    line = Markup('<path class="line {}" d="{}"/>').format(series.style, path)
    return _join([line, *dots])


def _draw_names(lines: Sequence[Series], frame: _Frame) -> Markup:
    """Each line's name beside its end, moved apart where ends are close."""
    ordered = sorted(lines, key=lambda series: frame.y(series.points[-1][1]))
    places: list[float] = []
    for series in ordered:
        y = frame.y(series.points[-1][1])
        places.append(max(y, places[-1] + _NAME_GAP) if places else y)
    overflow = max(0.0, places[-1] - (_HEIGHT - _BOTTOM)) if places else 0.0
    x = frame.x(lines[0].points[-1][0]) + 10
    return _join(
        Markup('<text class="name {}" x="{:.1f}" y="{:.1f}" dy=".35em">{}</text>').format(
            series.style, x, y - overflow, series.name
        )
        for y, series in zip(places, ordered, strict=True)
    )


def _draw_bands(lines: Sequence[Series], frame: _Frame) -> Markup:
    """An invisible strip per epoch whose title tells the values under the pointer."""
    values: dict[int, list[str]] = {}
    for series in lines:
        for epoch, value in series.points:
            values.setdefault(epoch, []).append(f"{series.name} {say_number(value)}")
    epochs = sorted(values)
    edges = [frame.x(epoch) for epoch in epochs]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    bounds = [_LEFT, *middles, _WIDTH - _RIGHT + 6]
    return _join(
        Markup(
            '<rect class="band" x="{:.1f}" y="{}" width="{:.1f}" height="{}">'
            "<title>{}</title></rect>"
        ).format(
            bounds[place],
            _TOP,
            bounds[place + 1] - bounds[place],
            _HEIGHT - _TOP - _BOTTOM,
            f"epoch {epoch}: {', '.join(values[epoch])}",
        )
        for place, epoch in enumerate(epochs)
    )


_join = Markup().join
