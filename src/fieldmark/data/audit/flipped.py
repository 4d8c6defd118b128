"""Pictures that are the mirror image of another, which no hash of their pixels would tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fieldmark.data.duplicates import (
    Bytes,
    Duplicates,
    Indices,
    find_near_pairs,
    form_distance,
    join_pairs,
)
from fieldmark.data.scan import COLOUR_SIDE, FINGERPRINT_BYTES, GREY_SIDE, Scan

LEFT_RIGHT, TOP_BOTTOM = 2, 1

# Stricter than for copies: many things, such as leaves, look much like the mirror image of a
# stranger. Of 150 leaf photographs flipped and saved again at JPEG quality 50, 95% came below it;
# of those also cropped by 4%, less than half. The nearest strangers were at 0.08.
FLIPPED_DISTANCE = 0.06


def find_flipped(scan: Scan, duplicates: Duplicates) -> tuple[tuple[str, ...], ...]:
    """Groups of images in which one is another flipped left-right or top-bottom.

    The fingerprint of a flipped picture is the flipped fingerprint, so nothing is decoded again.
    Encoding, size and exposure may differ; crops are mostly missed. Pairs that look alike as they
    are, as symmetric ones do, are in `duplicates` already and not here. Groups are sorted, and so
    are the names in them; copies with identical pixels are all named.
    """
    copies: dict[str, list[str]] = {}
    for image in sorted(scan.facts):
        copies.setdefault(scan.facts[image].pixel_hash, []).append(image)
    # By what is in the pictures, so that names and rows decide nothing below.
    pictures = [copies[pixel_hash] for pixel_hash in sorted(copies)]
    count = len(pictures)
    prints = b"".join(scan.facts[names[0]].fingerprint for names in pictures)
    upright = np.frombuffer(prints, dtype=np.uint8).reshape(count, FINGERPRINT_BYTES)
    every = np.concatenate([upright, flip(upright, LEFT_RIGHT), flip(upright, TOP_BOTTOM)])
    known = _group_numbers(pictures, duplicates.near)

    def is_crossing(pairs: Indices) -> npt.NDArray[np.bool_]:
        # One as it is, the other flipped; the same two the other way round would say no more,
        # and a symmetric picture is its own mirror image.
        first, second = pairs.T % max(count, 1)
        crossing = (pairs[:, 0] < count) & (pairs[:, 1] >= count) & (first < second)
        is_known = (known[first] >= 0) & (known[first] == known[second])
        return np.asarray(crossing & ~is_known)

    found = find_near_pairs(every, is_crossing)
    grey = every[:, : GREY_SIDE**2]
    found = found[form_distance(grey[found[:, 0]], grey[found[:, 1]]) <= FLIPPED_DISTANCE]
    groups = join_pairs((int(a), int(b) % count) for a, b in found)
    return tuple(sorted(tuple(sorted(n for i in group for n in pictures[i])) for group in groups))


def flip(fingerprints: Bytes, axis: int) -> Bytes:
    """Fingerprints (N, bytes) of the pictures flipped: axis 2 left-right, 1 top-bottom."""
    count, num_grey = len(fingerprints), GREY_SIDE**2
    grey = fingerprints[:, :num_grey].reshape(count, GREY_SIDE, GREY_SIDE)
    colour = fingerprints[:, num_grey:].reshape(count, 2, COLOUR_SIDE, COLOUR_SIDE)
    turned = np.flip(grey, axis).reshape(count, num_grey)
    colours = np.flip(colour, axis + 1).reshape(count, 2 * COLOUR_SIDE**2)
    return np.concatenate([turned, colours], axis=1)


def _group_numbers(pictures: Sequence[Sequence[str]], groups: Sequence[Sequence[str]]) -> Indices:
    """The number of the group each picture is in, -1 where it is in none."""
    number_of = {image: number for number, group in enumerate(groups) for image in group}
    return np.array([number_of.get(names[0], -1) for names in pictures], dtype=np.int64)
