"""The predictions store: what a model said about each image, once, for every later question.

Memory and disk are O(images x k), never O(images x classes): an image keeps its k most probable
classes, the probability of its true class, its loss, and its `Spread` over all classes. Metrics,
intervals, temperatures, label sets, tables and figures derive from this alone, without the model.
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
from fieldmark.errors import NonFiniteAnswerError, RunError
from fieldmark.evaluation.conformal import SetRule
from fieldmark.evaluation.spread import Spread
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
    spread: what temperatures, label sets and rejection derive from; None for multi-label, and in
        files of earlier versions.
    label_sets: per image the classes of its conformal set, most probable first, where sets were
        asked for; they are not stored.
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
    spread: Spread | None = None
    label_sets: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.images)


class PredictionsCollector:
    """Gathers batches of logits into `Predictions`; holds O(N x k)."""

    def __init__(
        self,
        table: Table,
        *,
        top: int = TOP_K,
        sets: SetRule | None = None,
        with_spread: bool = True,
    ) -> None:
        """Take the rows to come. `sets` also chooses a label set for each image.

        `with_spread` false leaves out what temperatures and label sets derive from, which takes
        dozens of passes over all classes.
        """
        self.table = table
        self.index = table.class_index
        count = len(table)
        self.k = min(top, len(table.class_names))
        self.sets = sets
        self.label_sets: list[tuple[int, ...]] = [()] * (count if sets else 0)
        self.top_index = np.full((count, self.k), UNKNOWN, dtype=np.int32)
        self.top_probability = np.full((count, self.k), np.nan, dtype=np.float32)
        self.true_probability = np.full(count, np.nan, dtype=np.float32)
        self.loss = np.full(count, np.nan, dtype=np.float64)
        self.squared_error = np.full(count, np.nan, dtype=np.float64)
        self.predicted: list[tuple[int, ...]] = [()] * count
        self.targets = [self._targets_of(row) for row in table.rows]
        self.errors: dict[str, str] = {}
        has_spread = table.task != "multilabel" and (with_spread or sets is not None)
        self.spread = Spread.empty(count) if has_spread else None

    def add(self, positions: Tensor, logits: Tensor) -> None:
        """Take the logits (B, outputs) of the rows at `positions` (B,).

        Raises `NonFiniteAnswerError` where they are not finite.
        """
        rows = positions.numpy()
        logits = logits.double().cpu()
        self._check_finite(rows, logits)
        log_probability = log_probabilities(logits, self.table.task)  # (B, K)
        # Of all K classes where their order is needed, else of the first k.
        num_ranked = self.k if self.spread is None else log_probability.shape[1]
        values, indices = rank_classes(log_probability, num_ranked)  # (B, num_ranked)
        self.top_index[rows] = indices[:, : self.k].numpy()
        self.top_probability[rows] = values[:, : self.k].exp().numpy()
        self._add_squared_error(rows, log_probability.exp())
        if self.table.task == "multilabel":
            self._add_sets(rows, log_probability)
            return
        self._add_single(rows, log_probability)
        if self.spread is None:
            return
        targets = [self.targets[row][0] if self.targets[row] else UNKNOWN for row in rows]
        self.spread.add(rows, logits, values, indices, torch.tensor(targets))
        if self.sets is not None:
            sizes = self.sets.choose(values.double().exp().numpy())  # (B,)
            for row, size, ranked in zip(rows, sizes, indices, strict=True):
                self.label_sets[row] = tuple(ranked[:size].tolist())

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
            spread=self.spread,
            label_sets=tuple(self.label_sets),
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

    def _check_finite(self, rows: NDArray[np.int64], logits: Tensor) -> None:
        is_broken = ~logits.isfinite().all(dim=1).numpy()
        if is_broken.any():
            first = self.table.rows[rows[is_broken][0]].image
            raise NonFiniteAnswerError(
                f"{first}: the network's answer is not finite (NaN or infinite), as for "
                f"{is_broken.sum()} of {len(rows)} images of its batch. Its weights are damaged "
                "or training diverged: train again with a lower optim.lr, optim.clip_norm=1 or "
                "precision=fp32"
            )

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
    about: dict[str, object] = {
        "task": predictions.task,
        "class_names": predictions.class_names,
    }
    errors = [predictions.errors.get(image) for image in predictions.images]
    columns = {
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
    spread = predictions.spread
    if spread is not None:
        about["temperatures"] = spread.temperatures
        columns |= {
            "log_sums": pa.array(list(spread.log_sums), pa.list_(pa.float32())),
            "energy": pa.array(spread.energy, pa.float32()),
            "true_rank": pa.array(spread.true_rank, pa.int32()),
            "mass_above": pa.array(spread.mass_above, pa.float64()),
        }
    if predictions.squared_error is not None:
        columns["squared_error"] = pa.array(predictions.squared_error, pa.float64())
    metadata = {"fieldmark": json.dumps(about, ensure_ascii=False)}
    out = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), out, compression="zstd")
    save_bytes(path, out.getvalue())


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote, also before there was a `Spread`.

    Raises `RunError` for a file that is cut short, damaged, or holds numbers that are no
    probabilities.
    """
    try:
        columns = pq.read_table(path)
        about = json.loads(columns.schema.metadata[b"fieldmark"])
        predictions = _from_columns(columns, about)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: is not a predictions file, or is cut short: {error}. "
            "`fieldmark evaluate RUN` writes it anew"
        ) from error
    _check_probabilities(predictions, path)
    return predictions


def _from_columns(columns: pa.Table, about: dict[str, object]) -> Predictions:
    values = {name: columns[name].to_pylist() for name in ("image", "label", "error")}
    failed = {i: e for i, e in zip(values["image"], values["error"], strict=True) if e is not None}
    spread = None
    if "log_sums" in columns.column_names:
        spread = Spread(
            temperatures=tuple(about["temperatures"]),  # type: ignore[arg-type]
            log_sums=_matrix(columns["log_sums"]).astype(np.float32),
            energy=columns["energy"].to_numpy(),
            true_rank=columns["true_rank"].to_numpy(),
            mass_above=columns["mass_above"].to_numpy(),
        )
    return Predictions(
        task=about["task"],  # type: ignore[arg-type]
        class_names=tuple(about["class_names"]),  # type: ignore[arg-type]
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
        spread=spread,
    )


def _check_probabilities(predictions: Predictions, path: Path) -> None:
    """Numbers that another program wrote, or that a diverged network left in an old file."""
    is_read = np.array([image not in predictions.errors for image in predictions.images], bool)
    top = predictions.top_probability[is_read]
    is_wrong = ~((top >= 0.0) & (top <= 1.0 + 1e-5)).all(axis=1)
    is_wrong |= np.isinf(predictions.loss[is_read])
    if is_wrong.any():
        first = predictions.images[np.flatnonzero(is_read)[is_wrong][0]]
        raise RunError(
            f"{path}: {is_wrong.sum()} of {len(predictions)} images have probabilities that are "
            f"not finite numbers from 0 to 1, first {first}. `fieldmark evaluate RUN` writes the "
            "file anew; if it says the same, the network diverged: train again with a lower "
            "optim.lr"
        )


def _as_text(image: str) -> str:
    """Parquet holds UTF-8 only; a name that is not becomes readable instead of failing."""
    return image.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _tuples(lists: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(values) for values in lists)


def _matrix(column: pa.ChunkedArray) -> NDArray[np.generic]:
    flat: NDArray[np.generic] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1) if len(column) else flat.reshape(0, 0)
