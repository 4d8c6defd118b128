from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.weights.timm_format import from_timm_state, timm_config, to_timm_state
from fieldmark.recipes.schema import Model

SIZE = 64
NAMES = [
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "resnet10t",
    "convnext_atto",
    "mobilenetv3_small_050",
    "dla46x_c",
    "test_coatnet",
]


def build(name: str, head: str = "linear", size: int = SIZE) -> Classifier:
    model = Model(name=name, head=head)
    return build_classifier(model, num_classes=3, image_size=size)[0].eval()


@pytest.mark.parametrize("name", NAMES)
def test_timm_loads_the_folder_and_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    classifier = build(name)
    state = to_timm_state(classifier)
    assert state is not None
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(timm_config(classifier, SIZE)))
    net = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.allclose(net(images), classifier(images), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_timm_names_and_back_is_exact(name: str) -> None:
    classifier = build(name)
    state = to_timm_state(classifier)
    assert state is not None
    again, own = from_timm_state(classifier, state), classifier.state_dict()
    assert again.keys() == own.keys()
    assert all(torch.equal(again[key], own[key]) for key in own)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("vit_tiny_patch16_224", {"head": "mlp"}),
        ("vit_tiny_patch16_224", {"head": "ifa"}),
        ("vit_tiny_patch16_224", {"patches": "shifted"}),
        ("vit_tiny_patch16_224", {"attention": "local"}),
        ("vit_tiny_patch16_224", {"tags": "whole"}),
        ("deit_tiny_distilled_patch16_224", {"head": "mlp"}),
        ("resnet10t", {"norm": "group"}),
        ("cnn-baseline", {}),
        ("levit_128s", {}),
    ],
)
def test_networks_that_timm_does_not_have_give_none(name: str, keys: dict[str, object]) -> None:
    model = Model(name=name, **keys)
    classifier, _ = build_classifier(model, num_classes=3, image_size=224, tag_vocabulary_size=10)
    assert to_timm_state(classifier) is None


def test_config_describes_these_weights_and_not_their_origin() -> None:
    config = timm_config(build("vit_tiny_patch16_224"), SIZE)
    published = config["pretrained_cfg"]
    assert config["architecture"] == "vit_tiny_patch16_224"
    assert config["num_classes"] == published["num_classes"] == 3
    assert config["num_features"] == 192
    assert published["input_size"] == [3, SIZE, SIZE]
    assert published["classifier"] == "head" and published["first_conv"] == "patch_embed.proj"
    origin = {"tag", "license", "hf_hub_id", "url", "label_offset", "custom_load", "paper_ids"}
    assert not origin & published.keys()
    assert "num_classes" not in config.get("model_args", {})


def test_config_of_our_own_network_names_it() -> None:
    config = timm_config(build("cnn-baseline", size=112), 112)
    assert config["architecture"] == "cnn-baseline"
    assert config["num_features"] == 4096
    json.dumps(config)
