"""What a measurement says, as plain records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fieldmark.planning.bench.limits import MachineLimits

Mode = Literal["infer", "train", "load"]
Stop = Literal["asked", "memory", "time", "flat"]


@dataclass(frozen=True)
class Point:
    """One batch size.

    images_per_second: by the median time; low and high by its quartiles. latency_ms: median time
    of one batch. share_of_limit: of the machine's matrix-product rate, 0 to 1; None where nothing
    is computed. peak_memory_mb: of the process so far; of a GPU, of this batch size.
    """

    batch_size: int
    num_repeats: int
    images_per_second: float
    low: float
    high: float
    latency_ms: float
    share_of_limit: float | None
    peak_memory_mb: float


@dataclass(frozen=True)
class NetworkBench:
    """One network at growing batch sizes.

    mult_adds: of one image, forward. operations_per_image: what one image costs in this mode.
    stopped: why there is no larger batch: those asked for are done, the next would not fit in
    memory, the time is up, or a larger batch has not been faster three times.
    """

    name: str
    mode: Mode
    image_size: int
    num_classes: int
    parameters: int
    mult_adds: int
    operations_per_image: int
    limits: MachineLimits
    points: tuple[Point, ...]
    stopped: Stop

    @property
    def best(self) -> Point:
        """The point with most images a second."""
        return max(self.points, key=lambda point: point.images_per_second)

    @property
    def limit_images_per_second(self) -> float:
        """Images a second if the machine did nothing but matrix products at its best rate."""
        return self.limits.matmul_gflops * 1e9 / self.operations_per_image


@dataclass(frozen=True)
class LoadEpoch:
    """One epoch of a loader: wall clock and processor time."""

    epoch: int
    num_images: int
    seconds: float
    cpu_seconds: float

    @property
    def images_per_second(self) -> float:
        """By the clock."""
        return self.num_images / self.seconds

    @property
    def images_per_cpu_second(self) -> float:
        """By the time that processors worked for it, in this process and its workers."""
        return self.num_images / self.cpu_seconds


@dataclass(frozen=True)
class LoadBench:
    """Reading, decoding and augmenting one set of images for training."""

    source: str
    image_size: int
    batch_size: int
    num_workers: int
    keeps_decoded: bool
    epochs: tuple[LoadEpoch, ...]
    peak_memory_mb: float
