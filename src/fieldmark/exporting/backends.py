"""Ways to compute a classifier's logits, and the choice among them by a short calibration.

`auto` never changes an answer unseen: another way than eager is taken only where it decides all
calibration images alike, no probability differs by more than a stated bound, and the time it saves
exceeds what it costs to make. The choice is said in one line.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fieldmark.data.loaders import Batch, build_loader
from fieldmark.data.table import Table
from fieldmark.errors import ExportError, ModelError, hint
from fieldmark.exporting.building import (
    Backend,
    build_bf16,
    build_compiled,
    build_eager,
    build_onnxruntime,
    build_openvino,
    build_openvino_bf16,
)
from fieldmark.exporting.runtimes import has_onnxruntime, has_openvino
from fieldmark.models.probabilities import log_probabilities
from fieldmark.runs.predictor import Predictor

BACKENDS = ("auto", "eager", "bf16", "compiled", "onnxruntime", "openvino", "openvino-bf16")
EVALUATE_BOUND = 1e-3
PREDICT_BOUND = 0.01

CALIBRATION_IMAGES = 32
FEWEST_IMAGES = 256
"""Fewer images are through before anything has been calibrated."""
TIMED_IMAGES = 8
ROUNDS = 3
_WORTH = 1.1
_SETUP_SECONDS = {
    "openvino-bf16": 3.0,
    "bf16": 1.0,
    "openvino": 3.0,
    "onnxruntime": 15.0,
    "compiled": 90.0,
}
"""About what it takes to make each, in the order in which they are tried; each is tried only where
that is a small part of the whole."""
_SETUP_SHARE = 0.25

_BUILDERS: Mapping[str, Callable[[Predictor], Backend]] = {
    "bf16": build_bf16,
    "compiled": build_compiled,
    "onnxruntime": build_onnxruntime,
    "openvino": build_openvino,
    "openvino-bf16": build_openvino_bf16,
}


@dataclass(frozen=True)
class Trial:
    """One way on the calibration images: milliseconds per image, largest change of a probability.

    agrees: all decisions are the same and the change is within the bound. fault: why it cannot be
    used here; its figures are then infinite.
    """

    name: str
    milliseconds: float
    max_difference: float
    agrees: bool
    fault: str = ""


@dataclass(frozen=True)
class Choice:
    """What computes: `backend` is None for the classifier itself."""

    name: str
    reason: str
    backend: Backend | None = None
    trials: tuple[Trial, ...] = ()

    @property
    def sentence(self) -> str:
        """The choice in one line."""
        return f"computed by {self.name}: {self.reason}"

    def to_json(self) -> Mapping[str, object]:
        """Plain values."""
        return {
            "name": self.name,
            "reason": self.reason,
            "trials": [
                {
                    "name": trial.name,
                    "milliseconds": round(trial.milliseconds, 3),
                    "max_probability_difference": trial.max_difference,
                    "agrees": trial.agrees,
                }
                if not trial.fault
                else {"name": trial.name, "fault": trial.fault}
                for trial in self.trials
            ],
        }


def choose_backend(predictor: Predictor, table: Table, wanted: str, *, bound: float) -> Choice:
    """Choose what computes the logits of `table`'s images.

    wanted: one of `BACKENDS`. Another than auto is taken as asked, and its difference from eager
    is said. Raises `ExportError` for one that is unknown or cannot be used here.
    """
    if wanted not in BACKENDS:
        raise ExportError(
            f"--backend {wanted}: expected one of {', '.join(BACKENDS)}.{hint(wanted, BACKENDS)}"
        )
    if wanted == "eager":
        return Choice("eager", "as asked", build_eager(predictor))
    if wanted == "auto" and len(table) < FEWEST_IMAGES:
        return Choice("eager", f"for {len(table)} images a calibration does not pay")
    batch = _read_calibration(predictor, table)
    if batch is None:
        return Choice("eager", "there is no readable image to calibrate on")
    trying = _Trying(predictor, batch, bound)
    if wanted != "auto":
        return trying.as_asked(wanted)
    return trying.fastest(len(table))


class _Trying:
    """The calibration images and what eager says of them."""

    def __init__(self, predictor: Predictor, batch: Batch, bound: float) -> None:
        self._predictor = predictor
        self._images = batch.images.to(predictor.device)
        self._tags = None if batch.tags is None else batch.tags.to(predictor.device)
        self._bound = bound
        self._eager = build_eager(predictor)
        self._plain = self._probabilities(lambda images, tags: predictor.classifier(images, tags))
        self._eager_ms = self._time(self._eager)

    def as_asked(self, name: str) -> Choice:
        """The named way, whatever it does to the probabilities; both are said."""
        try:
            backend = _BUILDERS[name](self._predictor)
            trial = self._try(name, backend)
        except (ExportError, ModelError, RuntimeError) as error:
            raise ExportError(
                f"--backend {name}: cannot compute this network here: {_first_line(error)}. "
                "--backend auto finds one that can"
            ) from error
        told = (
            f"as asked; {self._eager_ms / trial.milliseconds:.1f} times as fast as eager, on "
            f"{len(self._images)} images probabilities differ by up to {trial.max_difference:.1e}"
        )
        return Choice(name, told, backend, (self._eager_trial(), trial))

    def fastest(self, num_images: int) -> Choice:
        """The fastest that agrees, if it is worth its making."""
        seconds = num_images * self._eager_ms / 1e3
        trials = [self._eager_trial()]
        best, best_ms, best_backend = "eager", self._eager_ms / _WORTH, self._eager
        for name in self._candidates(seconds):
            if _is_behind(name, trials):
                continue
            try:
                backend = _BUILDERS[name](self._predictor)
                trial = self._try(name, backend)
            # Each runtime has errors of its own kind for a network that it lacks something for.
            except (ExportError, ModelError, RuntimeError, NotImplementedError) as error:
                never = float("inf")
                trials.append(Trial(name, never, never, False, _first_line(error)))
                continue
            trials.append(trial)
            if trial.agrees and trial.milliseconds < best_ms:
                best, best_ms, best_backend = name, trial.milliseconds, backend
        return Choice(best, self._reason(best, trials, seconds), best_backend, tuple(trials))

    def _candidates(self, seconds: float) -> Iterator[str]:
        for name, setup in _SETUP_SECONDS.items():
            if setup > seconds * _SETUP_SHARE:
                continue
            if name.endswith("bf16") and not _computes_bf16(self._predictor.device):
                continue
            if name in ("onnxruntime", "openvino", "openvino-bf16"):
                is_here = has_onnxruntime() if name == "onnxruntime" else has_openvino()
                if not is_here or self._predictor.device != "cpu" or self._tags is not None:
                    continue
            yield name

    def _reason(self, best: str, trials: list[Trial], seconds: float) -> str:
        told = ", ".join(
            f"{t.name} {t.milliseconds:.1f} ms"
            + ("" if t.agrees else f" (off by {t.max_difference:.1e})")
            for t in trials
            if not t.fault
        )
        if len(trials) == 1:
            return f"about {seconds:.0f} s of work are too little to try others"
        found = next(t for t in trials if t.name == best)
        return (
            f"the fastest of those whose probabilities differ by at most {self._bound:g} on "
            f"{len(self._images)} images ({told}); it differs by up to {found.max_difference:.1e}"
        )

    def _eager_trial(self) -> Trial:
        return Trial("eager", self._eager_ms, 0.0, True)

    def _try(self, name: str, backend: Backend) -> Trial:
        found = self._probabilities(backend)
        difference = float((found - self._plain).abs().max())
        same = bool((self._decide(found) == self._decide(self._plain)).all())
        agrees = same and difference <= self._bound
        return Trial(name, self._time(backend), difference, agrees)

    def _decide(self, probability: Tensor) -> Tensor:
        if self._predictor.task == "multilabel":
            return probability >= 0.5
        return probability.argmax(dim=1)

    def _probabilities(self, backend: Backend) -> Tensor:
        with torch.inference_mode():
            logits = backend(self._images, self._tags).float().cpu()
        return log_probabilities(logits, self._predictor.task).exp()

    def _time(self, backend: Backend) -> float:
        """Median milliseconds per image, after one call to warm up."""
        images = self._images[:TIMED_IMAGES]
        tags = None if self._tags is None else self._tags[:TIMED_IMAGES]
        seconds = []
        with torch.inference_mode():
            for turn in range(ROUNDS + 1):
                start = time.perf_counter()
                backend(images, tags).cpu()  # waits for the device
                if turn:
                    seconds.append(time.perf_counter() - start)
        return statistics.median(seconds) / len(images) * 1e3


def _is_behind(name: str, trials: Sequence[Trial]) -> bool:
    """Whether it cannot be the fastest, by what the trials before have shown.

    A runtime in bf16 is ahead of torch's bf16 and of everything in fp32; of the two runtimes in
    fp32 OpenVINO is ahead.
    """
    agreed = {trial.name for trial in trials if trial.agrees}
    ahead = {"openvino-bf16"}
    if name in ("openvino", "onnxruntime"):
        ahead.add("bf16")
    if name == "onnxruntime":
        ahead.add("openvino")
    return not agreed.isdisjoint(ahead)


def _read_calibration(predictor: Predictor, table: Table) -> Batch | None:
    """Images evenly spread over the table, with their tags; None where none can be read."""
    count = min(len(table), CALIBRATION_IMAGES)
    rows = [table.rows[place * len(table) // count] for place in range(count)]
    own = replace(table.with_rows(rows), class_names=predictor.class_names, task=predictor.task)
    loader = build_loader(
        own,
        predictor.transform,
        batch_size=count,
        order=None,
        seed=0,
        num_workers=0,
        encode_tags=predictor.encode_tags,
    )
    batch = next(iter(loader.epoch(0)), None)
    return batch if batch is not None and len(batch) else None


def _computes_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
