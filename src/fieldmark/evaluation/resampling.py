"""Test sets that could have been: how often each image counts in a bootstrap resample.

Images are drawn within their class, or groups of images as a whole. Of the n in a class n - 1 are
drawn and count n / (n - 1) times each (Rao and Wu 1988): plain resampling makes the scatter too
small by (n - 1) / n, which at two images a class is half. Classes with one image are drawn from
together, since a single image cannot say how classes like it scatter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.outcomes import Floats, Ints

CHUNK_NUMBERS = 4_000_000
"""Weights held at a time: 32 MB."""
COUNTED_NUMBERS = 65_536
"""Weights counted at a time, which the processor's cache holds."""


@dataclass(frozen=True)
class Units:
    """What is drawn: U images or groups, in the order of their strata.

    of_image: (N,) the unit of each image. start, size: (U,) where the stratum of each place
    begins and how many units it has.
    """

    of_image: Ints
    start: Ints
    size: Ints

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a variance: units less strata, at least 1."""
        strata = len(np.unique(self.start))
        return max(1, len(self.size) - strata)


def build_units(strata: Ints, groups: Sequence[str] | None = None) -> Units:
    """Units from the stratum of each image (N,) and, where there are any, the groups (N,).

    An empty group is an image of its own. A group is in the stratum of its first image.
    """
    first, of_image = _number_groups(len(strata), groups)
    stratum = _pool_singles(strata[first])
    order = np.argsort(stratum, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    _, starts, counts = np.unique(stratum[order], return_index=True, return_counts=True)
    return Units(place[of_image], np.repeat(starts, counts), np.repeat(counts, counts))


def draw_weights(units: Units, num_resamples: int, seed: int) -> Iterator[Floats]:
    """Chunks (r, U) of how often each unit counts, together `num_resamples` rows."""
    generator = np.random.Generator(np.random.SFC64(seed))
    left = np.flatnonzero(np.r_[True, units.start[1:] != units.start[:-1]])
    # One less is drawn in each stratum than it has; a lone unit is always drawn.
    drawn = np.ones(len(units.size), bool)
    drawn[left] = units.size[left] == 1
    start, size = units.start[drawn], units.size[drawn].astype(np.uint64)
    scale = units.size / np.maximum(units.size - 1, 1)
    num_units = len(units.size)
    rows = max(1, CHUNK_NUMBERS // num_units)
    at_once = max(1, COUNTED_NUMBERS // num_units)
    for done in range(0, num_resamples, rows):
        count = min(rows, num_resamples - done)
        weights = np.empty((count, num_units))
        for row in range(0, count, at_once):
            part = weights[row : row + at_once]
            random = generator.integers(0, 2**32, (len(part), len(start)), dtype=np.uint32)
            chosen = _place(random, start, size)
            chosen += np.arange(len(part))[:, None] * num_units
            counts = np.bincount(chosen.ravel(), minlength=part.size)
            np.multiply(counts.reshape(part.shape), scale, out=part)
        yield weights


def _place(random: NDArray[np.uint32], start: Ints, size: NDArray[np.uint64]) -> Ints:
    """A place in the stratum by multiplication: uniform to 1 in 2^32 / size."""
    chosen = random.astype(np.uint64)
    chosen *= size
    chosen >>= np.uint64(32)
    places = chosen.view(np.int64)
    places += start
    return places


def _number_groups(count: int, groups: Sequence[str] | None) -> tuple[Ints, Ints]:
    """The first image of each unit, and the unit of each image."""
    numbers: dict[str, int] = {}
    first: list[int] = []
    of_image = np.empty(count, np.int64)
    for image in range(count):
        group = groups[image] if groups else ""
        unit = numbers.get(group, -1) if group else -1
        if unit < 0:
            unit = len(first)
            first.append(image)
            if group:
                numbers[group] = unit
        of_image[image] = unit
    return np.array(first, np.int64), of_image


def _pool_singles(strata: Ints) -> Ints:
    """Strata of one unit become one stratum; if it is still alone it joins the smallest other."""
    names, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    single = counts == 1
    if not single.any():
        return strata
    pooled = np.where(single, -1, np.arange(len(names)))
    if single.sum() == 1 and len(names) > 1:
        others = np.where(single, np.iinfo(np.int64).max, counts)
        pooled[single] = int(others.argmin())
    return pooled[inverse]
