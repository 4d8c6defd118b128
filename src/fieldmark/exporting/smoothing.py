"""Making the inputs of linear layers even, so that few bits suffice for them.

Behind a layer norm a few channels of a Vision Transformer are a hundred times larger than the
rest, and 8 bits for all then leave nothing for the others. Dividing each channel by a factor in the
layer norm and multiplying the weights that read it by the same is exact in real numbers (Xiao et
al. 2023, "SmoothQuant", equations 3 and 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """Even out, in place, what the linear layers of a transformer read; return their nodes' names.

    images: (N, 3, H, W) to measure the largest value of each channel on. Behind a layer norm the
    factors cost nothing; elsewhere one product per channel is put in front of the layer.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    sources = _sources(model, weights)
    if not sources:
        return []
    largest = _largest_values(model, [source.name for source in sources], images)
    for source, seen in zip(sources, largest, strict=True):
        matrices = [_read(weights[reader.input[1]]) for reader in source.readers]  # (D, O) each
        reach = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)  # (D,)
        ratio = np.maximum(seen, _SMALLEST) ** STRENGTH
        ratio /= np.maximum(reach, _SMALLEST) ** (1 - STRENGTH)
        factor: Values = np.maximum(ratio, _SMALLEST).astype(np.float32)
        for reader, matrix in zip(source.readers, matrices, strict=True):
            _write(weights[reader.input[1]], matrix * factor[:, None])
        if source.norm is None:
            _divide(model, source, factor)
            continue
        for name in source.norm.input[1:]:
            _write(weights[name], _read(weights[name]) / factor)
    return [reader.name for source in sources for reader in source.readers]


@dataclass(frozen=True)
class _Source:
    """A tensor that linear layers read; `norm` makes it and nothing else reads it, or is None."""

    name: str
    readers: tuple[onnx.NodeProto, ...]
    norm: onnx.NodeProto | None


def _sources(model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]) -> list[_Source]:
    makers = {name: node for node in model.graph.node for name in node.output}
    if not any(node.op_type == "LayerNormalization" for node in model.graph.node):
        return []
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def is_own(name: str) -> bool:
        return name in weights and len(readers[name]) == 1

    found = []
    for name, nodes in readers.items():
        linear = [n for n in nodes if n.op_type == "MatMul" and n.input[0] == name]
        linear = [n for n in linear if is_own(n.input[1])]
        if not linear or name not in makers:
            continue
        maker = makers[name]
        is_norm = maker.op_type == "LayerNormalization" and len(linear) == len(nodes)
        norm = maker if is_norm and all(is_own(n) for n in maker.input[1:]) else None
        found.append(_Source(name, tuple(linear), norm))
    return found


def _divide(model: onnx.ModelProto, source: _Source, factor: Values) -> None:
    """Put a product with 1 / factor between the tensor and its linear layers."""
    evened, by = f"{source.name}_evened", f"{source.name}_evening"
    model.graph.initializer.append(numpy_helper.from_array(1 / factor, by))
    name = f"{source.readers[0].name.rpartition('/')[0]}/Even"
    node = onnx.helper.make_node("Mul", [source.name, by], [evened], name=name)
    for reader in source.readers:
        reader.input[0] = evened
    names = [n.name for n in model.graph.node]
    first = min(names.index(reader.name) for reader in source.readers)
    model.graph.node.insert(first, node)


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
