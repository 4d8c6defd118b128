"""The ways to compute a classifier, each as a function of images and tags."""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fieldmark.errors import ExportError
from fieldmark.exporting.onnx_export import OPSET, export_onnx
from fieldmark.exporting.packages import need_package
from fieldmark.exporting.record import ArtifactRecord
from fieldmark.exporting.runtimes import Network, run_with_onnxruntime, run_with_openvino
from fieldmark.models.classifier import Classifier
from fieldmark.runs.predictor import Predictor
from fieldmark.transforms.pipelines import EvalTransform

if TYPE_CHECKING:
    import openvino

Backend = Callable[[Tensor, Tensor | None], Tensor]
"""images (B, 3, H, W) float32, ids of tags (B, T) or None -> logits (B, outputs)."""


def build_eager(predictor: Predictor) -> Backend:
    """The classifier as it is, with oneDNN's linear layers where those are faster."""
    classifier = predictor.classifier
    if predictor.device == "cpu" and onednn_linear_pays():
        classifier = copy.deepcopy(classifier)
        _swap_linear_layers(classifier)
    return lambda images, tags: classifier(images, tags)


def build_bf16(predictor: Predictor) -> Backend:
    """Weights and activations in bf16; a CNN with its norms folded and channels last.

    Where an operator has no bf16, autocast computes that one in fp32.
    """
    device_type = torch.device(predictor.device).type
    images = torch.zeros(1, 3, *_image_shape(predictor), device=predictor.device)
    converted = copy.deepcopy(predictor.classifier)
    fold_norms(converted, images)
    is_cnn = not any(isinstance(module, nn.LayerNorm) for module in converted.modules())
    layout = torch.channels_last if is_cnn else torch.contiguous_format
    converted = converted.to(torch.bfloat16)
    if is_cnn:
        converted = converted.to(memory_format=torch.channels_last)

    def compute(images: Tensor, tags: Tensor | None) -> Tensor:
        logits: Tensor = converted(images.to(torch.bfloat16, memory_format=layout), tags)
        return logits.float()

    try:
        with torch.inference_mode():
            compute(images, None)
    except (RuntimeError, NotImplementedError):
        original = predictor.classifier

        def autocast(images: Tensor, tags: Tensor | None) -> Tensor:
            with torch.autocast(device_type, dtype=torch.bfloat16):
                logits: Tensor = original(images, tags)
            return logits.float()

        return autocast
    return compute


def build_compiled(predictor: Predictor) -> Backend:
    """`torch.compile`; a smaller last batch is filled up, so that nothing is compiled twice."""
    compiled = torch.compile(predictor.classifier, dynamic=False)
    sizes: list[int] = []

    def compute(images: Tensor, tags: Tensor | None) -> Tensor:
        count = len(images)
        if not sizes or count > sizes[0]:
            sizes[:] = [count]
        missing = sizes[0] - count
        if missing:
            images = torch.cat([images, images[:1].expand(missing, -1, -1, -1)])
            tags = None if tags is None else torch.cat([tags, tags[:1].expand(missing, -1)])
        logits: Tensor = compiled(images, tags)
        return logits[:count]

    return compute


def build_onnxruntime(predictor: Predictor) -> Backend:
    """ONNX Runtime in fp32."""
    need_package("onnxruntime", extra="onnx", what="--backend onnxruntime")
    return _through_onnx(
        predictor, lambda path: run_with_onnxruntime(path, threads=torch.get_num_threads())
    )


def build_openvino(predictor: Predictor) -> Backend:
    """OpenVINO in fp32."""
    return _through_openvino(predictor, exact=True)


def build_openvino_bf16(predictor: Predictor) -> Backend:
    """OpenVINO with products in bf16, where the processor has them."""
    return _through_openvino(predictor, exact=False)


def _through_openvino(predictor: Predictor, *, exact: bool) -> Backend:
    need_package("openvino", extra="openvino", what="--backend openvino")
    _refuse_tags(predictor)
    graph = _CONVERTED.get(predictor.classifier)
    if graph is None:
        graph = _CONVERTED[predictor.classifier] = _convert(predictor)
    network = run_with_openvino(graph, threads=torch.get_num_threads(), exact=exact)
    return lambda images, _: torch.from_numpy(network(images.numpy()))


# Converted once for both precisions, and forgotten with the classifier.
_CONVERTED: WeakKeyDictionary[Classifier, openvino.Model] = WeakKeyDictionary()


def _convert(predictor: Predictor) -> openvino.Model:
    """OpenVINO's graph of a classifier, traced: an eighth of the time of a way through ONNX."""
    import openvino
    from openvino import frontend

    side = _image_shape(predictor)
    images = torch.zeros(2, 3, *side)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what tracing fixes shows below, and in the trial
            graph = openvino.convert_model(predictor.classifier, example_input=images)
    except (frontend.OpConversionFailure, frontend.GeneralFailure) as error:
        raise ExportError(f"OpenVINO cannot read this network: {error}") from error
    graph.reshape([-1, 3, *side])
    if not graph.output(0).partial_shape[0].is_dynamic:
        raise ExportError("OpenVINO fixes the number of images that this network takes at once")
    return graph


def _refuse_tags(predictor: Predictor) -> None:
    if predictor.encode_tags is not None:
        raise ExportError("the network reads tags, which only eager, bf16 and compiled compute")


def _through_onnx(predictor: Predictor, load: Callable[[Path], Network]) -> Backend:
    _refuse_tags(predictor)
    record = ArtifactRecord(
        task=predictor.task,
        class_names=predictor.class_names,
        transform=_transform(predictor).preparation.record.to_json(),
        model="",
        precision="fp32",
        opset=OPSET,
        threshold=None,
        weights="",
        version="",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(predictor.classifier, record, path)
        network = load(path)
    return lambda images, _: torch.from_numpy(network(images.numpy()))


def _transform(predictor: Predictor) -> EvalTransform:
    if not isinstance(predictor.transform, EvalTransform):
        raise ExportError("the image transform is not one of fieldmark's own")
    return predictor.transform


def _image_shape(predictor: Predictor) -> tuple[int, int]:
    side = _transform(predictor).preparation.record.image_size
    return side, side


def fold_norms(classifier: Classifier, images: Tensor) -> int:
    """Fold batch norms into the convolutions before them, in place; return how many.

    Which norm reads which convolution shows in one forward pass of `images`.
    """
    made: dict[int, nn.Conv2d] = {}
    alive: list[Tensor] = []  # else the id of a tensor could be given to another
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_convolution(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        alive.append(output)
        made[id(output)] = module

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])], module))

    hooks = [
        module.register_forward_hook(after_convolution)
        if isinstance(module, nn.Conv2d)
        else module.register_forward_pre_hook(before_norm)
        for module in classifier.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    with torch.inference_mode():
        classifier(images)
    for hook in hooks:
        hook.remove()
    once = [
        (convolution, norm)
        for convolution, norm in pairs
        if sum(c is convolution for c, _ in pairs) == 1 and sum(n is norm for _, n in pairs) == 1
    ]
    once = [(c, n) for c, n in once if n.running_mean is not None]
    for convolution, norm in once:
        _fold(convolution, norm)
        _replace(classifier, norm, _after_norm(norm))
    return len(once)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:  # it would normalise each batch by itself
        return
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        mean,
        variance,
        norm.eps,
        norm.weight,
        norm.bias,
    )


def _after_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """What a norm does besides: timm's have the activation inside."""
    parts = [getattr(norm, name, None) for name in ("drop", "act")]
    return nn.Sequential(*(part for part in parts if isinstance(part, nn.Module)))


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in root.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)


class _OneDnnLinear(nn.Module):
    """(..., D) -> (..., O) by oneDNN, forward only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, values: Tensor) -> Tensor:
        return _onednn_linear(values, self.weight, self.bias)


def _swap_linear_layers(classifier: Classifier) -> None:
    for parent in list(classifier.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, _OneDnnLinear(child))


def _onednn_linear(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")
    return found


_PAYS: list[bool] = []


def onednn_linear_pays() -> bool:
    """Whether oneDNN multiplies fp32 matrices right, and clearly faster than torch's default.

    On some AMD processors torch's default, MKL, leaves half of the speed unused. The operator is
    private to torch, so it is compared and timed once per process before anyone relies on it.
    """
    if not _PAYS:
        _PAYS.append(_measure_onednn())
    return _PAYS[0]


def _measure_onednn() -> bool:
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2048, 192, generator=generator)
    weight, bias = torch.randn(768, 192, generator=generator), torch.zeros(768)
    try:
        with torch.inference_mode():
            expected = nn.functional.linear(values, weight, bias)
            if not torch.allclose(_onednn_linear(values, weight, bias), expected, 1e-4, 1e-4):
                return False
            plain, other = [], []
            for _ in range(5):
                plain.append(_seconds(lambda: nn.functional.linear(values, weight, bias)))
                other.append(_seconds(lambda: _onednn_linear(values, weight, bias)))
    except (RuntimeError, TypeError):  # another torch, another signature
        return False
    return min(plain) > 1.2 * min(other)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
