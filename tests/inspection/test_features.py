"""Feature maps: what is shown is what ran."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.errors import InspectionError
from fieldmark.inspection.features import (
    colour_tokens,
    draw_features,
    find_stages,
    scale_channel,
    strongest_channels,
    token_norms,
    watch,
)
from fieldmark.inspection.hooks import find_layer, record_outputs
from fieldmark.inspection.options import InspectOptions

CENTRE = slice(16, 48)


def test_outputs_are_kept_as_they_were_before_operations_in_place(inspected) -> None:
    classifier = inspected.red_classifier(64)
    picture = inspected.picture_of(inspected.draw_square(64, CENTRE, CENTRE))
    with record_outputs(classifier, ["conv", "backbone.act"]) as outputs, torch.no_grad():
        logits = classifier(picture.pixels[None])
    assert torch.equal(outputs["conv"][0, 0], picture.pixels[0])  # -1 outside, ReLU came later
    assert torch.equal(outputs["act"][0, 0], picture.pixels[0].relu())
    with torch.no_grad():
        assert torch.equal(logits, classifier(picture.pixels[None]))


def test_hooks_are_gone_after_an_error(inspected) -> None:
    classifier = inspected.red_classifier(64)
    with pytest.raises(ZeroDivisionError), record_outputs(classifier):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in classifier.modules())


def test_a_layer_called_twice_is_kept_twice(inspected) -> None:
    classifier = inspected.build("cnn-baseline", 107)
    flow = watch(classifier, inspected.picture_of(np.zeros((107, 107, 3), np.uint8)))
    assert flow.outputs["pool"].shape[1] == 16
    assert flow.outputs["pool#2"].shape[1] == 64


def test_stages_of_a_cnn_end_with_the_last_layer_of_each_size(inspected) -> None:
    classifier = inspected.build("cnn-baseline", 224)
    picture = inspected.picture_of(np.zeros((224, 224, 3), np.uint8))
    stages = find_stages(classifier, watch(classifier, picture))
    assert [(stage.layer, tuple(stage.maps.shape)) for stage in stages] == [
        ("norm1", (16, 109, 109)),
        ("pool", (16, 54, 54)),
        ("norm2", (64, 25, 25)),
        ("pool#2", (64, 12, 12)),
        ("norm3", (128, 10, 10)),
        ("conv4", (256, 8, 8)),
    ]


def test_tokens_lie_on_the_grid_without_prefix_and_tags(inspected) -> None:
    classifier = inspected.build_reading_vit()
    rows, columns = slice(16, 48), slice(80, 128)
    picture = inspected.picture_of(inspected.draw_square(128, rows, columns))
    stage = watch(classifier, picture).stage("blocks.0.norm1", classifier)
    red = np.zeros((8, 8), dtype=bool)
    red[1:3, 5:8] = True
    assert stage.maps.shape == (64, 8, 8)
    assert np.array_equal(stage.maps[0].numpy() > 0, red)


def test_tokens_with_tags_lie_on_the_same_grid(inspected) -> None:
    tags = {"tokenizer": "whole", "max_tokens": 4, "min_count": 1}
    classifier = inspected.build("test_vit", 32, tags=tags)
    picture = inspected.picture_of(np.zeros((32, 32, 3), np.uint8), torch.tensor([2, 5, 3, 0]))
    flow = watch(classifier, picture)
    stage = flow.stage("blocks.1", classifier)
    output = flow.outputs["blocks.1"]
    assert output.shape[1] == 1 + 4 + 4
    assert torch.equal(stage.maps[:, 1, 0], output[0, 1 + 4 + 2])


def test_strongest_channels_vary_most() -> None:
    maps = torch.zeros(3, 2, 2)
    maps[0] = 9.0
    maps[2, 0, 0], maps[1, 0, 0] = 1.0, 5.0
    assert strongest_channels(maps, 2) == [1, 2]


def test_channels_are_scaled_from_lowest_to_highest() -> None:
    np.testing.assert_allclose(
        scale_channel(np.array([[-2.0, 0.0], [2.0, 1.0]])), [[0, 0.5], [1, 0.75]]
    )
    assert not scale_channel(np.full((2, 2), 7.0)).any()


def test_token_norms_are_lengths() -> None:
    maps = torch.tensor([3.0, 4.0]).view(2, 1, 1).expand(2, 2, 2)
    assert np.all(token_norms(maps) == 5.0)


def test_equal_tokens_have_equal_colours_and_signs_do_not_flip() -> None:
    maps = torch.zeros(5, 2, 4)
    maps[0, :, :2], maps[0, :, 2:] = 1.0, -1.0
    colours, scores = colour_tokens(maps)
    assert np.allclose(colours[:, 0], colours[:, 1])
    assert not np.allclose(colours[:, 0], colours[:, 2])
    again, _ = colour_tokens(-maps, scores)
    turned, _ = colour_tokens(-maps, -scores)
    np.testing.assert_allclose(again[..., 0], 1 - turned[..., 0], atol=1e-6)
    np.testing.assert_allclose(again[..., 0], colours[..., 0], atol=1e-6)


def draw(subject, **options: object) -> list:
    return list(draw_features(subject, InspectOptions(**options)))


@pytest.mark.parametrize(
    ("name", "size", "details"),
    [
        ("test_vit", 32, ["flow-leaf", "blocks.0-leaf", "blocks.3-leaf"]),
        ("resnet10t", 64, ["flow-leaf", "conv1.0-leaf", "layer2-leaf"]),
        ("vit-small-data", 72, ["flow-leaf", "blocks.0-leaf", "blocks.4-leaf"]),
    ],
)
def test_flow_and_maps_are_drawn_of_a_picture_of_another_size(
    inspected, tmp_path: Path, photograph: str, name: str, size: int, details: list[str]
) -> None:
    subject = inspected.make_subject(tmp_path, inspected.build(name, size), [photograph])
    drawings = draw(subject)
    assert drawings[0].detail == details[0]
    assert len(drawings) == 3
    for drawing in drawings:
        assert name in drawing.caption and "leaf.png (in no split of this run)" in drawing.caption


def test_chosen_channels_are_those_of_the_layer(inspected, tmp_path: Path, photograph: str) -> None:
    classifier = inspected.build("test_vit", 32)
    subject = inspected.make_subject(tmp_path, classifier, [photograph])
    *_, drawing = draw(subject, layers=("blocks.2",), channels=(7, 3))
    picture = inspected.picture_of(np.zeros((32, 32, 3), np.uint8))
    assert drawing.detail == "blocks.2-leaf"
    assert "192" not in drawing.caption and "2 of 64 channels, the chosen" in drawing.caption
    assert picture.pixels.shape[1:] == (32, 32)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"layers": ("blocks.33",)}, r"no layer of that name. The nearest are blocks\.\d"),
        ({"layers": ("head",)}, r"does not lie on the image's plane"),
        ({"layers": ("blocks.0",), "channels": (64,)}, r"has 64 channels, 0 to 63"),
        ({"layers": ("blocks.0.attn.q_norm.x",)}, r"nearest are"),
    ],
)
def test_bad_layers_and_channels_are_named(
    inspected, tmp_path: Path, photograph: str, options: dict, told: str
) -> None:
    subject = inspected.make_subject(tmp_path, inspected.build("test_vit", 32), [photograph])
    with pytest.raises(InspectionError, match=told):
        draw(subject, **options)


def test_a_layer_is_found_with_and_without_backbone(inspected) -> None:
    classifier = inspected.build("test_vit", 32)
    assert find_layer(classifier, "blocks.1") is find_layer(classifier, "backbone.blocks.1")
