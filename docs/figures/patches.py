"""Section 5: views of a drawn leaf, and what one token sees."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import numpy as np
import torch
from canvas import Figure, Pixels
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fieldmark.data.samples import draw_sample
from fieldmark.models.vit.patches import render_views, token_reach_px
from fieldmark.models.vit.patches.tokens import ViewTokens
from fieldmark.models.vit.patches.views import Kind
from fieldmark.recipes.schema import Patches

SIDE, PATCH = 128, 16
PANEL = 168.0
CENTRE, EDGE, CORNER = (3, 4), (4, 7), (0, 0)
"""Row and column of the patches that are looked at."""


@cache
def read_leaf() -> Pixels:
    """The first drawn maple, (128, 128, 3)."""
    table = draw_sample("leaves", num_images=28)
    row = next(row for row in table.rows if row.labels == ("maple",))
    return np.asarray(Image.open(BytesIO(table.store.read(row.image))).convert("RGB"))


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) bytes -> (3, H, W) from 0 to 1."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def to_pixels(image: Tensor) -> Pixels:
    """(3, H, W) from 0 to 1 -> (H, W, 3) bytes."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def draw_views() -> Figure:
    """The seven images that a rotated patch reads, with the same patch marked in each."""
    views = render_views(to_tensor(read_leaf()), Patches(kind="rotated"), PATCH)
    figure = Figure(
        438,
        title="The views of a leaf",
        text="The image, four half-patch shifts along the diagonals, two rotations about the "
        "centre; black where nothing moved in.",
    )
    for index, (name, view) in enumerate(views.items()):
        left, top = 20 + index % 4 * 184, 40 + index // 4 * 212.0
        figure.text(left, top - 10, f"{index}  {name}", bold=True)
        figure.picture(left, top, PANEL, to_pixels(view), label=f"the leaf, {name}")
        _mark(figure, left, top, CENTRE)
    left, top = 20 + 3 * 184, 252.0
    lines = (
        "0 alone: plain, 1 view",
        "0 to 4: shifted, 5 views",
        "0 to 6: rotated, 7 views",
        "",
        "The frame is one patch of",
        "16 px at the same place in",
        "every view: a token reads",
        "all that is inside.",
    )
    for index, line in enumerate(lines):
        figure.text(left, top + 18 + 19 * index, line, size=12.5)
    return figure


def draw_reach() -> Figure:
    """Pixels that one token depends on, measured by its gradient."""
    figure = Figure(
        282,
        title="What one token sees",
        text="Plain: its patch. Shifted: a square twice as wide. Rotated: two turned squares more, "
        "far off for a patch in the corner, near for one at the centre.",
    )
    panels: tuple[tuple[Kind, tuple[int, int], str], ...] = (
        ("plain", CENTRE, "plain: P x P"),
        ("shifted", CENTRE, "shifted: 2P x 2P"),
        ("rotated", EDGE, "rotated, at an edge"),
        ("rotated", CORNER, "rotated, in the corner"),
    )
    for index, (kind, patch, title) in enumerate(panels):
        left, top = 20 + index * 184, 48.0
        figure.text(left, 34, title, bold=True, size=12.5)
        seen = _find_seen(kind, patch)
        figure.picture(left, top, PANEL, _fade(read_leaf(), seen), label=f"a leaf, {title}")
        _mark(figure, left, top, patch)
        figure.text(left, 238, f"{int(seen.sum()):,} pixels read", size=12.5)
        if patch != EDGE:
            reach = token_reach_px(Patches(kind=kind), PATCH, SIDE)
            figure.text(left, 258, f"token_reach_px: {reach:.1f}", size=12, kind="muted")
    return figure


def _find_seen(kind: Kind, patch: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: pixels whose change changes the token."""
    row, column = patch
    if kind == "plain":
        seen = np.zeros((SIDE, SIDE), dtype=bool)
        seen[row * PATCH :, column * PATCH :][:PATCH, :PATCH] = True
        return seen
    torch.manual_seed(0)
    tokens = ViewTokens(Patches(kind=kind), image_size=SIDE, patch_size=PATCH, width=8)
    tokens.formulation = "stacked"
    tokens.eval()
    image = to_tensor(read_leaf())[None].requires_grad_()
    tokens(image)[0, row * (SIDE // PATCH) + column].sum().backward()
    assert image.grad is not None
    is_seen: NDArray[np.bool_] = (image.grad[0].abs().sum(dim=0) > 0).numpy()
    return is_seen


def _fade(pixels: Pixels, seen: NDArray[np.bool_]) -> Pixels:
    """Pixels at twice their size, those that are not seen nearly grey."""
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    faded = np.where(seen[..., None], pixels, 0.35 * grey + 0.65 * 120)
    return faded.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)


def _mark(figure: Figure, left: float, top: float, patch: tuple[int, int]) -> None:
    scale = PANEL / SIDE
    x, y = left + patch[1] * PATCH * scale, top + patch[0] * PATCH * scale
    figure.mark(x, y, PATCH * scale)
