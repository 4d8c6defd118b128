"""Attention: the weights of the pass that ran, on patterns that are known."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch.nn import functional

from fieldmark.errors import InspectionError
from fieldmark.inspection.attention import (
    class_maps,
    draw_attention,
    patch_share,
    read_attention,
    roll_out,
    rollout_map,
    tag_maps,
    tags_read,
)
from fieldmark.inspection.options import InspectOptions

NETWORKS = [
    ("test_vit", 32, {}),
    ("test_vit2", 32, {}),  # layer scale, no class token embedding
    ("vit-small-data", 72, {"attention": "local"}),
    ("vit-small-data", 72, {"patches": {"kind": "shifted"}}),
    ("test_vit", 32, {"attention": "local"}),
    ("test_vit", 32, {"tags": {"tokenizer": "whole", "max_tokens": 4, "min_count": 1}}),
    ("deit_tiny_distilled_patch16_224", 32, {}),
    ("vit_small_patch14_reg4_dinov2", 28, {}),
    ("eva02_tiny_patch14_224", 28, {}),
    ("beit_base_patch16_224", 32, {}),
]


def network_of(inspected, name: str, size: int, model: dict):
    if name == "beit_base_patch16_224":
        import timm

        original = timm.create_model

        def shallow(*words, **settings):
            return original(*words, **{**settings, "depth": 2, "embed_dim": 48, "num_heads": 3})

        with patch("timm.create_model", shallow):
            return inspected.build(name, size, **model)
    return inspected.build(name, size, **model)


def picture_for(inspected, classifier, model: dict):
    size = classifier.backbone.image_size
    image = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    tag_ids = torch.tensor([2, 5, 3, 0]) if "tags" in model else None
    return inspected.picture_of(image, tag_ids)


@pytest.mark.parametrize(("name", "size", "model"), NETWORKS, ids=lambda value: str(value)[:30])
def test_what_is_shown_is_what_ran_and_other_passes_stay_fused(
    inspected, name: str, size: int, model: dict
) -> None:
    classifier = network_of(inspected, name, size, model)
    picture = picture_for(inspected, classifier, model)
    tags = None if picture.tag_ids is None else picture.tag_ids[None]
    read = read_attention(classifier, picture.pixels, picture.tag_ids)
    num_layers, _, num_tokens, _ = read.weights.shape
    assert num_layers == len(classifier.backbone.blocks)
    assert num_tokens == read.first_patch + read.grid[0] * read.grid[1]
    torch.testing.assert_close(read.weights.sum(dim=-1), torch.ones(read.weights.shape[:-1]))
    torch.testing.assert_close(
        roll_out(read.weights).sum(dim=-1), torch.ones(num_tokens), rtol=0, atol=1e-5
    )
    fused = functional.scaled_dot_product_attention
    with (
        patch.object(functional, "scaled_dot_product_attention", side_effect=fused) as called,
        torch.no_grad(),
    ):
        logits = classifier(picture.pixels[None], tags)
    assert called.call_count == num_layers
    torch.testing.assert_close(read.logits, logits[0], rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in classifier.modules())


def test_local_attention_and_padding_are_seen_as_they_are(inspected) -> None:
    local = inspected.build("vit-small-data", 72, attention="local")
    picture = picture_for(inspected, local, {})
    weights = read_attention(local, picture.pixels).weights
    assert not weights.diagonal(dim1=-2, dim2=-1).any()
    tags = {"tokenizer": "whole", "max_tokens": 4, "min_count": 1}
    tagged = inspected.build("test_vit", 32, tags=tags)
    picture = picture_for(inspected, tagged, {"tags": tags})
    read = read_attention(tagged, picture.pixels, picture.tag_ids)
    assert read.num_tags == 4
    assert not read.weights[..., 1 + 3].any()  # [PAD] is read by nobody
    assert read.weights[..., 1 + 1].all()


def test_a_known_pattern_is_read_and_rolled_out(inspected) -> None:
    sharpness = 0.3
    classifier = inspected.build_reading_vit(sharpness=sharpness)
    rows, columns = slice(16, 48), slice(80, 128)
    picture = inspected.picture_of(inspected.draw_square(128, rows, columns))
    read = read_attention(classifier, picture.pixels)
    # Tokens (r, -r, 0, ...) have deviation |r| sqrt(2 / D): normed, their first number is
    # +-sqrt(D / 2). That of the class token is 0.
    sign = np.full((8, 8), -1.0)
    sign[1:3, 5:8] = 1.0
    scores = np.exp(sharpness * np.sqrt(64 / 2) * sign)
    expected = scores / (scores.sum() + 1.0)
    first = class_maps(read)[0]
    np.testing.assert_allclose(first, np.broadcast_to(expected, first.shape), rtol=1e-3)
    np.testing.assert_allclose(patch_share(read)[0], expected.sum(), rtol=1e-3)
    # Equal rows p in every layer: (I + A)^L / 2^L = I / 2^L + (1 - 2^-L) A.
    same = torch.full((3, 2, 5, 5), 0.0)
    same[...] = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25])
    joint = roll_out(same)
    np.testing.assert_allclose(joint[0, 1:], (1 - 1 / 8) * same[0, 0, 0, 1:], rtol=1e-6)
    np.testing.assert_allclose(joint.sum(dim=1), 1.0, rtol=1e-6)


def test_rollout_follows_the_layers_in_their_order() -> None:
    """Token 2 is read by token 1 first, and token 1 by token 0 after that; not the other way."""
    steps = torch.eye(3).expand(2, 1, 3, 3).clone()
    steps[0, 0, 1] = torch.tensor([0.0, 0.0, 1.0])
    steps[1, 0, 0] = torch.tensor([0.0, 1.0, 0.0])
    assert roll_out(steps)[0, 2] == 0.25
    assert roll_out(steps.flip(0))[0, 2] == 0.0


def test_rollout_of_a_red_square_is_high_on_it(inspected) -> None:
    classifier = inspected.build_reading_vit(sharpness=0.3)
    rows, columns = slice(32, 96), slice(48, 80)
    picture = inspected.picture_of(inspected.draw_square(128, rows, columns))
    found = rollout_map(read_attention(classifier, picture.pixels)).numpy()
    assert inspected.find_overlap(found, slice(2, 6), slice(3, 5)) == 1.0


def test_words_and_patches_are_parted(inspected) -> None:
    tags = {"tokenizer": "whole", "max_tokens": 4, "min_count": 1}
    classifier = inspected.build("test_vit", 32, tags=tags)
    picture = picture_for(inspected, classifier, {"tags": tags})
    read = read_attention(classifier, picture.pixels, picture.tag_ids)
    mean = read.weights.mean(dim=1)
    assert tag_maps(read).shape == (len(mean), 4, 2, 2)
    assert torch.equal(tag_maps(read)[2, 1].flatten(), mean[2, 1 + 1, 5:])
    assert torch.equal(tags_read(read)[3], mean[3, 0, 1:5])


def draw(subject, **options: object) -> list:
    return list(draw_attention(subject, InspectOptions(**options)))


def test_attention_of_a_cnn_says_what_to_ask_instead(
    inspected, tmp_path: Path, photograph: str
) -> None:
    subject = inspected.make_subject(tmp_path, inspected.build("cnn-baseline", 107), [photograph])
    with pytest.raises(InspectionError, match=r"'cnn-baseline' has no attention.*saliency"):
        draw(subject)


def test_layers_and_heads_are_chosen(inspected, tmp_path: Path, photograph: str) -> None:
    subject = inspected.make_subject(tmp_path, inspected.build("test_vit", 32), [photograph])
    drawings = draw(subject, layers=("blocks.1", "3"), heads=(1,))
    assert [drawing.detail for drawing in drawings] == ["rollout-leaf", "heads-leaf"]
    assert "2 blocks and 1 heads" in drawings[1].caption
    for drawing in drawings:
        assert "test_vit" in drawing.caption and "leaf.png" in drawing.caption
    with pytest.raises(InspectionError, match=r"blocks\.0 to blocks\.5"):
        draw(subject, layers=("blocks.40",))
    with pytest.raises(InspectionError, match=r"has 2 heads, 0 to 1"):
        draw(subject, heads=(7,))
