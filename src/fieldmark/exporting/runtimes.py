"""What runs an ONNX file: ONNX Runtime, and OpenVINO where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.exporting.artifact import open_session
from fieldmark.exporting.packages import has_package, need_package
from fieldmark.exporting.record import INPUT, OUTPUT

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def run_with_onnxruntime(path: Path, *, threads: int) -> Network:
    """Images (B, 3, H, W) -> logits (B, outputs)."""
    session = open_session(path, threads=threads)
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def run_with_openvino(path: Path, *, threads: int, exact: bool) -> Network:
    """The same by OpenVINO; `exact` computes in fp32 what the file has in fp32, else in bf16."""
    need_package("openvino", extra="openvino", what="OpenVINO")
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32" if exact else "bf16",
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    return lambda images: np.asarray(compiled({INPUT: images})[OUTPUT], dtype=np.float32)


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return has_package("openvino")


def has_onnxruntime() -> bool:
    """Whether ONNX Runtime and the exporter are installed."""
    return all(map(has_package, ("onnxruntime", "onnx", "onnxscript")))
