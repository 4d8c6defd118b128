"""Ensembles: the weighted mean of several networks' probabilities, and a greedy choice of weights.

Images are read batch by batch through all members, so memory does not grow with images x classes.
The choice needs no more than the probability that each member gives the true classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.data.loaders import Batch
from fieldmark.data.table import Table
from fieldmark.errors import DataError, FieldmarkError
from fieldmark.evaluation.augmented import average_logits
from fieldmark.evaluation.conformal import labelled_rows
from fieldmark.evaluation.predictions import Predictions, PredictionsCollector
from fieldmark.evaluation.rows import open_table
from fieldmark.runs.predictor import Predictor

MAX_STEPS = 50
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """How often each member was chosen, and the val nll after each step, up to the best.

    first: the best single member.
    """

    counts: tuple[int, ...]
    nlls: tuple[float, ...]
    first: int

    @property
    def weights(self) -> tuple[float, ...]:
        """Shares that sum to 1."""
        total = sum(self.counts)
        return tuple(count / total for count in self.counts)


def predict_ensemble(
    predictors: Sequence[Predictor],
    table: Table,
    *,
    weights: Sequence[float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Predictions, list[Predictions]]:
    """What the ensemble says of a table, and what each member says of it.

    `weights` sum to 1; None: all members alike. The members have the same classes and task.
    Raises `FieldmarkError` where they have not.
    """
    first = predictors[0]
    if any((p.class_names, p.task) != (first.class_names, first.task) for p in predictors):
        raise FieldmarkError("ensemble: the members must have the same classes and the same task")
    opened = [open_table(predictor, table) for predictor in predictors]
    own = opened[0][0]
    together, alone = PredictionsCollector(own), [PredictionsCollector(own) for _ in predictors]
    shares = torch.tensor(weights or [1.0 / len(predictors)] * len(predictors))
    passes = [
        _answer(predictor, loader.epoch(0))
        for predictor, (_, loader) in zip(predictors, opened, strict=True)
    ]
    done = 0
    for answers in zip(*passes, strict=True):
        batch, _ = answers[0]
        logits = torch.stack([answer for _, answer in answers])  # (M, B, outputs)
        for collector in (together, *alone):
            for position, reason in batch.unreadable:
                collector.fail(position, reason)
        if len(batch):
            for collector, answer in zip(alone, logits, strict=True):
                collector.add(batch.positions, answer)
            together.add(batch.positions, average_logits(logits, first.task, shares))
        done += len(batch) + len(batch.unreadable)
        if progress is not None:
            progress(done, len(table))
    return together.finish(), [collector.finish() for collector in alone]


def select_members(members: Sequence[Predictions], *, max_steps: int = MAX_STEPS) -> Selection:
    """Choose weights on validation images: add, again and again, the member that helps most.

    Caruana et al. 2004, "Ensemble Selection from Libraries of Models", sections 2.1 and 2.2: with
    replacement, from the best single member on, by the negative log-likelihood of the mean of
    probabilities; the best of all steps is kept. `members` are predictions of the same images.
    Raises `DataError` where there is none with a label, and for a multi-label task, whose
    likelihood takes the probabilities of all classes.
    """
    if members[0].task == "multilabel":
        raise DataError(
            "greedy selection: it goes by the probability of the true class, and a multi-label "
            "image has several. Leave out --greedy: all members count alike"
        )
    rows = labelled_rows(members[0])
    if len(rows) == 0:
        raise DataError("greedy selection: none of the validation images is labelled")
    likelihoods = np.exp(-np.stack([member.loss[rows] for member in members]))  # (M, N)
    chosen: list[int] = []
    nlls: list[float] = []
    total = np.zeros(len(rows))
    for step in range(1, max_steps + 1):
        tried = _nll((total + likelihoods) / step)  # (M,)
        best = int(np.argmin(tried))
        chosen.append(best)
        nlls.append(float(tried[best]))
        total += likelihoods[best]
    # The first of equals, but for the last bits.
    length = int(np.argmax(np.array(nlls) <= min(nlls) + 1e-9)) + 1
    counts = np.bincount(chosen[:length], minlength=len(members))
    return Selection(tuple(counts.tolist()), tuple(nlls[:length]), chosen[0])


def _nll(likelihoods: Floats) -> Floats:
    """(M, N) -> (M,); a likelihood of 0 counts as the smallest number there is."""
    smallest = np.finfo(np.float64).tiny
    found: Floats = -np.log(likelihoods.clip(min=smallest)).mean(axis=1)
    return found


def _answer(predictor: Predictor, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Tensor]]:
    """Each batch with its logits (B, outputs)."""
    predictor.classifier.eval()
    for batch in batches:
        given = (batch.images,) if batch.tags is None else (batch.images, batch.tags)
        if not len(batch):
            yield batch, torch.empty(0, 1)
            continue
        with torch.inference_mode():
            logits = predictor.classifier(*(tensor.to(predictor.device) for tensor in given))
        yield batch, logits.float().cpu()
