"""Ways to compute a classifier's logits, and the choice among them by a short calibration.

`auto` never changes an answer unseen: another way than eager is taken only where it decides all
calibration images alike, no probability differs by more than a stated bound, and the time it saves
exceeds what it costs to make; or where it does so on the images it is certain of, and the others
are computed again by a way that agrees on all. The choice is said in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

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
from fieldmark.exporting.trials import Trial, Trials, Tried
from fieldmark.runs.predictor import Predictor

BACKENDS = ("auto", "eager", "bf16", "compiled", "onnxruntime", "openvino", "openvino-bf16")
EVALUATE_BOUND = 1e-3
PREDICT_BOUND = 0.02

CALIBRATION_IMAGES = 32
FEWEST_IMAGES = 256
"""Fewer images are through before anything has been calibrated."""
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
                    "computed_again": round(trial.again, 3),
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
    trials = Trials(predictor, batch, bound)
    if wanted != "auto":
        return _take_as_asked(predictor, trials, wanted)
    return _take_fastest(predictor, trials, len(table), tags=batch.tags is not None)


def _take_as_asked(predictor: Predictor, trials: Trials, name: str) -> Choice:
    """The named way, whatever it does to the probabilities; both are said."""
    try:
        tried = trials.try_out(name, _BUILDERS[name](predictor))
    except (ExportError, ModelError, RuntimeError) as error:
        raise ExportError(
            f"--backend {name}: cannot compute this network here: {_first_line(error)}. "
            "--backend auto finds one that can"
        ) from error
    eager, trial = trials.eager.trial, tried.trial
    told = (
        f"as asked; {eager.milliseconds / trial.milliseconds:.1f} times as fast as eager, on "
        f"{trials.num_images} images probabilities differ by up to {trial.max_difference:.1e}"
    )
    return Choice(name, told, tried.backend, (eager, trial))


def _take_fastest(predictor: Predictor, trials: Trials, num_images: int, *, tags: bool) -> Choice:
    """The fastest that agrees, by itself or on what it is sure of, if it is worth its making."""
    seconds = num_images * trials.eager.trial.milliseconds / 1e3
    tried, made = [trials.eager], [trials.eager.trial]
    for name in _list_candidates(predictor.device, seconds, tags=tags):
        if _is_behind(name, made):
            continue
        try:
            tried.append(trials.try_out(name, _BUILDERS[name](predictor)))
            made.append(tried[-1].trial)
        # Each runtime has errors of its own kind for a network that it lacks something for.
        except (ExportError, ModelError, RuntimeError, NotImplementedError) as error:
            never = float("inf")
            made.append(Trial(name, never, never, False, _first_line(error)))
    exact = _choose_fastest(tried)
    looks = [trials.look_again(rough, exact) for rough in tried if not rough.trial.agrees]
    best = _choose_fastest([exact, *(look for look in looks if look is not None)])
    if best is not exact:
        made.append(best.trial)
    if len(made) == 1:
        reason = f"about {seconds:.0f} s of work are too little to try others"
    else:
        reason = _explain(best.trial, made, trials)
    return Choice(best.trial.name, reason, best.backend, tuple(made))


def _list_candidates(device: str, seconds: float, *, tags: bool) -> Iterator[str]:
    for name, setup in _SETUP_SECONDS.items():
        if setup > seconds * _SETUP_SHARE:
            continue
        if name.endswith("bf16") and not _computes_bf16(device):
            continue
        if name in ("onnxruntime", "openvino", "openvino-bf16"):
            is_here = has_onnxruntime() if name == "onnxruntime" else has_openvino()
            if not is_here or device != "cpu" or tags:
                continue
        yield name


def _explain(best: Trial, made: Sequence[Trial], trials: Trials) -> str:
    told = ", ".join(
        f"{t.name} {t.milliseconds:.1f} ms"
        + ("" if t.agrees else f" (off by {t.max_difference:.1e})")
        for t in made
        if not t.fault
    )
    rough, _, exact = best.name.partition("+")
    again = f"; of what {rough} is not sure, about {best.again:.0%}, {exact} computes again"
    return (
        f"the fastest of those whose probabilities differ by at most {trials.bound:g} on "
        f"{trials.num_images} images ({told}); it differs by up to {best.max_difference:.1e}"
        f"{again if exact else ''}"
    )


def _choose_fastest(tried: Sequence[Tried]) -> Tried:
    """The fastest that agrees; the first, where no other is clearly faster."""
    agreeing = [one for one in tried if one.trial.agrees]
    best = min(agreeing, key=lambda one: one.trial.milliseconds)
    first = tried[0]
    return best if best.trial.milliseconds * _WORTH < first.trial.milliseconds else first


def _is_behind(name: str, trials: Sequence[Trial]) -> bool:
    """Whether it cannot be the fastest, by what the trials before have shown.

    A runtime in bf16 is ahead of torch's bf16, agreeing or not, because both round alike, and if it
    agrees ahead of everything in fp32; of the two runtimes in fp32 OpenVINO is ahead.
    """
    if name == "bf16":
        return any(trial.name == "openvino-bf16" and not trial.fault for trial in trials)
    ahead = {"openvino-bf16"}
    if name in ("openvino", "onnxruntime"):
        ahead.add("bf16")
    if name == "onnxruntime":
        ahead.add("openvino")
    return any(trial.agrees and trial.name in ahead for trial in trials)


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
