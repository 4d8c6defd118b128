from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from scipy.ndimage import zoom

from fieldmark.errors import WeightsError
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.weights.loading import load_weights
from fieldmark.recipes.schema import Model

VIT, RESNET = "vit_tiny_patch16_224", "resnet10t"
DISTILLED = "deit_tiny_distilled_patch16_224"


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


def test_positions_reach_another_grid_with_corners_on_corners(tmp_path: Path) -> None:
    """As Animesion loads them: from 224 px to 128 px with scipy's zoom of order 1."""
    net = timm.create_model(VIT, num_classes=3)
    path = save(net.state_dict(), tmp_path)
    classifier, other = build(VIT, size=128), build(VIT, size=128)
    report = load_weights(classifier, path, positions="corners")
    load_weights(other, path, positions="timm")
    published = net.pos_embed.detach().numpy()
    found = classifier.backbone.pos_embed.detach().numpy()
    grid = zoom(published[0, 1:].reshape(14, 14, 192), (8 / 14, 8 / 14, 1), order=1)
    assert np.array_equal(found[:, 0], published[:, 0])
    assert np.allclose(found[0, 1:], grid.reshape(64, 192), atol=1e-6)
    assert not np.allclose(found, other.backbone.pos_embed.detach().numpy(), atol=1e-3)
    assert report.resized == (("pos_embed", (1, 197, 192), (1, 65, 192)),)


def test_plain_deit_fills_a_distilled_network_as_far_as_it_goes(tmp_path: Path) -> None:
    net = timm.create_model("deit_tiny_patch16_224", num_classes=3, img_size=32)
    classifier = build(DISTILLED)
    before = classifier.head.distillation_token.weight.clone()
    report = load_weights(classifier, save(net.state_dict(), tmp_path))
    assert report.missing == ("dist_token",)
    assert torch.equal(classifier.head.class_token.weight, net.head.weight)
    assert torch.equal(classifier.head.distillation_token.weight, before)
    assert torch.equal(classifier.backbone.pos_embed[:, 2:], net.pos_embed[:, 1:])
    assert "only class_token.weight, class_token.bias came from the file" in report.render()
    assert "so random: dist_token." in report.render()


def test_distilled_deit_fills_a_plain_network(tmp_path: Path) -> None:
    net = timm.create_model(DISTILLED, num_classes=3, img_size=32)
    classifier = build("deit_tiny_patch16_224")
    report = load_weights(classifier, save(net.state_dict(), tmp_path))
    assert report.is_head_kept and not report.missing
    assert {name for name, _ in report.skipped} == {
        "dist_token",
        "head_dist.weight",
        "head_dist.bias",
    }
    assert torch.equal(classifier.head.weight, net.head.weight)
    assert torch.equal(classifier.backbone.pos_embed[:, 1:], net.pos_embed[:, 2:])


def test_last_norm_is_not_used_by_the_ifa_head(tmp_path: Path) -> None:
    net = timm.create_model(VIT, num_classes=3)
    classifier = build(VIT, head="ifa", size=64)
    report = load_weights(classifier, save(net.state_dict(), tmp_path), positions="corners")
    assert dict(report.skipped).keys() == {"norm.weight", "norm.bias"}
    assert not report.missing and report.head == "the file's is of another kind"


@pytest.mark.parametrize(("form", "num_unused"), [("added", 0), ("published", 2)])
def test_patches_of_ours_keep_or_replace_the_files(
    form: str, num_unused: int, tmp_path: Path
) -> None:
    """The rest is loaded and resampled as in timm's own network."""
    net = timm.create_model(VIT, num_classes=3)
    classifier = build(VIT, patches={"kind": "shifted", "form": form}, size=64)
    report = load_weights(classifier, save(net.state_dict(), tmp_path))
    assert [name for name, *_ in report.resized] == ["pos_embed"]
    unused = [name for name, _ in report.skipped]
    assert len(unused) == num_unused
    assert all(name.startswith("patch_embed.proj.") for name in unused)
    assert all(name.startswith("patch_embed.") for name in report.missing)


def test_tags_stay_random(tmp_path: Path) -> None:
    net = timm.create_model(VIT, num_classes=3, img_size=32)
    model = Model(name=VIT, tags={"tokenizer": "whole", "max_tokens": 8})
    classifier, _ = build_classifier(model, num_classes=3, image_size=32, tag_vocabulary_size=20)
    report = load_weights(classifier, save(net.state_dict(), tmp_path))
    assert report.is_head_kept
    assert report.missing and all(name.startswith("tags.") for name in report.missing)


def test_tag_decoder_comes_along_or_is_named(tmp_path: Path) -> None:
    proposing = {"tokenizer": "whole", "max_tokens": 4, "propose": "bert"}
    first, second, without = (
        build_classifier(
            Model.model_validate({"name": "test_vit", "tags": {**proposing, "propose": propose}}),
            num_classes=3,
            image_size=32,
            tag_vocabulary_size=20,
        )[0]
        for propose in ("bert", "bert", "off")
    )
    path = save(first.state_dict(), tmp_path)
    assert not load_weights(second, path).skipped
    assert first.tag_decoder is not None and second.tag_decoder is not None
    for name, tensor in first.tag_decoder.state_dict().items():
        assert torch.equal(second.tag_decoder.state_dict()[name], tensor)
    skipped = [name for name, _ in load_weights(without, path).skipped]
    assert skipped and all(name.startswith("tag_decoder.") for name in skipped)


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
