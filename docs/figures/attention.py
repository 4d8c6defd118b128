"""Section 6: one row of attention, global and local."""

from __future__ import annotations

from math import sqrt

import torch
from canvas import Figure
from patches import PANEL, PATCH, SIDE, read_leaf, to_tensor
from torch import Tensor, nn

from fieldmark.models.vit.attention import attend
from fieldmark.models.vit.patches.views import flatten_patches

GRID = SIDE // PATCH
ASKED = (3, 5)
"""Row and column of the token whose row of attention is shown."""


def draw_attention() -> Figure:
    """Probabilities that `attend` gives one token, over the leaf."""
    figure = Figure(
        300,
        title="An attention row, global and local",
        text="Global attention spends most on the token itself. With the diagonal closed all of it "
        "goes to others; a smaller temperature sharpens, a larger one flattens.",
    )
    tokens = _read_tokens()
    start = sqrt(tokens.shape[-1])
    rows = (
        ("global: divided by √d", None),
        ("local: diagonal closed", start),
        ("local, tau halved", start / 2),
        ("local, tau doubled", start * 2),
    )
    for index, (title, temperature) in enumerate(rows):
        left, top = 20 + index * 184, 46.0
        row = _attend(tokens, temperature)[ASKED[0] * GRID + ASKED[1]]
        figure.text(left, 34, title, bold=True)
        figure.picture(left, top, PANEL, read_leaf(), label="a leaf")
        cell = PANEL / GRID
        largest = float(row.max())
        figure.rect(left, top, PANEL, PANEL, "paper", form="full", opacity=0.72, radius=0)
        for place, share in enumerate(row.tolist()):
            x, y = left + place % GRID * cell, top + place // GRID * cell
            opacity = 0.95 * share / largest
            if opacity > 0.004:
                figure.rect(x, y, cell, cell, "image", form="full", opacity=opacity, radius=0)
        x, y = left + ASKED[1] * cell, top + ASKED[0] * cell
        figure.mark(x, y, cell)
        own = row[ASKED[0] * GRID + ASKED[1]].item()
        entropy = -torch.xlogy(row, row).sum().item()
        figure.text(left, 236, f"itself {own:.3f}", size=12.5)
        figure.text(left, 254, f"largest {largest:.3f}", size=12.5)
        figure.text(left, 272, f"spread over {2.71828182846**entropy:.1f} tokens", size=12.5)
    return figure


def _read_tokens() -> Tensor:
    """(64, 48): each patch of the leaf at 4 x 4 px, less the mean patch, layer-normalised.

    They serve as queries and keys, so that the picture needs no training.
    """
    image = nn.functional.avg_pool2d(to_tensor(read_leaf())[None], 4)
    values = flatten_patches(image, PATCH // 4)[0]
    return nn.functional.layer_norm(values - values.mean(dim=0), values.shape[1:])


def _attend(tokens: Tensor, temperature: float | None) -> Tensor:
    """(N, N) probabilities: with the identity as values, the mixed values are they."""
    heads = tokens[None, None]
    value = torch.eye(len(tokens))[None, None]
    tau = None if temperature is None else torch.tensor([temperature])
    return attend(heads, heads, value, nn.Dropout(0.0), temperature=tau, fused=False)[0, 0]
