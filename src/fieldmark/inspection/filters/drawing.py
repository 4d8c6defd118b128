"""`fieldmark inspect --what filters`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fieldmark.errors import InspectionError
from fieldmark.inspection.filters.figures import (
    plot_components,
    plot_kernels,
    plot_positions,
    plot_slices,
    plot_view_components,
)
from fieldmark.inspection.filters.numbers import (
    find_components,
    plain_filters,
    position_similarity,
    view_filters,
)
from fieldmark.inspection.hooks import find_layer, short_name
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.subject import Subject
from fieldmark.models.vit.patches.views import ROTATIONS, SHIFTS
from fieldmark.models.vit.small_vit import SmallDataViT
from fieldmark.models.vit.token_path import has_token_path
from fieldmark.runs.figures import Drawing

NUM_COMPONENTS = 28
NUM_VIEW_COMPONENTS = 6
MOST_KERNELS = 64
NO_IMAGE = "Weights alone: no image and no split."


def draw_filters(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    """Draw kernels of a CNN, or patch-embedding filters and positions of a Vision Transformer.

    With `options.layers` the kernels of those convolutions instead, `options.channels` of them.
    """
    backbone = subject.classifier.backbone
    if options.layers:
        for name in options.layers:
            yield from _draw_layer(subject, name, options)
    elif is_transformer(subject):
        yield from _draw_embedding(subject)
        yield from _draw_positions(subject, options)
    else:
        names = list_convolutions(subject.classifier)
        yield from _draw_first(subject, names)
        deeper = next((name for name in names[1:] if _is_spatial(subject, name)), None)
        if deeper is None:
            options.note(f"filters: '{backbone.name}' has no second layer of spatial kernels")
        else:
            yield from _draw_layer(subject, deeper, options)


def is_transformer(subject: Subject) -> bool:
    """Whether the network is one sequence of blocks over patches."""
    backbone = subject.classifier.backbone
    net = getattr(backbone, "net", None)
    return isinstance(backbone, SmallDataViT) or (net is not None and has_token_path(net))


def list_convolutions(network: nn.Module) -> list[str]:
    """Names of the convolutions, in the order in which they are registered."""
    return [
        short_name(name)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]


def _is_spatial(subject: Subject, name: str) -> bool:
    layer = find_layer(subject.classifier, name)
    # A kernel per channel has no input channel to choose.
    return isinstance(layer, nn.Conv2d) and layer.kernel_size[0] > 1 and layer.groups == 1


def _draw_first(subject: Subject, names: list[str]) -> Iterator[Drawing]:
    if not names or find_layer(subject.classifier, names[0]).in_channels != 3:
        raise InspectionError(
            f"filters: the first convolution of '{subject.model}' does not read the colours of an "
            "image. Name a layer by --layers"
        )
    layer = find_layer(subject.classifier, names[0])
    weight = _weight(layer)
    kernels = weight.permute(0, 2, 3, 1).numpy()  # (O, k, k, 3)
    size = "x".join(map(str, weight.shape[2:]))
    caption = (
        f"{subject.model}, layer {names[0]}: all {len(kernels)} kernels of {size} px, red, green "
        f"and blue on one common scale: grey is 0, full colour {abs(kernels).max():.3g}. {NO_IMAGE}"
    )
    title = f"First-layer filters of {subject.model}"
    figure = plot_kernels(kernels, title=title, subtitle=_where(subject, names[0]))
    yield Drawing("filters", subject.model, names[0], title, caption, figure)


def _draw_layer(subject: Subject, name: str, options: InspectOptions) -> Iterator[Drawing]:
    layer = find_layer(subject.classifier, name)
    if not isinstance(layer, nn.Conv2d):
        known = list_convolutions(subject.classifier)
        raise InspectionError(
            f"--layers {name}: is a {type(layer).__name__} and has no spatial filters. The "
            f"network's convolutions are {', '.join(known[:8])}"
        )
    weight = _weight(layer)  # (O, I, k, k)
    for channel in options.channels or (0,):
        if not 0 <= channel < weight.shape[1]:
            raise InspectionError(
                f"--channels {channel}: the kernels of {name} read {weight.shape[1]} channels, 0 "
                f"to {weight.shape[1] - 1}"
            )
        kernels = weight[:MOST_KERNELS, channel].numpy()
        caption = (
            f"{subject.model}, layer {name}: the slice of input channel {channel} of the first "
            f"{len(kernels)} of {len(weight)} kernels ({'x'.join(map(str, weight.shape[2:]))} px), "
            f"on one common scale. {NO_IMAGE}"
        )
        title = f"Filters of {short_name(name)} in {subject.model}, input channel {channel}"
        figure = plot_slices(kernels, title=title, subtitle=_where(subject, name))
        detail = f"{short_name(name)}-channel{channel}"
        yield Drawing("filters", subject.model, detail, title, caption, figure)


def _draw_embedding(subject: Subject) -> Iterator[Drawing]:
    embedding: nn.Module = subject.classifier.backbone.patch_embed  # type: ignore[attr-defined]
    plain, views = plain_filters(embedding), view_filters(embedding)
    if plain is None and views is None:
        raise InspectionError(
            f"filters: the patch embedding of '{subject.model}' is a {type(embedding).__name__}, "
            "not one projection of patches. Name one of its convolutions by --layers: "
            f"{', '.join(list_convolutions(embedding)[:6])}"
        )
    if plain is not None:
        found = find_components(plain, NUM_COMPONENTS)
        caption = (
            f"{subject.model}, layer patch_embed: the {len(found.share)} leading components of its "
            f"{len(plain)} filters of {plain.shape[2]}x{plain.shape[3]} px, each on its own colour "
            "scale (grey is 0), with its share of the squared weights."
            + (" The part that reads the image itself." if views is not None else "")
            + f" {NO_IMAGE}"
        )
        title = f"Patch-embedding filters of {subject.model}"
        figure = plot_components(found, title=title, subtitle=_where(subject, "patch_embed"))
        yield Drawing("filters", subject.model, "patch_embed", title, caption, figure)
    if views is not None:
        yield _draw_views(subject, views)


def _draw_views(subject: Subject, views: Tensor) -> Drawing:
    names = ("original", *SHIFTS, *ROTATIONS)[: views.shape[1]]
    found = find_components(views, NUM_VIEW_COMPONENTS)
    kind = "rotated" if len(names) > 5 else "shifted"
    caption = (
        f"{subject.model}, layer patch_embed.views ({kind} patches): the {len(found.share)} "
        f"leading components of its {len(views)} filters over all {len(names)} views of a patch, "
        "the layer norm's scale included. A row is one component on one colour scale (grey is 0) "
        f"with its share of the squared weights, a column the view it reads. {NO_IMAGE}"
    )
    title = f"Filters of {kind} patches in {subject.model}"
    where = _where(subject, "patch_embed.views")
    figure = plot_view_components(found, names, title=title, subtitle=where)
    return Drawing("filters", subject.model, f"{kind}-patches", title, caption, figure)


def _draw_positions(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    backbone = subject.classifier.backbone
    table = getattr(getattr(backbone, "net", backbone), "pos_embed", None)  # (1, N, D)
    grid = _grid(subject)
    if not isinstance(table, Tensor) or table.shape[1] < grid[0] * grid[1]:
        options.note(
            f"filters: '{subject.model}' adds no position embedding per patch (its positions enter "
            "in attention), so there is no map of their similarity"
        )
        return
    similarity = position_similarity(table[0, -grid[0] * grid[1] :], grid)
    caption = (
        f"{subject.model}, layer pos_embed: in the place of each of the {grid[0]}x{grid[1]} "
        f"patches, how similar its position embedding is to those of all patches. {NO_IMAGE}"
    )
    title = f"What {subject.model} knows of places"
    figure = plot_positions(similarity, title=title, subtitle=_where(subject, "pos_embed"))
    yield Drawing("filters", subject.model, "positions", title, caption, figure)


def _where(subject: Subject, layer: str) -> str:
    return f"{subject.model} · layer {short_name(layer)} · weights alone, no image and no split"


@torch.no_grad()
def _grid(subject: Subject) -> tuple[int, int]:
    """(h, w) of the patches, of a black image."""
    backbone = subject.classifier.backbone
    side = backbone.image_size
    images = torch.zeros(1, 3, side, side, device=subject.predictor.device)
    return backbone(images).grid


def _weight(layer: nn.Module) -> Tensor:
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.detach().float().cpu()
