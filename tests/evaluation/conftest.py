"""Predictions of networks whose true probabilities are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.evaluation.conformal import SetRule
from fieldmark.evaluation.predictions import Predictions, PredictionsCollector

Invent = Callable[..., Predictions]


@pytest.fixture(scope="session")
def invent() -> Invent:
    """`invent_predictions`, which tests cannot import from here."""
    return invent_predictions


def invent_predictions(
    num_images: int,
    num_classes: int = 10,
    *,
    seed: int = 0,
    sharpness: float = 2.0,
    overconfidence: float = 1.0,
    task: str = "multiclass",
    sets: SetRule | None = None,
    logits: torch.Tensor | None = None,
) -> Predictions:
    """Images whose true class is drawn from softmax(z), of a network that says z times too much."""
    generator = np.random.default_rng(seed)
    z = generator.normal(0.0, sharpness, (num_images, num_classes))
    if task == "binary":
        z[:, 0] = 0.0
    if logits is not None:
        z = logits.double().numpy()
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    drawn = (p.cumsum(axis=1) < generator.random((num_images, 1))).sum(axis=1)
    names = tuple(f"class {i}" for i in range(num_classes))
    rows = tuple(
        Row(f"{i}.png", (names[min(k, num_classes - 1)],)) for i, k in enumerate(drawn.tolist())
    )
    table = Table(rows, MemoryStore({}), "test", task, names)  # type: ignore[arg-type]
    collector = PredictionsCollector(table, sets=sets)
    said = torch.tensor(z * overconfidence, dtype=torch.float32)
    if task == "binary":
        said = said[:, 1:]
    for start in range(0, num_images, 4096):
        positions = torch.arange(start, min(start + 4096, num_images))
        collector.add(positions, said[positions])
    return collector.finish()
