"""Vision Transformers of timm block by block, alone and with the tokens of tags."""

from __future__ import annotations

import pytest
import torch

from fieldmark.errors import ModelError
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.recipes.schema import Model

FAMILIES = [
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "eva02_tiny_patch14_224",
    "vit_small_patch16_rope_mixed_224",
    "beit_base_patch16_224",
]
NUM_TOKENS = 8
VOCABULARY_SIZE = 40


def size_of(name: str) -> int:
    return 28 if "patch14" in name else 32


def build(name: str, **model: object) -> Classifier:
    section = Model.model_validate({"name": name, **model})
    return build_classifier(
        section,
        num_classes=3,
        image_size=size_of(name),
        tag_vocabulary_size=VOCABULARY_SIZE if "tags" in model else 0,
    )[0].eval()


def build_with_tags(name: str, **tags: object) -> Classifier:
    options = {"tokenizer": "whole", "max_tokens": NUM_TOKENS, "hide": 0.0, **tags}
    classifier = build(name, tags=options)
    with torch.no_grad():
        for parameter in classifier.parameters():  # layer scale of 1e-6 would hide everything
            if parameter.ndim == 1 and float(parameter.abs().max()) < 1e-3:
                parameter.add_(0.1)
    return classifier


def images_for(name: str, count: int = 2) -> torch.Tensor:
    side = size_of(name)
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def some_tags(count: int = 2) -> torch.Tensor:
    ids = torch.zeros(count, NUM_TOKENS, dtype=torch.int64)
    ids[:, :4] = torch.tensor([2, 7, 9, 3])
    return ids


@pytest.mark.parametrize("name", FAMILIES)
def test_block_by_block_equals_the_network_of_timm(name: str) -> None:
    backbone = build(name).backbone
    images = images_for(name)
    plain, walked = backbone(images), backbone(images, with_layers=True)
    torch.testing.assert_close(walked.pooled, plain.pooled, rtol=0, atol=0)
    torch.testing.assert_close(walked.tokens, plain.tokens, rtol=0, atol=0)
    assert (walked.grid, walked.num_prefix) == (plain.grid, plain.num_prefix)


@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_tags_leave_the_logits_as_they_are_without(name: str) -> None:
    with_tags = build_with_tags(name)
    plain = build(name)
    state = with_tags.state_dict()
    plain.load_state_dict({k: v for k, v in state.items() if not k.startswith("backbone.tags")})
    images = images_for(name)
    nothing = torch.zeros(2, NUM_TOKENS, dtype=torch.int64)
    torch.testing.assert_close(with_tags(images), plain(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(with_tags(images, nothing), plain(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_tags_change_the_logits(name: str) -> None:
    classifier = build_with_tags(name)
    images = images_for(name)
    assert not torch.allclose(classifier(images, some_tags()), classifier(images), atol=1e-6)


def test_padding_is_attended_without_a_mask() -> None:
    classifier = build_with_tags("vit_tiny_patch16_224", mask_padding=False)
    masked = build_with_tags("vit_tiny_patch16_224")
    masked.load_state_dict(classifier.state_dict())
    images = images_for("vit_tiny_patch16_224")
    assert not torch.allclose(
        classifier(images, some_tags()), masked(images, some_tags()), atol=1e-6
    )


def test_tags_alone_do_not_see_the_image() -> None:
    classifier = build_with_tags("vit_tiny_patch16_224", image=False)
    tags = some_tags()
    images = images_for("vit_tiny_patch16_224")
    torch.testing.assert_close(classifier(images, tags), classifier(images.flip(0), tags))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("head", ["linear", "ifa"])
def test_gradient_reaches_every_parameter_with_tags(name: str, head: str) -> None:
    options = {"tokenizer": "whole", "max_tokens": NUM_TOKENS}
    classifier = build(name, tags=options, head=head).train()
    classifier(images_for(name), some_tags()).square().sum().backward()
    assert [n for n, p in classifier.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("size", "patch", "length"), [(128, 16, 97), (128, 32, 49)])
def test_sequence_lengths_with_32_tags(size: int, patch: int, length: int) -> None:
    with torch.device("meta"):
        section = Model.model_validate(
            {"name": f"vit_base_patch{patch}_224", "tags": {"tokenizer": "whole"}}
        )
        classifier, _ = build_classifier(
            section, num_classes=3, image_size=size, tag_vocabulary_size=100
        )
        classifier.eval()
        tags = torch.empty(1, 32, dtype=torch.int64)
        features = classifier.features(torch.empty(1, 3, size, size), tags)
    assert features.tags is not None
    assert features.tokens.shape[1] + features.tags.shape[1] == length


def test_tags_on_a_cnn_are_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.tags: 'resnet10t' has no tokens"):
        build("resnet10t", tags={"tokenizer": "whole"})


def test_tags_need_the_size_of_their_vocabulary() -> None:
    section = Model.model_validate({"name": "vit_tiny_patch16_224", "tags": "whole"})
    with pytest.raises(ModelError, match="vocabulary"):
        build_classifier(section, num_classes=3, image_size=32)


def test_tag_parameters_learn_at_the_rate_of_the_stem() -> None:
    depths = build_with_tags("vit_tiny_patch16_224").backbone.parameter_depths()
    assert {depth for name, depth in depths.items() if name.startswith("tags.")} == {0}
