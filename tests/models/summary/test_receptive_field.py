"""Receptive fields against published tables and against gradients."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from fieldmark.models.classifier import build_classifier
from fieldmark.models.summary.axes import Span, plain, regroup, resize, step_of
from fieldmark.models.summary.tracing import make_hollow, trace
from fieldmark.models.vit.patches import token_reach_px
from fieldmark.recipes.schema import Model, Patches


def read_fields(network: nn.Module, image_size: int = 224) -> dict[str, object]:
    """Field of each module by name; of the last call, where there are several."""
    hollow = make_hollow(network).eval()
    images = torch.empty(1, 3, image_size, image_size, device="meta")
    calls = trace(hollow, images, lambda: hollow(images))
    return {call.name: call.receptive_field for call in calls}


def measure_field(network: nn.Module, image_size: int) -> int:
    """Side of the part of the image that the middle value of the last map depends on."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.01)  # no weight cancels another
    images = torch.rand(1, 3, image_size, image_size, requires_grad=True)
    maps = network.double()(images.double())
    middle = maps.shape[-1] // 2
    (gradient,) = torch.autograd.grad(maps[0, :, middle, middle].sum(), images)
    touched = gradient[0].abs().sum(dim=0).nonzero()
    sides = touched.max(dim=0).values - touched.min(dim=0).values + 1
    assert sides[0] == sides[1]
    return int(sides[0])


def test_alexnet_and_vgg_agree_with_the_published_table() -> None:
    """Araujo et al. 2019: alexnet_v2 195, vgg_16 212, both at their last pool."""
    with torch.device("meta"):
        alexnet, vgg = (read_fields(build()) for build in (models.alexnet, models.vgg16))
    steps = [alexnet[f"features.{index}"] for index in (0, 2, 3, 5, 6, 8, 10, 12)]
    assert steps == [11, 19, 51, 67, 99, 131, 163, 195]
    assert vgg["features.30"] == 212


def test_resnet50_agrees_with_the_published_table() -> None:
    """483 with the strides in the first convolutions of each stage, as in He et al. 2016.

    torchvision has them in the 3 x 3 convolutions, whose kernels then see nearer values: 427.
    """
    network = models.resnet50()
    assert read_fields(network)["layer4"] == 427
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    assert read_fields(network)["layer4"] == 483


def test_the_field_does_not_depend_on_the_image_size() -> None:
    network = models.resnet50()
    assert read_fields(network, 32)["layer4"] == read_fields(network, 320)["layer4"] == 427


class SmallNet(nn.Module):
    """Strides, dilation, unequal paths, a concatenation and pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 5, stride=2, padding=2)
        self.wide = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.narrow = nn.Conv2d(4, 4, 1)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.deep = nn.Conv2d(8, 4, 3, padding=1, groups=2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        maps = self.pool(self.wide(maps) + self.narrow(maps))
        return self.deep(torch.cat([maps, functional.avg_pool2d(maps, 3, 1, 1)], dim=1))


def test_the_formula_agrees_with_gradients() -> None:
    network = SmallNet()
    fields = read_fields(network, 96)
    assert (fields["stem"], fields["wide"], fields["narrow"], fields["pool"]) == (5, 13, 5, 17)
    assert fields["deep"] == measure_field(network, 96) == 33


def test_other_ways_to_write_a_convolution_have_its_field() -> None:
    class Written(nn.Module):
        """Patches of 4 px cut out by a reshape, then 3 x 3 neighbours of them."""

        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(48, 8)
            self.look = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, images: Tensor) -> Tensor:
            side = images.shape[-1] // 4
            cut = images.reshape(-1, 3, side, 4, side, 4).permute(0, 2, 4, 3, 5, 1)
            tokens = self.project(cut.flatten(3).flatten(1, 2))  # (B, N, 8)
            return self.look(tokens.transpose(1, 2).unflatten(2, (side, side)))

    network = Written()
    fields = read_fields(network, 32)
    assert (fields["project"], fields["look"]) == (4, 12)
    assert measure_field(network, 32) == 12


@pytest.mark.parametrize(
    ("name", "px"),
    [("vit_tiny_patch16_224", 16), ("eva02_tiny_patch14_224", 14), ("mixer_s32_224", 32)],
)
def test_a_token_sees_its_patch_and_everything_after_mixing(name: str, px: int) -> None:
    with torch.device("meta"):
        fields = read_fields(timm.create_model(name))
    patch = next(field for module, field in fields.items() if module.endswith(".proj"))
    assert patch == px
    assert fields["blocks.0.norm1"] == patch
    assert fields["blocks.0"] == fields["blocks.7"] == fields[""] == "all"


@pytest.mark.parametrize(("kind", "px"), [("plain", 6), ("shifted", 12), ("rotated", 24)])
def test_other_patches_widen_what_a_token_sees(kind: str, px: int) -> None:
    """Twice the patch with shifts; 11.4 px on top, rounded up, with rotations (spec 2.1)."""
    model = Model(name="vit-small-data", patches=kind)
    classifier, _ = build_classifier(model, num_classes=3, image_size=72)
    images = torch.zeros(1, 3, 72, 72)
    calls = trace(classifier.eval(), images, lambda: classifier(images))
    fields = {call.name: call.receptive_field for call in calls}
    assert fields["backbone.patch_embed"] == fields["backbone.blocks.0.norm1"] == px
    assert fields["backbone.blocks.0"] == "all"
    assert px - 1 < token_reach_px(Patches(kind=kind), 6, 72) <= px


def test_windows_of_attention_see_windows() -> None:
    with torch.device("meta"):
        fields = read_fields(timm.create_model("swin_tiny_patch4_window7_224"))
    assert fields["patch_embed"] == 4
    assert fields["layers.0.blocks.0"] == 4 + 6 * 4 == 28


def test_gates_do_not_make_everything_see_all() -> None:
    with torch.device("meta"):
        fields = read_fields(timm.create_model("efficientnet_b0"))
    assert fields["blocks.0.0.se"] is not None
    assert fields["blocks"] == 851
    assert fields["global_pool"] == "all"


def test_norms_widen_nothing() -> None:
    norms = (nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LocalResponseNorm(5))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.Conv2d(4, 4, 3))
    assert [read_fields(network, 32)[str(index)] for index in range(6)] == [3, 3, 3, 3, 3, 5]


def test_what_is_not_understood_is_not_invented() -> None:
    class Shuffled(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(2).sort(dim=2).values

    assert read_fields(nn.Sequential(nn.Conv2d(3, 4, 3), Shuffled()))["1"] is None


def test_axes_divide_and_join() -> None:
    rows, columns = (Span(8, (1.0, 0.0)),), (Span(8, (0.0, 1.0)),)
    patches = regroup((rows, columns), (2, 4, 2, 4))
    assert patches is not None
    assert [step_of(axis) for axis in patches] == [(4, 0), (1, 0), (0, 4), (0, 1)]
    assert regroup(patches, (8, 8)) == (rows, columns)
    assert regroup((plain(6),), (2, 3)) == (plain(2), plain(3))
    assert regroup((rows,), (3, 3)) is None


def test_axes_keep_their_step_when_cut_and_padded() -> None:
    rows = (Span(8, (2.0, 0.0)),)
    assert resize(rows, 10) == (Span(10, (2.0, 0.0)),)
    assert resize(rows, 4, stride=2) == (Span(4, (4.0, 0.0)),)
