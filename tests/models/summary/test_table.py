"""Summaries against the lecture's tables, against torchinfo and against what training holds."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchinfo
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.errors import ImageSizeError, ModelError, UnknownModelError
from fieldmark.models.summary.table import LayerRow, Summary, summarize
from fieldmark.recipes.schema import Model, Optim

EXTRA_BYTES = 64
"""What torchinfo adds to the images: Python's own room for their shape."""


def with_weights(summary: Summary) -> list[LayerRow]:
    return [row for row in summary.rows if row.parameters]


def test_alexnet_agrees_with_the_lecture_to_the_last_digit() -> None:
    """Spec 3: parameters of each layer, 714,682,664 multiply-adds, 248.96 MB."""
    summary = summarize("alexnet")
    assert [row.parameters for row in with_weights(summary)] == [
        *(23_296, 307_392, 663_936, 884_992, 590_080),
        *(37_752_832, 16_781_312, 4_097_000),
    ]
    assert summary.parameters == summary.trainable_parameters == 61_100_840
    assert summary.mult_adds == 714_682_664
    sizes = (summary.input_bytes, summary.forward_backward_bytes, summary.parameter_bytes)
    assert [f"{size / 1e6:.3f}" for size in sizes] == ["0.602", "3.953", "244.403"]
    assert f"{summary.total_bytes / 1e6:.2f}" == "248.96"
    assert summary.total_bytes == sum(sizes)


def test_alexnet_agrees_with_johnsons_table() -> None:
    """Spec 3, at 227 px: sizes in KiB, thousands of parameters, millions of multiply-adds.

    The table leaves out the biases of the wide layers, and its 145 at conv4 is a slip for the
    150 that its own numbers give.
    """
    rows = {row.name: row for row in summarize("alexnet", image_size=227).layers}
    features = [rows[f"backbone.features.{index}"] for index in (0, 2, 3, 5, 6, 8, 10, 12)]
    wide = [rows[name] for name in ("backbone.classifier.1", "backbone.classifier.4", "head")]
    flat = rows["backbone.classifier.0"]  # dropout on what was flattened
    chain = [*features, flat, *wide]
    kibibytes = [row.activation_bytes / 1024 for row in chain]
    assert [round(size) for size in kibibytes] == [
        *(784, 182, 547, 127, 254, 169, 169, 36, 36, 16, 16, 4)
    ]
    without_bias = [row.parameters - row.output_shape[0] * (row in wide) for row in chain]
    assert [round(count / 1e3) for count in without_bias] == [
        *(23, 0, 307, 0, 664, 885, 590, 0, 0, 37_749, 16_777, 4_096)
    ]
    printed = [73, 0, 224, 0, 112, 145, 100, 0, 0, 38, 17, 4]
    printed[5] = 150
    assert [round(row.mult_adds / 1e6) for row in chain] == printed
    assert features[0].output_shape == (64, 56, 56)


@pytest.mark.parametrize(
    ("name", "patch", "gigas", "parameters"),
    [
        ("vit_base_patch16_224", 16, "5.64", 88_206_527),
        ("vit_base_patch32_224", 32, "1.49", 89_939_135),
        ("vit_large_patch16_224", 16, "19.91", 306_511_039),
    ],
)
def test_vision_transformers_count_attention_too(
    name: str, patch: int, gigas: str, parameters: int
) -> None:
    """Spec 1.7, at 128 px for 3,263 classes: 5.64, 1.49 and 19.9 G."""
    summary = summarize(name, image_size=128, num_classes=3263)
    assert f"{summary.mult_adds / 1e9:.2f}" == gigas
    assert summary.parameters == parameters
    width = 1024 if "large" in name else 768
    tokens = (128 // patch) ** 2 + 1
    attention = [row for row in summary.rows if row.kind == "Attention"]
    assert {row.mult_adds for row in attention} == {2 * tokens**2 * width}


def test_ifa_head_adds_one_weight_per_layer_and_one() -> None:
    plain = summarize("vit_tiny_patch16_224", image_size=32, num_classes=7)
    ifa = summarize("vit_tiny_patch16_224", image_size=32, num_classes=7, model=Model(head="ifa"))
    assert ifa.parameters - plain.parameters == 12 + 1


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "regnetx_002"]
)
def test_totals_are_those_of_torchinfo(name: str) -> None:
    """It also counts norms, and linear layers on tokens once: so convolutional networks here."""
    network = timm.create_model(name).eval()
    size = network.default_cfg["input_size"][-1]
    summary = summarize(network, image_size=size, batch_size=2)
    told = torchinfo.summary(network, (2, 3, size, size), verbose=0, device="cpu")
    assert summary.parameters == told.total_params
    assert summary.trainable_parameters == told.trainable_params
    assert summary.input_bytes == told.total_input - EXTRA_BYTES
    assert summary.forward_backward_bytes == told.total_output_bytes
    counted = [
        layer.macs
        for layer in told.summary_list
        if layer.is_leaf_layer and ("Conv" in layer.class_name or "Linear" in layer.class_name)
    ]
    assert 2 * summary.mult_adds == sum(counted)


def test_alexnet_is_that_of_torchinfo_without_exceptions() -> None:
    network = torchvision.models.alexnet()
    told = torchinfo.summary(network, (1, 3, 224, 224), verbose=0, device="cpu")
    summary = summarize(network)
    assert summary.mult_adds == told.total_mult_adds == 714_682_664
    sizes = (told.total_input - EXTRA_BYTES, told.total_output_bytes, told.total_param_bytes)
    assert summary.total_bytes == sum(sizes)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "lecture-net"])
def test_layers_add_up_to_the_totals(name: str) -> None:
    summary = summarize(name, num_classes=10)
    for what in ("parameters", "trainable_parameters", "mult_adds"):
        total = getattr(summary, what)
        assert sum(getattr(layer, what) for layer in summary.layers) == total
        assert sum(getattr(row, what) for row in summary.rows) == total


def test_lecture_net_has_62006_parameters() -> None:
    summary = summarize("lecture-net", num_classes=10)
    counts = [row.parameters for row in with_weights(summary)]
    assert counts == [456, 2_416, 48_120, 10_164, 850]
    assert summary.parameters == 62_006


def test_modules_called_twice_count_their_parameters_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, images: Tensor) -> Tensor:
            return self.conv(self.conv(images)).mean(dim=(2, 3))

    summary = summarize(Twice(), image_size=8)
    assert [row.name for row in summary.rows] == ["", "conv", "conv"]
    assert summary.parameters == 84
    assert summary.mult_adds == 2 * 84 * 64


def test_weights_that_only_their_parent_reads_are_counted() -> None:
    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.stem = nn.Conv2d(3, 8, 4, stride=4)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.stem(images).flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens)[0].mean(dim=1)

    network = Attentive()
    summary = summarize(network, image_size=16)
    assert summary.parameters == sum(p.numel() for p in network.parameters())
    projection = next(row for row in summary.rows if row.name == "attention.out_proj")
    assert projection.parameters == 72 and projection.output_shape == ()


def test_the_given_network_stays_as_it_is() -> None:
    network = timm.create_model("test_resnet").train()
    before = copy.deepcopy(network.state_dict())
    summarize(network, image_size=64)
    assert network.training and all(p.device.type == "cpu" for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_frozen_backbones_train_their_head_alone() -> None:
    summary = summarize("resnet18", num_classes=176, model=Model(freeze="backbone"))
    whole = summarize("resnet18", num_classes=176)
    assert summary.parameters == whole.parameters == 11_266_800
    assert summary.trainable_parameters == 512 * 176 + 176
    assert summary.training.gradients == 4 * summary.trainable_parameters
    assert summary.training.activations < whole.training.activations / 50


def test_training_memory_counts_every_kept_tensor_once() -> None:
    """Counted by hand: the images, the convolution's output after ReLU in place, its mean."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 5)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(functional.relu_(self.conv(images)).mean(dim=(2, 3)))

    summary = summarize(Small(), image_size=10, batch_size=8)
    images, maps, pooled = 3 * 100, 4 * 64, 4
    logits, labels = 5, 2  # log-probabilities; labels are 8 bytes each
    per_image = images + maps + pooled + logits + labels
    assert summary.training.activations == pytest.approx(4 * 8 * per_image, abs=16)
    assert summary.training.total == summary.training.activations + 4 * summary.parameters * 4


@pytest.mark.parametrize(
    ("optim", "states"),
    [
        (Optim(name="adamw"), 2),
        (Optim(name="adam"), 2),
        (Optim(name="sgd", momentum=0.9), 1),
        (Optim(name="sgd", momentum=0.0), 0),
    ],
)
def test_optimizers_keep_what_they_keep(optim: Optim, states: int) -> None:
    training = summarize("test_resnet", image_size=32, optim=optim).training
    assert training.optimizer_state == states * training.gradients
    assert training.optimizer == optim.name


def test_training_memory_grows_with_the_batch_alone() -> None:
    one, four, eight = (
        summarize("test_resnet", image_size=32, batch_size=size).training for size in (1, 4, 8)
    )
    assert one.activations < four.activations < eight.activations
    assert eight.activations - four.activations == pytest.approx(
        (four.activations - one.activations) * 4 / 3, rel=1e-3
    )
    assert one.parameters == eight.parameters


def test_attention_keeps_no_products_for_backward() -> None:
    """Four times the tokens: four times the memory, not sixteen times."""
    small, large = (
        summarize("vit_tiny_patch16_224", image_size=size, batch_size=2).training.activations
        for size in (112, 224)
    )
    assert 3.8 < large / small < 4.0  # 197 tokens for 50


def test_networks_that_need_numbers_are_run() -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images)
            return (maps if maps.sum().item() > 0 else -maps).mean(dim=(2, 3))

    network = Asking()
    summary = summarize(network, image_size=10, batch_size=2)
    assert summary.mult_adds == 112 * 64
    assert summary.training.activations > 0


def test_tags_take_part() -> None:
    plain = summarize("vit_tiny_patch16_224", image_size=32)
    tags = summarize("vit_tiny_patch16_224", image_size=32, model=Model(tags="whole"))
    block = next(row for row in tags.rows if row.name == "backbone.blocks.0")
    assert block.output_shape == (4 + 1 + 32, 192)
    assert tags.parameters > plain.parameters


def test_faults_are_told() -> None:
    with pytest.raises(UnknownModelError, match="Did you mean 'alexnet'"):
        summarize("alexnt")
    with pytest.raises(ImageSizeError, match="64 px"):
        summarize("vit_tiny_patch16_224", image_size=50)
    with pytest.raises(ModelError, match="num_classes"):
        summarize("resnet18", num_classes=0)
    with pytest.raises(ImageSizeError, match="cannot read images of 8 px"):
        summarize(nn.Conv2d(3, 4, 11), image_size=8)
