"""The one pass of a model over a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from fieldmark.data.loaders import Batch, Batches
from fieldmark.data.table import Table
from fieldmark.evaluation.predictions import Predictions, PredictionsCollector


def collect_predictions(
    model: Callable[..., Tensor],
    loader: Batches,
    table: Table,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    decode_ahead: bool = False,
    into: PredictionsCollector | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Run `model` over the rows of `table`, which `loader` gives in order, and keep what it says.

    `model` maps images, and tags where the loader encodes them, to logits; a module is left in the
    mode it was in. `decode_ahead` reads the next batch while the model works on one, for loaders
    without processes of their own. `into` says what is kept of each image, if not what
    `PredictionsCollector` keeps by itself.
    """
    collector = into or PredictionsCollector(table)
    was_training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    done = 0
    batches = loader.epoch(0)
    with torch.inference_mode(), autocast(device, precision):
        for batch in _read_ahead(batches) if decode_ahead else batches:
            for position, reason in batch.unreadable:
                collector.fail(position, reason)
            if len(batch.images):
                logits = model(*_inputs(batch, device))  # (B, outputs)
                collector.add(batch.positions, logits)
            done += len(batch.images) + len(batch.unreadable)
            if progress is not None:
                progress(done, len(table))
    if isinstance(model, nn.Module):
        model.train(was_training)
    return collector.finish()


def _read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(next, batches, None)
        while (batch := waiting.result()) is not None:
            waiting = pool.submit(next, batches, None)
            yield batch


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
