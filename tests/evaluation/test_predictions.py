from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import RunError
from fieldmark.evaluation.metrics import compute_metrics
from fieldmark.evaluation.predictions import (
    PredictionsCollector,
    load_predictions,
    save_predictions,
)


def collect(
    num_classes: int = 20, task: str = "multiclass", *, with_spread: bool = True
) -> PredictionsCollector:
    names = tuple(f"class {i}" for i in range(num_classes))
    rows = tuple(Row(f"{i}.png", (names[i % num_classes],)) for i in range(6))
    table = Table(rows, MemoryStore({}), "test", task, names)  # type: ignore[arg-type]
    collector = PredictionsCollector(table, with_spread=with_spread)
    torch.manual_seed(0)
    collector.add(torch.tensor([4, 0, 1, 2, 5]), torch.randn(5, num_classes))
    collector.fail(3, "truncated")
    return collector


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_predictions_read_back_equal(task: str, tmp_path: Path) -> None:
    predictions = collect(task=task).finish()
    save_predictions(predictions, tmp_path / "test.parquet")
    back = load_predictions(tmp_path / "test.parquet")
    for name in ("task", "class_names", "images", "labels", "targets", "predicted", "errors"):
        assert getattr(back, name) == getattr(predictions, name), name
    for name in ("top_index", "top_probability", "true_probability", "loss", "squared_error"):
        assert np.array_equal(getattr(back, name), getattr(predictions, name), equal_nan=True), name


def test_file_without_squared_errors_reads_as_before(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    save_predictions(replace(collect().finish(), squared_error=None), path)
    assert load_predictions(path).squared_error is None


def test_scores_alone_are_the_same_without_what_label_sets_need() -> None:
    full, plain = collect().finish(), collect(with_spread=False).finish()
    assert full.spread is not None and plain.spread is None
    assert np.array_equal(full.top_index, plain.top_index)
    assert np.array_equal(full.top_probability, plain.top_probability, equal_nan=True)
    assert compute_metrics(full) == compute_metrics(plain)


def test_store_keeps_k_classes_of_many() -> None:
    predictions = collect(num_classes=3000).finish()
    assert predictions.top_index.shape == (6, 10)


def test_rows_stay_in_table_order_and_failed_ones_in_place() -> None:
    predictions = collect().finish()
    assert predictions.images == tuple(f"{i}.png" for i in range(6))
    assert predictions.errors == {"3.png": "truncated"}
    assert np.isnan(predictions.loss).tolist() == [False, False, False, True, False, False]


def test_file_cut_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    save_predictions(collect().finish(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match="cut short"):
        load_predictions(path)
