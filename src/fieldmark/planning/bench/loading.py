"""Images a second of reading, decoding and augmenting for training, epoch by epoch."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fieldmark.data.decoded import DecodedTransform, StoredForm, open_decoded
from fieldmark.data.loaders import build_loader
from fieldmark.data.prepare import hash_table
from fieldmark.data.sampling import EpochOrder
from fieldmark.data.table import Table
from fieldmark.planning.bench.records import LoadBench, LoadEpoch
from fieldmark.recipes import Recipe
from fieldmark.recipes.schema import Statistics
from fieldmark.runs.provenance import peak_memory_mb
from fieldmark.transforms import build_train_transform, build_transform_record

NUM_EPOCHS = 3
_HALF = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def bench_loading(
    table: Table,
    recipe: Recipe,
    *,
    num_workers: int,
    num_epochs: int = NUM_EPOCHS,
    progress: Callable[[str], None] = lambda _: None,
) -> LoadBench:
    """Load all images of `table` as the recipe trains on them, `num_epochs` times.

    Unless `cache` is off, the first epoch decodes and stores and the later ones read what is
    stored (in a temporary folder, removed afterwards). The table needs no split.
    """
    record = build_transform_record(
        recipe.data,
        model_statistics=_HALF,
        dataset_statistics=lambda: _HALF,
        interpolation="bicubic",
    )
    transform = build_train_transform(record)
    keeps = recipe.cache != "off"
    with tempfile.TemporaryDirectory() as folder:
        decoded = None
        if keeps:
            preparation = transform.preparation
            form = StoredForm(preparation.name, preparation.max_px)
            decoded = open_decoded(Path(folder), hash_table(table), form, progress)
        loader = build_loader(
            table,
            transform if decoded is None else DecodedTransform(transform, decoded),
            batch_size=recipe.optim.batch_size,
            order=EpochOrder.for_training(table, seed=recipe.seed, sampling=recipe.sampling),
            seed=recipe.seed,
            num_workers=num_workers,
        )
        epochs = []
        for epoch in range(num_epochs):
            progress(f"epoch {epoch + 1} of {num_epochs}")
            start, cpu = time.perf_counter(), _cpu_seconds()
            count = sum(len(batch.images) for batch in loader.epoch(epoch))
            epochs.append(
                LoadEpoch(epoch + 1, count, time.perf_counter() - start, _cpu_seconds() - cpu)
            )
    return LoadBench(
        source=table.source,
        image_size=recipe.data.image_size,
        batch_size=recipe.optim.batch_size,
        num_workers=num_workers,
        keeps_decoded=decoded is not None,
        epochs=tuple(epochs),
        peak_memory_mb=peak_memory_mb(),
    )


def _cpu_seconds() -> float:
    """Of this process and of workers that have ended, which the loader's do with each epoch."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
