from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from fieldmark.errors import ModelError
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.vit.tags import TagDecoder, TagEmbedding
from fieldmark.recipes.schema import Model
from fieldmark.runs.checkpoints import save_weights
from fieldmark.seeds import derive_seed

VOCABULARY_SIZE = 40


@pytest.fixture(autouse=True)
def fixed_randomness() -> None:
    torch.manual_seed(derive_seed("tags"))


def embed(width: int = 16, *, dropout: float = 0.0, types: bool = True) -> TagEmbedding:
    return TagEmbedding(
        VOCABULARY_SIZE, width, max_tokens=8, dropout=dropout, pad_id=0, type_embedding=types
    )


def build(**tags: object) -> Classifier:
    section = {"tokenizer": "whole", "max_tokens": 8, **tags}
    model = Model(name="test_vit", tags=section)
    return build_classifier(
        model, num_classes=3, image_size=32, tag_vocabulary_size=VOCABULARY_SIZE
    )[0].eval()


def test_tokens_are_word_position_and_type_normalised() -> None:
    embedding = embed()
    ids = torch.tensor([[2, 7, 9, 3, 0]])
    summed = embedding.word.weight[ids[0]] + embedding.position.weight[:5] + embedding.segment
    expected = functional.layer_norm(summed, (16,), eps=1e-12)
    assert embedding.norm.eps == 1e-12
    assert torch.allclose(embedding(ids)[0], expected, atol=1e-6)


def test_embeddings_start_as_published() -> None:
    embedding = TagEmbedding(13_505, 64, max_tokens=32, dropout=0.1, pad_id=0, type_embedding=True)
    assert embedding.word.weight[1:].std().item() == pytest.approx(1.0, abs=0.01)
    assert embedding.position.weight.std().item() == pytest.approx(1.0, abs=0.1)
    assert not embedding.word.weight[0].any()
    assert embedding.dropout.p == 0.1
    assert embedding.type_vectors is not None and not embedding.type_vectors.any()
    assert embedding.type_vectors.shape == (2, 64)


def test_without_type_embedding_there_are_no_type_vectors() -> None:
    embedding = embed(types=False)
    assert embedding.type_vectors is None
    assert "type_vectors" not in embedding.state_dict()


def test_dropout_is_on_in_training_only() -> None:
    embedding, ids = embed(dropout=0.5), torch.tensor([[2, 7, 3, 0]])
    assert not torch.equal(embedding(ids), embedding(ids))
    embedding.eval()
    assert torch.equal(embedding(ids), embedding(ids))


def test_all_but_padding_is_visible() -> None:
    assert embed().visible(torch.tensor([[2, 7, 3, 0, 0]])).tolist() == [[True] * 3 + [False] * 2]


def test_too_many_tokens_are_told() -> None:
    with pytest.raises(ModelError, match="got 9 tokens per image, but the network was built for 8"):
        embed()(torch.zeros(1, 9, dtype=torch.int64))


def test_decoder_is_linear_gelu_norm_and_the_word_embedding() -> None:
    embedding = embed()
    decoder = TagDecoder(embedding)
    nn.init.normal_(decoder.bias)
    tokens = torch.randn(2, 5, 16)
    hidden = decoder.norm(functional.gelu(decoder.linear(tokens)))
    expected = hidden @ embedding.word.weight.T + decoder.bias
    assert decoder(tokens).shape == (2, 5, VOCABULARY_SIZE)
    assert torch.allclose(decoder(tokens), expected, atol=1e-6)


def test_decoder_starts_near_the_loss_of_a_guess() -> None:
    embedding = TagEmbedding(2000, 192, max_tokens=8, dropout=0.0, pad_id=0, type_embedding=True)
    logits = TagDecoder(embedding)(torch.randn(40, 8, 192))
    loss = functional.cross_entropy(logits.flatten(0, 1), torch.randint(5, 2000, (320,)))
    assert loss.item() == pytest.approx(math.log(2000), abs=1.0)


def test_decoder_adds_no_copy_of_the_embedding() -> None:
    decoder = TagDecoder(embed())
    assert {name.split(".")[0] for name in decoder.state_dict()} == {"linear", "norm", "bias"}


def test_tie_survives_saving_and_copying(tmp_path: Path) -> None:
    classifier = build(propose="full")
    save_weights(classifier.state_dict(), tmp_path / "model.safetensors")
    names = load_file(tmp_path / "model.safetensors")
    assert sum("word" in name for name in names) == 1
    loaded = build(propose="full")
    loaded.load_state_dict(names)
    copied = copy.deepcopy(classifier)
    ids, images = torch.tensor([[2, 7, 9, 3, 0, 0, 0, 0]]), torch.randn(1, 3, 32, 32)
    for other in (loaded, copied):
        with torch.no_grad():
            assert torch.equal(
                classifier(images, ids, full=True).tag_logits,
                other(images, ids, full=True).tag_logits,
            )
    with torch.no_grad():
        before = classifier(images, ids, full=True).tag_logits
        copied.backbone.tags.word.weight.mul_(2.0)  # type: ignore[attr-defined]
        assert torch.equal(before, classifier(images, ids, full=True).tag_logits)
        assert not torch.equal(before, copied(images, ids, full=True).tag_logits)


def test_padding_throughout_is_as_no_tags() -> None:
    classifier, images = build(), torch.randn(2, 3, 32, 32)
    pads = torch.zeros(2, 8, dtype=torch.int64)
    with torch.no_grad():
        assert torch.equal(classifier(images), classifier(images, pads))


def test_amount_of_padding_changes_nothing_where_it_is_masked() -> None:
    classifier, images = build(), torch.randn(2, 3, 32, 32)
    short = torch.tensor([[2, 7, 9, 3]] * 2)
    long = functional.pad(short, (0, 4))
    with torch.no_grad():
        assert torch.allclose(classifier(images, short), classifier(images, long), atol=1e-5)
        seen = build(mask_padding=False)
        assert not torch.allclose(seen(images, short), seen(images, long), atol=1e-4)


def test_without_tags_an_image_is_seen_as_before_they_were_added() -> None:
    classifier, images = build(), torch.randn(2, 3, 32, 32)
    plain, _ = build_classifier(Model(name="test_vit"), num_classes=3, image_size=32)
    state = {k: v for k, v in classifier.state_dict().items() if ".tags." not in k}
    plain.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(plain.eval()(images), classifier(images), atol=1e-5)
        tags = torch.tensor([[2, 7, 9, 3]] * 2)
        assert not torch.allclose(plain(images), classifier(images, tags), atol=1e-4)


@pytest.mark.parametrize("name", ["resnet10t", "cnn-baseline"])
def test_a_cnn_takes_no_tags(name: str) -> None:
    model = Model(name=name, tags="whole")
    with pytest.raises(ModelError, match=r"model\.tags"):
        build_classifier(model, num_classes=3, image_size=112, tag_vocabulary_size=40)
