"""How far a token sees."""

from __future__ import annotations

import math

from fieldmark.models.vit.patches.rotation import LARGEST_ANGLE
from fieldmark.recipes.schema import Patches


def token_reach_px(patches: Patches, patch_size: int, image_size: int) -> float:
    """Side of the part of the image that the farthest-seeing token reads before attention, px.

    The patch itself (Ai and He, equation 3, with r_trans = 1), twice as much with shifts, and
    with rotations what they can move a pixel on top: at the corner of the image, by the largest
    angle. At the centre of the image that is nothing.
    """
    if patches.kind == "plain":
        return float(patch_size)
    if patches.kind == "shifted":
        return 2.0 * patch_size
    return 2.0 * patch_size + rotation_reach_px(image_size)


def rotation_reach_px(image_size: int, angle: float = LARGEST_ANGLE) -> float:
    """How far a rotation about the centre moves the corner of a square image, px."""
    return 2 * (image_size / math.sqrt(2)) * math.sin(angle / 2)
