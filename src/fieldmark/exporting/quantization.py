"""int8: weights and activations of the large layers in 8 bits, the rest in fp32.

Static: the ranges of activations are measured on training images. Weights have a scale for each
output channel. Where the network then decides otherwise too often, the layers with the largest
error go back to fp32, one step after the other.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fieldmark.errors import ExportError
from fieldmark.exporting.artifact import open_session
from fieldmark.exporting.packages import need_package
from fieldmark.exporting.record import INPUT, OUTPUT
from fieldmark.exporting.smoothing import smooth

Values = NDArray[np.float32]
Judge = Callable[[onnx.ModelProto], float]

LAYERS = ("Conv", "MatMul", "Gemm")
BETWEEN_LAYERS = ("Add", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
"""What a CNN has between its convolutions: in 8 bits too, no number has to be turned back."""
METHODS = ("MinMax", "Percentile", "Entropy")
BATCH_SIZE = 16
WANTED = 0.995
"""Agreement on training images; on images that nobody has seen it will be a little lower."""


@dataclass(frozen=True)
class Quantized:
    """A graph in int8, the layers that it keeps in fp32, and how it was calibrated."""

    model: onnx.ModelProto
    kept_fp32: tuple[str, ...]
    calibration: str


def quantize(model: onnx.ModelProto, calibration: Values, judge: Judge) -> Iterator[Quantized]:
    """Yield graphs in int8, each closer to `model` than the one before, until none is left.

    calibration: (N, 3, H, W) training images. judge: graph -> top-1 agreement on others. The
    first is the best of three ways to calibrate with all layers in int8.
    """
    need_package("onnxruntime", extra="onnx", what="int8")
    del model.graph.value_info[:]  # the exporter's shapes are not those that are left now
    smoothed = smooth(model, calibration)
    how = ", evened out behind layer norms" if smoothed else ""
    layers = _layers(model)
    if not layers:
        raise ExportError("int8: the network has no layer that could be computed in 8 bits")
    with tempfile.TemporaryDirectory() as folder:
        quantizer = _Quantizer(model, calibration, Path(folder))
        tried: list[tuple[float, str, onnx.ModelProto]] = []
        for method in METHODS:
            found = quantizer(method, ())
            tried.append((judge(found), method, found))
            if tried[-1][0] >= WANTED:
                break
        score, method, best = max(tried, key=lambda entry: entry[0])
        told = f"{method} on {len(calibration)} training images{how}"
        if score >= WANTED or len(layers) == 1:
            yield Quantized(best, (), told)
        ranked = rank_layers(model, best, calibration[:BATCH_SIZE])
        for count in _steps(len(ranked)):
            kept = ranked[:count]
            found = quantizer(method, kept)
            if judge(found) >= WANTED or count == len(ranked) - 1:
                yield Quantized(found, tuple(_layer_of(name) for name in kept), told)


def _steps(total: int) -> Sequence[int]:
    """How many layers to keep: each step about a tenth more."""
    step = max(1, total // 10)
    return [*range(step, total - 1, step), total - 1] if total > 1 else []


class _Quantizer:
    """One network and its calibration images, quantised in several ways."""

    def __init__(self, model: onnx.ModelProto, calibration: Values, folder: Path) -> None:
        self._source = folder / "fp32.onnx"
        self._target = folder / "int8.onnx"
        self._calibration = calibration
        self._kinds = list(LAYERS)
        if not any(node.op_type == "LayerNormalization" for node in model.graph.node):
            # The residual stream of a transformer does not fit 8 bits, a CNN's does.
            self._kinds += BETWEEN_LAYERS
        onnx.save(model, self._source)

    def __call__(self, method: str, kept: Sequence[str]) -> onnx.ModelProto:
        """The graph in int8 without the nodes `kept`."""
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        options: dict[str, Any] = {"MatMulConstBOnly": True}
        if BETWEEN_LAYERS[0] not in self._kinds:
            # Layers of a transformer write to fp32: their sums have outliers that 8 bits cut off.
            options["OpTypesToExcludeOutputQuantization"] = list(LAYERS)
        if method == "Percentile":
            options["CalibPercentile"] = 99.99
        with _silence():
            quantize_static(
                self._source,
                self._target,
                _Reader(self._calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=self._kinds,
                nodes_to_exclude=list(kept),
                calibrate_method=getattr(CalibrationMethod, method),
                extra_options=options,
            )
        return onnx.load(self._target)


class _Reader:
    """Gives the calibration images a batch at a time, as ONNX Runtime asks for them."""

    def __init__(self, images: Values) -> None:
        starts = range(0, len(images), BATCH_SIZE)
        self._batches = iter([images[start : start + BATCH_SIZE] for start in starts])

    def get_next(self) -> Mapping[str, Values] | None:
        """The next batch, None behind the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> Mapping[str, Values]:
        batch = self.get_next()
        if batch is None:
            raise StopIteration
        return batch


def rank_layers(model: onnx.ModelProto, quantized: onnx.ModelProto, images: Values) -> list[str]:
    """Names of layers, the one whose output is most wrong in int8 first.

    The error of a layer is what it adds: noise over signal of its output, less that of the worst
    layer before it.
    """
    layers = _layers(model)
    outputs = {node.name: node.output[0] for node in model.graph.node if node.name in layers}
    exact = _tensors(model, list(outputs.values()), images)
    rough = _tensors(quantized, list(outputs.values()), images)
    noise = {
        name: float(((exact[out] - rough[out]) ** 2).mean() / max((exact[out] ** 2).mean(), 1e-12))
        for name, out in outputs.items()
    }
    added, before = {}, 0.0
    for name in layers:
        added[name] = noise[name] - before
        before = max(before, noise[name])
    return sorted(layers, key=lambda name: -added[name])


def _tensors(model: onnx.ModelProto, names: Sequence[str], images: Values) -> dict[str, Values]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    known = {name for node in probe.graph.node for name in node.output}
    # Quantised nodes give their raw output under a name of their own, where it is read again.
    actual = [
        read if (read := f"{name}_DequantizeLinear_Output") in known else name for name in names
    ]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in actual)
    values = open_session(probe.SerializeToString()).run(actual, {INPUT: images})
    return dict(zip(names, values, strict=True))


def _layers(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes with weights, in order."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in weights
    ]


def _layer_of(node_name: str) -> str:
    return node_name.rpartition("/")[0]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """ONNX Runtime's quantiser prints and logs; nothing of it is for people."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def outputs_of(model: onnx.ModelProto, images: Values, *, threads: int) -> Values:
    """Logits (N, outputs) of a graph."""
    session = open_session(model.SerializeToString(), threads=threads)
    parts = [
        session.run([OUTPUT], {INPUT: images[start : start + BATCH_SIZE]})[0]
        for start in range(0, len(images), BATCH_SIZE)
    ]
    return np.concatenate(parts)
