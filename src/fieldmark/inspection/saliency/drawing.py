"""`fieldmark inspect --what saliency`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fieldmark.errors import InspectionError
from fieldmark.inspection.asking import Answer, Verdict, answer_of, find_verdict
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.pictures import Picture, choose_pictures
from fieldmark.inspection.saliency.figures import Sheet, plot_saliency
from fieldmark.inspection.saliency.grad_cam import find_cam_layers
from fieldmark.inspection.saliency.methods import Method, choose_methods
from fieldmark.inspection.saliency.trust import (
    measure_faithfulness,
    rank_correlation,
    shuffle_weights,
)
from fieldmark.inspection.subject import Subject
from fieldmark.models.classifier import Classifier
from fieldmark.runs.figures import Drawing

NUM_SHUFFLED = 2
FEWEST_STEPS = 4


def draw_saliency(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    """Draw for each picture one sheet of all methods, with what says whether to believe them."""
    if options.steps < FEWEST_STEPS:
        raise InspectionError(f"--steps: expected at least {FEWEST_STEPS}, not {options.steps}")
    methods = choose_methods(options.methods, options.note)
    pictures = choose_pictures(subject, options)
    shuffled = [
        shuffle_weights(subject.classifier, options.seed + index) for index in range(NUM_SHUFFLED)
    ]
    total = len(pictures) * len(methods)
    for index, picture in enumerate(pictures):
        verdict = find_verdict(subject.predictor, picture, options.target)
        answer = answer_of(subject.predictor, picture, verdict)
        sheets = []
        for place, method in enumerate(methods):
            options.progress("saliency", index * len(methods) + place, total)
            sheets.append(make_sheet(answer, picture, method, shuffled, options))
        yield _draw(subject, picture, verdict, sheets, _layers(answer, picture, methods))
    options.progress("saliency", total, total)


def make_sheet(
    answer: Answer,
    picture: Picture,
    method: Method,
    shuffled: Sequence[Classifier],
    options: InspectOptions,
) -> Sheet:
    """Compute the map of one method, and whether it means anything."""
    values = method.compute(answer, picture, options.steps)
    others = [
        method.compute(replace(answer, classifier=network), picture, options.steps)
        for network in shuffled
    ]
    stride = answer.classifier.backbone.stride
    return Sheet(
        label=method.label,
        values=values,
        faithfulness=measure_faithfulness(
            answer,
            picture.pixels,
            values,
            cell_px=method.cell_px(values.shape[0], stride),
            steps=options.steps,
            seed=options.seed,
        ),
        shuffled=others[0],
        correlations=tuple(rank_correlation(values, other) for other in others),
    )


def _layers(answer: Answer, picture: Picture, methods: Sequence[Method]) -> str:
    """The layers that Grad-CAM reads, for people; empty without it."""
    if all(method.name != "grad-cam" for method in methods):
        return "from the pixels"
    names, _ = find_cam_layers(answer, picture)
    return f"Grad-CAM at {names[0]}" + (f" to {names[-1]}" if len(names) > 1 else "")


def _draw(
    subject: Subject, picture: Picture, verdict: Verdict, sheets: list[Sheet], layers: str
) -> Drawing:
    title = f"What speaks for {verdict.name} in {picture.name}"
    figure = plot_saliency(
        picture.shown,
        sheets,
        verdict=verdict.words,
        title=title,
        subtitle=f"{subject.model} · {layers} · {picture.words}",
    )
    told = "; ".join(f"{sheet.label} {_judge(sheet)}" for sheet in sheets)
    caption = (
        f"{subject.model}, {layers}, {picture.words}: evidence for {verdict.words}"
        f"{' (its first choice)' if verdict.is_first else ' (not its first choice)'}. "
        f"Against random maps as coarse: {told}. On the right the maps of networks whose "
        f"weights were shuffled ({NUM_SHUFFLED} draws); a map that depends on what was learned "
        "correlates little with them."
    )
    return Drawing("saliency", subject.model, picture.stem, title, caption, figure)


def _judge(sheet: Sheet) -> str:
    deletion, insertion = sheet.faithfulness.beats_random
    if deletion and insertion:
        return "is better in deletion and insertion"
    if deletion or insertion:
        return f"is better in {'deletion' if deletion else 'insertion'} alone"
    return "is better in neither"
