"""Making the inputs of linear layers even, so that few bits suffice for them.

Behind a layer norm a few channels of a Vision Transformer are a hundred times larger than the
rest, and 8 bits for all then leave nothing for the others. Dividing each channel by a factor in the
layer norm and multiplying the weights that read it by the same is exact in real numbers (Xiao et
al. 2023, "SmoothQuant", equations 3 and 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from fieldmark.exporting.artifact import open_session
from fieldmark.exporting.record import INPUT

STRENGTH = 0.5
_SMALLEST = 1e-5
Values = NDArray[np.float32]


def smooth(model: onnx.ModelProto, images: Values) -> list[str]:
    """Even out, in place, what linear layers read from layer norms; return the norms' names.

    images: (N, 3, H, W) to measure the largest value of each channel on.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = _norms(model, weights)
    if not pairs:
        return []
    largest = _largest_values(model, [node.output[0] for node, _ in pairs], images)
    for (node, readers), seen in zip(pairs, largest, strict=True):
        scale, *shift = (_read(weights[name]) for name in node.input[1:])
        matrices = [_read(weights[reader.input[1]]) for reader in readers]  # (D, O) each
        reach = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)  # (D,)
        factor = np.maximum(seen, _SMALLEST) ** STRENGTH
        factor /= np.maximum(reach, _SMALLEST) ** (1 - STRENGTH)
        factor = np.maximum(factor, _SMALLEST).astype(np.float32)
        for name, values in zip(node.input[1:], (scale, *shift), strict=True):
            _write(weights[name], values / factor)
        for reader, matrix in zip(readers, matrices, strict=True):
            _write(weights[reader.input[1]], matrix * factor[:, None])
    return [node.name for node, _ in pairs]


def _norms(
    model: onnx.ModelProto, weights: dict[str, onnx.TensorProto]
) -> list[tuple[onnx.NodeProto, Sequence[onnx.NodeProto]]]:
    """Layer norms that nothing but matrix products with weights of their own read."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    found = []
    for node in model.graph.node:
        if node.op_type != "LayerNormalization" or node.output[0] in outputs:
            continue
        own = readers.get(node.output[0], [])
        constants = [*node.input[1:], *(reader.input[1] for reader in own if reader.input)]
        is_own = all(name in weights and len(readers[name]) == 1 for name in constants)
        if own and is_own and all(reader.op_type == "MatMul" for reader in own):
            found.append((node, own))
    return found


def _largest_values(
    model: onnx.ModelProto, names: Sequence[str], images: Values
) -> list[NDArray[np.float64]]:
    """The largest absolute value of each channel, for each of the tensors."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = open_session(probe.SerializeToString())
    largest: list[NDArray[np.float64]] = []
    for start in range(0, len(images), 8):
        values = session.run(list(names), {INPUT: images[start : start + 8]})
        found = [np.abs(v).max(axis=tuple(range(v.ndim - 1))).astype(np.float64) for v in values]
        largest = [*map(np.maximum, largest or found, found)]
    return largest


def _read(tensor: onnx.TensorProto) -> Values:
    values: Values = numpy_helper.to_array(tensor)
    return values


def _write(tensor: onnx.TensorProto, values: Values) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
