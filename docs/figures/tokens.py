"""Sections 1 and 4: how the pieces combine, the encoder, and position embeddings on other grids."""

from __future__ import annotations

import torch
from canvas import Figure
from timm.layers.pos_embed import resample_abs_pos_embed

from fieldmark.models.summary.table import LayerRow, summarize
from fieldmark.models.weights.positions import resample_corners


def draw_interface() -> Figure:
    """From image and tags to logits, with the recipe key of each piece."""
    figure = Figure(
        404,
        title="How the pieces combine",
        text="A Vision Transformer reads tokens of patches, of tags and a class token; a CNN reads "
        "stages. Both give Features, and every head reads one of its tensors.",
    )
    figure.text(20, 30, "Vision Transformer", bold=True, size=14)
    figure.box(20, 44, 96, 54, "plain", "image", "(B, 3, H, W)")
    figure.box(20, 150, 96, 54, "tags", "tags", "(B, T) ids")
    figure.arrow([(116, 71), (138, 71)])
    figure.arrow([(116, 177), (138, 177)])
    figure.box(140, 40, 128, 62, "image", "model.patches", "plain, shifted,", "rotated")
    figure.box(140, 146, 128, 62, "tags", "model.tags", "whole, wordpiece", "or off")
    figure.arrow([(268, 71), (290, 71), (290, 106), (306, 106)])
    figure.arrow([(268, 177), (290, 177), (290, 142), (306, 142)])
    figure.box(308, 92, 118, 64, "class", "sequence", "[CLS | tags |", "patches]")
    figure.arrow([(426, 124), (444, 124)])
    figure.box(446, 84, 136, 80, "image", "L blocks", "model.attention:", "global or local", "MLP")
    figure.arrow([(582, 124), (602, 124)])
    figure.text(20, 254, "CNN", bold=True, size=14)
    figure.box(20, 268, 96, 54, "plain", "image", "(B, 3, H, W)")
    figure.arrow([(116, 295), (138, 295)])
    figure.box(
        140,
        264,
        286,
        62,
        "image",
        "stages of convolutions",
        "model.norm: own, batch, layer,",
        "instance, group, weight_standardized",
    )
    figure.arrow([(426, 295), (602, 295)])
    figure.rect(604, 56, 136, 280, "plain")
    figure.text(672, 80, "Features", anchor="middle", bold=True, size=14)
    parts = (
        ("pooled", "(B, D)"),
        ("layers", "(B, D, L)"),
        ("tokens", "(B, N, D')"),
        ("tags", "(B, T, D)"),
        ("grid", "(h, w)"),
    )
    for index, (name, shape) in enumerate(parts):
        kind = {"layers": "class", "pooled": "class", "tags": "tags"}.get(name, "image")
        y = 92 + index * 47
        figure.rect(614, y, 116, 38, kind)
        figure.text(672, y + 16, name, size=12.5, anchor="middle", bold=True)
        figure.text(672, y + 31, shape, size=11.5, anchor="middle")
    figure.arrow([(672, 336), (672, 366), (604, 366)])
    figure.box(
        330, 344, 272, 46, "head", "model.head", "linear, mlp, ifa (reads layers), DeiT's two"
    )
    figure.arrow([(330, 367), (226, 367)])
    figure.box(112, 344, 112, 46, "head", "logits", "(B, K)")
    return figure


def draw_encoder() -> Figure:
    """One block with its equations, and where ViT-tiny's parameters are."""
    figure = Figure(
        300,
        title="One block of the encoder",
        text="Tokens pass a layer norm and attention, are added to what they were, pass another "
        "layer norm and an MLP, and are added again.",
    )
    boxes = (
        (20.0, 104.0, "image", ("z", "tokens (B, N, D)")),
        (148, 72, "plain", ("LN", "2 D")),
        (246, 112, "image", ("MSA", "3 D² + 3 D", "+ D² + D")),
        (432, 72, "plain", ("LN", "2 D")),
        (530, 120, "image", ("MLP", "D → 4 D → D", "8 D² + 5 D")),
    )
    figure.text(20, 32, "One block (L of them), pre-norm", bold=True, size=14)
    for x, width, kind, lines in boxes:
        figure.box(x, 80, width, 64, kind, *lines)
    for start, end in ((124, 146), (220, 244), (504, 528)):
        figure.arrow([(start, 112), (end, 112)])
    for start, x, back in ((358, 396, 136), (650, 692, 420)):
        figure.arrow([(start, 112), (x - 13, 112)])
        figure.dot(x, 112, 12, "skip", form="box")
        figure.text(x, 117, "+", size=16, anchor="middle", bold=True)
        figure.arrow([(back, 112), (back, 58), (x, 58), (x, 99)], "skip")
    figure.arrow([(408, 112), (430, 112)])
    figure.arrow([(704, 112), (740, 112)])
    figure.text(396, 164, "z'", anchor="middle", bold=True)
    figure.text(692, 164, "next z", anchor="middle", bold=True)
    figure.text(246, 50, "skip", size=12, kind="skip")
    rows = summarize("vit_tiny_patch16_224").layers
    parts = {
        "patch embedding": _sum(rows, "backbone.patch_embed"),
        "12 blocks": _sum(rows, "backbone.blocks"),
        "head": _sum(rows, "head"),
    }
    total = sum(row.parameters for row in rows)
    parts["positions, class token, last norm"] = total - sum(parts.values())
    figure.text(20, 208, f"vit_tiny_patch16_224, K = 1,000: {total:,} parameters", bold=True)
    x, scale = 20.0, 720 / total
    looks = (("image", "full"), ("image", "box"), ("head", "full"), ("class", "box"))
    places = (20.0, 200.0, 332.0, 460.0)
    for (name, count), (kind, form), left in zip(parts.items(), looks, places, strict=True):
        figure.rect(x, 222, max(count * scale, 2), 22, kind, form=form, radius=1)
        x += count * scale
        figure.rect(left, 262, 10, 10, kind, form=form, radius=1)
        figure.text(left + 16, 271, name, size=12)
        figure.text(left + 16, 287, f"{count:,}", size=12, kind="muted")
    return figure


def draw_positions() -> Figure:
    """Where the slots of an 8 x 8 grid read a stored 14 x 14 one, both ways: measured."""
    figure = Figure(
        384,
        title="Two ways to resample position embeddings",
        text="With corners, the new slots run from the first to the last old one. With timm they "
        "stay inside, half a new step from the border.",
    )
    old, new, side = 14, 8, 280.0
    spots = torch.stack(torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij"))
    stored = spots.flatten(1).T[None]  # (1, 196, 2): each slot holds its own row and column
    ways = (
        ("positions: corners", resample_corners(stored, (new, new))),
        (
            "positions: timm",
            resample_abs_pos_embed(stored, (new, new), (old, old), num_prefix_tokens=0),
        ),
    )
    step = side / (old - 1)
    for index, (title, found) in enumerate(ways):
        left, top = 56 + index * 370, 56.0
        figure.text(left - 10, 32, title, bold=True, mono=True)
        for row in range(old):
            for column in range(old):
                figure.dot(left + column * step, top + row * step, 2.2, "plain")
        for row, column in found[0].tolist():
            figure.dot(left + column * step, top + row * step, 6, "image", form="open")
        first = found[0, 0, 1].item()
        figure.text(left - 10, 366, f"first slot reads old column {abs(first):.2f}", size=12.5)
    return figure


def _sum(rows: tuple[LayerRow, ...], prefix: str) -> int:
    return sum(row.parameters for row in rows if row.name.startswith(prefix))
