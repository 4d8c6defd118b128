"""Saliency finds what the network reads, and its checks can tell good maps from bad ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fieldmark.errors import InspectionError
from fieldmark.inspection.asking import Answer
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.saliency import (
    METHODS,
    compute_grad_cam,
    draw_random_map,
    draw_saliency,
    find_cam_layers,
    measure_curves,
    measure_faithfulness,
    occlude,
    rank_correlation,
    shuffle_weights,
)

ROWS, COLUMNS = slice(16, 48), slice(24, 56)
WHOLE = slice(32, 96)
NEEDS_CAPTUM = pytest.mark.skipif(
    importlib.util.find_spec("captum") is None, reason="the extra `explain` is not installed"
)


@pytest.fixture
def red(inspected) -> SimpleNamespace:
    """A CNN that reads red, and a picture with a red square."""
    classifier = inspected.red_classifier(64)
    picture = inspected.picture_of(inspected.draw_square(64, ROWS, COLUMNS))
    return SimpleNamespace(answer=Answer(classifier, "multiclass", 1), picture=picture)


@pytest.mark.parametrize(
    "method", ["grad-cam", *(pytest.param(m, marks=NEEDS_CAPTUM) for m in list(METHODS)[1:])]
)
def test_a_planted_square_is_found(inspected, red, method: str) -> None:
    values = METHODS[method].compute(red.answer, red.picture, 20)
    assert values.shape == (64, 64) and values.dtype == np.float32
    assert inspected.find_overlap(values, ROWS, COLUMNS) > 0.7


def test_grad_cam_equals_gradient_times_activity(red) -> None:
    """One channel: its gradient is weight / number of pixels at each of them."""
    values = compute_grad_cam(red.answer, red.picture)
    expected = 30.0 / 64**2 * red.picture.pixels[0].relu()
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@NEEDS_CAPTUM
def test_occlusion_equals_the_loss_of_the_logit(red) -> None:
    """A window of 9 px that lies in the square takes 9 * 9 of its pixels from the mean."""
    values = occlude(red.answer, red.picture, 20)
    np.testing.assert_allclose(values[32, 40], 30.0 * 81 / 64**2, rtol=1e-4)


@pytest.mark.parametrize("head", ["linear", "ifa"])
def test_grad_cam_of_a_vision_transformer_finds_what_the_class_token_reads(
    inspected, head: str
) -> None:
    classifier = inspected.build_reading_vit(head)
    picture = inspected.picture_of(inspected.draw_square(128, WHOLE, WHOLE))
    answer = Answer(classifier, "multiclass", 1)
    layers, _ = find_cam_layers(answer, picture)
    last = len(classifier.backbone.blocks) - 1
    expected = [f"blocks.{i}.norm1" for i in range(last + 1)]
    assert layers == (expected if head == "ifa" else expected[-1:])
    assert inspected.find_overlap(compute_grad_cam(answer, picture), WHOLE, WHOLE) > 0.7


def test_grad_cam_of_mean_pooling_reads_the_last_block(inspected) -> None:
    classifier = inspected.build("vit-small-data", 72)
    image = np.random.default_rng(0).integers(0, 255, (72, 72, 3), dtype=np.uint8)
    answer = Answer(classifier, "multiclass", 1)
    layers, _ = find_cam_layers(answer, inspected.picture_of(image))
    assert layers == [f"blocks.{len(classifier.backbone.blocks) - 1}"]
    assert compute_grad_cam(answer, inspected.picture_of(image)).any()


def test_a_frozen_backbone_has_a_map_too(inspected) -> None:
    classifier = inspected.build("test_vit", 32)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    picture, answer = inspected.picture_of(image), Answer(classifier, "multiclass", 1)
    free = compute_grad_cam(answer, picture)
    classifier.freeze_backbone()
    np.testing.assert_allclose(compute_grad_cam(answer, picture), free, rtol=1e-5)


def test_a_binary_answer_speaks_for_both_classes() -> None:
    def network(images, tags):
        return images.mean(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0]

    images = torch.full((2, 3, 4, 4), 0.5)
    no, yes = (Answer(network, "binary", index) for index in (0, 1))
    assert yes(images).tolist() == [0.5, 0.5] and no(images).tolist() == [-0.5, -0.5]
    torch.testing.assert_close(yes.probability(images) + no.probability(images), torch.ones(2))


def test_a_right_map_beats_random_ones_and_its_opposite_does_not(red) -> None:
    right = (red.picture.pixels[0] > 0).float().numpy()
    values = {"steps": 10, "seed": 0, "cell_px": 8}
    good = measure_faithfulness(red.answer, red.picture.pixels, right, **values)
    assert good.beats_random == (True, True)
    bad = measure_faithfulness(red.answer, red.picture.pixels, -right, **values)
    assert bad.beats_random == (False, False)
    assert good.curves.deletion_area < bad.curves.deletion_area
    assert good.curves.insertion_area > bad.curves.insertion_area


def test_curves_equal_the_probabilities_of_what_is_left(red) -> None:
    """The square is a quarter of the image: half of it gone, the logit is 30 / 8 against 3."""
    right = (red.picture.pixels[0] > 0).float().numpy()
    rng = np.random.default_rng(0)
    curves = measure_curves(red.answer, red.picture.pixels, right, steps=8, rng=rng)
    assert len(curves.deletion) == 9

    def sigmoid(logit: float) -> float:
        return 1 / (1 + np.exp(-logit))

    np.testing.assert_allclose(
        curves.deletion[:3], [sigmoid(30 / 4 - 3), sigmoid(30 / 8 - 3), sigmoid(-3)], rtol=1e-5
    )
    np.testing.assert_allclose(curves.insertion[-1], curves.deletion[0], rtol=1e-6)


def test_random_maps_are_as_coarse_as_asked() -> None:
    rng = np.random.default_rng(0)
    coarse, fine = (draw_random_map((64, 64), cell, rng) for cell in (16, 2))
    assert np.abs(np.diff(coarse)).mean() < 0.3 * np.abs(np.diff(fine)).mean()


def test_shuffled_weights_keep_the_numbers_and_lose_their_places(inspected) -> None:
    classifier = inspected.build("test_vit", 32)
    shuffled = shuffle_weights(classifier, 0)
    weight, other = (c.backbone.blocks[0].attn.qkv.weight for c in (classifier, shuffled))
    assert not torch.equal(weight, other)
    assert torch.equal(weight.flatten().sort().values, other.flatten().sort().values)
    again = shuffle_weights(classifier, 0).backbone.blocks[0].attn.qkv.weight
    assert torch.equal(other, again)
    assert not torch.equal(other, shuffle_weights(classifier, 1).backbone.blocks[0].attn.qkv.weight)


def test_the_map_of_a_network_that_reads_depends_on_its_weights(inspected) -> None:
    classifier = inspected.build_reading_vit()
    picture = inspected.picture_of(inspected.draw_square(128, WHOLE, WHOLE))
    answer = Answer(classifier, "multiclass", 1)
    own = compute_grad_cam(answer, picture)
    other = compute_grad_cam(Answer(shuffle_weights(classifier, 0), "multiclass", 1), picture)
    assert rank_correlation(own, own) == pytest.approx(1.0)
    assert abs(rank_correlation(own, other)) < 0.9


def test_rank_correlation_knows_order_and_constants() -> None:
    ramp = np.arange(16.0).reshape(4, 4)
    assert rank_correlation(ramp, ramp**3) == pytest.approx(1.0)
    assert rank_correlation(ramp, -ramp) == pytest.approx(-1.0)
    assert rank_correlation(ramp, np.zeros((4, 4))) == 0.0


def draw(subject, **options: object) -> list:
    return list(draw_saliency(subject, InspectOptions(**options)))


def test_a_sheet_names_model_layer_image_split_and_class(
    inspected, tmp_path: Path, photograph: str
) -> None:
    subject = inspected.make_subject(tmp_path, inspected.build("test_vit", 32), [photograph])
    (drawing,) = draw(subject, methods=("grad-cam",), target="beech", steps=4)
    for part in ("test_vit", "blocks.5.norm1", "leaf.png (in no split", "beech", "random maps"):
        assert part in drawing.caption
    assert drawing.stem == "saliency-test_vit-leaf"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"methods": ("gradcam",)}, r"gradcam: .* Did you mean 'grad-cam'"),
        ({"methods": ("grad-cam",), "target": "bech"}, r"Did you mean 'beech'"),
        ({"methods": ("grad-cam",), "steps": 1}, r"--steps: expected at least 4"),
    ],
)
def test_bad_choices_are_named(
    inspected, tmp_path: Path, photograph: str, options: dict, told: str
) -> None:
    subject = inspected.make_subject(tmp_path, inspected.build("test_vit", 32), [photograph])
    with pytest.raises(InspectionError, match=told):
        draw(subject, **options)


def test_without_captum_the_extra_is_named(
    inspected, tmp_path: Path, photograph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldmark.inspection.saliency.captum_maps.find_spec", lambda _name: None)
    subject = inspected.make_subject(tmp_path, inspected.build("test_vit", 32), [photograph])
    with pytest.raises(InspectionError, match=r"pip install 'fieldmark\[explain\]'"):
        draw(subject, methods=("occlusion",))
    notes: list[str] = []
    (drawing,) = draw(subject, steps=4, note=notes.append)
    assert "Grad-CAM" in drawing.caption and "Occlusion" not in drawing.caption
    assert "integrated-gradients and occlusion, which need captum" in notes[0]
