"""The views of an image that one patch reads: itself, four shifts, two rotations.

Shifted Patch Tokenization (Lee, Lee and Song 2021, section 3.1) and Rotated Patch Tokenization
(Ai and He, section 3.2.2, equation 4), in the order of the latter's notebook.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fieldmark.models.vit.patches.rotation import middle_angles, rotate
from fieldmark.recipes.schema import Patches

Kind = Literal["plain", "shifted", "rotated"]

SHIFTS = {"left-up": (-1, -1), "left-down": (-1, 1), "right-up": (1, -1), "right-down": (1, 1)}
"""Where the content moves, in half patches to the right and down, in the published order."""

ROTATIONS = ("anticlockwise", "clockwise")


def count_views(kind: Kind) -> int:
    """Return the number of images side by side in a patch: 1, 5 or 7."""
    return {"plain": 1, "shifted": 1 + len(SHIFTS), "rotated": 1 + len(SHIFTS) + len(ROTATIONS)}[
        kind
    ]


def render_views(image: Tensor, patches: Patches, patch_size: int) -> dict[str, Tensor]:
    """Return the views of one image (C, H, W) by name, in order, as evaluation sees them."""
    images = image[None]
    views = {"original": image}
    if patches.kind != "plain":
        shifted = shift_images(images, patch_size)
        views |= {name: view[0] for name, view in zip(SHIFTS, shifted, strict=True)}
    if patches.kind == "rotated":
        turned = rotate(images, middle_angles(), patches.interpolation, patches.fill)
        views |= {name: turned[0, :, index] for index, name in enumerate(ROTATIONS)}
    return views


def shift_images(images: Tensor, patch_size: int) -> Iterator[Tensor]:
    """Yield images (B, C, H, W) moved by half a patch each way, zeros where they left."""
    half = patch_size // 2
    for right, down in SHIFTS.values():
        x, y = right * half, down * half
        yield functional.pad(images, (x, -x, y, -y))  # a negative pad cuts off


def stack_views(images: Tensor, rotated: Tensor | None, patch_size: int) -> Tensor:
    """Images (B, C, H, W) and rotations (B, C, 2, H, W) -> (B, V * C, H, W), view by view."""
    views = [images, *shift_images(images, patch_size)]
    if rotated is not None:
        views += rotated.unbind(2)
    return torch.cat(views, dim=1)


def flatten_patches(views: Tensor, patch_size: int) -> Tensor:
    """(B, V * C, H, W) -> (B, N, P * P * V * C): tokens row by row.

    A token's values are in the order of Keras: row in the patch, column, view, channel.
    """
    blocks = torch.unflatten(torch.unflatten(views, 3, (-1, patch_size)), 2, (-1, patch_size))
    return blocks.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
