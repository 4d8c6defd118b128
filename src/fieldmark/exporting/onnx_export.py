"""A classifier as one ONNX file: graph, weights, classes and preprocessing."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from fieldmark.errors import ExportError
from fieldmark.exporting.packages import need_package
from fieldmark.exporting.record import INPUT, OUTPUT, ArtifactRecord
from fieldmark.runs.files import save_bytes

if TYPE_CHECKING:
    import onnx
    import onnx_ir

OPSET = 20
"""The newest that ONNX Runtime 1.20 and OpenVINO 2025 both read whole; the first with Gelu."""


def export_onnx(classifier: nn.Module, record: ArtifactRecord, path: Path) -> None:
    """Write `classifier` (in evaluation mode, on the CPU) to `path`, with `record` in it.

    The graph maps `images` (B, 3, H, W) float32, any B, to `logits` (B, outputs). Nodes are named
    by the layer they come from. Raises `ExportError` that names the operator and the layer where
    ONNX lacks one, `StorageError` where the file cannot be written.
    """
    for package in ("onnx", "onnxscript"):
        need_package(package, extra="onnx", what="the export to ONNX")
    program = _trace(classifier, record.preprocessing.image_size)
    _name_by_layer(program.model)
    program.model.producer_name, program.model.producer_version = "fieldmark", record.version
    save_model(program.model_proto, record, path)


def save_model(model: onnx.ModelProto, record: ArtifactRecord, path: Path) -> None:
    """Write a graph whole or not at all, with `record` as its metadata."""
    del model.metadata_props[:]
    for key, text in record.to_metadata().items():
        model.metadata_props.add(key=key, value=text)
    try:
        content = model.SerializeToString()
    except ValueError as error:
        raise ExportError(f"{path}: a network of more than 2 GB does not fit one file") from error
    save_bytes(path, content)


def _trace(classifier: nn.Module, image_size: int) -> torch.onnx.ONNXProgram:
    # Two images: of one, the exporter would take the 1 for a constant.
    images = torch.zeros(2, 3, image_size, image_size)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                classifier,
                (images,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(_explain(classifier, images, error)) from error
    if program is None:
        raise ExportError("ONNX: the exporter gave no graph")
    return program


def _explain(classifier: nn.Module, images: torch.Tensor, error: Exception) -> str:
    """Say which operator of which layer is missing, or what else kept the graph from being read."""
    texts, cause = [], error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__  # type: ignore[assignment]
    text = "\n".join(texts)
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", text)
    node = re.search(r"Error when translating node %(\w+)", text)
    if operator is None:
        reason = next((line for line in reversed(texts) if line.strip()), "").strip()
        return (
            "ONNX: the exporter cannot follow this network: "
            f"{_without_colours(reason).splitlines()[0]}. `--format timm` exports its weights"
        )
    layer = _find_layer(classifier, images, "" if node is None else node[1])
    return (
        f"ONNX: the exporter has no operator for {operator[1]}, which {layer} needs. "
        "Choose another layer in the recipe, or `--format timm`"
    )


def _find_layer(classifier: nn.Module, images: torch.Tensor, node_name: str) -> str:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(classifier, (images,), strict=False)
    for node in program.graph.nodes:
        if node.name == node_name:
            stack = list(node.meta.get("nn_module_stack", {}).values())
            if stack:
                path, kind = stack[-1]
                name = kind if isinstance(kind, str) else kind.__name__
                return f"the layer {path or '(the network itself)'} ({name.rpartition('.')[2]})"
    return "the network"


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[\d*m", "", text)


def _name_by_layer(model: onnx_ir.Model) -> None:
    """Name nodes by the layer they come from, and drop traces of the machine they were made on."""
    taken: dict[str, int] = {}
    for node in model.graph:
        scopes = re.findall(r"'([^']*)'", node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
        layer = next((s for s in reversed(scopes[:-1]) if s and not s.startswith("_")), "network")
        name = f"{layer}/{node.op_type}"
        taken[name] = taken.get(name, 0) + 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
        node.metadata_props.clear()
        node.doc_string = None
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()
    model.metadata_props.clear()
