"""The training images nearest to an image, as the network sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.stores import FolderStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import InspectionError
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.readings import (
    Count,
    Floats,
    Readings,
    ignore_count,
    need_table,
    read_features,
)
from fieldmark.inspection.subject import Subject
from fieldmark.runs.figures import Drawing

BLOCK = 4096
"""Stored images that are compared at once: a block of 64 queries takes 1 MB."""


@dataclass(frozen=True)
class Neighbour:
    """A training image and the cosine of its features with those of the image asked about."""

    image: str
    label: str
    similarity: float


def find_neighbours(
    subject: Subject, images: Sequence[str], *, k: int = 5, count: Count = ignore_count
) -> list[list[Neighbour]]:
    """Return the `k` training images nearest to each of `images`, nearest first.

    An image is the name of one in the run's table, or a file. The distance is the cosine of
    `Features.pooled` (what the head classifies), compared with every training image: exact. An
    image is not its own neighbour, but a copy of it under another name is. Features are kept in
    the run's `features/`. Raises `InspectionError` where the training images are gone, or for an
    image that cannot be read.
    """
    if k < 1:
        raise InspectionError(f"k: expected a number of neighbours from 1, not {k}")
    train = need_table(subject, "find neighbours among").select("train")
    known = read_features(subject, train, count=count)
    asked = read_features(subject, select_images(subject, images))
    for image, reason in asked.unreadable.items():
        raise InspectionError(f"{image}: cannot be read, so it has no neighbours: {reason}")
    places, cosines = search(asked.values, known.values, _own_places(asked, known), k)
    return [
        [Neighbour(known.images[p], known.labels[p], float(c)) for p, c in zip(*row, strict=True)]
        for row in zip(places.tolist(), cosines.tolist(), strict=True)
    ]


def select_images(subject: Subject, images: Sequence[str]) -> Table:
    """The rows of the run's table with these names, in this order; others are files."""
    table = subject.table
    rows = {row.image: row for row in table.rows} if table is not None else {}
    if table is not None and all(image in rows for image in images):
        return replace(table, rows=tuple(rows[image] for image in images))
    mixed = [image for image in images if image in rows]
    if mixed:
        raise InspectionError(
            f"{mixed[0]}: is an image of the run, and others are files: ask for them apart"
        )
    files = tuple(Row(image) for image in images)
    names = subject.predictor.class_names
    return Table(files, FolderStore(Path()), "files", class_names=names)


def search(
    queries: Floats, known: Floats, excluded: Sequence[int], k: int
) -> tuple[NDArray[np.int64], Floats]:
    """Places (Q, k) in `known` (N, D) and cosines (Q, k) for `queries` (Q, D), nearest first.

    `excluded`: for each query a place that is left out, -1 for none. Exact, by blocks: memory is
    O(Q (k + BLOCK)). k is cut to what there is.
    """
    k = min(k, len(known) - (1 if max(excluded, default=-1) >= 0 else 0))
    units = _to_units(queries)
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    places = np.zeros((len(queries), k), dtype=np.int64)
    for start in range(0, len(known), BLOCK):
        block = units @ _to_units(known[start : start + BLOCK]).T  # (Q, block)
        for row, place in enumerate(excluded):
            if start <= place < start + block.shape[1]:
                block[row, place - start] = -np.inf
        here = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
        every = np.concatenate([best, block], axis=1)
        # Stable: of equal ones the earlier row.
        order = np.argsort(-every, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(every, order, axis=1)
        places = np.take_along_axis(np.concatenate([places, here], axis=1), order, axis=1)
    return places, best


def draw_neighbours(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    """The nearest training images of some pictures, and the map of a split."""
    from fieldmark.inspection.atlas import draw_atlas
    from fieldmark.inspection.neighbour_sheet import draw_neighbour_sheet

    yield draw_neighbour_sheet(subject, options)
    yield draw_atlas(subject, options)


def _to_units(values: Floats) -> Floats:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    units: Floats = values / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units


def _own_places(asked: Readings, known: Readings) -> list[int]:
    place_of = {image: place for place, image in enumerate(known.images)}
    is_same_store = asked.table.store is known.table.store
    return [place_of.get(image, -1) if is_same_store else -1 for image in asked.images]
