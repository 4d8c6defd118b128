"""What every network must do, whatever its family and its head."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from fieldmark.errors import ImageSizeError
from fieldmark.models.catalog import CATALOG, find_model
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.recipes.schema import Model
from fieldmark.seeds import derive_seed

NUM_CLASSES = 5
HEADS = ("linear", "mlp")


class Case(NamedTuple):
    """A network at a small size it takes, and a size it cannot take."""

    name: str
    image_size: int
    wrong_size: int | None


TIMM_CASES = (
    Case("vit_tiny_patch16_224", 32, 40),
    Case("deit_tiny_distilled_patch16_224", 32, 40),
    Case("test_mambaout", 32, None),
    Case("resnet10t", 32, None),
    Case("convnext_atto", 32, 8),
    Case("mobilenetv3_small_050", 32, None),
)
CASES = (*TIMM_CASES, *(Case(name, 112, 106) for name in CATALOG))
EVERY = [pytest.param(case, head, id=f"{case.name}-{head}") for case in CASES for head in HEADS]
EVERY_NETWORK = [pytest.param(case, id=case.name) for case in CASES]


@pytest.fixture(autouse=True)
def fixed_randomness() -> None:
    torch.manual_seed(derive_seed("contract"))


def build(case: Case, head: str = "linear", *, classes: int = NUM_CLASSES, **keys) -> Classifier:
    model = Model(name=case.name, head=head, head_width=16, **keys)
    return build_classifier(model, num_classes=classes, image_size=case.image_size)[0]


def draw(case: Case, count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, case.image_size, case.image_size)


def stir(classifier: Classifier) -> None:
    """Make zero-initialised gates and tables count, so that gradients pass them."""
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)


def train_once(classifier: Classifier, images: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
    labels = torch.arange(len(images)) % NUM_CLASSES
    functional.cross_entropy(classifier(images), labels).backward()
    optimizer.step()


@pytest.mark.parametrize(("case", "head"), EVERY)
def test_any_number_of_classes_gets_that_many_logits(case: Case, head: str) -> None:
    for num_classes in (1, 2, NUM_CLASSES):
        logits = build(case, head, classes=num_classes).eval()(draw(case, 2))
        assert logits.shape == (2, num_classes)


@pytest.mark.parametrize("case", EVERY_NETWORK)
def test_features_have_the_shapes_that_the_backbone_declares(case: Case) -> None:
    backbone = build(case).eval().backbone
    features = backbone(draw(case, 2), with_layers=True)
    assert features.pooled.shape == (2, backbone.width)
    height, width = features.grid
    assert features.tokens.shape[:2] == (2, features.num_prefix + height * width)
    assert backbone.image_size == case.image_size
    if backbone.num_layers:
        assert features.layers is not None
        assert features.layers.shape == (2, features.tokens.shape[2], backbone.num_layers)
    else:
        assert features.layers is None
    assert backbone(draw(case, 2)).layers is None


@pytest.mark.parametrize("case", EVERY_NETWORK)
def test_asking_for_layers_changes_nothing_else(case: Case) -> None:
    backbone = build(case).eval().backbone
    images = draw(case, 2)
    with torch.no_grad():
        plain, full = backbone(images), backbone(images, with_layers=True)
    assert torch.allclose(plain.pooled, full.pooled, atol=1e-6)
    assert torch.allclose(plain.tokens, full.tokens, atol=1e-6)


@pytest.mark.parametrize(("case", "head"), EVERY)
def test_gradient_reaches_every_parameter(case: Case, head: str) -> None:
    classifier = build(case, head).train()
    stir(classifier)
    classifier(draw(case)).square().sum().backward()
    dead = [
        name
        for name, parameter in classifier.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.abs().sum() > 0.0)
    ]
    assert not dead


@pytest.mark.parametrize(("case", "head"), EVERY)
def test_evaluation_is_deterministic(case: Case, head: str) -> None:
    classifier = build(case, head, dropout=0.3, head_dropout=0.3, drop_path=0.3).eval()
    images = draw(case, 2)
    with torch.no_grad():
        assert torch.equal(classifier(images), classifier(images))


@pytest.mark.parametrize(("case", "head"), EVERY)
def test_saved_and_loaded_gives_equal_logits(case: Case, head: str, tmp_path: Path) -> None:
    classifier, images = build(case, head), draw(case)
    train_once(classifier.train(), images)  # moves running statistics too
    save_file(classifier.state_dict(), tmp_path / "model.safetensors")
    again = build(case, head)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(classifier.eval()(images), again.eval()(images))


@pytest.mark.parametrize(("case", "head"), EVERY)
def test_keys_begin_with_backbone_and_head(case: Case, head: str) -> None:
    classifier = build(case, head)
    names = [name for name, _ in classifier.named_parameters()]
    assert {key.partition(".")[0] for key in classifier.state_dict()} == {"backbone", "head"}
    assert set(names) <= classifier.state_dict().keys()
    if head == "linear":
        assert {"head.weight", "head.bias"} <= set(names)


@pytest.mark.parametrize(("case", "head"), EVERY)
def test_frozen_backbone_does_not_move(case: Case, head: str) -> None:
    classifier = build(case, head, freeze="backbone", dropout=0.3, drop_path=0.3)
    before = copy.deepcopy(classifier.state_dict())
    train_once(classifier.train(), draw(case))
    after = classifier.state_dict()
    moved = {key.partition(".")[0] for key in after if not torch.equal(before[key], after[key])}
    assert moved == {"head"}


@pytest.mark.parametrize("case", EVERY_NETWORK)
def test_frozen_backbone_stays_in_evaluation_mode(case: Case) -> None:
    classifier = build(case, freeze="backbone").train()
    assert classifier.head.training
    assert not any(module.training for module in classifier.backbone.modules())
    assert not classifier.features(draw(case)).pooled.requires_grad
    assert all(not parameter.requires_grad for parameter in classifier.backbone.parameters())


@pytest.mark.parametrize("case", EVERY_NETWORK)
def test_copy_is_independent_of_its_original(case: Case) -> None:
    classifier, images = build(case), draw(case)
    twin = copy.deepcopy(classifier)
    with torch.no_grad():
        expected = twin.eval()(images)
        train = classifier.train()
        with torch.enable_grad():
            train_once(train, images)
        assert torch.equal(twin(images), expected)
        assert not torch.equal(classifier.eval()(images), expected)


@pytest.mark.parametrize("case", EVERY_NETWORK)
def test_every_parameter_has_a_depth(case: Case) -> None:
    backbone = build(case).backbone
    depths = backbone.parameter_depths()
    assert depths.keys() == {name for name, _ in backbone.named_parameters()}
    assert set(depths.values()) == set(range(max(depths.values()) + 1))


@pytest.mark.parametrize("case", [case for case in CASES if case.wrong_size], ids=lambda c: c.name)
def test_wrong_size_names_one_that_works(case: Case) -> None:
    with pytest.raises(ImageSizeError, match=r"data\.image_size") as caught:
        build(case._replace(image_size=case.wrong_size))
    suggested = int(str(caught.value).rpartition("data.image_size=")[2].split()[0].rstrip("."))
    small = case._replace(image_size=suggested)
    assert build(small).eval()(draw(small, 1)).shape == (1, NUM_CLASSES)


@pytest.mark.parametrize("case", EVERY_NETWORK)
def test_record_says_where_a_network_comes_from(case: Case) -> None:
    record = find_model(case.name)
    assert record.name == case.name
    assert record.source and record.description and record.image_size >= 107
    assert isinstance(build(case), nn.Module)
