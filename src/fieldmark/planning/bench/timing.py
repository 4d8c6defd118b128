"""Timing a piece of work: warm-up, synchronisation, medians and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

MIN_REPEATS = 5
MAX_REPEATS = 200


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat of the same work, in the order they were taken."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds that half of the repeats took no longer than."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile, seconds."""
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


def time_work(
    work: Callable[[], object], *, device: str, seconds: float, num_warmups: int = 2
) -> Timing:
    """Repeat `work` for about `seconds`, at least `MIN_REPEATS` times, after the warm-up.

    A GPU is waited for before each reading of the clock, so that what is timed has been done.
    """
    for _ in range(num_warmups):
        work()
    synchronize(device)
    taken: list[float] = []
    while len(taken) < MIN_REPEATS or (sum(taken) < seconds and len(taken) < MAX_REPEATS):
        start = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return Timing(tuple(taken))


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize()
    elif kind == "mps":
        torch.mps.synchronize()
