"""int8: weights and activations of the large layers in 8 bits, the rest in fp32.

Static: the ranges of activations are measured once, on training images. Weights have a scale for
each output channel. Where the network then decides otherwise too often, the layers that add most
to the error of the logits go back to fp32, some at a time.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fieldmark.errors import ExportError
from fieldmark.exporting.packages import need_package
from fieldmark.exporting.record import INPUT, OUTPUT
from fieldmark.exporting.runtimes import open_session
from fieldmark.exporting.smoothing import Correction, smooth, take_back

Values = NDArray[np.float32]

LAYERS = ("Conv", "MatMul", "Gemm")
BETWEEN_LAYERS = ("Add", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
"""What a CNN has between its convolutions: in 8 bits too, no number has to be turned back."""
BATCH_SIZE = 16
RANKING_IMAGES = 8
STEPS = 10


@dataclass(frozen=True)
class Quantized:
    """A graph in int8, the layers that it keeps in fp32, and how it was calibrated."""

    model: onnx.ModelProto
    kept_fp32: tuple[str, ...]
    calibration: str


def quantize(model: onnx.ModelProto, calibration: Values) -> Iterator[Quantized]:
    """Yield graphs in int8, each closer to `model` than the one before, until one layer is left.

    calibration: (N, 3, H, W) training images. The layers that read one vector an image (`Gemm`)
    are fp32 from the start where there are others: they decide, and cost next to nothing.
    """
    need_package("onnxruntime", extra="onnx", what="int8")
    del model.graph.value_info[:]  # the exporter's shapes are not those that are left now
    exact = outputs_of(model, calibration[:RANKING_IMAGES])
    corrections = smooth(model, calibration)
    how = ", evened out behind layer norms" if corrections else ""
    told = f"MinMax on {len(calibration)} training images{how}"
    layers = _layers(model)
    if not layers:
        raise ExportError("int8: the network has no layer that could be computed in 8 bits")
    kinds = {node.name: node.op_type for node in model.graph.node}
    large = [name for name in layers if kinds[name] != "Gemm"] or layers
    deciding = [name for name in layers if name not in large]

    def name_layers(kept: Sequence[str]) -> tuple[str, ...]:
        return tuple(name.rpartition("/")[0] for name in kept)

    with tempfile.TemporaryDirectory() as folder:
        quantizer = _Quantizer(model, calibration, corrections, Path(folder))
        yield Quantized(quantizer(deciding), name_layers(deciding), told)
        if len(large) == 1:
            return
        ranked = _rank(quantizer, layers, large, calibration[:RANKING_IMAGES], exact)
        step = max(1, len(ranked) // STEPS)
        for count in range(step, len(ranked), step):
            kept = [*deciding, *ranked[:count]]
            yield Quantized(quantizer(kept), name_layers(kept), told)


def _rank(
    quantizer: _Quantizer,
    layers: Sequence[str],
    large: Sequence[str],
    images: Values,
    exact: Values,
) -> list[str]:
    """`large`, first the layer that moves the logits most where it alone is in int8."""
    moved = {}
    for name in large:
        alone = quantizer([other for other in layers if other != name])
        difference = outputs_of(alone, images) - exact
        if difference.shape[1] > 1:  # what all classes share decides nothing
            difference -= difference.mean(axis=1, keepdims=True)
        moved[name] = float((difference**2).mean())
    return sorted(large, key=lambda name: -moved[name])


class _Quantizer:
    """One network and its ranges, quantised in several ways."""

    def __init__(
        self,
        model: onnx.ModelProto,
        calibration: Values,
        corrections: Mapping[str, Correction | None],
        folder: Path,
    ) -> None:
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        self._source = folder / "fp32.onnx"
        self._corrections = corrections
        self._kinds = list(LAYERS)
        if not any(node.op_type == "LayerNormalization" for node in model.graph.node):
            # The residual stream of a transformer does not fit 8 bits, a CNN's does.
            self._kinds += BETWEEN_LAYERS
        # Products of two activations, as attention has them, lose far more than they gain.
        own = set(_layers(model))
        nodes = [node for node in model.graph.node if node.op_type in LAYERS]
        self._products = [node.name for node in nodes if node.name not in own]
        onnx.save(model, self._source)
        with _silence():
            calibrator = create_calibrator(
                self._source,
                self._kinds,
                augmented_model_path=str(folder / "watched.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
            )
            calibrator.collect_data(_Reader(calibration))
            self._ranges = calibrator.compute_data()

    def __call__(self, kept: Sequence[str]) -> onnx.ModelProto:
        """The graph with all nodes but `kept` in int8."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

        options: dict[str, Any] = {}
        if BETWEEN_LAYERS[0] not in self._kinds:
            # Layers of a transformer write to fp32: their sums have outliers that 8 bits cut off.
            options["OpTypesToExcludeOutputQuantization"] = list(LAYERS)
        with _silence():
            source = load_model_with_shape_infer(self._source)
            take_back(source, self._corrections, kept)
            quantizer = QDQQuantizer(
                source,
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=self._ranges,
                nodes_to_quantize=[],
                nodes_to_exclude=[*self._products, *kept],
                op_types_to_quantize=self._kinds,
                extra_options=options,
            )
            quantizer.quantize_model()
        found: onnx.ModelProto = quantizer.model.model
        return found


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


def _layers(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes with weights, in order."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in weights
    ]


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


def outputs_of(model: onnx.ModelProto, images: Values, *, threads: int = 0) -> Values:
    """Logits (N, outputs) of a graph."""
    session = open_session(model.SerializeToString(), threads=threads)
    parts = [
        session.run([OUTPUT], {INPUT: images[start : start + BATCH_SIZE]})[0]
        for start in range(0, len(images), BATCH_SIZE)
    ]
    return np.concatenate(parts)
