"""Every number of parameters that the papers and the specification give."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fieldmark.errors import ImageSizeError, ModelError
from fieldmark.models.catalog import find_model
from fieldmark.models.classic.records import CLASSIC_RECORDS
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.records import BackboneOptions
from fieldmark.recipes.schema import Model


def build_hollow(name: str, num_classes: int, image_size: int = 224, **keys: object) -> Classifier:
    """Shapes without numbers: no memory, no time."""
    with torch.device("meta"):
        return build_classifier(
            Model(name=name, **keys), num_classes=num_classes, image_size=image_size
        )[0]


def count(classifier: Classifier, *, trainable: bool = False) -> int:
    parameters = classifier.parameters()
    return sum(p.numel() for p in parameters if p.requires_grad or not trainable)


@pytest.mark.parametrize(
    ("name", "num_classes", "image_size", "parameters"),
    [
        ("lecture-net", 10, 32, 62_006),
        ("alexnet", 1000, 224, 61_100_840),
        ("vgg-a", 1000, 224, 132_863_336),
        ("vgg-a-lrn", 1000, 224, 132_863_336),
        ("vgg-b", 1000, 224, 133_047_848),
        ("vgg-c", 1000, 224, 133_638_952),
        ("vgg-d", 1000, 224, 138_357_544),
        ("vgg-e", 1000, 224, 143_667_240),
        ("leaf-vgg16", 176, 224, 118_200_304),
        ("resnet20-cifar", 10, 32, 269_722),
        ("resnet32-cifar", 10, 32, 464_154),
        ("resnet44-cifar", 10, 32, 658_586),
        ("resnet56-cifar", 5, 32, 852_693),
        ("resnet56-cifar", 10, 32, 853_018),
        ("resnet56-cifar", 100, 32, 858_868),
        ("resnet56-cifar", 200, 32, 865_368),
        ("resnet56-cifar-b", 10, 32, 855_770),
        ("se-resnet18", 1000, 224, 11_778_592),
        ("se-resnet34", 1000, 224, 21_958_868),
        ("se-resnet50", 1000, 224, 28_088_024),
        ("se-resnet101", 1000, 224, 49_326_872),
        ("se-resnet152", 1000, 224, 66_821_848),
        ("resnet18", 1000, 224, 11_689_512),
        ("resnet18", 176, 224, 11_266_800),
        ("resnet34", 1000, 224, 21_797_672),
        ("resnet50", 1000, 224, 25_557_032),
        ("resnet101", 1000, 224, 44_549_160),
        ("resnet152", 1000, 224, 60_192_808),
        ("efficientnet_b0", 1000, 224, 5_288_548),
        ("convnext_tiny", 1000, 224, 28_589_128),
        ("convnextv2_atto", 1000, 224, 3_708_400),
        ("deit_tiny_patch16_224", 1000, 224, 5_717_416),
        ("deit_tiny_distilled_patch16_224", 1000, 224, 5_910_800),
        ("deit_tiny_distilled_patch16_224", 5, 224, 5_526_730),
        ("vit_tiny_patch16_224", 1000, 224, 5_717_416),
        ("vit_small_patch16_224", 1000, 224, 22_050_664),
        ("vit_base_patch16_224", 1000, 224, 86_567_656),
        ("vit_base_patch32_224", 1000, 224, 88_224_232),
        ("vit_large_patch16_224", 1000, 224, 304_326_632),
        ("vit_large_patch32_224", 1000, 224, 306_535_400),
        ("vit_huge_patch14_224", 1000, 224, 632_045_800),
        ("vit_base_r50_s16_224", 1000, 224, 98_659_112),
    ],
)
def test_parameters_are_as_published(
    name: str, num_classes: int, image_size: int, parameters: int
) -> None:
    assert count(build_hollow(name, num_classes, image_size)) == parameters


def test_frozen_leaf_vgg_trains_the_two_layers_behind_the_convolutions() -> None:
    classifier = build_hollow("leaf-vgg16", 176, freeze="backbone")
    assert count(classifier, trainable=True) == 103_485_616


@pytest.mark.parametrize("record", CLASSIC_RECORDS, ids=lambda record: record.name)
def test_usual_size_works_and_names_agree(record) -> None:
    backbone = build_hollow(record.name, 3, record.image_size).backbone
    assert backbone.name in (record.name, record.name.replace("-", ""))
    assert record.source and record.description
    assert find_model(record.name) is record


@pytest.mark.parametrize(
    ("name", "smallest"), [("lecture-net", 16), ("alexnet", 63), ("vgg-d", 32), ("leaf-vgg16", 32)]
)
def test_smallest_size_works_and_is_named(name: str, smallest: int) -> None:
    backbone = build_hollow(name, 2, smallest).backbone
    features = backbone(torch.empty(1, 3, smallest, smallest, device="meta"))
    assert features.grid == (1, 1)
    with pytest.raises(ImageSizeError, match=f"smallest size is {smallest} px"):
        build_hollow(name, 2, smallest - 1)


@pytest.mark.parametrize("name", ["lecture-net", "alexnet", "vgg-a"])
def test_networks_without_batch_norm_refuse_others(name: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.norm: '{name}' has no batch norm"):
        build_hollow(name, 2, 64, norm="group")


@pytest.mark.parametrize("name", ["resnet20-cifar", "se-resnet18"])
@pytest.mark.parametrize("norm", ["layer", "instance", "group", "weight_standardized"])
def test_other_norms_change_no_parameter(name: str, norm: str) -> None:
    plain, changed = build_hollow(name, 2, 64), build_hollow(name, 2, 64, norm=norm)
    names = [(key, parameter.shape) for key, parameter in plain.named_parameters()]
    assert [(key, parameter.shape) for key, parameter in changed.named_parameters()] == names
    assert not any(key.endswith("running_mean") for key in changed.state_dict())


@pytest.mark.parametrize("name", ["alexnet", "vgg-a", "leaf-vgg16"])
def test_heads_that_read_layers_get_no_wide_layers(name: str) -> None:
    with torch.device("meta"):
        options = BackboneOptions(image_size=64, reads="layers")
        backbone = find_model(name).build_backbone(options)
    assert all(key.startswith("features.") for key in backbone.state_dict())
    assert backbone.width == max(backbone.layer_widths)


def test_dropout_is_the_designs_own_unless_given() -> None:
    own, given = build_hollow("alexnet", 2), build_hollow("alexnet", 2, dropout=0.25)
    assert own.backbone.classifier[0].p == 0.5
    assert given.backbone.classifier[0].p == 0.25
    assert build_hollow("leaf-vgg16", 2).head.dropout == 0.5
    assert build_hollow("leaf-vgg16", 2, head_dropout=0.1).head.dropout == 0.1


def test_records_import_no_torch() -> None:
    code = "import sys, fieldmark.models.classic.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
