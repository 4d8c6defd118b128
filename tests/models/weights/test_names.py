from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.weights.loading import load_weights
from fieldmark.models.weights.names import rename_to_timm, rename_to_torchvision
from fieldmark.recipes.schema import Model

State = dict[str, torch.Tensor]
VIT, DISTILLED = "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"
OLD = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "attn.q": "attention.attention.query",
    "attn.k": "attention.attention.key",
    "attn.v": "attention.attention.value",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
NEW = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "attn.q": "attention.q_proj",
    "attn.k": "attention.k_proj",
    "attn.v": "attention.v_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}


def to_transformers(state: State, parts: dict[str, str], blocks: str, prefix: str) -> State:
    """Name a ViT of timm as transformers does; classifiers have no prefix."""
    distilled = "dist_token" in state
    heads = {"head": "cls_classifier" if distilled else "classifier"}
    heads["head_dist"] = "distillation_classifier"
    renamed = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        if name in OUTSIDE:
            renamed[f"{prefix}{OUTSIDE[name]}"] = tensor
        elif module in heads:
            renamed[f"{heads[module]}.{kind}"] = tensor
        elif module in OUTSIDE:
            renamed[f"{prefix}{OUTSIDE[module]}.{kind}"] = tensor
        else:
            _, index, part = module.split(".", 2)
            place = f"{prefix}{blocks}.{index}"
            if part == "attn.qkv":
                for letter, chunk in zip("qkv", tensor.chunk(3), strict=True):
                    renamed[f"{place}.{parts[f'attn.{letter}']}.{kind}"] = chunk
            else:
                renamed[f"{place}.{parts[part]}.{kind}"] = tensor
    return renamed


def build(name: str, *, size: int = 32, **keys: object) -> Classifier:
    model = Model(name=name, **keys)
    return build_classifier(model, num_classes=3, image_size=size)[0].eval()


def save(state: State, tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def is_same(classifier: torch.nn.Module, other: torch.nn.Module, size: int = 32) -> bool:
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        return torch.allclose(classifier.eval()(images), other.eval()(images), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parts", "blocks", "prefix"),
    [
        (VIT, OLD, "encoder.layer", "vit."),
        (VIT, OLD, "encoder.layer", ""),
        (VIT, NEW, "layers", "vit."),
        (DISTILLED, OLD, "encoder.layer", "deit."),
        (DISTILLED, NEW, "layers", "deit."),
    ],
)
def test_vit_of_transformers_gives_the_same_logits(
    name: str, parts: dict[str, str], blocks: str, prefix: str, tmp_path: Path
) -> None:
    net = timm.create_model(name, num_classes=3, img_size=32)
    torch.nn.init.normal_(net.pos_embed)
    file = to_transformers(net.state_dict(), parts, blocks, prefix)
    classifier = build(name)
    report = load_weights(classifier, save(file, tmp_path))
    assert report.is_head_kept and not (report.missing or report.skipped or report.resized)
    assert is_same(classifier, net)


def test_pooler_of_transformers_is_named_as_not_used(tmp_path: Path) -> None:
    state = to_transformers(build(VIT).backbone.state_dict(), OLD, "encoder.layer", "vit.")
    state["vit.pooler.dense.weight"] = torch.ones(192, 192)
    report = load_weights(build(VIT), save(state, tmp_path))
    assert report.skipped == (("pooler.dense.weight", "not in this network"),)


def test_incomplete_attention_is_not_joined() -> None:
    state = {
        "vit.embeddings.patch_embeddings.projection.weight": torch.ones(1),
        "vit.layers.0.attention.q_proj.weight": torch.ones(2, 2),
    }
    assert "blocks.0.attn.q.weight" in rename_to_timm(state)


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name,
        lambda name: re.sub(
            r"mlp\.([03])\.", lambda m: f"mlp.linear_{'1' if m[1] == '0' else '2'}.", name
        ),
    ],
    ids=["now", "before 0.15"],
)
def test_vit_of_torchvision_gives_the_same_logits(
    spell: Callable[[str], str], tmp_path: Path
) -> None:
    net = torchvision.models.VisionTransformer(
        image_size=32,
        patch_size=16,
        num_layers=12,
        num_heads=3,
        hidden_dim=192,
        mlp_dim=768,
        num_classes=3,
    )
    classifier = build(VIT)
    state = {spell(name): tensor for name, tensor in net.state_dict().items()}
    report = load_weights(classifier, save(state, tmp_path))
    assert report.is_head_kept and not (report.missing or report.skipped)
    assert is_same(classifier, net)


def test_resnet_of_torchvision_gives_the_same_logits(tmp_path: Path) -> None:
    net = torchvision.models.resnet18(num_classes=3)
    classifier = build("resnet18")
    report = load_weights(classifier, save(net.state_dict(), tmp_path))
    assert report.is_head_kept and not (report.missing or report.skipped)
    assert is_same(classifier, net)


def test_classifier_of_torchvision_becomes_the_head(tmp_path: Path) -> None:
    """At 64 px, where the wide layers see the same pooled grid as at 224 px."""
    net = torchvision.models.alexnet(num_classes=3)
    classifier = build("alexnet", size=64)
    report = load_weights(classifier, save(net.state_dict(), tmp_path))
    assert report.is_head_kept and not (report.missing or report.skipped)
    assert is_same(classifier, net, 64)


def test_wide_convolutions_of_timms_vgg_become_linear_layers() -> None:
    state = {
        "features.0.weight": torch.ones(1),
        "pre_logits.fc1.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
        "pre_logits.fc2.weight": torch.ones(2, 2, 1, 1),
        "head.fc.weight": torch.ones(4, 2),
    }
    renamed = rename_to_torchvision(state)
    assert {name: tuple(tensor.shape) for name, tensor in renamed.items()} == {
        "features.0.weight": (1,),
        "classifier.0.weight": (2, 12),
        "classifier.3.weight": (2, 2),
        "classifier.6.weight": (4, 2),
    }
    assert torch.equal(renamed["classifier.0.weight"].flatten(), torch.arange(24.0))


@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_resnet_files_come_with_their_classifier(depth: int, shared: Path) -> None:
    (path,) = (shared / "weights").glob(f"resnet{depth}-*.th")
    classifier, report = build_classifier(
        Model(name=f"resnet{depth}-cifar", weights=str(path)), num_classes=10, image_size=32
    )
    assert report is not None
    assert report.is_head_kept and not (report.missing or report.skipped)
    assert classifier.head.weight.shape == (10, 64)
