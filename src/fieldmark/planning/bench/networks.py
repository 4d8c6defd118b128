"""Images a second of a network at growing batch sizes, in inference and in training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import psutil
import torch
from torch import Tensor
from torch.nn import functional

from fieldmark.evaluation.collect import autocast
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.summary.table import summarize
from fieldmark.planning.bench.limits import MachineLimits
from fieldmark.planning.bench.records import Mode, NetworkBench, Point, Stop
from fieldmark.planning.bench.timing import Timing, time_work
from fieldmark.recipes import Recipe
from fieldmark.runs.provenance import peak_memory_mb
from fieldmark.training.memory import is_out_of_memory
from fieldmark.training.optimizers import build_optimizer

# Backward computes two products for each of forward's: by the weights and by the inputs.
TRAINING_FACTOR = 3
# The next batch is twice as large; what it adds must fit into what is left, with room for others.
_SPARE_BYTES = 2**30
_GAIN = 1.03
_PATIENCE = 3

Progress = Callable[[str], None]


@dataclass(frozen=True)
class SweepOptions:
    """batch_sizes: those to measure; empty: 1, 2, 4 ... until memory or time is up, or larger
    ones are no faster. seconds_per_point: how long each is repeated; max_seconds: of one network.
    """

    batch_sizes: Sequence[int] = ()
    seconds_per_point: float = 1.0
    max_seconds: float = 60.0
    progress: Progress = field(default=lambda _: None)


def bench_network(
    recipe: Recipe,
    mode: Mode,
    limits: MachineLimits,
    *,
    num_classes: int,
    options: SweepOptions,
) -> NetworkBench:
    """Measure the network of a recipe on random images of its size, without loading weights.

    infer: forward without gradients. train: forward, cross-entropy, backward and the recipe's
    optimizer. Raises `ModelError` and its kin for a network that cannot be built, and
    `OutOfMemoryError` where not even the first batch fits.
    """
    size = recipe.data.image_size
    summary = summarize(
        recipe.model.name, image_size=size, num_classes=num_classes, model=recipe.model
    )
    classifier, _ = build_classifier(
        recipe.model, num_classes=num_classes, image_size=size, with_weights=False
    )
    classifier = classifier.to(limits.device)
    run = _build_training(classifier, recipe, limits) if mode == "train" else _infer(classifier)
    per_image = 2 * summary.mult_adds * (TRAINING_FACTOR if mode == "train" else 1)
    sweep = _Sweep(run, recipe.model.name, size, num_classes, per_image, limits, options)
    points = tuple(sweep)
    return NetworkBench(
        name=recipe.model.name,
        mode=mode,
        image_size=size,
        num_classes=num_classes,
        parameters=summary.parameters,
        mult_adds=summary.mult_adds,
        operations_per_image=per_image,
        limits=limits,
        points=points,
        stopped=sweep.stopped,
    )


Step = Callable[[Tensor, Tensor, str, str], object]


def _infer(classifier: Classifier) -> Step:
    classifier.eval()

    def step(images: Tensor, _: Tensor, device: str, precision: str) -> object:
        with torch.inference_mode(), autocast(device, precision):
            return classifier(images)

    return step


def _build_training(classifier: Classifier, recipe: Recipe, limits: MachineLimits) -> Step:
    classifier.train()
    optimizer = build_optimizer(classifier, recipe.optim)
    scaler = torch.amp.GradScaler(limits.device, enabled=limits.precision == "fp16")

    def step(images: Tensor, targets: Tensor, device: str, precision: str) -> object:
        with autocast(device, precision):
            loss = functional.cross_entropy(classifier(images).float(), targets)
        optimizer.zero_grad()
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        return loss

    return step


@dataclass
class _Sweep:
    """Yields a point for each batch size; `stopped` says why there are no more."""

    step: Step
    name: str
    image_size: int
    num_classes: int
    operations_per_image: int
    limits: MachineLimits
    options: SweepOptions
    stopped: Stop = "asked"

    def __iter__(self) -> Iterator[Point]:
        start, best, slower = time.monotonic(), 0.0, 0
        for batch_size in self._sizes():
            before = _available_bytes(self.limits.device)
            point = self._measure(batch_size)
            if point is None:
                self.stopped = "memory"
                return
            yield point
            if self.options.batch_sizes:
                continue
            taken = before - _available_bytes(self.limits.device)
            slower = 0 if point.images_per_second > _GAIN * best else slower + 1
            best = max(best, point.images_per_second)
            if 2 * taken + _SPARE_BYTES > _available_bytes(self.limits.device):
                self.stopped = "memory"
                return
            if slower == _PATIENCE:
                self.stopped = "flat"
                return
            # The next takes at least twice as long a step, warm-up and least repeats included.
            spent = time.monotonic() - start
            if spent + 14 * point.latency_ms / 1e3 > self.options.max_seconds:
                self.stopped = "time"
                return

    def _sizes(self) -> Iterator[int]:
        if self.options.batch_sizes:
            yield from self.options.batch_sizes
            return
        size = 1
        while True:
            yield size
            size *= 2

    def _measure(self, batch_size: int) -> Point | None:
        """None where the batch does not fit."""
        device, precision = self.limits.device, self.limits.precision
        self.options.progress(f"{self.name}, batch {batch_size}")
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            side = self.image_size
            images = torch.randn(batch_size, 3, side, side, device=device)
            targets = torch.arange(batch_size, device=device) % self.num_classes
            timing = time_work(
                lambda: self.step(images, targets, device, precision),
                device=device,
                seconds=self.options.seconds_per_point,
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        return self._describe(batch_size, timing)

    def _describe(self, batch_size: int, timing: Timing) -> Point:
        quick, slow = timing.quartiles
        speed = batch_size / timing.median
        return Point(
            batch_size=batch_size,
            num_repeats=len(timing.seconds),
            images_per_second=speed,
            low=batch_size / slow,
            high=batch_size / quick,
            latency_ms=1e3 * timing.median,
            share_of_limit=speed * self.operations_per_image / (self.limits.matmul_gflops * 1e9),
            peak_memory_mb=_peak_mb(self.limits.device),
        )


def _available_bytes(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def _peak_mb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return peak_memory_mb()
