"""`draw_classes`: a plate for each class."""

from __future__ import annotations

from collections.abc import Iterator

from fieldmark.evaluation.predictions import Predictions
from fieldmark.inspection.classes.marks import describe_class
from fieldmark.inspection.classes.plate import draw_plate
from fieldmark.inspection.mistakes.pairs import find_pairs
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.readings import need_table
from fieldmark.inspection.specimens import read_predictions, say
from fieldmark.inspection.subject import Subject
from fieldmark.runs.figures import Drawing


def draw_classes(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    """The plate of each class of `options.classes`; none: the two most often confused.

    Raises `InspectionError` where the images are gone, or for a name that is no class.
    """
    table = need_table(subject, "draw plates of")
    predictions = read_predictions(subject, options.split)
    for number, name in enumerate(options.classes or choose_classes(predictions), start=1):
        marks = describe_class(
            subject,
            table,
            predictions,
            name,
            split=options.split,
            count=lambda done, total: options.progress("features of a class", done, total),
        )
        figure = draw_plate(subject, marks, number)
        title = f"Field marks of {say(name)}"
        caption = (
            f"{subject.model}: the plate of {say(name)}. Typical and unusual by the cosine of an "
            "image's pooled features with the centre of the class's training images, all splits; "
            f"confused on the {options.split} split. Outlined: half of the strongest Grad-CAM "
            f"evidence for the class; beside the look-alike {say(marks.look_alike)}: for either "
            "rather than the other."
        )
        yield Drawing("classes", subject.model, name, title, caption, figure)


def choose_classes(predictions: Predictions) -> tuple[str, ...]:
    """The two classes that are most often confused; without mistakes the first two."""
    pairs = find_pairs(predictions)
    if pairs:
        return pairs[0].given, pairs[0].chosen
    return predictions.class_names[:2]
