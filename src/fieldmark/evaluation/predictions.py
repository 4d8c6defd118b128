"""The predictions store: what a model said about each image, once, for every later question.

Memory and disk are O(images x k), never O(images x classes): an image keeps its k most probable
classes, the probability of its true class and its loss. Metrics, intervals, tables and figures
derive from this alone, without the model.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.data.stores import without_place
from fieldmark.data.table import Row, Table
from fieldmark.errors import RunError
from fieldmark.models.probabilities import log_probabilities, rank_classes
from fieldmark.recipes.schema import Task
from fieldmark.runs.files import save_bytes

TOP_K = 10
THRESHOLD = 0.5
UNKNOWN = -1


@dataclass(frozen=True)
class Predictions:
    """Predictions of N images, in the table's order.

    targets: per image the true class indices: one (multi-class, binary), any number
        (multi-label), none (unlabelled, or a label that the model does not know).
    predicted: the same for the model's decision: the most probable class, or for multi-label
        every class with a probability of at least 0.5.
    top_index, top_probability: (N, k) classes by falling probability.
    true_probability: (N,) of the true class; NaN where there is not exactly one.
    loss: (N,) negative log-likelihood in nats; multi-label: mean binary cross-entropy over the
        classes; NaN where unlabelled.
    errors: image -> reason, for images that could not be read; their numbers are NaN.
    squared_error: (N,) sum over all classes of (probability - truth)^2, truth being 1 or 0; NaN
        where unlabelled; None in files older than this column.
    """

    task: Task
    class_names: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    targets: tuple[tuple[int, ...], ...]
    predicted: tuple[tuple[int, ...], ...]
    top_index: NDArray[np.int32]
    top_probability: NDArray[np.float32]
    true_probability: NDArray[np.float32]
    loss: NDArray[np.float64]
    errors: dict[str, str] = field(default_factory=dict)
    squared_error: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.images)


class PredictionsCollector:
    """Gathers batches of logits into `Predictions`; holds O(N x k)."""

    def __init__(self, table: Table, *, top: int = TOP_K) -> None:
        self.table = table
        self.index = table.class_index
        count = len(table)
        self.k = min(top, len(table.class_names))
        self.top_index = np.full((count, self.k), UNKNOWN, dtype=np.int32)
        self.top_probability = np.full((count, self.k), np.nan, dtype=np.float32)
        self.true_probability = np.full(count, np.nan, dtype=np.float32)
        self.loss = np.full(count, np.nan, dtype=np.float64)
        self.squared_error = np.full(count, np.nan, dtype=np.float64)
        self.predicted: list[tuple[int, ...]] = [()] * count
        self.targets = [self._targets_of(row) for row in table.rows]
        self.errors: dict[str, str] = {}

    def add(self, positions: Tensor, logits: Tensor) -> None:
        """Take the logits (B, outputs) of the rows at `positions` (B,)."""
        rows = positions.numpy()
        log_probability = log_probabilities(logits.double().cpu(), self.table.task)  # (B, K)
        values, indices = rank_classes(log_probability, self.k)
        self.top_index[rows] = indices.numpy()
        self.top_probability[rows] = values.exp().numpy()
        self._add_squared_error(rows, log_probability.exp())
        if self.table.task == "multilabel":
            self._add_sets(rows, log_probability)
        else:
            self._add_single(rows, log_probability)

    def fail(self, position: int, reason: str) -> None:
        """Note that an image could not be read."""
        image = self.table.rows[position].image
        self.errors[image] = without_place(reason, image)

    def finish(self) -> Predictions:
        """Everything gathered."""
        return Predictions(
            task=self.table.task,
            class_names=self.table.class_names,
            images=tuple(row.image for row in self.table.rows),
            labels=tuple(row.label for row in self.table.rows),
            targets=tuple(self.targets),
            predicted=tuple(self.predicted),
            top_index=self.top_index,
            top_probability=self.top_probability,
            true_probability=self.true_probability,
            loss=self.loss,
            errors=self.errors,
            squared_error=self.squared_error,
        )

    def _targets_of(self, row: Row) -> tuple[int, ...]:
        return tuple(sorted(self.index[name] for name in row.labels if name in self.index))

    def _add_squared_error(self, rows: NDArray[np.int64], probability: Tensor) -> None:
        truth = torch.zeros_like(probability)  # (B, K)
        for place, row in enumerate(rows):
            truth[place, list(self.targets[row])] = 1.0
        labelled = np.array([bool(self.table.rows[row].labels) for row in rows])
        error = (probability - truth).square().sum(dim=1).numpy()
        self.squared_error[rows] = np.where(labelled, error, np.nan)

    def _add_single(self, rows: NDArray[np.int64], log_probability: Tensor) -> None:
        for place, row in enumerate(rows):
            self.predicted[row] = (int(self.top_index[row, 0]),)
            if self.targets[row]:
                true_log_probability = float(log_probability[place, self.targets[row][0]])
                self.true_probability[row] = np.exp(true_log_probability)
                self.loss[row] = -true_log_probability

    def _add_sets(self, rows: NDArray[np.int64], log_probability: Tensor) -> None:
        probability = log_probability.exp()
        log_rest = torch.log(-torch.expm1(log_probability))  # log(1 - p), also where p is near 1
        for place, row in enumerate(rows):
            chosen = (probability[place] >= THRESHOLD).nonzero().flatten().tolist()
            self.predicted[row] = tuple(chosen)
            if self.table.rows[row].labels:
                true = torch.zeros(probability.shape[1], dtype=torch.bool)
                true[list(self.targets[row])] = True
                per_class = torch.where(true, log_probability[place], log_rest[place])
                self.loss[row] = -float(per_class.mean())


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions as parquet; class names and task are in the file's own metadata."""
    about = {"task": predictions.task, "class_names": predictions.class_names}
    errors = [predictions.errors.get(image) for image in predictions.images]
    columns = pa.table(
        {
            "image": pa.array([_as_text(image) for image in predictions.images], pa.string()),
            "label": pa.array(predictions.labels, pa.string()),
            "targets": pa.array(map(list, predictions.targets), pa.list_(pa.int32())),
            "predicted": pa.array(map(list, predictions.predicted), pa.list_(pa.int32())),
            "top_index": pa.array(list(predictions.top_index), pa.list_(pa.int32())),
            "top_probability": pa.array(list(predictions.top_probability), pa.list_(pa.float32())),
            "true_probability": pa.array(predictions.true_probability, pa.float32()),
            "loss": pa.array(predictions.loss, pa.float64()),
            "error": pa.array(errors, pa.string()),
        }
    )
    if predictions.squared_error is not None:
        column = pa.array(predictions.squared_error, pa.float64())
        columns = columns.append_column("squared_error", column)
    columns = columns.replace_schema_metadata({"fieldmark": json.dumps(about, ensure_ascii=False)})
    out = io.BytesIO()
    pq.write_table(columns, out, compression="zstd")
    save_bytes(path, out.getvalue())


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote."""
    try:
        columns = pq.read_table(path)
        about = json.loads(columns.schema.metadata[b"fieldmark"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: is not a predictions file, or is cut short: {error}. "
            "`fieldmark evaluate RUN` writes it anew"
        ) from error
    values = {name: columns[name].to_pylist() for name in ("image", "label", "error")}
    failed = {i: e for i, e in zip(values["image"], values["error"], strict=True) if e is not None}
    return Predictions(
        task=about["task"],
        class_names=tuple(about["class_names"]),
        images=tuple(values["image"]),
        labels=tuple(values["label"]),
        targets=_tuples(columns["targets"].to_pylist()),
        predicted=_tuples(columns["predicted"].to_pylist()),
        top_index=_matrix(columns["top_index"]).astype(np.int32),
        top_probability=_matrix(columns["top_probability"]).astype(np.float32),
        true_probability=columns["true_probability"].to_numpy(),
        loss=columns["loss"].to_numpy(),
        errors=failed,
        squared_error=(
            columns["squared_error"].to_numpy() if "squared_error" in columns.column_names else None
        ),
    )


def _as_text(image: str) -> str:
    """Parquet holds UTF-8 only; a name that is not becomes readable instead of failing."""
    return image.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _tuples(lists: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(values) for values in lists)


def _matrix(column: pa.ChunkedArray) -> NDArray[np.generic]:
    flat: NDArray[np.generic] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1) if len(column) else flat.reshape(0, 0)
