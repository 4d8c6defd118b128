"""The training images that the network finds most like some others: why it may have said so.

The features are those of the run's own network. They are kept in the run folder, so a search that
ran out of time goes on where it stopped when the report is written again.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from fieldmark.data.table import Row, Table
from fieldmark.errors import FieldmarkError
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.predictor import load_predictor
from fieldmark.training.devices import choose_device

NUM_NEAREST = 4
MAX_SEARCHED = 20_000
_CHUNK = 128


@dataclass(frozen=True)
class Near:
    """A training image, its label, and the cosine of its features with those of another image."""

    image: str
    label: str
    similarity: float


@dataclass(frozen=True)
class Nearest:
    """Image -> its nearest training images, nearest first, of `num_searched` of `num_train`."""

    of: Mapping[str, tuple[Near, ...]]
    num_searched: int
    num_train: int


def find_nearest(
    folder: RunFolder, table: Table, images: Sequence[str], *, seconds: float
) -> Nearest | str:
    """Search the train split for at most about `seconds`; else a sentence on why that failed.

    The search takes a picture of each class in turn, so that a part of it is fair to all. Of
    more than `MAX_SEARCHED` training images no more than so many are read.
    """
    from fieldmark.inspection.neighbours import find_neighbours
    from fieldmark.inspection.readings import read_features
    from fieldmark.inspection.subject import Subject

    until = time.monotonic() + seconds
    asked = [row for row in table.rows if row.image in set(images)]
    train = _in_turns([row for row in table.rows if row.split == "train"])
    try:
        subject = Subject(folder, load_predictor(folder, choose_device()), table)
        searched: list[Row] = []
        for start in range(0, min(len(train), MAX_SEARCHED), _CHUNK):
            if time.monotonic() >= until:
                break
            chunk = tuple(train[start : start + _CHUNK])
            searched += read_features(subject, replace(table, rows=chunk)).table.rows
        if not searched or not asked:
            return "no training image could be read in the time given"
        # Images of the train split itself may be asked for.
        rows = {row.image: row for row in (*(replace(r, split=None) for r in asked), *searched)}
        part = replace(subject, table=replace(table, rows=tuple(rows.values())))
        found = find_neighbours(part, [row.image for row in asked], k=NUM_NEAREST)
    except FieldmarkError as error:
        return str(error)
    return Nearest(
        {
            row.image: tuple(Near(n.image, n.label, n.similarity) for n in near)
            for row, near in zip(asked, found, strict=True)
        },
        len(searched),
        len(train),
    )


def _in_turns(rows: Sequence[Row]) -> list[Row]:
    """The first row of each label, then the second of each, and so on."""
    by_label: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_label[row.label].append(row)
    turns = zip_longest(*by_label.values())
    return [row for turn in turns for row in turn if row is not None]
