from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from fieldmark.errors import WeightsError
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.weights import load_weights
from fieldmark.recipes.schema import Model

VIT = "vit_tiny_patch16_224"
NUM_HEADS, HEAD_WIDTH, WIDTH = 3, 64, 192


def build(name: str = VIT, *, classes: int = 3, size: int = 32) -> Classifier:
    return build_classifier(Model(name=name), num_classes=classes, image_size=size)[0]


def to_google(net: torch.nn.Module) -> dict[str, np.ndarray]:
    """Name and shape a ViT's weights as Google's JAX code does."""
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
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
        qkv = state[f"{ours}.attn.qkv.weight"].reshape(3, NUM_HEADS, HEAD_WIDTH, WIDTH)
        offsets = state[f"{ours}.attn.qkv.bias"].reshape(3, NUM_HEADS, HEAD_WIDTH)
        for place, part in enumerate(("query", "key", "value")):
            arrays[f"{attention}/{part}/kernel"] = qkv[place].transpose(2, 0, 1)
            arrays[f"{attention}/{part}/bias"] = offsets[place]
        output = state[f"{ours}.attn.proj.weight"].T.reshape(NUM_HEADS, HEAD_WIDTH, WIDTH)
        arrays[f"{attention}/out/kernel"] = output
        arrays[f"{attention}/out/bias"] = state[f"{ours}.attn.proj.bias"]
        for place in range(2):
            mlp, norm = f"{theirs}/MlpBlock_3/Dense_{place}", f"{theirs}/LayerNorm_{2 * place}"
            arrays[f"{mlp}/kernel"] = state[f"{ours}.mlp.fc{place + 1}.weight"].T
            arrays[f"{mlp}/bias"] = state[f"{ours}.mlp.fc{place + 1}.bias"]
            arrays[f"{norm}/scale"] = state[f"{ours}.norm{place + 1}.weight"]
            arrays[f"{norm}/bias"] = state[f"{ours}.norm{place + 1}.bias"]
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
