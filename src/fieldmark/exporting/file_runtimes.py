"""Which runtime computes an exported file; imports no torch."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.errors import ExportError, hint
from fieldmark.exporting.record import ArtifactRecord
from fieldmark.exporting.runtimes import Network, has_openvino, run_with_openvino

Values = NDArray[np.float32]

FILE_BACKENDS = ("auto", "onnxruntime", "openvino", "openvino-bf16")
FEWEST_IMAGES = 256
"""Fewer images are through before another runtime has been started."""
TIMED_IMAGES = 8
ROUNDS = 3
_NAMES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "openvino-bf16": "OpenVINO, in bf16 what is not in 8 bits",
}


@dataclass(frozen=True)
class FileChoice:
    """What computes a file, and why in a few words."""

    name: str
    reason: str
    network: Network

    @property
    def sentence(self) -> str:
        """The runtime as people call it, with the reason."""
        return f"{_NAMES[self.name]}: {self.reason}"


def check_file_backend(wanted: str, file: Path) -> None:
    """Raise `ExportError` for what cannot run a file."""
    if wanted not in FILE_BACKENDS:
        raise ExportError(
            f"--backend {wanted}: {file} is an exported file, which one of "
            f"{', '.join(FILE_BACKENDS)} runs.{hint(wanted, FILE_BACKENDS)} Leave --backend out, "
            "or give the run folder"
        )


def choose_runtime(
    file: Path,
    record: ArtifactRecord,
    plain: Network,
    images: Values,
    wanted: str,
    *,
    num_images: int,
    threads: int,
) -> FileChoice:
    """Choose what computes `num_images` images with a file, `plain` being ONNX Runtime.

    images: (B, 3, H, W), some of them, to time the runtimes on. auto tries those that the file's
    own proof found to agree with the run, on more images than there are here.
    """

    def start(name: str) -> Network:
        if name == "onnxruntime":
            return plain
        return run_with_openvino(file, threads=threads, exact=name == "openvino")

    if wanted != "auto":
        return FileChoice(wanted, "as asked", start(wanted))
    proved = [name for name in FILE_BACKENDS[2:] if name in record.proved and has_openvino()]
    if not proved:
        return FileChoice("onnxruntime", "no other runtime is installed and proved", plain)
    if num_images < FEWEST_IMAGES or not len(images):
        return FileChoice("onnxruntime", f"for {num_images} images no other pays", plain)
    networks = {"onnxruntime": plain, **{name: start(name) for name in proved}}
    spent = {name: _time(network, images) for name, network in networks.items()}
    best = min(spent, key=lambda name: spent[name])
    told = ", ".join(f"{name} {milliseconds:.1f} ms" for name, milliseconds in spent.items())
    return FileChoice(best, f"the fastest that the export proved ({told})", networks[best])


def _time(network: Network, images: Values) -> float:
    """Median milliseconds per image, after one call to warm up."""
    seconds = []
    for turn in range(ROUNDS + 1):
        start = time.perf_counter()
        network(images)
        if turn:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) / len(images) * 1e3
