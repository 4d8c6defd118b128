"""Head, middle and tail: one rule for every place that speaks of a long tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Part = Literal["head", "middle", "tail"]
PARTS: tuple[Part, ...] = get_args(Part)
PARTS_RULE = (
    "head, middle and tail: thirds of the classes by number of images; classes of one size are in "
    "one part"
)


def divide_classes(counts: Sequence[int]) -> list[Part]:
    """The part of each class, from its number of images.

    Classes of equal size are in one part, the larger-sized one that begins with them, so order
    and names play no part.
    """
    sizes = np.asarray(counts)
    ordered = np.sort(sizes)
    larger = len(sizes) - np.searchsorted(ordered, sizes, side="right")  # classes before this one
    return [PARTS[int(3 * place // max(1, len(sizes)))] for place in larger]
