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
NUM_TAGS = 6
VOCABULARY_SIZE = 20


class Case(NamedTuple):
    """A network at a small size it takes, and a size it cannot take."""

    name: str
    image_size: int
    wrong_size: int | None


class Kind(NamedTuple):
    """What a network is composed of, beside its backbone."""

    head: str = "linear"
    patches: str = "plain"
    attention: str = "global"
    tags: str = "off"

    def __str__(self) -> str:
        return "-".join(part for part in self if part not in ("plain", "global", "off"))


TIMM_CASES = (
    Case("vit_tiny_patch16_224", 32, 40),
    Case("test_vit", 32, 40),
    Case("deit_tiny_distilled_patch16_224", 32, 40),
    Case("test_mambaout", 32, None),
    Case("resnet10t", 32, None),
    Case("convnext_atto", 32, 8),
    Case("mobilenetv3_small_050", 32, None),
)
SIZES = {  # a small one, and one that is refused; 32 and none where a name is not here
    "cnn-baseline": (112, 106),
    "lecture-net": (16, 15),
    "alexnet": (63, 62),
    "vgg": (32, 31),
    "leaf-vgg16": (32, 31),
    "vit-small-data": (24, 25),
    "vit-small-data-p16": (32, 40),
    "vit-small-data-as-published": (24, 25),
    "vit-small-data-as-published-p16": (32, 40),
}
OWN_CASES = tuple(
    Case(
        name,
        *SIZES.get(name, SIZES.get("-".join(name.split("-")[:2]), SIZES.get(name[:3], (32, None)))),
    )
    for name in CATALOG
)
LARGE = {"alexnet", "leaf-vgg16", "se-resnet34", "se-resnet50", "se-resnet101", "se-resnet152"}
LARGE |= {name for name in CATALOG if name.startswith("vgg-")}
"""More than 20 M weights: they meet the contract in one test, each built once."""

CASES = (*TIMM_CASES, *(case for case in OWN_CASES if case.name not in LARGE))
LARGE_CASES = [case for case in OWN_CASES if case.name in LARGE]
HEADS = [Kind("linear"), Kind("mlp"), Kind("ifa")]
VIT_NAMES = {"test_vit", "deit_tiny_distilled_patch16_224"}  # the first is timm's smallest
VIT_NAMES |= {name for name in CATALOG if name.startswith("vit-small-data")}
VIT_KINDS = [
    *(Kind(head, patches) for patches in ("shifted", "rotated") for head in ("linear", "ifa")),
    Kind(attention="local"),
    Kind(tags="whole"),
    Kind("ifa", "rotated", "local", "whole"),
]
EVERY = [
    pytest.param(case, kind, id=f"{case.name}-{kind}")
    for case in CASES
    for kind in (*HEADS, *(VIT_KINDS if case.name in VIT_NAMES else ()))
]
EVERY_NETWORK = [pytest.param(case, id=case.name) for case in CASES]


@pytest.fixture(autouse=True)
def fixed_randomness() -> None:
    torch.manual_seed(derive_seed("contract"))


def build(
    case: Case, kind: Kind = HEADS[0], *, classes: int = NUM_CLASSES, **keys: object
) -> Classifier:
    tags = {"tokenizer": kind.tags, "max_tokens": NUM_TAGS}
    model = Model.model_validate(
        {"name": case.name, "head_width": 16, **kind._asdict(), "tags": tags, **keys}
    )
    return build_classifier(
        model,
        num_classes=classes,
        image_size=case.image_size,
        tag_vocabulary_size=VOCABULARY_SIZE,
    )[0]


def draw(case: Case, count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, case.image_size, case.image_size)


def draw_tags(kind: Kind, count: int = 4) -> torch.Tensor | None:
    return torch.randint(VOCABULARY_SIZE, (count, NUM_TAGS)) if kind.tags != "off" else None


def stir(classifier: Classifier) -> None:
    """Make zero-initialised gates and tables count, so that gradients pass them."""
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)


def train_once(
    classifier: Classifier, images: torch.Tensor, tags: torch.Tensor | None = None
) -> None:
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
    labels = torch.arange(len(images)) % NUM_CLASSES
    functional.cross_entropy(classifier(images, tags), labels).backward()
    optimizer.step()


def find_dead_parameters(
    classifier: Classifier, images: torch.Tensor, tags: torch.Tensor | None
) -> list[str]:
    """Names of parameters that the gradient does not reach."""
    classifier.zero_grad()
    classifier(images, tags).square().sum().backward()
    return [
        name
        for name, parameter in classifier.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.abs().sum() > 0.0)
    ]


@pytest.mark.parametrize(("case", "kind"), EVERY)
def test_any_number_of_classes_gets_that_many_logits(case: Case, kind: Kind) -> None:
    for num_classes in (1, 2, NUM_CLASSES):
        classifier = build(case, kind, classes=num_classes).eval()
        logits = classifier(draw(case, 2), draw_tags(kind, 2))
        assert logits.shape == (2, num_classes)


@pytest.mark.parametrize("case", EVERY_NETWORK)
def test_features_have_the_shapes_that_the_backbone_declares(case: Case) -> None:
    backbone = build(case).eval().backbone
    features = backbone(draw(case, 2), with_layers=True)
    assert features.pooled.shape == (2, backbone.width)
    height, width = features.grid
    assert features.tokens.shape[:2] == (2, features.num_prefix + height * width)
    assert backbone.image_size == case.image_size
    assert backbone.num_layers == len(backbone.layer_widths) > 1
    assert features.layers is not None
    assert features.layers.shape == (2, max(backbone.layer_widths), backbone.num_layers)
    assert backbone(draw(case, 2)).layers is None


@pytest.mark.parametrize("case", EVERY_NETWORK)
def test_asking_for_layers_changes_nothing_else(case: Case) -> None:
    backbone = build(case).eval().backbone
    images = draw(case, 2)
    with torch.no_grad():
        plain, full = backbone(images), backbone(images, with_layers=True)
    assert torch.allclose(plain.pooled, full.pooled, atol=1e-6)
    assert torch.allclose(plain.tokens, full.tokens, atol=1e-6)


@pytest.mark.parametrize(("case", "kind"), EVERY)
def test_gradient_reaches_every_parameter(case: Case, kind: Kind) -> None:
    classifier = build(case, kind).train()
    stir(classifier)
    assert find_dead_parameters(classifier, draw(case), draw_tags(kind)) == []


@pytest.mark.parametrize(("case", "kind"), EVERY)
def test_evaluation_is_deterministic(case: Case, kind: Kind) -> None:
    classifier = build(case, kind, dropout=0.3, head_dropout=0.3, drop_path=0.3).eval()
    images, tags = draw(case, 2), draw_tags(kind, 2)
    with torch.no_grad():
        assert torch.equal(classifier(images, tags), classifier(images, tags))


@pytest.mark.parametrize(("case", "kind"), EVERY)
def test_saved_and_loaded_gives_equal_logits(case: Case, kind: Kind, tmp_path: Path) -> None:
    classifier, images, tags = build(case, kind), draw(case), draw_tags(kind)
    train_once(classifier.train(), images, tags)  # moves running statistics too
    save_file(classifier.state_dict(), tmp_path / "model.safetensors")
    again = build(case, kind)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(classifier.eval()(images, tags), again.eval()(images, tags))


@pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", [Kind("linear"), Kind("ifa")], ids=str)
def test_large_network_meets_the_contract(case: Case, kind: Kind, tmp_path: Path) -> None:
    classifier, images = build(case, kind).train(), draw(case, 2)
    stir(classifier)
    assert find_dead_parameters(classifier, images, None) == []
    with torch.no_grad():
        logits = classifier.eval()(images)
        assert logits.shape == (2, NUM_CLASSES)
        assert torch.equal(classifier(images), logits)
        features = classifier.backbone(images, with_layers=True)
        assert features.pooled.shape == (2, classifier.backbone.width)
        save_file(classifier.state_dict(), tmp_path / "model.safetensors")
        with torch.device("meta"):
            again = build(case, kind)
        again.to_empty(device="cpu").load_state_dict(load_file(tmp_path / "model.safetensors"))
        assert torch.equal(again.eval()(images), logits)


@pytest.mark.parametrize(("case", "kind"), EVERY)
def test_keys_begin_with_backbone_and_head(case: Case, kind: Kind) -> None:
    classifier = build(case, kind)
    names = [name for name, _ in classifier.named_parameters()]
    assert {key.partition(".")[0] for key in classifier.state_dict()} == {"backbone", "head"}
    assert set(names) <= classifier.state_dict().keys()
    if case.name in VIT_NAMES:
        assert any(name.startswith("backbone.patch_embed.") for name in names)
    assert any(name.startswith("backbone.tags.") for name in names) == (kind.tags != "off")


@pytest.mark.parametrize(("case", "kind"), EVERY)
def test_frozen_backbone_does_not_move(case: Case, kind: Kind) -> None:
    classifier = build(case, kind, freeze="backbone", dropout=0.3, drop_path=0.3)
    before = copy.deepcopy(classifier.state_dict())
    train_once(classifier.train(), draw(case), draw_tags(kind))
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


WITH_WRONG_SIZE = [case for case in (*CASES, *LARGE_CASES) if case.wrong_size]


@pytest.mark.parametrize("case", WITH_WRONG_SIZE, ids=lambda case: case.name)
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
    assert record.source and record.description and record.image_size >= 32
    assert isinstance(build(case), nn.Module)
