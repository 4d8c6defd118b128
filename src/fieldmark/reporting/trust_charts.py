"""The reliability diagram and the coverage-risk curve as inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from fieldmark.reporting.classes import wilson_interval
from fieldmark.reporting.reliability import Reliability, Said
from fieldmark.reporting.wording import nice_ticks, say_share

_SIDE, _LEFT, _TOP, _BOTTOM, _BARS = 300, 58, 12, 44, 62
_WIDTH = _LEFT + _SIDE + 14
_ROOT = _TOP + _SIDE


def draw_reliability(content: Reliability) -> Markup:
    """What was said (across) against how often it was right (up), and how many images said so."""
    said = content.before
    told = "; ".join(
        f"said {say_share(one.confidence)}, right {say_share(one.accuracy)} of {one.count}"
        for one in said.bins
    )
    series = _draw_said(said, "first")
    if content.after is not None:
        series += _draw_said(content.after, "second")
    return Markup(
        '<svg class="chart square" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="{label}">{axes}<line class="best" x1="{left}" y1="{root}" x2="{right}" '
        'y2="{top}"/>{counts}{series}{across}</svg>'
    ).format(
        width=_WIDTH,
        height=_ROOT + _BARS + _BOTTOM,
        label=f"Reliability diagram: {told}.",
        axes=_draw_rules((0.0, 0.25, 0.5, 0.75, 1.0), 1.0, "right"),
        left=_LEFT,
        right=_LEFT + _SIDE,
        root=_ROOT,
        top=_TOP,
        counts=_draw_counts(said),
        series=series,
        across=_draw_across("probability of the first class", _ROOT + _BARS),
    )


def draw_risk(content: Reliability) -> Markup:
    """Share of wrong answers (up) when only the surest share of the images (across) is answered."""
    curve = content.curve
    ticks = nice_ticks(0.0, max(max(point.risk for point in curve), 0.01), 4)
    places = [(_x(p.coverage), _y(p.risk / ticks[-1])) for p in curve]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    told = ", ".join(
        f"{say_share(p.risk)} wrong with {say_share(p.coverage)} answered" for p in content.kept
    )
    return Markup(
        '<svg class="chart square" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        '{axes}<path class="line first" d="{path}"/>{dots}{across}</svg>'
    ).format(
        width=_WIDTH,
        height=_ROOT + _BOTTOM,
        label=f"Coverage-risk curve: {told}.",
        axes=_draw_rules([tick / ticks[-1] for tick in ticks], ticks[-1], "wrong"),
        path=path,
        dots=_join(
            Markup(
                '<circle class="first" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>'
            ).format(
                _x(p.coverage),
                _y(p.risk / ticks[-1]),
                f"{say_share(p.coverage)} answered, {say_share(p.risk)} of these wrong",
            )
            for p in content.kept
        ),
        across=_draw_across("images answered, surest first", _ROOT),
    )


def _x(share: float) -> float:
    return _LEFT + _SIDE * share


def _y(share: float) -> float:
    return _ROOT - _SIDE * share


def _draw_rules(places: Sequence[float], end: float, what: str) -> Markup:
    rules = (
        Markup(
            '<line class="rule" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text class="tick" x="{x}" y="{y:.1f}" dy=".35em" text-anchor="end">{text}</text>'
        ).format(
            left=_LEFT, right=_LEFT + _SIDE, x=_LEFT - 7, y=_y(place), text=f"{100 * place * end:g}"
        )
        for place in places
    )
    name = Markup(
        '<text class="tick" transform="translate(13 {:g}) rotate(-90)" text-anchor="middle">'
        "{}, %</text>"
    ).format(_TOP + _SIDE / 2, what)
    return _join([*rules, name])


def _draw_across(what: str, bottom: float) -> Markup:
    ticks = (
        Markup('<text class="tick" x="{:g}" y="{:g}" text-anchor="middle">{:g}</text>').format(
            _x(share), bottom + 18, 100 * share
        )
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    name = Markup('<text class="tick" x="{:g}" y="{:g}" text-anchor="middle">{}, %</text>').format(
        _x(0.5), bottom + 37, what
    )
    return _join([*ticks, name])


def _draw_said(said: Said, style: str) -> Markup:
    """A point per bin, larger with more images, with the interval that so many allow."""
    most = max(one.count for one in said.bins)
    shift = 0.0 if style == "first" else 4.0
    parts = []
    for one in said.bins:
        x, y = _x(one.confidence) + shift, _y(one.accuracy)
        interval = wilson_interval(round(one.accuracy * one.count), one.count)
        assert interval is not None  # bins without images are not there
        parts.append(
            Markup(
                '<line class="whisker {style}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" '
                'y2="{high:.1f}"/><circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}">'
                "<title>{told}</title></circle>"
            ).format(
                style=style,
                x=x,
                y=y,
                low=_y(interval[0]),
                high=_y(interval[1]),
                r=3 + 4 * (one.count / most) ** 0.5,
                told=f"said {say_share(one.confidence)}, right {say_share(one.accuracy)} of "
                f"{one.count} images",
            )
        )
    return _join(parts)


def _draw_counts(said: Said) -> Markup:
    """How many images said so: bars below the diagram."""
    most = max(one.count for one in said.bins)
    bottom = _ROOT + _BARS
    bars = (
        Markup(
            '<rect class="counted" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
        ).format(
            _x(one.low) + 1,
            bottom - (_BARS - 14) * one.count / most,
            _SIDE * (one.high - one.low) - 2,
            (_BARS - 14) * one.count / most,
        )
        for one in said.bins
    )
    name = Markup('<text class="tick" x="{}" y="{}" text-anchor="end">images</text>').format(
        _LEFT - 7, bottom - 5
    )
    return _join([*bars, name])


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup().join(parts)
