"""What runs an ONNX file: ONNX Runtime, and OpenVINO where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldmark.cores import num_cores
from fieldmark.errors import ExportError
from fieldmark.exporting.packages import has_package, need_package
from fieldmark.exporting.record import INPUT, OUTPUT

if TYPE_CHECKING:
    import openvino

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def open_session(model: Path | bytes, *, threads: int = 0) -> Any:
    """ONNX Runtime's session of a file or of its bytes, on the CPU."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or num_cores()
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except (faults.Fail, faults.InvalidProtobuf, faults.InvalidGraph, faults.NotImplemented) as e:
        place = "the graph" if isinstance(model, bytes) else model
        reason = str(e).splitlines()[0]
        raise ExportError(f"{place}: ONNX Runtime cannot load it: {reason}") from e


def run_with_onnxruntime(path: Path, *, threads: int) -> Network:
    """Images (B, 3, H, W) -> logits (B, outputs)."""
    session = open_session(path, threads=threads)
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def run_with_openvino(model: Path | openvino.Model, *, threads: int, exact: bool) -> Network:
    """The same by OpenVINO; `exact` computes in fp32 what is not in 8 bits, else in bf16."""
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32" if exact else "bf16",
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = _core()
    read = core.read_model(model) if isinstance(model, Path) else model
    request = core.compile_model(read, "CPU", settings).create_infer_request()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        # Copied, because the next call writes to the same memory.
        found: NDArray[np.float32] = request.infer([images])[0].astype(np.float32)
        return found

    return run


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
