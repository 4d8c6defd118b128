"""The order of images in an epoch, and its batches: a function of (seed, epoch), not a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.table import Table
from fieldmark.errors import DataError
from fieldmark.seeds import derive_seed

Indices = NDArray[np.int64]


class SampleAddress(NamedTuple):
    """One draw of an image: the randomness of its changes is derived from this.

    `position` is that of the row in the table; `draw` counts how often the epoch drew it before.
    """

    epoch: int
    position: int
    draw: int = 0


@dataclass(frozen=True, eq=False)
class EpochOrder:
    """In which order an epoch goes through the rows of a table.

    table: as they stand, for evaluation. natural: each once, shuffled. balanced: as many images
    as there are, but of each class equally often (`members`: the rows of each class).
    """

    sampling: Literal["table", "natural", "balanced"]
    num_images: int
    seed: int = 0
    members: tuple[Indices, ...] = ()

    @classmethod
    def in_table_order(cls, table: Table) -> EpochOrder:
        """The order of evaluation and prediction."""
        return cls("table", len(table))

    @classmethod
    def for_training(
        cls, table: Table, *, seed: int, sampling: Literal["natural", "balanced"]
    ) -> EpochOrder:
        """The order of training; raise `DataError` where there is nothing to train on."""
        members = _find_members(table) if sampling == "balanced" else ()
        if len(table) == 0 or (sampling == "balanced" and not members):
            raise DataError(
                f"{table.source}: the training split has no {'labelled ' if len(table) else ''}"
                "image. Give it some: check the column `split`, or data.split.ratios"
            )
        return cls(sampling, len(table), seed, members)

    def positions(self, epoch: int) -> Indices:
        """Row positions in the order of this epoch, (num_images,)."""
        if self.sampling == "table":
            return np.arange(self.num_images)
        if self.sampling == "natural":
            return _shuffle(self.num_images, derive_seed(self.seed, "order", epoch))
        return self._draw_balanced(epoch)

    def num_batches(self, batch_size: int, num_processes: int = 1) -> int:
        """Batches of an epoch, the same in every process.

        In training no process ever gets a batch of a single image, whose variance BatchNorm
        cannot take, unless `batch_size` is 1: too small a rest joins the batch before it, so every
        image is used. Raises `DataError` where there is no batch before it.
        """
        full, rest = divmod(self.num_images, batch_size * num_processes)
        if self.sampling == "table":
            return full + (rest > 0)
        smallest = min(2, batch_size) * num_processes
        if full == 0 and rest < smallest:
            raise DataError(
                f"the training split has {rest} image(s), but a training batch needs at least "
                f"{smallest}. Add images, or train with optim.batch_size=1 in one process"
            )
        return full + (rest >= smallest)

    def batches(
        self,
        epoch: int,
        *,
        batch_size: int,
        start_batch: int = 0,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> Iterator[list[SampleAddress]]:
        """Yield this process's share of each batch of the epoch, from `start_batch` on.

        `batch_size` counts images per process. A global batch is cut from the epoch's order as
        a single process with `num_processes` times the batch size would cut it, then dealt out
        in turn: what an update learns from does not depend on the number of processes.
        """
        positions = self.positions(epoch)
        draws = _count_earlier(positions)
        for share in self.shares(batch_size, start_batch, num_processes, process_index):
            yield [
                SampleAddress(epoch, position, draw)
                for position, draw in zip(
                    positions[share].tolist(), draws[share].tolist(), strict=True
                )
            ]

    def shares(
        self,
        batch_size: int,
        start_batch: int = 0,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> Iterator[slice]:
        """Yield the places in `positions` of each batch, as `batches` cuts them."""
        num_batches = self.num_batches(batch_size, num_processes)
        size = batch_size * num_processes
        for batch in range(start_batch, num_batches):
            stop = self.num_images if batch == num_batches - 1 else (batch + 1) * size
            yield slice(batch * size + process_index, stop, num_processes)

    def _draw_balanced(self, epoch: int) -> Indices:
        """Deal out draws to classes in turn, across epochs, as one endless row of draws.

        Draw g goes to class g mod K, and is number g // K of that class, which goes through its
        own images, shuffled anew each time round: none is drawn twice before all are drawn.
        """
        num_classes = len(self.members)
        first = epoch * self.num_images
        parts = []
        for index, members in enumerate(self.members):
            start = -((index - first) // num_classes)
            stop = -((index - first - self.num_images) // num_classes)
            parts.append(self._draw_from_class(index, members, start, stop))
        drawn = np.concatenate(parts)
        return drawn[_shuffle(len(drawn), derive_seed(self.seed, "order", epoch))]

    def _draw_from_class(self, index: int, members: Indices, start: int, stop: int) -> Indices:
        """Draws number `start` to `stop` of one class."""
        size = len(members)
        first_round, last_round = start // size, -(-stop // size)
        rounds = [
            members[_shuffle(size, derive_seed(self.seed, "class", index, number))]
            for number in range(first_round, last_round)
        ]
        offset = first_round * size
        return np.concatenate([members[:0], *rounds])[start - offset : stop - offset]


def _find_members(table: Table) -> tuple[Indices, ...]:
    """Row positions of each class that has any; a row of several labels is in several classes."""
    members: dict[str, list[int]] = {name: [] for name in table.class_names}
    for position, row in enumerate(table.rows):
        for label in row.labels:
            members.setdefault(label, []).append(position)
    return tuple(np.array(rows, dtype=np.int64) for rows in members.values() if rows)


def _shuffle(count: int, seed: int) -> Indices:
    # NumPy promises the raw bits of a generator for all versions, but not its shuffles.
    bits = np.random.PCG64(seed).random_raw(count)
    return np.argsort(bits, kind="stable").astype(np.int64, copy=False)


def _count_earlier(positions: Indices) -> Indices:
    """For each entry, how often the same value came before it."""
    order = np.argsort(positions, kind="stable")
    ranked = positions[order]
    is_first = np.r_[True, ranked[1:] != ranked[:-1]][: len(ranked)]
    place = np.arange(len(ranked))
    counts = np.empty(len(ranked), dtype=np.int64)
    counts[order] = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return counts
