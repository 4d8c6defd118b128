from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from fieldmark.models.classifier import build_classifier
from fieldmark.recipes.schema import Model, Optim
from fieldmark.training.optimizers import build_optimizer, group_parameters, set_learning_rate


def build(name: str = "vit_tiny_patch16_224", freeze: str = "none"):
    model = Model(name=name, freeze=freeze)  # type: ignore[arg-type]
    return build_classifier(model, num_classes=3, image_size=32)[0]


def names_in(classifier, group) -> set[str]:
    ids = {id(p) for p in group["params"]}
    return {name for name, p in classifier.named_parameters() if id(p) in ids}


def test_adamw_spares_biases_norms_and_embeddings() -> None:
    classifier = build()
    groups = group_parameters(classifier, Optim(name="adamw", weight_decay=0.1))
    spared = set().union(*(names_in(classifier, g) for g in groups if g["weight_decay"] == 0))
    assert {"backbone.pos_embed", "backbone.cls_token", "head.bias"} <= spared
    assert "backbone.blocks.0.attn.qkv.weight" not in spared
    assert all(name.endswith(("bias", "_embed", "_token")) or "norm" in name for name in spared)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_sgd_and_adam_decay_every_parameter(name: str) -> None:
    groups = group_parameters(build(), Optim(name=name, weight_decay=0.1))  # type: ignore[arg-type]
    assert {group["weight_decay"] for group in groups} == {0.1}


def test_every_trained_parameter_is_in_one_group() -> None:
    for classifier in (build(), build(freeze="backbone"), build("resnet10t")):
        groups = group_parameters(classifier, Optim(layer_decay=0.7))
        grouped = [id(p) for group in groups for p in group["params"]]
        assert sorted(grouped) == sorted(id(p) for p in classifier.parameters() if p.requires_grad)


def test_layer_decay_falls_from_the_head_to_the_image() -> None:
    classifier = build()
    scale = {
        name: group["lr_scale"]
        for group in group_parameters(classifier, Optim(layer_decay=0.5))
        for name in names_in(classifier, group)
    }
    blocks = [scale[f"backbone.blocks.{i}.mlp.fc1.weight"] for i in range(12)]
    assert scale["head.weight"] == 1.0
    assert all(low == pytest.approx(high / 2) for low, high in pairwise(blocks))
    assert scale["backbone.patch_embed.proj.weight"] <= blocks[0]


def test_learning_rate_reaches_each_group_with_its_factor() -> None:
    optimizer = build_optimizer(build(), Optim(layer_decay=0.5))
    set_learning_rate(optimizer, 0.1)
    assert {g["lr"] / g["lr_scale"] for g in optimizer.param_groups} == {0.1}


def test_decay_all_spares_nothing() -> None:
    groups = group_parameters(build(), Optim(name="adamw", weight_decay=0.1, decay_all=True))
    assert [group["weight_decay"] for group in groups] == [0.1]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_eps_reaches_the_optimizer(name: str) -> None:
    optimizer = build_optimizer(build(), Optim(name=name, eps=1e-7))  # type: ignore[arg-type]
    assert {group["eps"] for group in optimizer.param_groups} == {1e-7}


def test_adamw_of_tensorflow_addons_is_weight_decay_over_lr() -> None:
    classifier = build()
    optim = Optim(name="adamw", lr=1e-3, weight_decay=0.1, eps=1e-7, decay_all=True)
    optimizer = build_optimizer(classifier, optim)
    bias = classifier.head.bias
    value, first, second = bias.detach().double().clone(), 0.0, 0.0
    for step in range(1, 6):
        gradient = torch.linspace(-1.0, 2.0, len(bias)).double() * step
        classifier.zero_grad()
        bias.grad = gradient.float()
        optimizer.step()
        # tfa: var -= 1e-4 var, of biases too; then Keras' Adam with eps beside the plain root.
        value = value - 1e-4 * value
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = 1e-3 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        value = value - rate * first / (second**0.5 + 1e-7)
    assert bias.detach().double().tolist() == pytest.approx(value.tolist(), abs=2e-7)
