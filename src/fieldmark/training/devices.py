"""Where and in which number format a run computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from fieldmark.cores import num_cores
from fieldmark.errors import RecipeError
from fieldmark.recipes.schema import Recipe


@dataclass(frozen=True)
class Placement:
    """A device, a precision (fp32, bf16 or fp16) and the number of loader processes."""

    device: str
    precision: str
    num_workers: int


def choose_placement(recipe: Recipe) -> Placement:
    """Resolve `auto` by what this machine has; ask for what it lacks and it is refused."""
    device = choose_device(recipe.device)
    precision = _choose_precision(recipe.precision, device)
    return Placement(device, precision, _choose_workers(recipe, device))


def build_accelerator(placement: Placement) -> Accelerator:
    """The engine of one run. Accelerate keeps its settings for a process; they are renewed here."""
    if PartialState._shared_state.get("num_processes", 1) == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[placement.precision]
    return Accelerator(cpu=placement.device == "cpu", mixed_precision=mixed)


def choose_device(wanted: str = "auto") -> str:
    """The device of that name, or for auto the fastest there is; one that is absent is refused."""
    available = ["cpu"]
    if torch.cuda.is_available():
        available = ["cuda", *available]
    if torch.backends.mps.is_available():
        available = ["mps", *available]
    if wanted == "auto":
        return available[0]
    if wanted not in available:
        raise RecipeError(
            f"device: '{wanted}' is not on this machine; there is {', '.join(available)}. "
            "Set device to one of these, or to auto"
        )
    return wanted


def _choose_precision(wanted: str, device: str) -> str:
    if wanted == "auto":
        return "bf16" if _computes_bf16(device) else "fp32"
    if wanted == "fp16" and device == "cpu":
        raise RecipeError("precision: fp16 needs a GPU; on a CPU use bf16, fp32 or auto")
    return wanted


def _computes_bf16(device: str) -> bool:
    """Whether bf16 is computed by the hardware rather than emulated."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return False


def _choose_workers(recipe: Recipe, device: str) -> int:
    """Loader processes: plenty in front of a GPU, few beside a network on the same cores.

    On two cores a loader process takes turns with the threads of the network, which then wait
    for each other: slower than none at all (docs/results.md).
    """
    if recipe.workers >= 0:
        return recipe.workers
    return num_cores() // 4 if device == "cpu" else min(8, num_cores())
