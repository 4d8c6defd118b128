"""Where the time of a run goes: `StepWatch` for `--profile`, `IdleWatch` for all other runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from fieldmark.runs.files import storage_errors

PHASES = ("load", "transfer", "forward", "backward", "optimizer", "metrics", "checkpoint")
TRACED_STEPS = 3
T = TypeVar("T")


class Watch(Protocol):
    """Told by the loop what it is at."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Around the work of one of `PHASES`."""
        ...

    def waits(self, name: str, source: Iterator[T]) -> Iterator[T]:
        """The same items; the time until each comes is that of a phase."""
        ...

    def step(self) -> None:
        """A batch is about to be loaded."""
        ...


class IdleWatch:
    """Looks at nothing."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def phase(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002 - as every watch
        """Do nothing around it."""
        return self._nothing

    def waits(self, name: str, source: Iterator[T]) -> Iterator[T]:  # noqa: ARG002 - as every watch
        """The iterator itself."""
        return source

    def step(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class TimeTable:
    """What `--profile` found.

    seconds: from the first batch to the last saved file. phases: (name, seconds, share of all,
    times entered) of `PHASES`, then of "other": Python between them, and whoever listens. traced:
    first and last of the batches (from 1, of this process) in the trace file; None where the run
    was too short.
    """

    seconds: float
    steps: int
    phases: tuple[tuple[str, float, float, int], ...]
    traced: tuple[int, int] | None


class StepWatch:
    """Adds up the seconds of each phase, and traces a few steps in the middle.

    On a GPU each phase ends by waiting for the device, without which its time would be counted
    where the next number is read; so the run as a whole is slower than one that is not watched.
    """

    def __init__(self, device: str, trace_path: Path, *, num_steps: int) -> None:
        """Watch so many steps on that device; the trace goes to `trace_path` (Chrome's format)."""
        self._is_cuda = device == "cuda"
        self._trace_path = trace_path
        self._first_traced = max(2, num_steps // 2)
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._calls = dict.fromkeys(PHASES, 0)
        self._steps = 0
        self._profiler: profile | None = None
        self._traced: tuple[int, int] | None = None
        self._start = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time until its end, on the device too."""
        start = time.perf_counter()
        try:
            with torch.profiler.record_function(name):
                yield
                self._synchronize()
        finally:
            self._seconds[name] += time.perf_counter() - start
            self._calls[name] += 1

    def waits(self, name: str, source: Iterator[T]) -> Iterator[T]:
        """Count the time until each item is there."""
        ended = object()
        while True:
            self.step()
            with self.phase(name):
                item = next(source, ended)
            if item is ended:
                self._steps -= 1
                return
            yield item  # type: ignore[misc]

    def step(self) -> None:
        """Begin or end the trace between two steps."""
        self._steps += 1
        if self._steps == self._first_traced:
            activities = [ProfilerActivity.CPU]
            if self._is_cuda:
                activities.append(ProfilerActivity.CUDA)
            self._profiler = profile(activities=activities)
            self._profiler.start()
        elif self._steps == self._first_traced + TRACED_STEPS:
            self._end_trace()

    def read(self) -> TimeTable:
        """End the trace and sum up."""
        self._end_trace()
        total = time.perf_counter() - self._start
        rest = max(0.0, total - sum(self._seconds.values()))
        phases = [
            (name, seconds, seconds / total, self._calls[name])
            for name, seconds in self._seconds.items()
        ]
        phases.append(("other", rest, rest / total, self._steps))
        return TimeTable(total, self._steps, tuple(phases), self._traced)

    def _end_trace(self) -> None:
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        part = self._trace_path.with_name(f".part-{self._trace_path.name}")
        with storage_errors(self._trace_path):
            try:
                profiler.export_chrome_trace(str(part))
                part.replace(self._trace_path)
            except OSError:
                part.unlink(missing_ok=True)
                raise
        self._traced = (self._first_traced, self._steps - 1)

    def _synchronize(self) -> None:
        if self._is_cuda:
            torch.cuda.synchronize()
