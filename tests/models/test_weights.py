from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from fieldmark.errors import WeightsError
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.weights import load_weights
from fieldmark.recipes.schema import Model

VIT, RESNET = "vit_tiny_patch16_224", "resnet10t"


def build(name: str, *, classes: int = 3, size: int = 32, **keys: object) -> Classifier:
    model = Model(name=name, **keys)
    return build_classifier(model, num_classes=classes, image_size=size)[0]


def save(state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def is_same(classifier: torch.nn.Module, other: torch.nn.Module, size: int = 32) -> bool:
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        return torch.allclose(classifier.eval()(images), other.eval()(images), atol=1e-5)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_own_checkpoint_comes_back_whole(head: str, tmp_path: Path) -> None:
    first, second = build(VIT, head=head), build(VIT, head=head)
    report = load_weights(second, save(first.state_dict(), tmp_path))
    assert report.is_head_kept and not (report.missing or report.skipped or report.resized)
    assert report.loaded == len(first.backbone.state_dict())
    assert is_same(first, second)


def test_own_checkpoint_is_resampled_to_another_size(tmp_path: Path) -> None:
    first, second = build(VIT, size=48), build(VIT, size=64)
    report = load_weights(second, save(first.state_dict(), tmp_path))
    assert report.resized == (("pos_embed", (1, 10, 192), (1, 17, 192)),)
    assert report.is_head_kept


@pytest.mark.parametrize(
    "name", [VIT, RESNET, "convnext_atto", "deit_tiny_distilled_patch16_224", "dla46x_c"]
)
def test_timm_checkpoint_gives_timms_logits(name: str, tmp_path: Path) -> None:
    size = 64
    options = {"img_size": size} if "patch16" in name else {}
    net = timm.create_model(name, num_classes=3, **options)
    classifier = build(name, size=size)
    report = load_weights(classifier, save(net.state_dict(), tmp_path))
    assert report.is_head_kept and not report.missing
    assert is_same(classifier, net, size)


def test_torchvision_names_are_understood(tmp_path: Path) -> None:
    """timm's filter for DenseNet knows torchvision's names of 2017."""
    net = timm.create_model("densenet121", num_classes=3)
    old = {name.replace("norm1.", "norm.1."): tensor for name, tensor in net.state_dict().items()}
    classifier = build("densenet121")
    report = load_weights(classifier, save(old, tmp_path))
    assert not report.missing
    assert is_same(classifier, net)


def test_baseline_is_read_with_or_without_prefix(tmp_path: Path) -> None:
    first, second = (build("cnn-baseline", size=107) for _ in range(2))
    report = load_weights(second, save(first.backbone.state_dict(), tmp_path))
    assert not report.missing and not report.is_head_kept
    assert torch.equal(first.backbone.wide.weight, second.backbone.wide.weight)
    assert load_weights(second, save(first.state_dict(), tmp_path)).is_head_kept
    assert is_same(first, second, 107)


def test_head_of_other_classes_is_replaced_and_reported(tmp_path: Path) -> None:
    first, second = build(VIT, classes=7), build(VIT, classes=3)
    before = second.head.weight.clone()
    report = load_weights(second, save(first.state_dict(), tmp_path))
    assert torch.equal(second.head.weight, before)
    assert "The head is new" in report.render() and "(7, 192)" in report.render()


def test_head_of_another_kind_is_replaced_and_reported(tmp_path: Path) -> None:
    report = load_weights(
        build(VIT, head="mlp"), save(build(VIT, head="linear").state_dict(), tmp_path)
    )
    assert report.head == "the file's is of another kind"


def test_background_class_is_dropped(tmp_path: Path) -> None:
    net = timm.create_model(RESNET, num_classes=4)
    classifier = build(RESNET, classes=3)
    report = load_weights(classifier, save(net.state_dict(), tmp_path), label_offset=1)
    assert report.is_head_kept
    assert torch.equal(classifier.head.weight, net.fc.weight[1:])


def test_report_names_what_is_missing_and_what_was_not_used(tmp_path: Path) -> None:
    state = build(RESNET).state_dict()
    state["backbone.conv9.weight"] = state.pop("backbone.layer4.0.conv1.weight")
    state["backbone.bn1.weight"] = torch.ones(1)
    text = load_weights(build(RESNET), save(state, tmp_path)).render()
    assert "so random: bn1.weight, layer4.0.conv1.weight." in text
    assert "bn1.weight (shape (1,), here (64,))" in text
    assert "conv9.weight (not in this network)" in text


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in build(VIT).state_dict().items()}
    classifier = build(VIT)
    load_weights(classifier, save(state, tmp_path))
    assert classifier.backbone.pos_embed.dtype == torch.float32


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        (VIT, RESNET, r"only 0 of .* 'resnet10t' .*holds .*set model.name=vit_tiny_patch16_224"),
        ("resnet18", VIT, "set model.name=resnet18"),
        (VIT, "vit_small_patch16_224", "set model.name=vit_tiny_patch16_224"),
        (RESNET, "cnn-baseline-plain", "of another architecture"),
    ],
)
def test_weights_of_another_architecture_change_nothing(
    source: str, target: str, text: str, tmp_path: Path
) -> None:
    size = 112
    path = save(
        timm.create_model(source, img_size=size).state_dict()
        if source == VIT
        else timm.create_model(source).state_dict(),
        tmp_path,
    )
    classifier = build(target, size=size)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    with pytest.raises(WeightsError, match=text):
        load_weights(classifier, path)
    after = classifier.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    state = build(RESNET).state_dict()
    state["backbone.bn1.weight"][3] = torch.nan
    with pytest.raises(WeightsError, match=r"bn1\.weight holds values that are infinite"):
        load_weights(build(RESNET), save(state, tmp_path))
