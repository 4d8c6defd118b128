"""The one pass of a model over a table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from fieldmark.data.loaders import Batch, Batches
from fieldmark.data.table import Table
from fieldmark.evaluation.conformal import SetRule
from fieldmark.evaluation.predictions import TOP_K, Predictions, PredictionsCollector


def collect_predictions(
    model: nn.Module,
    loader: Batches,
    table: Table,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    top: int = TOP_K,
    sets: SetRule | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Run `model` over the rows of `table`, which `loader` gives in order, and keep what it says.

    `sets` also chooses a label set for each image. The model is left in the mode it was in.
    """
    collector = PredictionsCollector(table, top=top, sets=sets)
    was_training = model.training
    model.eval()
    done = 0
    with torch.inference_mode(), autocast(device, precision):
        for batch in loader.epoch(0):
            for position, reason in batch.unreadable:
                collector.fail(position, reason)
            if len(batch.images):
                logits = model(*_inputs(batch, device))  # (B, outputs)
                collector.add(batch.positions, logits)
            done += len(batch.images) + len(batch.unreadable)
            if progress is not None:
                progress(done, len(table))
    model.train(was_training)
    return collector.finish()


def _inputs(batch: Batch, device: str) -> tuple[Tensor, ...]:
    """What the model takes: images, and tags where the loader encodes them."""
    given = (batch.images,) if batch.tags is None else (batch.images, batch.tags)
    return tuple(tensor.to(device, non_blocking=True) for tensor in given)


def autocast(device: str, precision: str) -> torch.autocast | nullcontext[None]:
    """Compute in bf16 or fp16 where it is safe; nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    kind = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(torch.device(device).type, dtype=kind)
