"""A sheet of pictures, each with the training images nearest to it."""

from __future__ import annotations

from fieldmark.errors import InspectionError
from fieldmark.inspection.frames import frame_picture
from fieldmark.inspection.neighbours import find_neighbours, select_images
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.pictures import choose_rows
from fieldmark.inspection.readings import need_table
from fieldmark.inspection.specimens import read_picture, say, say_file, shorten
from fieldmark.inspection.style import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    SMALL_PT,
    new_figure,
)
from fieldmark.inspection.subject import Subject
from fieldmark.runs.figures import Drawing

MOST_IMAGES = 5
SIDE, GAP, APART, ROW = 1.0, 0.09, 0.32, 1.5


def draw_neighbour_sheet(subject: Subject, options: InspectOptions) -> Drawing:
    """Pictures of the split, or the user's, in a row with their nearest training images."""
    table = need_table(subject, "find neighbours among")
    images = list(subject.images)
    if not images:
        count = max(options.num_images, MOST_IMAGES)
        rows = choose_rows(table.select(options.split), count, options.seed)
        images = [row.image for row in rows]
    if not images:
        raise InspectionError(
            f"neighbours: {subject.folder.path} has no image in its {options.split} split. Choose "
            "another by --split, or name pictures by --image"
        )
    found = find_neighbours(
        subject,
        images,
        k=options.neighbours,
        count=lambda done, total: options.progress("features of training images", done, total),
    )
    asked = select_images(subject, images)
    most = max(len(row) for row in found)
    title = f"Nearest training images, seen by {subject.model}"
    where = "named pictures" if subject.images else f"{options.split} split"
    caption = (
        f"{subject.model}, {where}: each picture (left) and the {most} training images with the "
        "most similar pooled features (cosine, exact). Blue: the same label, orange: another."
    )
    width = SIDE + APART + most * (SIDE + GAP)
    figure, box = new_figure(width, len(images) * ROW, title, caption)
    for index, (row, neighbours) in enumerate(zip(asked.rows, found, strict=True)):
        top = index * ROW
        frame_picture(box.axes(0, top, SIDE, SIDE), read_picture(asked.store, row.image))
        label = shorten(say(row.label) or "no label", 19)
        box.text(0, top + SIDE + 0.05, label, fontsize=SMALL_PT, bold=True)
        box.text(0, top + SIDE + 0.19, say_file(row.image, 19), fontsize=6.5, color=FAINT)
        for place, near in enumerate(neighbours):
            left = SIDE + APART + place * (SIDE + GAP)
            frame_picture(box.axes(left, top, SIDE, SIDE), read_picture(table.store, near.image))
            is_same = near.label == row.label
            colour = INK if not row.label else BLUE if is_same else ORANGE
            box.text(
                left,
                top + SIDE + 0.05,
                shorten(say(near.label), 17),
                fontsize=SMALL_PT,
                color=colour,
            )
            box.text(left, top + SIDE + 0.19, f"{near.similarity:.3f}", fontsize=6.5, color=FAINT)
    detail = f"nearest-{options.split if not subject.images else 'named'}"
    return Drawing("neighbours", subject.model, detail, title, caption, figure)
