"""Images to calibrate and to prove an artifact on, as the network sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.data.images import decode_pixels
from fieldmark.data.table import Row, Table
from fieldmark.errors import ExportError, UnreadableImageError
from fieldmark.evaluation.metrics import compute_metrics
from fieldmark.evaluation.predictions import Predictions, PredictionsCollector
from fieldmark.models.probabilities import log_probabilities
from fieldmark.runs.predictor import Predictor

Values = NDArray[np.float32]
CHUNK = 16


@dataclass(frozen=True)
class Samples:
    """Readable images of a run, and what the run itself says of them.

    table: their rows. images: (N, 3, H, W). expected: logits (N, outputs) of the run in fp32.
    """

    table: Table
    images: Values
    expected: Values

    def __len__(self) -> int:
        return len(self.images)


def read_samples(predictor: Predictor, table: Table, count: int) -> Samples:
    """Read up to `count` images, evenly spread over `table`, by the run's own transform."""
    rows: list[Row] = []
    images: list[Values] = []
    for place in _spread(len(table), count):
        row = table.rows[place]
        try:
            image = decode_pixels(table.store.read(row.image))
        except UnreadableImageError:
            continue
        rows.append(row)
        images.append(predictor.transform(image).numpy())
    if not rows:
        raise ExportError(f"{table.source}: holds no readable image to compare the artifact on")
    own = replace(
        table, rows=tuple(rows), class_names=predictor.class_names, task=predictor.task, notes=()
    )
    stacked = np.stack(images)
    return Samples(own, stacked, answer(lambda batch: _eager(predictor, batch), stacked))


def answer(network: Callable[[Values], Values], images: Values) -> Values:
    """Logits (N, outputs) of all images, some at a time."""
    starts = range(0, len(images), CHUNK)
    return np.concatenate([network(images[start : start + CHUNK]) for start in starts])


@dataclass(frozen=True)
class Agreement:
    """How two sets of answers to the same images compare.

    top1: share of images with the same decision. max_difference: of any probability of any class.
    before, after: accuracy, None where no image has a label.
    """

    top1: float
    max_difference: float
    before: float | None
    after: float | None


def compare_answers(samples: Samples, logits: Values) -> Agreement:
    """Compare `logits` (N, outputs) with what the run says."""
    before, after = _collect(samples, samples.expected), _collect(samples, logits)
    same = [a == b for a, b in zip(before.predicted, after.predicted, strict=True)]
    task = samples.table.task
    known, found = (
        log_probabilities(torch.from_numpy(values), task).exp()
        for values in (samples.expected, logits)
    )
    return Agreement(
        top1=float(np.mean(same)),
        max_difference=float((known - found).abs().max()),
        before=_accuracy(before),
        after=_accuracy(after),
    )


def _spread(total: int, count: int) -> Sequence[int]:
    if count >= total:
        return range(total)
    return [place * total // count for place in range(count)]


def _eager(predictor: Predictor, images: Values) -> Values:
    with torch.inference_mode():
        logits: Tensor = predictor.classifier(torch.from_numpy(images))
    values: Values = logits.float().numpy()
    return values


def _collect(samples: Samples, logits: Values) -> Predictions:
    collector = PredictionsCollector(samples.table)
    collector.add(torch.arange(len(logits)), torch.from_numpy(logits))
    return collector.finish()


def _accuracy(predictions: Predictions) -> float | None:
    if not any(predictions.targets):
        return None
    return float(compute_metrics(predictions)["accuracy"])
