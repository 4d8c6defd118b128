"""The proof that an artifact says what its run says, and how fast it says it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fieldmark.exporting.backends import PREDICT_BOUND
from fieldmark.exporting.samples import Agreement, Samples, answer, compare_answers
from fieldmark.runs.predictor import Predictor

Values = NDArray[np.float32]
Network = Callable[[Values], Values]

FEW_IMAGES = 200
MAX_DIFFERENCE = 1e-4
MIN_AGREEMENT = 0.99
ROUNDS = 5
BATCH_SIZES = (1, 16)


@dataclass(frozen=True)
class Speed:
    """Median milliseconds per image at one batch size: the run in eager fp32, and the artifact."""

    batch_size: int
    eager_ms: float
    artifact_ms: float

    @property
    def ratio(self) -> float:
        """How many times as fast the artifact is."""
        return self.eager_ms / self.artifact_ms


@dataclass(frozen=True)
class Runtime:
    """What one runtime makes of the artifact."""

    name: str
    agreement: Agreement
    speeds: tuple[Speed, ...]


@dataclass(frozen=True)
class Parity:
    """Report of an export. The first of `runtimes` is the one that is judged.

    images_from: the splits that the images are of. kept_fp32: layers that int8 left as they are.
    calibration: how int8 found its ranges, "" for fp32.
    """

    precision: str
    num_images: int
    images_from: str
    threads: int
    runtimes: tuple[Runtime, ...]
    kept_fp32: tuple[str, ...] = ()
    calibration: str = ""
    notes: tuple[str, ...] = ()

    @property
    def bound(self) -> str:
        """What must hold, in words."""
        if self.precision == "int8":
            return f"top-1 agreement of at least {MIN_AGREEMENT:.0%}"
        return f"no probability off by more than {MAX_DIFFERENCE:g}"

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return holds(self.precision, self.runtimes[0].agreement)

    def to_json(self) -> Mapping[str, Any]:
        """Plain values: the judged runtime's figures on top, all runtimes below."""
        first = self.runtimes[0].agreement
        return {
            "passed": self.passed,
            "bound": self.bound,
            "precision": self.precision,
            "num_images": self.num_images,
            "images_from": self.images_from,
            "top1_agreement": first.top1,
            "max_probability_difference": first.max_difference,
            "accuracy_before": first.before,
            "accuracy_after": first.after,
            "speed_ratio": {s.batch_size: s.ratio for s in self.runtimes[0].speeds},
            "threads": self.threads,
            "runtimes": [
                {
                    "name": runtime.name,
                    **asdict(runtime.agreement),
                    "speeds": [{**asdict(s), "ratio": s.ratio} for s in runtime.speeds],
                }
                for runtime in self.runtimes
            ],
            "calibration": self.calibration,
            "kept_fp32": list(self.kept_fp32),
            "notes": list(self.notes),
        }


def holds(precision: str, agreement: Agreement) -> bool:
    """Whether the stated bound holds. Not a number counts as failed."""
    if precision == "int8":
        return agreement.top1 >= MIN_AGREEMENT
    return agreement.max_difference <= MAX_DIFFERENCE


def holds_in_use(precision: str, agreement: Agreement) -> bool:
    """Whether `predict` may take a runtime for the file: for fp32 as it may another backend."""
    if precision == "int8":
        return holds(precision, agreement)
    return agreement.top1 == 1.0 and agreement.max_difference <= PREDICT_BOUND


def measure_runtime(name: str, network: Network, predictor: Predictor, samples: Samples) -> Runtime:
    """Compare and time one runtime."""
    agreement = compare_answers(samples, answer(network, samples.images))
    speeds = [_time(network, predictor, samples.images[:size]) for size in BATCH_SIZES]
    unlike = {speed.batch_size: speed for speed in speeds}  # few images make equal batches
    return Runtime(name, agreement, tuple(unlike.values()))


def _time(network: Network, predictor: Predictor, images: Values) -> Speed:
    """Alternate the two, so that whatever else the machine does meets both."""
    tensor = torch.from_numpy(images)
    eager: list[float] = []
    exported: list[float] = []
    with torch.inference_mode():
        for turn in range(ROUNDS + 1):
            first = _seconds(lambda: predictor.classifier(tensor))
            second = _seconds(lambda: network(images))
            if turn:  # the first one warms up
                eager.append(first)
                exported.append(second)
    per_image = 1e3 / len(images)
    return Speed(
        len(images), statistics.median(eager) * per_image, statistics.median(exported) * per_image
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
