"""`fieldmark inspect --what features`."""

from __future__ import annotations

from collections.abc import Iterator

from fieldmark.errors import InspectionError
from fieldmark.inspection.asking import find_verdict
from fieldmark.inspection.features.figures import (
    pick_evenly,
    plot_map_flow,
    plot_maps,
    plot_token_flow,
)
from fieldmark.inspection.features.flow import Stage, find_stages, watch
from fieldmark.inspection.features.numbers import strongest_channels
from fieldmark.inspection.hooks import find_layer
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.pictures import Picture, choose_pictures
from fieldmark.inspection.subject import Subject
from fieldmark.runs.figures import Drawing

NUM_MAPS = 24
NUM_LAYERS = 2


def draw_features(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    """Draw the flow of each picture through the network, and the maps of some layers.

    With `options.layers` the maps of those layers, with `options.channels` those channels.
    """
    for name in options.layers:
        find_layer(subject.classifier, name.partition("#")[0])
    pictures = choose_pictures(subject, options)
    for index, picture in enumerate(pictures):
        options.progress("feature maps", index, len(pictures))
        flow = watch(subject.classifier, picture)
        stages = find_stages(subject.classifier, flow)
        if stages:
            yield _draw_flow(subject, picture, stages, options)
        chosen = [flow.stage(name, subject.classifier) for name in options.layers]
        for stage in chosen or pick_evenly(stages, NUM_LAYERS + 1)[:NUM_LAYERS]:
            yield _draw_stage(subject, picture, stage, options)
        if not stages and not chosen:
            raise InspectionError(
                f"features: no layer of '{subject.model}' returns maps on the image's plane"
            )
    options.progress("feature maps", len(pictures), len(pictures))


def _draw_flow(
    subject: Subject, picture: Picture, stages: list[Stage], options: InspectOptions
) -> Drawing:
    verdict = find_verdict(subject.predictor, picture, options.target)
    is_tokens = stages[0].layer.startswith("blocks.")
    title = f"How {picture.name} flows through {subject.model}"
    subtitle = f"{subject.model} · by {'block' if is_tokens else 'stage'} · {picture.words}"
    plot = plot_token_flow if is_tokens else plot_map_flow
    figure = plot(
        picture.shown, stages, title=title, subtitle=f"{subtitle} · predicted {verdict.words}"
    )
    what = (
        "after each block the tokens of the patches, above as colours (their three main "
        "components), below by length"
        if is_tokens
        else "after the last layer of each size the mean of all channels and those that vary most"
    )
    layers = ", ".join(stage.layer for stage in (stages[0], stages[-1]))
    caption = (
        f"{subject.model}, layers {layers} and between, {picture.words}: {what}. "
        f"Predicted: {verdict.words}."
    )
    return Drawing("features", subject.model, f"flow-{picture.stem}", title, caption, figure)


def _draw_stage(
    subject: Subject, picture: Picture, stage: Stage, options: InspectOptions
) -> Drawing:
    num_channels = len(stage.maps)
    wrong = [channel for channel in options.channels if not 0 <= channel < num_channels]
    if wrong:
        raise InspectionError(
            f"--channels {wrong[0]}: {stage.layer} has {num_channels} channels, 0 to "
            f"{num_channels - 1}"
        )
    channels = list(options.channels) or strongest_channels(stage.maps, NUM_MAPS)
    how = "the chosen" if options.channels else "those that vary most"
    title = f"Feature maps after {stage.layer} of {subject.model}"
    subtitle = f"{subject.model} · layer {stage.layer}, {stage.size} · {picture.words}"
    figure = plot_maps(picture.shown, stage, channels, title=title, subtitle=subtitle)
    caption = (
        f"{subject.model}, layer {stage.layer} ({stage.size}), {picture.words}: "
        f"{len(channels)} of {num_channels} channels, {how}; each with its number, from its lowest "
        "(dark) to its highest value."
    )
    detail = f"{stage.layer}-{picture.stem}"
    return Drawing("features", subject.model, detail, title, caption, figure)
