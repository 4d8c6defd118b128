"""Section 3: receptive fields, blocks of CNNs, and what each norm averages over."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import torch
from canvas import Figure
from torch import nn

from fieldmark.models.classic.norms import KINDS, replace_norms
from fieldmark.models.classic.se_resnet import REDUCTION
from fieldmark.models.summary.table import summarize

NETWORKS = (("alexnet", "AlexNet"), ("vgg-d", "VGG-D"), ("resnet18", "ResNet-18"))
MOVING = ("Conv2d", "MaxPool2d")


def draw_receptive_field() -> Figure:
    """Growth over the convolutions and pools of three CNNs, and a ViT beside them."""
    figure = Figure(
        330,
        title="Receptive fields",
        text="Pixels that one value sees, over convolutions and pools: AlexNet, VGG-D and "
        "ResNet-18 grow step by step; a ViT goes from one patch to the whole image.",
    )
    left, right, top, bottom = 60.0, 640.0, 40.0, 276.0

    def at(step: float, px: float) -> tuple[float, float]:
        return left + (right - left) * step / 21, bottom - (bottom - top) * log2(px) / log2(512)

    for power in range(10):
        figure.line([at(0, 2**power), at(21, 2**power)], "rule", form="thin")
        y = at(0, 2**power)[1] + 4
        figure.text(left - 8, y, str(2**power), size=11.5, anchor="end", kind="muted")
    figure.line([at(0, 224), at(21, 224)], "plain", form="dash")
    figure.text(at(0, 224)[0] + 6, at(0, 224)[1] - 6, "the image: 224 px", size=12, kind="muted")
    figure.text(12, 24, "pixels (log scale)", size=12, kind="muted")
    for step in range(0, 22, 3):
        x = at(step, 1)[0]
        figure.text(x, bottom + 18, str(step), size=11.5, anchor="middle", kind="muted")
    middle = (left + right) / 2
    figure.text(middle, 318, "convolutions and pools, from the image", size=12, anchor="middle")
    for name, label in NETWORKS:
        fields = [1, *_fields(name)]
        points = [at(step, px) for step, px in enumerate(fields)]
        figure.line(points, form="curve")
        for x, y in points:
            figure.dot(x, y, 3, "plain")
        x, y = points[-1]
        below = {"AlexNet": -16, "VGG-D": 18}.get(label, 4)  # clear of the ViT's line
        figure.text(x + 8, y + below, f"{label} {fields[-1]}", size=12.5, bold=True)
    start, whole = at(0, 1), at(1, 16)
    figure.line([start, whole, at(2, 224), at(21, 224)], "image", form="curve")
    figure.dot(*whole, 3.5, "image")
    figure.dot(*at(2, 224), 3.5, "image")
    figure.text(right + 8, at(0, 224)[1] + 4, "ViT: all", size=12.5, kind="image", bold=True)
    return figure


def _fields(name: str) -> list[int]:
    """Receptive fields, px, wherever the main path of a network widens them."""
    fields = []
    for row in summarize(name).layers:
        moves = row.kind in MOVING and "downsample" not in row.name
        if moves and isinstance(row.receptive_field, int):
            fields.append(row.receptive_field)
    return fields


def draw_blocks() -> Figure:
    """One block each of ResNet, SE-ResNet and ConvNeXt, with their own counts."""
    figure = Figure(
        440,
        title="Blocks of ResNet, SE-ResNet and ConvNeXt",
        text="Each block adds what its layers compute to its input. SE multiplies channels by "
        "weights between 0 and 1 first; ConvNeXt mixes pixels by channel, then channels.",
    )
    plain = _count("resnet18", "backbone.layer1.0.")
    gated = _count("se-resnet18", "backbone.layer1.0.")
    modern = _count("convnext_tiny", "backbone.stages_0.blocks.0.") or _count(
        "convnext_tiny", "backbone.stages.0.blocks.0."
    )
    residual = (
        ("3 x 3 convolution", "image"),
        ("batch norm, ReLU", "plain"),
        ("3 x 3 convolution", "image"),
        ("batch norm", "plain"),
    )
    gate = (f"gate: mean, 64 to {64 // REDUCTION} to 64", "skip")
    by_channel = (
        ("7 x 7 conv., per channel", "image"),
        ("layer norm", "plain"),
        ("linear 96 to 384, GELU", "image"),
        ("linear 384 to 96", "image"),
        ("layer scale", "skip"),
    )
    columns = (
        ("ResNet-18, 64 channels", plain, residual, "then ReLU"),
        ("SE-ResNet-18, 64 channels", gated, (*residual, gate), "then ReLU"),
        ("ConvNeXt-T, 96 channels", modern, by_channel, "no activation"),
    )
    for index, (title, count, layers, after) in enumerate(columns):
        _draw_block(figure, 20 + index * 245, title, count, layers, after)
    return figure


def _draw_block(
    figure: Figure,
    left: float,
    title: str,
    count: int,
    layers: Sequence[tuple[str, str]],
    after: str,
) -> None:
    figure.text(left, 30, title, bold=True, size=13.5)
    figure.text(left, 48, f"{count:,} parameters", size=12, kind="muted")
    middle, x, y = left + 118, left + 26, 92.0
    figure.text(middle, 76, "x", anchor="middle", bold=True)
    bottom = y + 56 * 5 + 8
    figure.arrow([(left + 8, 84), (left + 8, bottom), (middle - 13, bottom)], "skip")
    figure.line([(middle - 6, 84), (left + 8, 84)], "skip")
    figure.line([(middle, 82), (middle, 92)])
    for name, kind in layers:
        figure.box(x, y, 184, 36, kind, "")
        figure.text(middle, y + 22.5, name, size=12.5, anchor="middle")
        figure.line([(middle, y + 36), (middle, y + 56)])
        y += 56
    figure.arrow([(middle, y - 20), (middle, bottom - 13)])
    figure.dot(middle, bottom, 12, "skip", form="box")
    figure.text(middle, bottom + 5, "+", size=16, anchor="middle", bold=True)
    figure.text(middle + 20, bottom + 30, after, size=12, kind="muted")
    figure.arrow([(middle, bottom + 12), (middle, bottom + 40)])
    if left < 30:
        figure.text(left + 14, 330, "the skip", size=12, kind="skip")


def _count(name: str, prefix: str) -> int:
    return sum(row.parameters for row in summarize(name).layers if row.name.startswith(prefix))


def draw_norms() -> Figure:
    """Which entries move when one entry's norm is taken: measured by the gradient."""
    figure = Figure(
        316,
        title="What each norm averages over",
        text="Three images of six channels and four pixels. Batch norm reads one channel of all "
        "images; layer norm all of one image; instance norm one channel of one image; group norm "
        "a group of channels of one image.",
    )
    names = {"batch": "batch", "layer": "layer", "instance": "instance", "group": "group"}
    shown = [kind for kind in KINDS if kind in names]
    for index, kind in enumerate(shown):
        left = 24 + index * 184
        figure.text(left, 32, f"norm: {names[kind]}", bold=True)
        read = _find_read(kind)
        size = 12.0
        for image in range(3):
            for channel in range(6):
                for pixel in range(4):
                    x = left + image * 56 + pixel * size
                    y = 50 + channel * size
                    is_read = bool(read[image, channel, pixel])
                    is_asked = (image, channel, pixel) == (1, 2, 1)
                    form = "full" if is_read else "open"
                    figure.rect(
                        x,
                        y,
                        size - 2,
                        size - 2,
                        "image" if is_read else "plain",
                        form=form,
                        radius=1,
                        opacity=1.0 if is_read else 0.45,
                    )
                    if is_asked:
                        figure.rect(x, y, size - 2, size - 2, "ink", form="full", radius=1)
        for image in range(3):
            figure.text(
                left + image * 56 + 23,
                138,
                f"image {image + 1}",
                size=11,
                anchor="middle",
                kind="muted",
            )
        count = int(read.sum())
        figure.text(left, 160, f"mean over {count} values", size=12)
    figure.text(
        24,
        186,
        "rows: 6 channels (group norm: 2 groups of 3), columns: 4 pixels",
        size=12,
        kind="muted",
    )
    figure.rect(24, 198, 10, 10, "ink", form="full", radius=1)
    figure.text(40, 208, "the value that is normalised", size=12)
    figure.rect(230, 198, 10, 10, "image", form="full", radius=1)
    figure.text(246, 208, "what its mean and variance are taken over, itself too", size=12)
    _draw_standardized(figure)
    return figure


def _find_read(kind: str) -> torch.Tensor:
    """(3, 6, 4) bool: which inputs one normalised output depends on."""
    net = nn.Sequential(nn.BatchNorm2d(6))
    if kind == "group":
        net = nn.Sequential(nn.GroupNorm(2, 6))
    else:
        replace_norms(net, kind)
    values = torch.rand(3, 6, 1, 4, generator=torch.Generator().manual_seed(0))
    values.requires_grad_()
    net.train()(values)[1, 2, 0, 1].backward()
    assert values.grad is not None
    return values.grad[:, :, 0] != 0


def _draw_standardized(figure: Figure) -> None:
    """Weights of one filter before and after, from the module that the recipe key puts in."""
    stored = nn.Conv2d(3, 1, 3, bias=False)
    torch.manual_seed(0)
    nn.init.uniform_(stored.weight, 0.1, 0.5)
    before = stored.weight.detach().clone()
    net = nn.Sequential(stored, nn.BatchNorm2d(1))
    replace_norms(net, "weight_standardized")
    corner = torch.zeros(27, 3, 3, 3)
    corner.view(27, 27).fill_diagonal_(1.0)
    used: nn.Module = net[0]
    after = used(corner).detach().flatten()  # one-hot pictures read the weights in use
    figure.line([(24, 226), (736, 226)], "rule", form="thin")
    figure.text(24, 252, "weight_standardized", bold=True)
    figure.text(24, 270, "group norm, and each filter", size=12)
    figure.text(24, 286, "of a convolution standardised", size=12)
    for left, values, title in ((262, before.flatten(), "as stored"), (508, after, "as used")):
        mean, deviation = values.mean().item(), values.std(unbiased=False).item()
        figure.text(left, 252, f"{title}: mean {abs(mean):.2f}, deviation {deviation:.2f}", size=12)
        top = float(values.abs().max())
        for index, value in enumerate(values.tolist()):
            height = 26 * abs(value) / top
            y = 284 - height if value > 0 else 284
            x = left + index * 7.6
            figure.rect(x, y, 5.6, max(height, 0.8), "image", form="full", radius=0.5)
