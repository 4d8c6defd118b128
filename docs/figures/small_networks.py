"""Sections 7 and 11: where the small ViT's parameters are, and the two forms of view patches."""

from __future__ import annotations

from typing import Literal

from canvas import Figure

from fieldmark.models.summary.table import LayerRow, summarize
from fieldmark.models.vit.patches.views import Kind
from fieldmark.recipes.schema import Model, Patches

LEFT, RIGHT = 232.0, 650.0


def draw_small_vit() -> Figure:
    """Parameters by part, of both readings and all patches, for ten classes at 72 px."""
    figure = Figure(
        322,
        title="Parameters of the small-data ViT",
        text="As published, 19 of 21.7 million parameters are one layer behind the flattened "
        "tokens. With the mean of the tokens and four blocks 2.6 million are left.",
    )
    figure.text(20, 30, "Parameters for ten classes, 72 px, patches of 6 px", bold=True, size=14)
    readings = ("vit-small-data-as-published", "vit-small-data")
    variants: tuple[tuple[Kind, Literal["global", "local"]], ...] = (
        ("plain", "global"),
        ("shifted", "local"),
        ("rotated", "global"),
    )
    models = [
        Model(name=name, patches=Patches(kind=kind), attention=attention)
        for name in readings
        for kind, attention in variants
    ]
    found = [summarize(model.name, num_classes=10, model=model) for model in models]
    scale = (RIGHT - LEFT) / max(summary.parameters for summary in found)
    y = 52.0
    for model, summary in zip(models, found, strict=True):
        kind = model.patches.kind
        if kind == "plain":
            figure.text(20, y + 14, model.name, size=12.5, mono=True)
            y += 24
        label = f"{kind}, local attention" if model.attention == "local" else kind
        figure.text(LEFT - 10, y + 14, label, size=12.5, anchor="end")
        _draw_bar(figure, y, summary.layers, scale)
        y += 33 if kind == "rotated" else 25
    legend = (
        ("patches, positions", "image", "full", 20.0),
        ("blocks", "image", "box", 176.0),
        ("first wide layer (tokens to 2048)", "head", "box", 262.0),
        ("second wide layer", "head", "open", 492.0),
        ("head", "head", "full", 640.0),
    )
    for words, colour, form, x in legend:
        figure.rect(x, 290, 10, 10, colour, form=form, radius=1)
        figure.text(x + 16, 299, words, size=12)
    return figure


def _draw_bar(figure: Figure, y: float, layers: tuple[LayerRow, ...], scale: float) -> None:
    total = sum(row.parameters for row in layers)
    parts = [
        ("image", "box", _sum(layers, "backbone.blocks") + _sum(layers, "backbone.norm")),
        ("head", "box", _sum(layers, "backbone.wide.fc1")),
        ("head", "open", _sum(layers, "backbone.wide.fc2")),
        ("head", "full", _sum(layers, "head")),
    ]
    # The positions belong to no layer of their own, so they are what is left.
    embedding = total - sum(count for _, _, count in parts)
    x = LEFT
    for colour, form, count in [("image", "full", embedding), *parts]:
        width = max(count * scale, 2.0)
        figure.rect(x, y, width, 18, colour, form=form, radius=1)
        x += width
    figure.text(x + 8, y + 14, f"{total:,}", size=12.5)


def _sum(layers: tuple[LayerRow, ...], prefix: str) -> int:
    return sum(row.parameters for row in layers if row.name.startswith(prefix))


def draw_forms() -> Figure:
    """Published and added patches side by side."""
    figure = Figure(
        262,
        title="Two forms of view patches",
        text="Published: norm and projection of all views give the token. Added: their projection "
        "starts at zero and is added to the plain embedding, which loads from a file.",
    )
    figure.text(20, 30, "form: published (from scratch)", bold=True)
    figure.box(20, 84, 92, 60, "plain", "7 views", "P x P x 21")
    figure.arrow([(112, 114), (134, 114)])
    figure.box(136, 84, 70, 60, "image", "LN")
    figure.arrow([(206, 114), (228, 114)])
    figure.box(230, 84, 78, 60, "image", "linear", "to D")
    figure.arrow([(308, 114), (346, 114)])
    figure.text(24, 176, "all of it random at the start", size=12.5)
    figure.line([(372, 20), (372, 230)], "rule", form="thin")
    figure.text(392, 30, "form: added (weights are loaded)", bold=True)
    figure.box(392, 52, 92, 50, "plain", "image")
    figure.arrow([(484, 77), (506, 77)])
    figure.box(508, 52, 122, 50, "teacher", "plain patches", "from the file")
    figure.box(392, 140, 92, 60, "plain", "7 views")
    figure.arrow([(484, 170), (506, 170)])
    figure.box(508, 140, 44, 60, "image", "LN")
    figure.arrow([(552, 170), (564, 170)])
    figure.box(566, 140, 64, 60, "image", "linear", "zero at", "the start")
    figure.arrow([(630, 77), (680, 77), (680, 111)])
    figure.arrow([(630, 170), (680, 170), (680, 137)])
    figure.dot(680, 124, 12, "skip", form="box")
    figure.text(680, 129, "+", size=16, anchor="middle", bold=True)
    figure.arrow([(692, 124), (736, 124)])
    figure.text(392, 224, "at the start the outputs are those of the", size=12.5)
    figure.text(392, 241, "loaded network", size=12.5)
    return figure
