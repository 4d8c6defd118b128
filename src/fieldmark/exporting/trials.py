"""What a way to compute does to the answers and the time, on a few images."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from fieldmark.data.loaders import Batch
from fieldmark.exporting.building import Backend, build_eager
from fieldmark.exporting.second_look import SecondLook, find_threshold, measure_certainty
from fieldmark.models.probabilities import log_probabilities
from fieldmark.runs.predictor import Predictor

_TIMED_IMAGES = 8
_ROUNDS = 3


@dataclass(frozen=True)
class Trial:
    """One way on the calibration images: milliseconds per image, largest change of a probability.

    agrees: all decisions are the same and the change is within the bound. again: share of the
    images that are computed a second time. fault: why it cannot be used here; its figures are then
    infinite.
    """

    name: str
    milliseconds: float
    max_difference: float
    agrees: bool
    fault: str = ""
    again: float = 0.0


@dataclass(frozen=True)
class Tried:
    """A trial, with what was tried and the probabilities (B, K) it gave the calibration images."""

    trial: Trial
    backend: Backend
    probability: Tensor


class Trials:
    """Calibration images, what eager says of them, and every way tried on them so far.

    bound: how much a probability may differ from eager's.
    """

    def __init__(self, predictor: Predictor, batch: Batch, bound: float) -> None:
        self.num_images = len(batch.images)
        self.bound = bound
        self._task = predictor.task
        self._images = batch.images.to(predictor.device)
        self._tags = None if batch.tags is None else batch.tags.to(predictor.device)
        self._plain = self._probabilities(lambda images, tags: predictor.classifier(images, tags))
        backend = build_eager(predictor)
        self.eager = Tried(
            Trial("eager", self._time(backend), 0.0, agrees=True), backend, self._plain
        )

    def try_out(self, name: str, backend: Backend) -> Tried:
        """Compute the images by it, and time it."""
        found = self._probabilities(backend)
        difference, moved = self._compare(found)
        agrees = not bool((moved | (difference > self.bound)).any())
        trial = Trial(name, self._time(backend), float(difference.max()), agrees)
        return Tried(trial, backend, found)

    def look_again(self, rough: Tried, exact: Tried) -> Tried | None:
        """`rough`, which does not agree, with `exact` for the images that it is not sure of.

        Sure are those above all that differ by more than half of the bound: a few images do not
        show the worst. The time is reckoned from theirs. None where the surest image is off.
        """
        certainty = measure_certainty(rough.probability, self._task)
        difference, moved = self._compare(rough.probability)
        below = find_threshold(certainty, moved | (difference > self.bound / 2))
        if below is None:
            return None
        again = float((certainty < below).float().mean())
        trial = Trial(
            f"{rough.trial.name}+{exact.trial.name}",
            rough.trial.milliseconds + again * exact.trial.milliseconds,
            float(difference[certainty >= below].max()),
            agrees=True,
            again=again,
        )
        look = SecondLook(rough.backend, exact.backend, below, self._task)
        return Tried(trial, look, rough.probability)

    def _compare(self, probability: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest difference from eager (B,), and whether a decision moved (B,).

        What is not a number differs by as much as probabilities can.
        """
        difference = (probability - self._plain).abs().max(dim=1).values.nan_to_num(nan=1.0)
        moved = self._decide(probability) != self._decide(self._plain)
        return difference, moved.reshape(len(moved), -1).any(dim=1)

    def _decide(self, probability: Tensor) -> Tensor:
        if self._task == "multilabel":
            return probability >= 0.5
        return probability.argmax(dim=1)

    def _probabilities(self, backend: Backend) -> Tensor:
        with torch.inference_mode():
            logits = backend(self._images, self._tags).float().cpu()
        return log_probabilities(logits, self._task).exp()

    def _time(self, backend: Backend) -> float:
        """Median milliseconds per image, after one call to warm up."""
        images = self._images[:_TIMED_IMAGES]
        tags = None if self._tags is None else self._tags[:_TIMED_IMAGES]
        seconds = []
        with torch.inference_mode():
            for turn in range(_ROUNDS + 1):
                start = time.perf_counter()
                backend(images, tags).cpu()  # waits for the device
                if turn:
                    seconds.append(time.perf_counter() - start)
        return statistics.median(seconds) / len(images) * 1e3
