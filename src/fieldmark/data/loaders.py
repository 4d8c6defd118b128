"""Batches of tensors from a table: `build_loader`.

A batch depends on its address alone: (seed, epoch, row) for the changes of an image, (seed, epoch)
for the order. So the number of worker processes and the batch that an epoch is entered at change
no bit of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from fieldmark.data.columns import Labels, TagNames, pack_names
from fieldmark.data.decoded import DecodedImages, DecodedTransform, StagedTransform
from fieldmark.data.images import Pixels, decode_pixels
from fieldmark.data.sampling import EpochOrder, SampleAddress
from fieldmark.data.stores import ImageStore
from fieldmark.data.table import Table
from fieldmark.data.tags import TagEncoder
from fieldmark.errors import DataError, UnreadableImageError
from fieldmark.seeds import derive_seed


@dataclass(frozen=True)
class Batch:
    """The readable images of one batch; B may be smaller than the batch size, even 0.

    images: (B, 3, H, W) float32, or (B, D) or (B, D, L) the stored features of a frozen backbone.
    targets: (B,) int64 class index, -1 where the row has no label;
    multi-label: (B, K) float32, 1 for each label. positions: (B,) int64 rows of the table.
    unreadable: (position, reason) of the images that are not in `images`. tags: (B, T) int64
    token ids, None where the loader encodes none; T is as long as the longest row of the batch,
    where attention leaves padding out.
    """

    images: Tensor
    targets: Tensor
    positions: Tensor
    unreadable: tuple[tuple[int, str], ...] = ()
    tags: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; `DataLoader` calls this before a GPU copies it."""
        return replace(
            self,
            images=self.images.pin_memory(),
            targets=self.targets.pin_memory(),
            positions=self.positions.pin_memory(),
            tags=None if self.tags is None else self.tags.pin_memory(),
        )


class Batches(Protocol):
    """What gives the batches of any epoch; `num_batches` is the number in each."""

    num_batches: int

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of this epoch (from 0) from `start_batch` on."""
        ...


def build_loader(
    table: Table,
    transform: Callable[..., Tensor] | StagedTransform | DecodedTransform,
    *,
    batch_size: int,
    order: EpochOrder | None,
    seed: int,
    num_workers: int,
    num_processes: int = 1,
    process_index: int = 0,
    encode_tags: TagEncoder | None = None,
) -> Loader:
    """Build the loader of a table.

    With an `order`, `transform(image, seed)` is called with a seed of each image's own. Without
    one the rows come as they stand, for evaluation, and `transform(image)` takes no seed. Both
    map an RGB image to (3, H, W) float32, H and W the same for all. `batch_size` is per process.
    `encode_tags` gives the batches `tags`; it gets a seed wherever the transform does. A
    `DecodedTransform` gives the same bits, sooner once they are stored.

    Raises `TableError` for labels that are no class, `DataError` for too few training images.
    """
    decoded = transform.images if isinstance(transform, DecodedTransform) else None
    staged = transform.transform if isinstance(transform, DecodedTransform) else transform
    drawn_from = None if order is None else seed
    images = (
        _StagedImages(table, staged, encode_tags, seed=drawn_from, decoded=decoded)
        if isinstance(staged, StagedTransform)
        else _Images(table, staged, encode_tags, seed=drawn_from)
    )
    return Loader(
        images,
        order or EpochOrder.in_table_order(table),
        batch_size=batch_size,
        num_workers=num_workers,
        num_processes=num_processes,
        process_index=process_index,
        decoded=decoded,
    )


class Loader:
    """Iterates over the batches of any epoch. `num_batches` is the number in each."""

    def __init__(
        self,
        images: _Images,
        order: EpochOrder,
        *,
        batch_size: int,
        num_workers: int,
        num_processes: int,
        process_index: int,
        decoded: DecodedImages | None = None,
    ) -> None:
        self._decoded = decoded
        self.num_batches = order.num_batches(batch_size, num_processes)
        self._addresses = _Addresses(order, batch_size, num_processes, process_index)
        start_method = _start_method() if num_workers else None
        self._loader: DataLoader[Any] = DataLoader(
            images,
            batch_sampler=self._addresses,
            num_workers=num_workers,
            collate_fn=images.collate(),
            pin_memory=torch.cuda.is_available(),
            # Left to itself, DataLoader would draw from torch's global generator.
            generator=torch.Generator(),
            persistent_workers=start_method == "spawn",
            multiprocessing_context=start_method,
        )

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of this epoch (from 0) from `start_batch` on.

        Raises `DataError` where a worker process is killed, mostly for want of memory.
        """
        self._addresses.epoch, self._addresses.start_batch = epoch, start_batch
        try:
            yield from _one_thread_each(iter(self._loader))
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise DataError(
                f"a process that loads images was ended from outside: {error} Mostly memory or "
                "shared memory has run out: use fewer workers (workers=0 uses none), a smaller "
                "batch size, or in a container a larger --shm-size"
            ) from error
        if self._decoded is not None:
            self._decoded.tell()


def _one_thread_each(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Make each batch with one thread of torch's.

    What is done to a single image is too little to be shared: with two threads it takes twice the
    processor's time and a fifth longer. Loader processes have one thread each anyway.
    """
    while True:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            batch = next(batches, None)
        finally:
            torch.set_num_threads(threads)
        if batch is None:
            return
        yield batch


def _start_method() -> str:
    """How worker processes start.

    On Linux by fork, which is safe as long as workers stay on the CPU: it takes milliseconds and
    shares the table, so workers start with each epoch and never stand idle. Elsewhere each
    imports torch anew (seconds) and gets a copy of the table, so they live on between epochs.
    """
    return "fork" if sys.platform == "linux" else "spawn"


@dataclass
class _Addresses:
    """The batches of the epoch that is asked for next."""

    order: EpochOrder
    batch_size: int
    num_processes: int
    process_index: int
    epoch: int = 0
    start_batch: int = 0

    def __iter__(self) -> Iterator[list[SampleAddress]]:
        return self.order.batches(
            self.epoch,
            batch_size=self.batch_size,
            start_batch=self.start_batch,
            num_processes=self.num_processes,
            process_index=self.process_index,
        )


@dataclass(frozen=True)
class _Sample:
    """One image of a batch to be; `image` is None where it cannot be read for `reason`."""

    position: int
    target: Tensor | int
    image: Tensor | None
    tags: Tensor | None = None
    reason: str = ""


class _Images(Dataset[_Sample]):
    """Reads, decodes and transforms the image at an address, and encodes its tags.

    Names and labels are held in a few arrays instead of a million objects: workers read them
    without touching the reference counts in pages that they share with the parent.
    """

    def __init__(
        self,
        table: Table,
        transform: Callable[..., Tensor],
        encode_tags: TagEncoder | None,
        *,
        seed: int | None,
    ) -> None:
        self._store: ImageStore = table.store
        self._transform = transform
        self._encode_tags = encode_tags
        self._seed = seed
        self._names = pack_names([row.image for row in table.rows])
        self._labels = Labels(table)
        self._tags = None if encode_tags is None else TagNames(table)

    def __getitem__(self, address: SampleAddress) -> _Sample:
        position = address.position
        target = self._labels.read(position)
        try:
            data = self._store.read(self._names[position].as_py())
            image = decode_pixels(data)
        except UnreadableImageError as error:
            return _Sample(position, target, None, reason=str(error))
        return _Sample(position, target, self._apply(image, address), self._encode(address))

    def empty_batch(self) -> Batch:
        """A batch without images, of the shape that others have; a faulty transform fails here."""
        image = self._apply(np.zeros((8, 8, 3), np.uint8), SampleAddress(0, 0))
        return Batch(
            images=torch.empty((0, *image.shape), dtype=image.dtype),
            targets=self._labels.empty(),
            positions=torch.empty(0, dtype=torch.int64),
            tags=None if self._encode_tags is None else self._encode_tags(None)[None, :][:0],
        )

    def collate(self) -> Callable[[Any], Batch]:
        """What makes a `Batch` of what is read."""
        return _Collate(self.empty_batch(), self._encode_tags)

    def _apply(self, image: Pixels, address: SampleAddress) -> Tensor:
        seed = self._derive_seed("augment", address)
        return self._transform(image) if seed is None else self._transform(image, seed)

    def _encode(self, address: SampleAddress) -> Tensor | None:
        if self._encode_tags is None or self._tags is None:
            return None
        names = self._tags.read(address.position)
        return self._encode_tags(names, self._derive_seed("tags", address))

    def _derive_seed(self, what: str, address: SampleAddress) -> int | None:
        """The seed of one draw of an image for one use; None in evaluation."""
        if self._seed is None:
            return None
        return derive_seed(self._seed, what, address.epoch, address.position, address.draw)


class _StagedImages(_Images):
    """The same, a batch at a time; with a store, prepared images are taken from there."""

    def __init__(
        self,
        table: Table,
        transform: StagedTransform,
        encode_tags: TagEncoder | None,
        *,
        seed: int | None,
        decoded: DecodedImages | None,
    ) -> None:
        super().__init__(table, transform, encode_tags, seed=seed)
        self._staged, self._decoded = transform, decoded
        rows = [] if decoded is None else [decoded.row_of(row.image) for row in table.rows]
        self._rows = np.array(rows, dtype=np.int64)
        self._empty = self.empty_batch()

    def collate(self) -> Callable[[Any], Batch]:
        """Batches are read whole."""
        return _take_as_is

    def __getitems__(self, addresses: list[SampleAddress]) -> Batch:
        """The batch of these addresses."""
        samples: list[_Sample] = []
        # One at a time, so that of large images only one is in memory.
        images = self._staged.finish(self._prepare(addresses, samples), at_most=len(addresses))
        return _Collate(self._empty, self._encode_tags)(samples, images)

    def _prepare(
        self, addresses: list[SampleAddress], samples: list[_Sample]
    ) -> Iterator[tuple[Tensor, int | None]]:
        """Yield the readable images with their seeds; note all of them in `samples`."""
        for address in addresses:
            position = address.position
            target = self._labels.read(position)
            try:
                pixels = self._read(position)
            except UnreadableImageError as error:
                samples.append(_Sample(position, target, None, reason=str(error)))
                continue
            samples.append(_Sample(position, target, _READABLE, self._encode(address)))
            yield pixels, self._derive_seed("augment", address)

    def _read(self, position: int) -> Tensor:
        if self._decoded is None:
            return self._decode(position)[0]
        row = int(self._rows[position])
        pixels = self._decoded.read(row)
        if pixels is None:
            pixels, data = self._decode(position)
            self._decoded.write(row, data, pixels)
        return pixels

    def _decode(self, position: int) -> tuple[Tensor, bytes]:
        """The prepared pixels, and the bytes that they come from."""
        data = self._store.read(self._names[position].as_py())
        image = decode_pixels(data, least_size=self._staged.least_size)
        return self._staged.prepare(image), data


# In place of an image that is in the batch already.
_READABLE = torch.empty(0)


@dataclass(frozen=True)
class _Collate:
    """Samples -> `Batch`; `empty` is the batch of none. `images` are those of the readable."""

    empty: Batch
    encode_tags: TagEncoder | None

    def __call__(self, samples: list[_Sample], images: Tensor | None = None) -> Batch:
        unreadable = tuple((s.position, s.reason) for s in samples if s.image is None)
        readable = [sample for sample in samples if sample.image is not None]
        if not readable:
            return replace(self.empty, unreadable=unreadable)
        if images is None:
            # In a worker, default_collate writes right into memory shared with the parent.
            images = default_collate([sample.image for sample in readable])
        return Batch(
            images=images,
            targets=default_collate([sample.target for sample in readable]),
            positions=default_collate([sample.position for sample in readable]),
            unreadable=unreadable,
            tags=None
            if self.encode_tags is None
            else self.encode_tags.trim(default_collate([sample.tags for sample in readable])),
        )


def _take_as_is(batch: Batch) -> Batch:
    return batch
