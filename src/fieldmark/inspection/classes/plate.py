"""The plate of a class, after the plates of natural histories: `draw_plate`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fieldmark.inspection.classes.marks import ClassMarks, Specimen
from fieldmark.inspection.frames import bare, frame_picture
from fieldmark.inspection.specimens import find_evidence, say, say_file, see, shorten
from fieldmark.inspection.style import BLUE, FAINT, INK, ORANGE, PAPER, RULE, Box
from fieldmark.inspection.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, EDGE = 8.4, 10.9, 0.55
PER_ROW, SMALL, GAP = 6, 1.08, 0.164
ROMAN = ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
MARK = 0.5
"""Share of the strongest evidence that is outlined."""


def draw_plate(subject: Subject, marks: ClassMarks, number: int) -> Figure:
    """One page: a large typical specimen, rows of others, and the look-alike beside it."""
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor=PAPER)
    _draw_frame(figure)
    box = Box(figure, EDGE, EDGE, WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE)
    _draw_head(box, marks, subject.model, number)
    counter = _Letters()
    _draw_large(subject, box, marks, counter)
    _draw_facts(box, marks)
    _draw_rows(subject, box, marks, counter)
    _draw_comparison(subject, box, marks, counter)
    box.text(
        box.width / 2,
        box.height + 0.04,
        "Outlined: at least half of the strongest evidence (Grad-CAM) for the class; orange: for "
        "the class it was taken for.",
        ha="center",
        fontsize=7,
        color=FAINT,
        style="italic",
        fontfamily="serif",
    )
    return figure


class _Letters:
    """Specimens are numbered through the plate, as its legend speaks of them."""

    def __init__(self) -> None:
        self.count = 0

    def next(self) -> str:
        self.count += 1
        return str(self.count)


def _draw_frame(figure: Figure) -> None:
    """A strong rule and a thin one inside it."""
    for inset, width in ((0.22, 1.1), (0.28, 0.4)):
        figure.add_artist(
            Rectangle(
                (inset / WIDTH, inset / HEIGHT),
                1 - 2 * inset / WIDTH,
                1 - 2 * inset / HEIGHT,
                fill=False,
                edgecolor=INK,
                linewidth=width,
            )
        )


def _draw_head(box: Box, marks: ClassMarks, model: str, number: int) -> None:
    name = _as_name(marks.name)
    size = min(27.0, 27.0 * 27 / max(27, len(name)))
    box.text(
        box.width / 2, -0.02, name, ha="center", fontsize=size, style="italic", fontfamily="serif"
    )
    line = f"Plate {_roman(number)}   ·   field marks as seen by {model}"
    box.text(box.width / 2, 0.5, line, ha="center", fontsize=9, color=FAINT, fontfamily="serif")
    _rule(box, 0.76)


def _draw_large(subject: Subject, box: Box, marks: ClassMarks, counter: _Letters) -> None:
    side = 3.55
    axes = box.axes(0, 0.92, side, side)
    own = subject.predictor.class_names.index(marks.name)
    specimen = marks.typical[0]
    _show(subject, axes, specimen, own, None, BLUE, width=1.9)
    _number(axes, counter.next())
    text = f"The most typical specimen, {say_file(specimen.row.image)} ({specimen.row.split} split)"
    box.text(
        0, 0.92 + side + 0.06, text, fontsize=7.5, color=FAINT, style="italic", fontfamily="serif"
    )


def _draw_facts(box: Box, marks: ClassMarks) -> None:
    left, top = 3.95, 0.95
    width = box.width - left
    counts = marks.num_images
    box.text(left, top, f"{sum(counts.values())}", fontsize=24, fontfamily="serif")
    by_split = ", ".join(f"{counts[split]} {split}" for split in ("train", "val", "test"))
    box.text(left, top + 0.42, f"images: {by_split}", fontsize=8.5, color=FAINT)
    for index, (label, value, meaning) in enumerate(
        (
            ("recall", marks.recall, "of its images are recognised"),
            ("precision", marks.precision, "of what is called so is it"),
        )
    ):
        _draw_share(box, (left, top + 0.78 + 0.6 * index, width), label, value, meaning)
    below = top + 2.08
    scored = f"on {marks.support} images of the {marks.split} split"
    box.text(left, below - 0.16, scored, fontsize=7.5, color=FAINT)
    times = "once" if marks.num_confused == 1 else f"{marks.num_confused} times"
    said = (
        f"confused with it {times}, either way"
        if marks.num_confused
        else "never confused, but the next in probability"
    )
    box.text(left, below + 0.34, "Look-alike", fontsize=8.5, color=FAINT)
    box.text(
        left,
        below + 0.5,
        shorten(_as_name(marks.look_alike), 30),
        fontsize=14,
        style="italic",
        color=ORANGE,
        fontfamily="serif",
    )
    box.text(left, below + 0.78, said, fontsize=8, color=FAINT)
    _draw_spread(box.axes(left, below + 1.06, width, 0.42), marks)


def _draw_share(
    box: Box, place: tuple[float, float, float], label: str, value: float, meaning: str
) -> None:
    left, top, width = place
    known = not math.isnan(value)
    box.text(left, top, f"{value:.0%}" if known else "–", fontsize=15, fontfamily="serif")
    box.text(left + 0.72, top + 0.08, f"{label}: {meaning}", fontsize=8, color=FAINT)
    axes = box.axes(left, top + 0.32, width, 0.06)
    bare(axes)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.add_patch(Rectangle((0, 0), 1, 1, color=RULE))
    axes.add_patch(Rectangle((0, 0), value if known else 0, 1, color=BLUE))


def _draw_spread(axes: Axes, marks: ClassMarks) -> None:
    """A tick for each image: how near it is to the centre of its class."""
    bare(axes)
    values = np.array([specimen.similarity for specimen in marks.typical])
    axes.vlines(values, 0, 1, color=BLUE, linewidth=0.7, alpha=0.5)
    low = float(values.min())
    axes.set_xlim(min(low, 0.98) - 0.01, 1.0)
    axes.set_ylim(-1.3, 1)
    axes.axhline(0, color=RULE, linewidth=0.8)
    axes.text(low, -0.2, f"unusual {low:.2f}", fontsize=7, color=FAINT, va="top")
    axes.text(
        1, -0.2, f"{float(values.max()):.2f} typical", fontsize=7, color=FAINT, va="top", ha="right"
    )


def _draw_rows(subject: Subject, box: Box, marks: ClassMarks, counter: _Letters) -> None:
    own = subject.predictor.class_names.index(marks.name)
    unusual = [s for s in marks.atypical if s not in marks.typical[: PER_ROW + 1]]
    top = 4.82
    for title, specimens in (
        ("Typical", marks.typical[1 : PER_ROW + 1]),
        ("Unusual", tuple(unusual[:PER_ROW])),
    ):
        _heading(box, top, title)
        for place, specimen in enumerate(specimens):
            left = place * (SMALL + GAP)
            axes = box.axes(left, top + 0.22, SMALL, SMALL)
            _show(subject, axes, specimen, own, None, BLUE)
            _number(axes, counter.next())
        top += SMALL + 0.36


def _draw_comparison(subject: Subject, box: Box, marks: ClassMarks, counter: _Letters) -> None:
    """Confused images on the left; on the right both species, with what separates them."""
    top, names = 7.72, subject.predictor.class_names
    own = names.index(marks.name)
    _rule(box, top - 0.06)
    half = 3 * SMALL + 2 * GAP
    _heading(box, top + 0.04, "Confused")
    if not marks.confused:
        text = f"No image of the {marks.split} split was taken for another class."
        box.text(0, top + 0.35, text, fontsize=8, color=FAINT, style="italic", fontfamily="serif")
    for place, specimen in enumerate(marks.confused[:3]):
        left = place * (SMALL + GAP)
        axes = box.axes(left, top + 0.26, SMALL, SMALL)
        _show(subject, axes, specimen, names.index(specimen.taken_for), None, ORANGE)
        _number(axes, counter.next())
        said = f"taken for {shorten(say(specimen.taken_for), 18)}"
        box.text(left, top + 0.3 + SMALL, said, fontsize=6.4, color=ORANGE)
        box.text(
            left,
            top + 0.42 + SMALL,
            f"{specimen.probability:.2f}  {say_file(specimen.row.image, 16)}",
            fontsize=6.4,
            color=FAINT,
        )
    left = half + 2 * GAP + 0.1
    _heading(box, top + 0.04, "What separates it from its look-alike", left=left)
    other = names.index(marks.look_alike)
    side = (box.width - left - GAP) / 2
    pairs = (
        (marks.typical[0], own, other, BLUE, marks.name),
        (
            marks.look_alike_typical[0] if marks.look_alike_typical else None,
            other,
            own,
            ORANGE,
            marks.look_alike,
        ),
    )
    for place, (shown, first, second, colour, name) in enumerate(pairs):
        if shown is None:
            continue
        at = left + place * (side + GAP)
        axes = box.axes(at, top + 0.26, side, side)
        _show(subject, axes, shown, first, second, colour, width=1.5)
        _number(axes, counter.next())
        box.text(
            at,
            top + 0.3 + side,
            shorten(_as_name(name), 26),
            fontsize=8,
            style="italic",
            color=colour,
            fontfamily="serif",
        )


def _show(
    subject: Subject,
    axes: Axes,
    specimen: Specimen,
    class_index: int,
    rival_index: int | None,
    colour: str,
    *,
    width: float = 1.1,
) -> None:
    """The image, and a line around half of the strongest evidence."""
    picture = see(subject, specimen.row)
    if picture is None:
        bare(axes)
        axes.set_facecolor(RULE)
        axes.text(0.5, 0.5, "gone", ha="center", va="center", fontsize=7, color=FAINT)
        return
    frame_picture(axes, picture.shown)
    evidence = find_evidence(subject, picture, class_index, rival_index)
    if evidence is not None:
        _outline(axes, evidence, colour, width)


def _outline(axes: Axes, evidence: NDArray[np.float32], colour: str, width: float) -> None:
    # A pale line below the coloured one keeps it visible on dark and on light pictures.
    axes.contour(evidence, levels=[MARK], colors=["white"], linewidths=[width * 2.1], alpha=0.85)
    axes.contour(evidence, levels=[MARK], colors=[colour], linewidths=[width])


def _number(axes: Axes, text: str) -> None:
    corner = axes.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        textcoords="offset points",
        xytext=(1.5, -1.5),
        fontsize=6.5,
        color=INK,
        va="top",
        ha="left",
        fontfamily="serif",
    )
    corner.set_bbox({"facecolor": PAPER, "linewidth": 0, "pad": 1.6})


def _heading(box: Box, top: float, text: str, left: float = 0.0) -> None:
    box.text(left, top, text, fontsize=10, style="italic", fontfamily="serif")


def _rule(box: Box, top: float) -> None:
    height = (box.bottom + box.height - top) / HEIGHT
    ends = (box.left / WIDTH, (box.left + box.width) / WIDTH)
    box.figure.add_artist(Line2D(ends, (height, height), color=INK, linewidth=0.5))


def _as_name(label: str) -> str:
    """A name as a plate writes it, with a capital first."""
    words = say(label)
    return words[:1].upper() + words[1:]


def _roman(number: int) -> str:
    text = ""
    for value, letters in ROMAN:
        while number >= value:
            text, number = text + letters, number - value
    return text
