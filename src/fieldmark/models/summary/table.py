"""`summarize`: what a network is made of and what it costs, layer by layer.

```python
summary = summarize("alexnet", num_classes=1000)
summary.parameters, summary.mult_adds  # 61,100,840 and 714,682,664
```

Multiply-adds are those of one image: (weights + bias) x output positions for convolutions and
linear layers, and the two products of attention, which belong to no layer with weights and count
at the attention module. Norms, activations, pools and additions count nothing. Sizes are those of
fp32 tensors in bytes; those of the forward and backward pass count twice the outputs of all
layers that have weights (the convention of torchinfo).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fieldmark.errors import ImageSizeError, ModelError
from fieldmark.models.catalog import find_model
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.summary.tracing import Call, expect_tensor, make_hollow, trace
from fieldmark.models.summary.training_memory import (
    Device,
    Precision,
    TrainingMemory,
    measure_training_memory,
)
from fieldmark.models.timm_backbone import UNFIT_ERRORS
from fieldmark.models.vit.plain_attention import take_plain_attention
from fieldmark.recipes.schema import Model, Optim

BYTES_PER_NUMBER = 4
USUAL_SIZE = 224


@dataclass(frozen=True)
class LayerRow:
    """One call of one module of the network.

    name: dotted; empty for the network itself. kind: its class.
    output_shape: for one image, without the batch axis; () where it was not called itself.
    parameters, trainable_parameters, mult_adds: its own, without those of the modules inside it,
        so that rows add up to the totals; parameters count at the first call.
    activation_bytes: of its output, for one image.
    receptive_field: px, "all" for the whole image, None where it is not known.
    is_leaf: no modules inside.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable_parameters: int
    mult_adds: int
    activation_bytes: int
    receptive_field: int | Literal["all"] | None
    is_leaf: bool


@dataclass(frozen=True)
class Summary:
    """A network at one image size and batch size.

    rows: every call, outermost modules first. mult_adds: per image.
    input_bytes, forward_backward_bytes: of the whole batch. parameter_bytes: without buffers.
    """

    name: str
    image_size: int
    num_classes: int
    batch_size: int
    rows: tuple[LayerRow, ...]
    parameters: int
    trainable_parameters: int
    mult_adds: int
    input_bytes: int
    forward_backward_bytes: int
    parameter_bytes: int
    training: TrainingMemory

    @property
    def total_bytes(self) -> int:
        """Input, outputs with their gradients, and parameters."""
        return self.input_bytes + self.forward_backward_bytes + self.parameter_bytes

    @property
    def layers(self) -> tuple[LayerRow, ...]:
        """The rows that compute or hold something themselves; they add up to the totals."""
        return tuple(
            row for row in self.rows if row.is_leaf or row.parameters > 0 or row.mult_adds > 0
        )


def summarize(
    network: str | nn.Module,
    *,
    image_size: int | None = None,
    num_classes: int = 1000,
    batch_size: int = 1,
    model: Model | None = None,
    optim: Optim | None = None,
    precision: Precision = "fp32",
    device: Device = "cpu",
) -> Summary:
    """Count what a network is made of, without computing anything.

    `network` is a name of the catalog or of timm, or a module from images (B, 3, H, H) to logits
    (B, K), which stays as it is. `image_size` in px; default: the network's own, for modules
    that have none 224. `num_classes` counts for names. `model` gives the other keys of a recipe
    (patches, head, tags, freeze ...); its weights are not loaded. `optim` names the optimizer
    whose state the training memory counts; default AdamW. `precision` and `device` are those
    of that training; all other numbers are of fp32.

    Raises `UnknownModelError`, `ModelError`, and `ImageSizeError` where the network cannot read
    images of that size.
    """
    for name, value in (("num_classes", num_classes), ("batch_size", batch_size)):
        if value < 1:
            raise ModelError(f"{name}: expected at least 1, not {value}")
    training = _Training(batch_size, optim or Optim(), precision, device)
    if isinstance(network, nn.Module):
        size = image_size or int(getattr(network, "image_size", USUAL_SIZE))
        return _measure(network, type(network).__name__, size, training)
    size = image_size or find_model(network).image_size
    wanted = (model or Model()).model_copy(update={"name": network})
    try:
        with torch.device("meta"):
            built = _build(wanted, num_classes, size)
        return _measure(built, network, size, training)
    except UNFIT_ERRORS:
        # Some networks need numbers while they are built, or while they run.
        return _measure(_build(wanted, num_classes, size), network, size, training)


@dataclass(frozen=True)
class _Training:
    """The step whose memory is asked for."""

    batch_size: int
    optim: Optim
    precision: Precision
    device: Device


def _build(model: Model, num_classes: int, image_size: int) -> Classifier:
    has_tags = model.tags.tokenizer != "off"
    return build_classifier(
        model,
        num_classes=num_classes,
        image_size=image_size,
        tag_vocabulary_size=model.tags.vocabulary_size if has_tags else 0,
        with_weights=False,
    )[0]


def _measure(network: nn.Module, name: str, image_size: int, training: _Training) -> Summary:
    try:
        calls = _trace(make_hollow(network), image_size, "meta")
    except UNFIT_ERRORS:
        if any(parameter.is_meta for parameter in network.parameters()):
            raise
        calls = _trace_whole(network, image_size)
    rows = tuple(_make_rows(calls))
    weighted = sum(row.activation_bytes for row in rows if row.is_leaf and row.parameters > 0)
    parameters = sum(row.parameters for row in rows)
    return Summary(
        name=name,
        image_size=image_size,
        num_classes=rows[0].output_shape[-1] if rows[0].output_shape else 0,
        batch_size=training.batch_size,
        rows=rows,
        parameters=parameters,
        trainable_parameters=sum(row.trainable_parameters for row in rows),
        mult_adds=sum(row.mult_adds for row in rows),
        input_bytes=training.batch_size * 3 * image_size**2 * BYTES_PER_NUMBER,
        forward_backward_bytes=2 * training.batch_size * weighted,
        parameter_bytes=parameters * BYTES_PER_NUMBER,
        training=_measure_training(network, image_size, training),
    )


def _trace(network: nn.Module, image_size: int, device: str) -> list[Call]:
    network.eval()
    images = torch.zeros(1, 3, image_size, image_size, device=device)
    return trace(network, images, _runner(network, images))


def _trace_whole(network: nn.Module, image_size: int) -> list[Call]:
    """Run the network itself on a black image, where it needs numbers."""
    modes = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        return _trace(network, image_size, str(device))
    except UNFIT_ERRORS as error:
        reason = str(error).strip().split("\n")[0]
        raise ImageSizeError(
            f"image_size: the network cannot read images of {image_size} px: {reason}"
        ) from error
    finally:
        for module, is_training in modes.items():
            module.training = is_training


def _measure_training(network: nn.Module, image_size: int, asked: _Training) -> TrainingMemory:
    """Count on a hollow copy, or on a real one where the network needs numbers to run."""

    # Autocast knows no meta device; torch's fake tensors take twice as long.
    is_exact = asked.precision == "fp32"

    def measure(copied: nn.Module, device: str) -> TrainingMemory:
        if (device, asked.precision) == ("cpu", "bf16") and isinstance(copied, Classifier):
            take_plain_attention(copied.backbone, image_size, _count_tags(copied))

        def run(count: int) -> Tensor:
            images = torch.zeros(count, 3, image_size, image_size, device=device)
            return expect_tensor(_runner(copied, images)())

        return measure_training_memory(
            copied,
            run,
            asked.batch_size,
            asked.optim,
            precision=asked.precision,
            device="cpu" if device == "cpu" else asked.device,
        )

    try:
        with nullcontext() if is_exact else FakeTensorMode(allow_non_fake_inputs=True):
            hollow = "meta" if is_exact else asked.device
            return measure(make_hollow(network, hollow), hollow)
    except UNFIT_ERRORS:
        if any(parameter.is_meta for parameter in network.parameters()):
            raise
        return measure(copy.deepcopy(network).cpu(), "cpu")


def _runner(network: nn.Module, images: Tensor) -> Callable[[], Any]:
    """How the network is called: with tags and all outputs where it has places for them."""
    if not isinstance(network, Classifier):
        return lambda: network(images)
    num_tags = _count_tags(network)
    if not num_tags:
        return lambda: network(images)
    ids = torch.ones(len(images), num_tags, dtype=torch.long, device=images.device)
    return lambda: network(images, ids, full=True)


def _count_tags(network: Classifier) -> int:
    """Places for tags."""
    embedding = getattr(network.backbone, "tags", None)
    return 0 if embedding is None else int(embedding.max_tokens)


def _make_rows(calls: Iterable[Call]) -> Iterable[LayerRow]:
    counted: set[int] = set()
    for call in calls:
        own = [p for p in call.module.parameters(recurse=False) if id(p) not in counted]
        counted.update(id(parameter) for parameter in own)
        shape = call.output_shape or ()
        shape = shape[1:] if shape[:1] == (1,) else shape
        yield LayerRow(
            name=call.name,
            kind=type(call.module).__name__,
            output_shape=shape,
            parameters=sum(p.numel() for p in own),
            trainable_parameters=sum(p.numel() for p in own if p.requires_grad),
            mult_adds=call.mult_adds,
            activation_bytes=prod(shape) * BYTES_PER_NUMBER if shape else 0,
            receptive_field=call.receptive_field,
            is_leaf=next(call.module.children(), None) is None,
        )
