"""The IFA head, to the shapes and counts of Animesion."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fieldmark.errors import ModelError
from fieldmark.models.catalog import CATALOG, find_model
from fieldmark.models.classic.cnn_baseline import CnnBaseline
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.ifa_head import IfaHead
from fieldmark.recipes.schema import Model

NUM_CHARACTERS = 3263


def build(name: str, *, num_classes: int = 5, image_size: int = 64, **model: object) -> Classifier:
    section = Model.model_validate({"name": name, **model})
    return build_classifier(section, num_classes=num_classes, image_size=image_size)[0]


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_head_is_linear_over_layers_relu_norm_linear() -> None:
    head = IfaHead((6,) * 3, 4)
    tokens = torch.randn(2, 6, 3)
    joined = nn.functional.linear(tokens, head.join.weight, head.join.bias).squeeze(-1)  # (B, D)
    expected = head.output(head.norm(joined.relu()))
    torch.testing.assert_close(head(tokens), expected)
    assert head.norm.eps == 1e-12


def test_head_has_thirteen_weights_more_than_norm_and_linear() -> None:
    assert count_parameters(IfaHead((768,) * 12, NUM_CHARACTERS)) == 2_510_796
    linear = nn.ModuleList([nn.LayerNorm(768), nn.Linear(768, NUM_CHARACTERS)])
    assert count_parameters(linear) == 2_510_783


@pytest.mark.parametrize(
    ("name", "size", "plain", "joined"),
    [
        ("vit_base_patch16_224", 128, 88_206_527, 88_206_540),
        ("vit_base_patch32_224", 128, 89_939_135, 89_939_148),
        ("vit_large_patch16_224", 128, 306_511_039, 306_511_064),
        ("vit_large_patch32_224", 128, 308_821_183, 308_821_208),
        ("vit_base_patch16_224", 64, 88_169_663, 88_169_676),
        ("vit_base_patch32_224", 64, 89_929_919, 89_929_932),
    ],
)
def test_whole_model_gains_one_weight_per_layer_and_a_bias(
    name: str, size: int, plain: int, joined: int
) -> None:
    with torch.device("meta"):
        linear = build(name, num_classes=NUM_CHARACTERS, image_size=size)
        ifa = build(name, num_classes=NUM_CHARACTERS, image_size=size, head="ifa")
    assert count_parameters(linear) == plain
    assert count_parameters(ifa) == joined


def test_layers_are_the_class_tokens_of_the_stacked_sequences() -> None:
    classifier = build("vit_tiny_patch16_224", head="ifa").eval()
    images = torch.randn(2, 3, 64, 64)
    outputs: list[torch.Tensor] = []
    for block in classifier.backbone.blocks:  # type: ignore[attr-defined]
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    features = classifier.backbone(images, with_layers=True)
    full = torch.stack(outputs, dim=-1)  # (B, N, D, L), as the released code has it
    assert features.layers is not None
    torch.testing.assert_close(features.layers, full[:, 0], rtol=0, atol=0)
    assert features.layers.shape == (2, 192, 12)


def test_last_norm_of_the_encoder_is_not_built() -> None:
    keys = build("vit_tiny_patch16_224", head="ifa").state_dict()
    assert not [key for key in keys if key.startswith("backbone.norm")]


def test_mean_pooled_vit_gives_the_mean_of_its_patches() -> None:
    classifier = build("eva02_tiny_patch14_224", image_size=56, head="ifa").eval()
    backbone = classifier.backbone
    last: list[torch.Tensor] = []
    backbone.blocks[-1].register_forward_hook(lambda m, i, output: last.append(output))  # type: ignore[attr-defined]
    features = backbone(torch.randn(1, 3, 56, 56), with_layers=True)
    prefix = features.num_prefix
    assert features.layers is not None
    torch.testing.assert_close(features.layers[:, :, -1], last[0][:, prefix:].mean(dim=1))


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "eva02_tiny_patch14_224",
        "vit_small_patch14_reg4_dinov2",
        "resnet10t",
        "efficientnet_b0",
        "convnext_atto",
    ],
)
@pytest.mark.parametrize("options", [{}, {"head_token_norm": True, "head_layer_softmax": True}])
def test_gradient_reaches_every_parameter(name: str, options: dict[str, bool]) -> None:
    size = 56 if "patch14" in name else 64
    classifier = build(name, image_size=size, head="ifa", **options).train()
    classifier(torch.randn(2, 3, size, size)).square().sum().backward()
    assert [n for n, p in classifier.named_parameters() if p.grad is None] == []


def test_stages_of_a_cnn_are_projected_to_the_widest() -> None:
    head = build("resnet10t", head="ifa").head
    assert isinstance(head, IfaHead)
    shapes = [tuple(layer.weight.shape) for layer in head.projections]  # type: ignore[union-attr]
    assert shapes == [(512, width) for width in head.layer_widths]
    assert head.layer_widths[-4:] == (64, 128, 256, 512)


def test_softmax_weights_sum_to_one() -> None:
    head = IfaHead((8,) * 5, 3, layer_softmax=True)
    assert float(head.layer_weights.sum().detach()) == pytest.approx(1.0)
    assert head.join.bias is None


def test_zero_start_gives_equal_logits() -> None:
    classifier = build("vit_tiny_patch16_224", head="ifa", head_zero_init=True).eval()
    logits = classifier(torch.randn(3, 3, 64, 64))
    assert torch.equal(logits, torch.zeros_like(logits))


def test_network_without_stages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneConvolution(CnnBaseline):
        num_layers = 0
        layer_widths = ()

    record = replace(
        find_model("cnn-baseline-plain"),
        name="one-convolution",
        build_backbone=lambda options: OneConvolution(image_size=options.image_size),
    )
    monkeypatch.setitem(CATALOG, "one-convolution", record)
    with pytest.raises(ModelError, match="ifa joins layers, and 'one-convolution' gives none"):
        build("one-convolution", image_size=128, head="ifa")


def saved_bytes(classifier: Classifier, images: torch.Tensor) -> int:
    """Bytes kept for the backward pass, each storage once."""
    storages: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)  # so that no address is used twice
        storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        classifier(images)
    return sum(storages.values())


def test_vit_b_at_batch_256_keeps_less_than_ten_megabytes_more() -> None:
    with torch.device("meta"):
        images = torch.empty(256, 3, 128, 128)
        options = {"num_classes": NUM_CHARACTERS, "image_size": 128}
        linear = build("vit_base_patch16_224", **options).train()  # type: ignore[arg-type]
        ifa = build("vit_base_patch16_224", head="ifa", **options).train()  # type: ignore[arg-type]
    extra = saved_bytes(ifa, images) - saved_bytes(linear, images)
    assert extra < 10e6
