"""What runs an ONNX file: ONNX Runtime, and OpenVINO where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldmark.exporting.artifact import open_session
from fieldmark.exporting.packages import has_package, need_package
from fieldmark.exporting.record import INPUT, OUTPUT

if TYPE_CHECKING:
    import openvino

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def run_with_onnxruntime(path: Path, *, threads: int) -> Network:
    """Images (B, 3, H, W) -> logits (B, outputs)."""
    session = open_session(path, threads=threads)
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def run_with_openvino(path: Path, *, threads: int, exact: bool) -> Network:
    """The same by OpenVINO; `exact` computes in fp32 what the file has in fp32, else in bf16."""
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32" if exact else "bf16",
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = _core()
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    return lambda images: np.asarray(compiled({INPUT: images})[OUTPUT], dtype=np.float32)


@cache
def _core() -> openvino.Core:
    """OpenVINO's one core of this process, kept to its end.

    Each core's CPU plugin gives the thread that makes it a signal stack of its own, and puts the
    one before back when it goes. Of two that go in the order they came in, the second puts back
    what the first has unmapped, and the next signal (an ended child, Ctrl-C) is a segmentation
    fault.
    """
    need_package("openvino", extra="openvino", what="OpenVINO")
    import openvino

    return openvino.Core()


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return has_package("openvino")


def has_onnxruntime() -> bool:
    """Whether ONNX Runtime and the exporter are installed."""
    return all(map(has_package, ("onnxruntime", "onnx", "onnxscript")))
