from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from scipy.ndimage import zoom

from fieldmark.errors import WeightsError
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.weights.loading import load_weights
from fieldmark.recipes.schema import Model

VIT = "vit_tiny_patch16_224"
HYBRID = "vit_small_r26_s32_224"
HEAD_WIDTH = 64


def build(name: str = VIT, *, classes: int = 3, size: int = 32) -> Classifier:
    return build_classifier(Model(name=name), num_classes=classes, image_size=size)[0]


def to_google(net: torch.nn.Module) -> dict[str, np.ndarray]:
    """Name and shape a ViT's weights as Google's JAX code does."""
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    width = state["cls_token"].shape[-1]
    num_heads = width // HEAD_WIDTH
    arrays = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for index in range(len(net.blocks)):
        ours, theirs = f"blocks.{index}", f"Transformer/encoderblock_{index}"
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        qkv = state[f"{ours}.attn.qkv.weight"].reshape(3, num_heads, HEAD_WIDTH, width)
        offsets = state[f"{ours}.attn.qkv.bias"].reshape(3, num_heads, HEAD_WIDTH)
        for place, part in enumerate(("query", "key", "value")):
            arrays[f"{attention}/{part}/kernel"] = qkv[place].transpose(2, 0, 1)
            arrays[f"{attention}/{part}/bias"] = offsets[place]
        output = state[f"{ours}.attn.proj.weight"].T.reshape(num_heads, HEAD_WIDTH, width)
        arrays[f"{attention}/out/kernel"] = output
        arrays[f"{attention}/out/bias"] = state[f"{ours}.attn.proj.bias"]
        for place in range(2):
            mlp, norm = f"{theirs}/MlpBlock_3/Dense_{place}", f"{theirs}/LayerNorm_{2 * place}"
            arrays[f"{mlp}/kernel"] = state[f"{ours}.mlp.fc{place + 1}.weight"].T
            arrays[f"{mlp}/bias"] = state[f"{ours}.mlp.fc{place + 1}.bias"]
            arrays[f"{norm}/scale"] = state[f"{ours}.norm{place + 1}.weight"]
            arrays[f"{norm}/bias"] = state[f"{ours}.norm{place + 1}.bias"]
    return arrays


def name_hybrid(net: torch.nn.Module) -> dict[str, np.ndarray]:
    """Name and shape the convolutions of a hybrid as Google's code did at first.

    Scales and offsets of its group norms have three axes of length 1 before the channels.
    """
    kernel = {"conv": "kernel", "weight": "scale", "bias": "bias"}
    arrays = {}
    for name, tensor in net.patch_embed.backbone.state_dict().items():
        name = name.replace("stem.conv.", "conv_root/").replace("stem.norm.", "gn_root/")
        name = re.sub(
            r"stages\.(\d)\.blocks\.(\d+)\.",
            lambda m: f"block{int(m[1]) + 1}/unit{int(m[2]) + 1}/",
            name,
        )
        name = name.replace("downsample.conv.", "conv_proj/").replace(
            "downsample.norm.", "gn_proj/"
        )
        name = re.sub(r"conv(\d)\.", r"conv\1/", re.sub(r"norm(\d)\.", r"gn\1/", name))
        place, _, kind = name.rpartition("/")
        if tensor.ndim == 4:
            arrays[f"{place}/{kernel['conv']}"] = tensor.numpy().transpose(2, 3, 1, 0)
        else:
            arrays[f"{place}/{kernel[kind]}"] = tensor.numpy().reshape(1, 1, 1, -1)
    return arrays


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(VIT, num_classes=3, img_size=32).eval()


@pytest.fixture(scope="module")
def google(net: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("google") / "ViT.npz"
    np.savez(path, **to_google(net))
    return path


def test_google_vit_gives_the_same_logits(net: torch.nn.Module, google: Path) -> None:
    classifier = build().eval()
    report = load_weights(classifier, google)
    assert report.is_head_kept and not (report.missing or report.skipped or report.resized)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(classifier(images), net(images), atol=1e-5)


def test_google_vit_is_resampled_to_another_size(google: Path) -> None:
    report = load_weights(build(size=48, classes=5), google)
    assert report.resized == (("pos_embed", (1, 5, 192), (1, 10, 192)),)
    assert not report.is_head_kept


def test_google_vit_is_resampled_with_corners_on_corners(
    net: torch.nn.Module, google: Path
) -> None:
    classifier = build(size=64)
    report = load_weights(classifier, google, positions="corners")
    published, found = (n.pos_embed.detach().numpy() for n in (net, classifier.backbone))
    grid = zoom(published[0, 1:].reshape(2, 2, 192), (2, 2, 1), order=1)
    assert np.array_equal(found[:, 0], published[:, 0])
    assert np.allclose(found[0, 1:], grid.reshape(16, 192), atol=1e-6)
    assert report.resized == (("pos_embed", (1, 5, 192), (1, 17, 192)),)


def test_google_vit_with_timms_positions_is_what_timm_loads(google: Path) -> None:
    classifier, twin = build(size=64), timm.create_model(VIT, num_classes=3, img_size=64)
    load_weights(classifier, google)
    twin.load_pretrained(str(google))
    assert torch.equal(classifier.backbone.pos_embed, twin.pos_embed)


def test_google_vit_fits_an_ifa_head_and_patches_of_ours(google: Path) -> None:
    model = Model(name=VIT, head="ifa", patches={"kind": "rotated", "form": "added"})
    classifier, _ = build_classifier(model, num_classes=3, image_size=32)
    report = load_weights(classifier, google, positions="corners")
    assert dict(report.skipped).keys() == {"norm.weight", "norm.bias"}
    assert all(name.startswith("patch_embed.") for name in report.missing)


def test_google_hybrid_gives_the_same_logits(tmp_path: Path) -> None:
    """The names of R50+ViT-B/16, in the smallest hybrid that has all of them."""
    net = timm.create_model(HYBRID, num_classes=3, img_size=64).eval()
    for parameter in net.patch_embed.backbone.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
    np.savez(tmp_path / "hybrid.npz", **to_google(net), **name_hybrid(net))
    classifier = build(HYBRID, size=64).eval()
    report = load_weights(classifier, tmp_path / "hybrid.npz")
    assert report.is_head_kept and not (report.missing or report.skipped)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(classifier(images), net(images), atol=1e-4)


def test_google_vit_of_another_width_changes_nothing(google: Path) -> None:
    classifier = build("vit_small_patch16_224")
    before = classifier.backbone.patch_embed.proj.weight.clone()
    with pytest.raises(WeightsError, match="another architecture than 'vit_small_patch16_224'"):
        load_weights(classifier, google)
    assert torch.equal(classifier.backbone.patch_embed.proj.weight, before)


@pytest.mark.parametrize("name", ["resnet10t", "cnn-baseline"])
def test_other_networks_do_not_read_npz(name: str, google: Path) -> None:
    with pytest.raises(WeightsError, match=f"which '{name}' cannot read"):
        load_weights(build(name, size=112), google)


def test_python_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **{"head/kernel": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(WeightsError, match="would run code"):
        load_weights(build(), path)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_truncated_file_is_named(share: float, google: Path, tmp_path: Path) -> None:
    data, path = google.read_bytes(), tmp_path / "weights.npz"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(build(), path)
