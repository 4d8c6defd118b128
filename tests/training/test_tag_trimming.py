"""Padding that a whole batch has is left out of it, and changes nothing but the cost."""

from __future__ import annotations

import pytest
import torch

from fieldmark.data.tags import TagEncoder, TagVocabulary
from fieldmark.models.classifier import build_classifier
from fieldmark.recipes.schema import Model, Tags

NAMES = ("red", "green", "blue", "tall", "small")
LISTS = [("red",), ("green", "blue", "tall"), (), ("small", "red")]


def encode(section: Tags) -> tuple[TagEncoder, torch.Tensor]:
    encoder = TagEncoder(TagVocabulary("whole", NAMES), section)
    return encoder, torch.stack([encoder(tags) for tags in LISTS])


def test_batch_is_as_long_as_its_longest_row() -> None:
    encoder, tags = encode(Tags(tokenizer="whole", max_tokens=12))
    assert encoder.trim(tags).tolist() == tags[:, :5].tolist()  # [CLS], three tags, [SEP]
    assert encoder.trim(tags[2:3]).shape == (1, 1)  # no tags at all: one column is kept


def test_published_reading_keeps_its_padding_because_attention_sees_it() -> None:
    encoder, tags = encode(Tags(tokenizer="whole", max_tokens=12, mask_padding=False))
    assert encoder.trim(tags) is tags


@pytest.mark.parametrize("head", ["linear", "ifa"])
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit-small-data", "eva02_tiny_patch14_224"]
)
def test_trimmed_batch_gives_the_same_logits(name: str, head: str) -> None:
    section = Tags(tokenizer="whole", max_tokens=12)
    encoder, tags = encode(section)
    size = {"vit-small-data": 72, "eva02_tiny_patch14_224": 56}
    torch.manual_seed(0)
    classifier, _ = build_classifier(
        Model(name=name, head=head, tags=section),  # type: ignore[arg-type]
        num_classes=3,
        image_size=size.get(name, 64),
        tag_vocabulary_size=encoder.vocabulary.size,
        tag_pad_id=encoder.vocabulary.pad_id,
    )
    images = torch.randn(4, 3, size.get(name, 64), size.get(name, 64))
    with torch.no_grad():
        whole = classifier.eval()(images, tags)
        trimmed = classifier(images, encoder.trim(tags))
        untagged = classifier(images)
    assert torch.allclose(whole, trimmed, atol=1e-5)
    assert not torch.allclose(whole, untagged, atol=5e-5)  # the tags do say something
