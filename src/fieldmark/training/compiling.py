"""`compile: true`: the network as machine code of its own, and whether that was worth it."""

from __future__ import annotations

import os
import shutil
from statistics import median

import torch
from torch import nn

from fieldmark.errors import RecipeError

EAGER_BATCHES = 3
_SETTLED_AFTER = 8
_COMPILERS = ("c++", "g++", "clang++", "cl")

ANNOUNCEMENT = (
    "compile: the network is compiled in the fourth batch, and once more for a smaller last batch "
    "and when a run is resumed. That takes one to several minutes and saves little of each step "
    "(a tenth at most, on the processors where it was measured), so it pays on long runs only. "
    "What it gained is told when it is known"
)


def compile_network(network: nn.Module, device: str) -> nn.Module:
    """Return a compiled view of a network: the same parameters under the same checkpoint keys.

    Each batch size is compiled for itself, so that what a batch gives does not depend on the
    batches that were compiled before. Raises `RecipeError` on a machine without a compiler.
    """
    if device == "cpu" and not _has_compiler():
        raise RecipeError(
            "compile: needs a C++ compiler, and there is none on this machine. Install one (e.g. "
            "g++), or set compile=false"
        )
    compiled: nn.Module = torch.compile(network, dynamic=False)  # type: ignore[assignment]
    return compiled


def _has_compiler() -> bool:
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ((named,) if named else _COMPILERS))


class CompileGain:
    """Compares the first batches of a run, which are not compiled, with those that follow."""

    def __init__(self, num_batches: int) -> None:
        """`num_batches` is what the whole run has."""
        self._num_batches = num_batches
        self._seconds: list[float] = []
        self._total = 0.0

    def observe(self, total_seconds: float) -> str | None:
        """Take the seconds trained so far after each batch; say once what compiling gained."""
        if len(self._seconds) == _SETTLED_AFTER:
            return None
        self._seconds.append(total_seconds - self._total)
        self._total = total_seconds
        return self._describe() if len(self._seconds) == _SETTLED_AFTER else None

    def _describe(self) -> str:
        # The first batch of each kind also sets things up.
        eager = min(self._seconds[1:EAGER_BATCHES])
        compiled = median(self._seconds[EAGER_BATCHES + 1 :])
        spent = self._seconds[EAGER_BATCHES] - compiled
        text = (
            f"compile: took {spent:.0f} s; a batch takes {1000 * compiled:.0f} ms, and took "
            f"{1000 * eager:.0f} ms before"
        )
        saved = eager - compiled
        if saved <= 0:
            return f"{text}. Nothing is gained: set compile=false"
        worth = round(spent / saved)
        verdict = "it pays" if worth < self._num_batches else "it does not pay: set compile=false"
        return (
            f"{text}. That pays from about {worth:,} batches on; this run has "
            f"{self._num_batches:,}, so {verdict}"
        )
