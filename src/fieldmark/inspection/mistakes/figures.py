"""`draw_mistakes`: confused pairs, with what spoke for either class side by side."""

from __future__ import annotations

from collections.abc import Iterator

from fieldmark.data.table import Row
from fieldmark.errors import InspectionError
from fieldmark.inspection.frames import bare, frame_picture
from fieldmark.inspection.mistakes.pairs import ConfusedPair, Mistaken, find_pairs
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.readings import need_table
from fieldmark.inspection.specimens import find_evidence, read_predictions, say, say_file, see
from fieldmark.inspection.style import (
    BLUE,
    FAINT,
    ORANGE,
    RULE,
    SMALL_PT,
    TEXT_PT,
    Box,
    new_figure,
    overlay,
)
from fieldmark.inspection.subject import Subject
from fieldmark.runs.figures import Drawing

MOST_PAIRS, PER_PAIR = 5, 2
SIDE, GAP, ROW = 1.12, 0.07, 1.78


def draw_mistakes(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    """The most frequent confusions of a split; of each, its surest mistakes with Grad-CAM.

    Raises `InspectionError` where there is no mistake, or the images are gone.
    """
    table = need_table(subject, "show mistakes of")
    pairs = find_pairs(read_predictions(subject, options.split))
    if not pairs:
        raise InspectionError(
            f"mistakes: the {options.split} split of {subject.folder.path} has none that could be "
            "shown. Choose another by --split"
        )
    rows = {_as_text(row.image): row for row in table.rows}
    shown = pairs[:MOST_PAIRS]
    num_mistakes = sum(len(pair.mistakes) for pair in pairs)
    title = f"Mistakes of {subject.model}"
    caption = (
        f"{subject.model}, {options.split} split: {num_mistakes} mistakes in {len(pairs)} "
        f"confused pairs, the {len(shown)} most frequent, each with its surest mistakes: the "
        "image, what speaks for its own class (blue), and what speaks for the class that was "
        "chosen (orange). Grad-CAM, brighter is stronger."
    )
    width = PER_PAIR * (3 * (SIDE + GAP)) + 0.25
    figure, box = new_figure(width, len(shown) * ROW, title, caption)
    for index, pair in enumerate(shown):
        _draw_pair(subject, box, index * ROW, pair, rows)
        options.progress("mistakes", index + 1, len(shown))
    detail = f"pairs-{options.split}"
    yield Drawing("mistakes", subject.model, detail, title, caption, figure)


def _draw_pair(
    subject: Subject, box: Box, top: float, pair: ConfusedPair, rows: dict[str, Row]
) -> None:
    box.text(0, top, say(pair.given), bold=True, color=BLUE)
    box.text(
        box.width,
        top,
        f"{len(pair.mistakes)} of {pair.num_given} images ({pair.share:.0%})",
        ha="right",
        color=FAINT,
    )
    box.text(
        box.width / 2, top, f"taken for   {say(pair.chosen)}", bold=True, color=ORANGE, ha="center"
    )
    for place, mistake in enumerate(pair.mistakes[:PER_PAIR]):
        left = place * (3 * (SIDE + GAP) + 0.25)
        row = rows.get(mistake.image)
        _draw_mistake(subject, box, (left, top + 0.22), pair, mistake, row)


def _draw_mistake(
    subject: Subject,
    box: Box,
    corner: tuple[float, float],
    pair: ConfusedPair,
    mistake: Mistaken,
    row: Row | None,
) -> None:
    left, top = corner
    seen = None if row is None else see(subject, row)
    names = subject.predictor.class_names
    words = (
        (say_file(mistake.image), FAINT),
        (f"own class {mistake.true_probability:.2f}", BLUE),
        (f"chosen {mistake.probability:.2f}", ORANGE),
    )
    for column, (text, colour) in enumerate(words):
        at = left + column * (SIDE + GAP)
        axes = box.axes(at, top, SIDE, SIDE)
        bare(axes)
        box.text(at, top + SIDE + 0.04, text, fontsize=SMALL_PT, color=colour)
        if seen is None:
            if column == 0:
                axes.text(0.5, 0.5, "image is gone", ha="center", fontsize=TEXT_PT, color=FAINT)
            axes.patch.set_facecolor(RULE)
            continue
        if column == 0:
            frame_picture(axes, seen.shown)
            continue
        own, other = names.index(pair.given), names.index(pair.chosen)
        evidence = find_evidence(subject, seen, own if column == 1 else other)
        frame_picture(axes, seen.shown if evidence is None else overlay(seen.shown, evidence))


def _as_text(name: str) -> str:
    """Predictions hold names as text, the table under their exact bytes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
