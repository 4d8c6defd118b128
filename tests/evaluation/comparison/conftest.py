"""Run folders with invented predictions, without any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.evaluation.predictions import Predictions, PredictionsCollector, save_predictions
from fieldmark.recipes import Recipe
from fieldmark.runs.folder import RunFolder

NUM_CLASSES = 5
InventRun = Callable[..., Path]


def invent_table(num_test: int, *, split_seed: int = 0, num_images: int = 400) -> Table:
    """Images of five classes, of which so many are for the test, drawn by `split_seed`."""
    order = np.random.default_rng(split_seed).permutation(num_images)
    tested = set(order[:num_test].tolist())
    rows = tuple(
        Row(f"{i:04d}.png", (f"c{i % NUM_CLASSES}",), split="test" if i in tested else "train")
        for i in range(num_images)
    )
    return Table(rows, MemoryStore({}), "invented", class_names=names_of(NUM_CLASSES))


def names_of(count: int) -> tuple[str, ...]:
    return tuple(f"c{i}" for i in range(count))


def invent_predictions(table: Table, *, skill: float, seed: int) -> Predictions:
    """A share `skill` of the images is right, more or less; pictures are as hard for all."""
    hard = np.random.default_rng(99).normal(size=(10_000, len(table.class_names)))
    own = np.random.default_rng(seed + 1000)
    place = np.array([int(row.image[:4]) for row in table.rows])
    true = np.array([table.class_index[row.labels[0]] for row in table.rows])
    logits = hard[place] + 0.5 * own.normal(size=(len(true), len(table.class_names)))
    logits[np.arange(len(true)), true] += skill
    collector = PredictionsCollector(table)
    collector.add(torch.arange(len(true)), torch.tensor(logits, dtype=torch.float32))
    return collector.finish()


def invent_run(
    path: Path,
    *,
    skill: float = 2.0,
    seed: int = 0,
    head: str = "linear",
    table: Table | None = None,
    num_test: int = 120,
    content: str = "",
    environment: Sequence[tuple[str, float]] = (("seconds", 12.0),),
) -> Path:
    """A run folder with all that a comparison reads."""
    table = table or invent_table(num_test)
    folder = RunFolder.create(path)
    folder.save_recipe(Recipe.model_validate({"seed": seed, "model": {"head": head}}))
    folder.save_classes(table)
    folder.save_split(table, {row.image: f"{content}{row.image}" for row in table.rows})
    folder.save_environment(dict(environment))
    predictions = invent_predictions(table.select("test"), skill=skill, seed=seed)
    save_predictions(predictions, folder.predictions_path("test"))
    return path


@pytest.fixture
def invent(tmp_path: Path) -> InventRun:
    """`invent_run` by name, in the test's own folder."""

    def make(name: str, **options: object) -> Path:
        return invent_run(tmp_path / name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def invented_table() -> Callable[..., Table]:
    """`invent_table`, which tests cannot import from here."""
    return invent_table
