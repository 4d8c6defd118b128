"""What the network makes of many images at once, computed once and kept in the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.data.loaders import Batch, build_loader
from fieldmark.data.prepare import hash_table
from fieldmark.data.table import Table
from fieldmark.errors import InspectionError
from fieldmark.inspection.subject import Subject
from fieldmark.runs.feature_store import FeatureStore, Keys, Origin, key_of

BATCH_SIZE = 32
SEGMENT = 512
"""Images whose features are stored at once: who stops the work loses no more."""
Floats = NDArray[np.float32]
Reads = Literal["pooled", "layers"]
Count = Callable[[int, int], None]


def ignore_count(_done: int, _total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Readings:
    """The features of the readable images of a table.

    table: those images. values: (N, D) of `Features.pooled`, or (N, D, L) of `Features.layers`,
    float32. unreadable: image -> reason, for those that are left out.
    """

    table: Table
    values: Floats
    unreadable: dict[str, str]

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the N images."""
        return tuple(row.image for row in self.table.rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """Their labels, several joined by ';'."""
        return tuple(row.label for row in self.table.rows)


def need_table(subject: Subject, why: str) -> Table:
    """The run's own images; raises `InspectionError` where they are gone."""
    if subject.table is None:
        raise InspectionError(
            f"{subject.folder.path}: the images it was trained on are gone, so there is nothing to "
            f"{why}. Restore {_source_of(subject)}, or give the data by --data"
        )
    return subject.table


def _source_of(subject: Subject) -> str:
    return str(subject.folder.load_recipe().data.source or "them")


def read_features(
    subject: Subject, table: Table, *, reads: Reads = "pooled", count: Count = ignore_count
) -> Readings:
    """Read each image of `table` (of the run or not), with its tags where the run takes them.

    What was read before comes from the run's `features/`. `count` is told images done and in
    all. Raises `InspectionError` for "layers" of a network that has none.
    """
    shape = _measure(subject, reads)
    origin = Origin(
        network=subject.model,
        weights=_digest(subject.folder.find_best()),
        transform="evaluation",
        reads=reads,
        precision="fp32",
        shape=shape,
    )
    store = FeatureStore(subject.folder.features_dir, origin)
    store.open()
    keys, unreadable = _find_keys(subject, table)
    missing = [
        place
        for place in np.flatnonzero(store.find(keys) < 0).tolist()
        if table.rows[place].image not in unreadable
    ]
    for start in range(0, len(missing), SEGMENT):
        places = missing[start : start + SEGMENT]
        part = replace(table, rows=tuple(table.rows[place] for place in places))
        count_on = partial(_count_from, count, start, len(missing))
        blocks, failed = _compute(subject, part, reads, count_on)
        unreadable |= failed
        read = [p for p in places if table.rows[p].image not in unreadable]
        if read:
            store.add(keys[read], blocks)
    kept = [p for p, row in enumerate(table.rows) if row.image not in unreadable]
    values = store.read(store.find(keys[kept])).numpy() if kept else np.empty((0, *shape), "f4")
    rows = tuple(table.rows[place] for place in kept)
    return Readings(replace(table, rows=rows), values, unreadable)


def _count_from(count: Count, start: int, total: int, done: int, _part: int) -> None:
    count(start + done, total)


def _measure(subject: Subject, reads: Reads) -> tuple[int, ...]:
    """Shape of the features of one image."""
    backbone = subject.classifier.backbone
    if reads == "layers" and backbone.num_layers < 2:
        raise InspectionError(
            f"layers: '{subject.model}' has no sequence of blocks or stages to compare. Choose "
            "other figures by --what"
        )
    side = backbone.image_size
    black = torch.zeros(1, 3, side, side, device=subject.predictor.device)
    empty = Batch(black, torch.zeros(1), torch.zeros(1))
    return tuple(_read(subject, empty, reads).shape[1:])


def _digest(best_dir: Path) -> str:
    """128 bits of the weights and of how images become tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(best_dir.iterdir()):
        digest.update(f"{path.name}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _find_keys(subject: Subject, table: Table) -> tuple[Keys, dict[str, str]]:
    """What each row is found by, and which images are gone.

    The run's own images are known by the hashes it was frozen with; others are hashed now.
    """
    is_own = subject.table is not None and table.store is subject.table.store
    hashes = dict(subject.folder.load_content_hashes()) if is_own else {}
    unknown = tuple(row for row in table.rows if row.image not in hashes)
    hashes |= hash_table(replace(table, rows=unknown))
    with_tags = subject.predictor.encode_tags is not None
    keys = [
        key_of(hashes[row.image], ";".join(row.tags or ()) if with_tags else "")
        for row in table.rows
    ]
    gone = {row.image: "it is gone" for row in table.rows if not hashes[row.image]}
    return np.array(keys, dtype=np.uint64), gone


def _compute(
    subject: Subject, part: Table, reads: Reads, count: Count
) -> tuple[list[Tensor], dict[str, str]]:
    """Blocks of features in the order of `part`, and the images that cannot be read."""
    blocks: list[Tensor] = []
    failed: dict[str, str] = {}
    done = 0
    for batch in iterate_batches(subject, part):
        failed |= {part.rows[place].image: reason for place, reason in batch.unreadable}
        if len(batch):
            blocks.append(_read(subject, batch, reads))
        done += len(batch) + len(batch.unreadable)
        count(done, len(part))
    return blocks, failed


def iterate_batches(
    subject: Subject, part: Table, *, batch_size: int = BATCH_SIZE
) -> Iterator[Batch]:
    """The images of a table as the run's evaluation sees them, in order, on its device."""
    predictor = subject.predictor
    loader = build_loader(
        replace(part, class_names=predictor.class_names, task=predictor.task),
        predictor.transform,
        batch_size=batch_size,
        order=None,
        seed=0,
        num_workers=0,
        encode_tags=predictor.encode_tags,
    )
    for batch in loader.epoch(0):
        yield replace(
            batch,
            images=batch.images.to(predictor.device),
            tags=None if batch.tags is None else batch.tags.to(predictor.device),
        )


def _read(subject: Subject, batch: Batch, reads: Reads) -> Tensor:
    """(B, D) or (B, D, L) on the CPU."""
    classifier = subject.classifier
    with torch.inference_mode():
        if reads == "pooled":
            read = classifier.features(batch.images, batch.tags).pooled
        else:
            layers = classifier.backbone(batch.images, batch.tags, with_layers=True).layers
            assert layers is not None  # its backbone has blocks, see `_measure`
            read = layers
    return read.float().cpu()
