from __future__ import annotations

import copy
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from fieldmark.data.samples import draw_sample
from fieldmark.models.backbones import Backbone, is_convolutional
from fieldmark.models.classifier import build_classifier
from fieldmark.models.features import Features
from fieldmark.models.side_by_side import lay_side_by_side
from fieldmark.recipes.schema import Model, Optim
from fieldmark.training import assembly
from fieldmark.training.layout import choose_memory_format
from fieldmark.training.optimizers import build_optimizer
from fieldmark.verbs import train


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "cnn-baseline", "resnet20-cifar"])
def test_cnns_work_channels_last(name: str) -> None:
    classifier, _ = build_classifier(Model(name=name), num_classes=3, image_size=128)
    assert choose_memory_format(classifier.backbone, 128) == torch.channels_last


@pytest.mark.parametrize(
    ("name", "patches", "size"),
    [
        ("vit_tiny_patch16_224", "plain", 128),
        ("vit_tiny_patch16_224", "rotated", 128),
        ("vit-small-data", "plain", 72),
    ],
)
def test_vision_transformers_stay_as_they_are(name: str, patches: str, size: int) -> None:
    model = Model.model_validate({"name": name, "patches": patches})
    classifier, _ = build_classifier(model, num_classes=3, image_size=size)
    assert choose_memory_format(classifier.backbone, size) == torch.contiguous_format


def test_network_that_calls_view_on_its_maps_stays_as_it_is() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, images: Tensor) -> Features:
            maps = self.conv(images)
            return Features(maps.view(len(maps), -1), maps, (0, 0))

    backbone = Viewing()
    assert is_convolutional(backbone)  # type: ignore[arg-type]
    assert choose_memory_format(backbone, 16) == torch.contiguous_format  # type: ignore[arg-type]


def take_steps(name: str, memory_format: torch.memory_format, *, fused: bool) -> list[Tensor]:
    torch.manual_seed(0)
    classifier, _ = build_classifier(Model(name="resnet10t"), num_classes=3, image_size=48)
    classifier.to(memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = build_optimizer(classifier, Optim(name=name, lr=1e-3))  # type: ignore[arg-type]
    for group in optimizer.param_groups:
        group["fused"] = fused
    images = torch.randn(4, 3, 48, 48)
    targets = torch.tensor([0, 1, 2, 0])
    for _ in range(2):
        nn.functional.cross_entropy(classifier(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach() for parameter in classifier.parameters()]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_steps_channels_last_are_the_plain_steps(name: str) -> None:
    quick = take_steps(name, torch.channels_last, fused=True)
    plain = take_steps(name, torch.contiguous_format, fused=False)
    for one, other in zip(quick, plain, strict=True):
        # Adam's first steps are the sign of a gradient, whatever its size: at most lr off.
        assert torch.allclose(one, other, atol=2e-3 if name == "adamw" else 2e-5)


def test_probing_leaves_network_and_random_state_alone() -> None:
    classifier, _ = build_classifier(Model(name="resnet10t"), num_classes=3, image_size=48)
    before, state = copy.deepcopy(classifier.state_dict()), torch.get_rng_state()
    choose_memory_format(classifier.backbone, 48)
    assert torch.equal(torch.get_rng_state(), state)
    after = classifier.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None and p.device.type == "cpu" for p in classifier.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_bf16_on_a_cpu_changes_attention(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def note(backbone: object, image_size: int, num_tags: int) -> bool:
        asked.append(num_tags)
        return False

    monkeypatch.setattr(assembly, "take_plain_attention", note)
    settings = ["data.image_size=32", "optim.epochs=0", "device=cpu", f"precision={precision}"]
    table = draw_sample("leaves", num_images=24, num_classes=2)
    train(table, recipe="quick", overrides=settings, out=tmp_path / "run")
    assert asked == ([0] if precision == "bf16" else [])


@pytest.mark.parametrize(
    ("precision", "has_tiles"), [("bf16", True), ("bf16", False), ("fp32", True)]
)
def test_small_maps_lie_side_by_side_where_bf16_is_multiplied_in_tiles(
    precision: str, has_tiles: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def lay(backbone: Backbone) -> int:
        found.append(lay_side_by_side(backbone))
        return found[-1]

    monkeypatch.setattr(assembly, "multiplies_in_tiles", lambda: has_tiles)
    monkeypatch.setattr(assembly, "lay_side_by_side", lay)
    settings = ["model.name=resnet18", "data.image_size=32", "optim.epochs=1", "device=cpu"]
    table = draw_sample("leaves", num_images=24, num_classes=2)
    settings += [f"precision={precision}", "ema=0.9"]
    run = train(table, recipe="quick", overrides=settings, out=tmp_path / "run")

    assert found == ([4] if precision == "bf16" and has_tiles else [])
    timm.create_model(f"local-dir:{run.folder.best_dir}", pretrained=True)
