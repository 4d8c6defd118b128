from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fieldmark.errors import ImageSizeError, ModelError
from fieldmark.models.catalog import find_model
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.features import Features
from fieldmark.models.records import BackboneOptions
from fieldmark.models.vit.records import SMALL_VIT_RECORDS, SmallVitDesign
from fieldmark.models.vit.small_vit import SmallDataViT
from fieldmark.recipes.schema import Model, Patches

NAMES = [record.name for record in SMALL_VIT_RECORDS]
PLAIN: dict[str, Any] = {}
SL = {"patches": "shifted", "attention": "local"}
ROT = {"patches": "rotated"}
RECIPES = pytest.mark.parametrize("keys", [PLAIN, SL, ROT], ids=["plain", "sl", "rot"])


def build(
    name: str = "vit-small-data", *, classes: int = 5, image_size: int = 24, **keys: Any
) -> Classifier:
    torch.manual_seed(0)
    model = Model(name=name, **keys)
    return build_classifier(model, num_classes=classes, image_size=image_size)[0]


def build_hollow(*args: Any, **keys: Any) -> Classifier:
    with torch.device("meta"):
        return build(*args, **keys)


def build_design(design: SmallVitDesign, image_size: int, **keys: Any) -> SmallDataViT:
    keys["patches"] = Patches(kind=keys.get("patches", "plain"), form="published")
    with torch.device("meta"):
        return SmallDataViT(design, image_size=image_size, **keys)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


PUBLISHED_COUNTS = [
    (PLAIN, 72, 5, 21_661_637),
    (PLAIN, 224, 5, 28_522_949),
    (PLAIN, 72, 10, 21_666_762),
    (PLAIN, 72, 100, 21_759_012),
    (PLAIN, 72, 200, 21_861_512),
    (SL, 72, 5, 21_690_373),
    (SL, 224, 5, 28_727_245),
    (SL, 72, 10, 21_695_498),
    (SL, 72, 100, 21_787_748),
    (SL, 72, 200, 21_890_248),
    (ROT, 72, 5, 21_704_621),
    (ROT, 224, 5, 28_828_613),
    (ROT, 72, 10, 21_709_746),
    (ROT, 72, 100, 21_801_996),
    (ROT, 72, 200, 21_904_496),
]


@pytest.mark.parametrize(("keys", "image_size", "classes", "expected"), PUBLISHED_COUNTS)
def test_as_published_it_has_the_parameters_of_the_notebooks(
    keys: dict[str, Any], image_size: int, classes: int, expected: int
) -> None:
    name = "vit-small-data-as-published" + ("-p16" if image_size == 224 else "")
    assert count(build_hollow(name, classes=classes, image_size=image_size, **keys)) == expected


@pytest.mark.parametrize(("keys", "expected"), [(PLAIN, 681_920), (SL, 710_656), (ROT, 724_904)])
def test_as_published_trunk_without_the_wide_layers(keys: dict[str, Any], expected: int) -> None:
    backbone = build_hollow("vit-small-data-as-published", image_size=72, **keys).backbone
    assert count(backbone) - count(backbone.wide) == expected


@pytest.mark.parametrize(
    ("keys", "expected"), [(PLAIN, 2_585_541), (SL, 2_614_273), (ROT, 2_628_525)]
)
def test_the_compact_one_has_the_parameters_nearest_to_the_papers(
    keys: dict[str, Any], expected: int
) -> None:
    assert count(build_hollow("vit-small-data", image_size=72, **keys)) == expected


@pytest.mark.parametrize(
    ("keys", "expected"), [(PLAIN, 2_918_341), (SL, 2_947_077), (ROT, 2_961_325)]
)
def test_counts_with_eight_blocks_and_the_mean(keys: dict[str, Any], expected: int) -> None:
    design = SmallVitDesign("any", patch_size=6, num_layers=8, pooling="mean")
    assert count(build_design(design, 72, **keys)) + 1024 * 5 + 5 == expected


@pytest.mark.parametrize(
    ("keys", "expected"), [(PLAIN, 2_566_085), (SL, 2_770_381), (ROT, 2_871_749)]
)
def test_counts_with_heads_of_usual_width_at_224_px(keys: dict[str, Any], expected: int) -> None:
    design = SmallVitDesign("any", patch_size=16, num_layers=8, pooling="mean", head_width=16)
    assert count(build_design(design, 224, **keys)) + 1024 * 5 + 5 == expected


def test_local_attention_starts_at_temperature_eight() -> None:
    backbone = build(**SL).backbone
    assert [block.attn.temperature.item() for block in backbone.blocks] == [8.0] * 4
    assert all(block.attn.temperature is None for block in build().backbone.blocks)


@RECIPES
@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name: str, keys: dict[str, Any]) -> None:
    classifier = build(name, image_size=48, **keys).train()
    classifier(torch.randn(4, 3, 48, 48)).square().sum().backward()
    assert not dead_parameters(classifier)


@RECIPES
@pytest.mark.parametrize("name", NAMES[::2])
def test_a_head_that_reads_layers_leaves_nothing_behind_the_blocks(
    name: str, keys: dict[str, Any]
) -> None:
    classifier = build(name, head="ifa", head_token_norm=True, **keys).train()
    images = torch.randn(4, 3, 24, 24)
    classifier(images).square().sum().backward()
    assert not dead_parameters(classifier)
    backbone = classifier.backbone.eval()
    features: Features = backbone(images, with_layers=True)
    assert backbone.width == 64
    assert torch.equal(features.pooled, features.layers[:, :, -1])
    assert not any(key.startswith(("norm", "wide")) for key in backbone.state_dict())


def dead_parameters(classifier: Classifier) -> list[str]:
    return [
        name
        for name, parameter in classifier.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0.0
    ]


def test_layers_are_the_means_of_each_blocks_tokens() -> None:
    backbone = build().backbone.eval()
    seen = []
    for block in backbone.blocks:
        block.register_forward_hook(lambda _, __, tokens: seen.append(tokens.mean(dim=1)))
    features = backbone(torch.randn(2, 3, 24, 24), with_layers=True)
    assert features.layers is not None and features.layers.shape == (2, 64, 4)
    assert torch.equal(features.layers, torch.stack(seen, dim=2))
    assert features.tokens.shape == (2, 16, 64)
    assert features.pooled.shape == (2, 1024)
    assert (features.grid, features.num_prefix) == ((4, 4), 0)
    assert (backbone.num_layers, backbone.stride, backbone.layer_widths) == (4, 6, (64,) * 4)


def test_embed_gives_what_the_first_block_reads_and_blocks_take_a_mask() -> None:
    backbone = build(attention="local").backbone.eval()
    seen = []
    backbone.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        backbone(images)
        tokens = backbone.embed(images)
        assert torch.equal(seen[0], tokens)
        changed = tokens.clone()
        changed[:, 10:] = torch.randn(2, 6, 64)
        mask = torch.arange(16) < 10
        block = backbone.blocks[1]
        assert torch.allclose(block(tokens, mask)[:, :10], block(changed, mask)[:, :10], atol=1e-6)
        assert not torch.allclose(block(tokens)[:, :10], block(changed)[:, :10], atol=1e-6)


def test_flattened_tokens_keep_their_places_and_the_mean_forgets_them() -> None:
    tokens = torch.randn(1, 16, 64)
    for name, is_same in (("vit-small-data", True), ("vit-small-data-as-published", False)):
        wide = build(name).backbone.eval().wide
        with torch.no_grad():
            assert torch.allclose(wide(tokens), wide(tokens.flip(1)), atol=1e-6) == is_same


def test_both_layers_of_the_mlp_have_an_activation() -> None:
    block = build().backbone.blocks[0].eval()
    with torch.no_grad():
        block.attn.proj.weight.zero_()
        block.fc2.weight.zero_()
        block.fc2.bias.fill_(-50.0)  # what a linear layer would pass on, GELU stops
        tokens = torch.randn(1, 3, 64)
        assert torch.allclose(block(tokens), tokens, atol=1e-6)


def test_it_starts_as_keras_starts_it() -> None:
    backbone = build("vit-small-data-as-published").backbone
    attention = backbone.blocks[0].attn
    expected = {
        attention.qkv: 0.03713,  # fans 64 * 4 and 64 * 64
        attention.proj: 0.10825,  # fans 4 * 64 and 4 * 64
        backbone.blocks[0].fc1: 0.17678,  # fans 64 and 128
        backbone.wide.fc2: 0.04419,  # fans 2048 and 1024
    }
    for layer, limit in expected.items():
        assert layer.weight.abs().max().item() == pytest.approx(limit, rel=0.02)
        assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.03)
        assert not layer.bias.any()
    assert 0.045 < backbone.pos_embed.abs().max() < 0.05


def test_dropout_is_that_of_the_recipe_in_blocks_and_a_half_around_the_wide_layers() -> None:
    backbone = build(dropout=0.1, drop_path=0.3).backbone
    for block in backbone.blocks:
        assert block.dropout.p == block.attn.attn_drop.p == 0.1
    rates = [block.drop_path.drop_prob for block in backbone.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert backbone.wide.dropout.p == 0.5
    backbone.train()
    assert (backbone(torch.randn(8, 3, 24, 24)).pooled == 0.0).float().mean() > 0.4


@RECIPES
def test_evaluation_is_deterministic_and_saved_weights_give_equal_logits(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    classifier, images = build(dropout=0.1, **keys).eval(), torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        logits = classifier(images)
        assert torch.equal(classifier(images), logits)
        assert torch.equal(copy.deepcopy(classifier)(images), logits)
        save_file(classifier.state_dict(), tmp_path / "model.safetensors")
        torch.manual_seed(1)
        model = Model(name="vit-small-data", **keys)
        again = build_classifier(model, num_classes=5, image_size=24)[0].eval()
        assert not torch.allclose(again(images), logits)
        again.load_state_dict(load_file(tmp_path / "model.safetensors"))
        assert torch.equal(again(images), logits)


@pytest.mark.parametrize("reads", ["pooled", "layers"])
def test_every_parameter_has_a_depth(reads: str) -> None:
    backbone = find_model("vit-small-data").build_backbone(
        BackboneOptions(image_size=24, reads=reads, attention="local")
    )
    depths = backbone.parameter_depths()
    assert depths.keys() == {name for name, _ in backbone.named_parameters()}
    assert set(depths.values()) == set(range(6 if reads == "pooled" else 5))
    assert depths["pos_embed"] == 0
    assert depths["blocks.0.attn.temperature"] == 1
    assert depths["blocks.3.fc2.bias"] == 4


@pytest.mark.parametrize(
    ("name", "image_size", "sizes"),
    [
        ("vit-small-data", 224, (222, 228)),
        ("vit-small-data-as-published", 64, (60, 66)),
        ("vit-small-data-p16", 72, (64, 80)),
        ("vit-small-data-p16", 8, (16,)),
    ],
)
def test_wrong_size_names_the_nearest_that_work(
    name: str, image_size: int, sizes: tuple[int, ...]
) -> None:
    with pytest.raises(ImageSizeError, match=r"data\.image_size") as caught:
        build(name, image_size=image_size)
    text = str(caught.value)
    assert " and ".join(f"{size} px" for size in sizes) in text
    assert f"Set data.image_size={sizes[-1]}." in text
    assert "-p16" in text
    for size in sizes:
        assert build_hollow(name, image_size=size).backbone.image_size == size


def test_a_norm_that_is_not_there_cannot_be_replaced() -> None:
    with pytest.raises(ModelError, match=r"Set model\.norm=own"):
        build(norm="group")


def test_records_name_the_usual_sizes() -> None:
    sizes = {record.name: record.image_size for record in SMALL_VIT_RECORDS}
    assert sizes == {name: 224 if name.endswith("p16") else 72 for name in NAMES}
    for record in SMALL_VIT_RECORDS:
        backbone = record.build_backbone(BackboneOptions(image_size=48))
        assert backbone.name == record.name
        assert backbone.stride == (16 if record.name.endswith("p16") else 6)
