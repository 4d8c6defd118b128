"""Making linear layers fit for 8 bits: even inputs, and biases that make up for the rounding.

Behind a layer norm a few channels of a Vision Transformer are a hundred times larger than the
rest, and 8 bits for all then leave nothing for the others. Dividing each channel by a factor in the
layer norm and multiplying the weights that read it by the same is exact in real numbers (Xiao et
al. 2023, "SmoothQuant", equations 3 and 4). How strongly is chosen for each tensor by the error
that rounding leaves in the layers that read it; the mean of that error is taken off their biases
(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
section 4.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from fieldmark.exporting.record import INPUT
from fieldmark.exporting.runtimes import open_session

STRENGTHS = (0.35, 0.5, 0.6, 0.7, 0.8, 0.9)
_ROWS = 8
_SMALLEST = 1e-5
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Correction:
    """The mean error (O,) that 8 bits add to a layer, which was taken off its bias beforehand."""

    bias: str
    error: Values


def smooth(model: onnx.ModelProto, images: Values) -> dict[str, Correction | None]:
    """Even out, in place, what the linear layers of a transformer read.

    images: (N, 3, H, W) to measure the inputs of layers on. Behind a layer norm the factors cost
    nothing; elsewhere one product per channel is put in front of the layer. The model then says
    the same as before, but for the means of the errors that 8 bits will add: those are taken off.
    Returns what was taken off by the name of the layer's node, None where it has no bias: a layer
    that stays in fp32 must get it back (`take_back`).
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    sources = _sources(model, weights)
    if not sources:
        return {}
    seen = _measure(model, [source.name for source in sources], images)
    biases = _biases(model, weights)
    corrections: dict[str, Correction | None] = {}
    for source, values in zip(sources, seen, strict=True):
        matrices = [_read(weights[reader.input[1]]) for reader in source.readers]  # (D, O) each
        factor, errors = _best_factor(values, matrices)
        for reader, matrix, error in zip(source.readers, matrices, errors, strict=True):
            _write(weights[reader.input[1]], matrix * factor[:, None])
            bias = biases.get(reader.output[0])
            corrections[reader.name] = None if bias is None else Correction(bias.name, error)
            if bias is not None:
                _write(bias, _read(bias) - error)
        if source.norm is None:
            _divide(model, source, factor)
            continue
        for name in source.norm.input[1:]:
            _write(weights[name], _read(weights[name]) / factor)
    return corrections


def take_back(
    model: onnx.ModelProto, corrections: Mapping[str, Correction | None], kept: Sequence[str]
) -> None:
    """Give, in place, the layers that stay in fp32 their own bias again."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in kept:
        correction = corrections.get(name)
        if correction is not None:
            bias = tensors[correction.bias]
            _write(bias, _read(bias) + correction.error)


def _best_factor(seen: _Seen, matrices: Sequence[Values]) -> tuple[Values, list[Values]]:
    """The factor (D,) with the least error in 8 bits, and the mean error (O,) of each matrix."""
    reach = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)  # (D,)
    largest = np.maximum(np.maximum(seen.highest, -seen.lowest), _SMALLEST)
    exact = [seen.rows @ matrix for matrix in matrices]
    tried: list[tuple[float, Values, list[Values]]] = []
    for strength in STRENGTHS:
        ratio = largest**strength / np.maximum(reach, _SMALLEST) ** (1 - strength)
        factor: Values = np.maximum(ratio, _SMALLEST).astype(np.float32)
        rows = _round_rows(seen, factor)
        errors = [
            rows @ _round_weights(matrix * factor[:, None]) - known
            for matrix, known in zip(matrices, exact, strict=True)
        ]
        means = [error.mean(axis=0) for error in errors]
        left = sum(
            float(((error - mean) ** 2).mean()) for error, mean in zip(errors, means, strict=True)
        )
        tried.append((left, factor, means))
    _, best, means = min(tried, key=lambda entry: entry[0])
    return best, means


def _round_rows(seen: _Seen, factor: Values) -> Values:
    """What 8 bits make of (S, D) inputs divided by `factor`: one range for the whole tensor."""
    low = min(float((seen.lowest / factor).min()), 0.0)
    high = max(float((seen.highest / factor).max()), 0.0)
    step = max(high - low, _SMALLEST) / 255
    rounded: Values = np.rint(seen.rows / factor / step) * np.float32(step)
    return rounded


def _round_weights(matrix: Values) -> Values:
    """What 8 bits make of (D, O) weights: one range for each output."""
    step = np.maximum(np.abs(matrix).max(axis=0), _SMALLEST) / 127
    rounded: Values = np.rint(matrix / step) * step
    return rounded


@dataclass(frozen=True)
class _Seen:
    """What a tensor holds on the images: (D,) extremes of its channels, and (S, D) of its rows."""

    lowest: Values
    highest: Values
    rows: Values


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


def _biases(
    model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]
) -> Mapping[str, onnx.TensorProto]:
    """The bias that is added to a tensor, by the tensor's name, where nothing else reads either."""
    read = Counter(name for node in model.graph.node for name in node.input)
    found = {}
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        for one, other in (tuple(node.input), tuple(node.input)[::-1]):
            is_bias = other in weights and len(weights[other].dims) == 1
            if is_bias and read[one] == read[other] == 1:
                found[one] = weights[other]
    return found


def _measure(model: onnx.ModelProto, names: Sequence[str], images: Values) -> list[_Seen]:
    """Extremes of each channel, and some rows of every image, for each of the tensors."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = open_session(probe.SerializeToString())
    parts: list[list[_Seen]] = [[] for _ in names]
    for start in range(0, len(images), 8):
        given = images[start : start + 8]
        for part, values in zip(parts, session.run(list(names), {INPUT: given}), strict=True):
            flat = values.reshape(-1, values.shape[-1])  # (rows, D)
            step = max(1, len(flat) // (_ROWS * len(given)))
            part.append(_Seen(flat.min(axis=0), flat.max(axis=0), flat[::step].copy()))
    return [
        _Seen(
            np.min([seen.lowest for seen in part], axis=0),
            np.max([seen.highest for seen in part], axis=0),
            np.concatenate([seen.rows for seen in part]),
        )
        for part in parts
    ]


def _read(tensor: onnx.TensorProto) -> Values:
    values: Values = numpy_helper.to_array(tensor)
    return values


def _write(tensor: onnx.TensorProto, values: Values) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
