"""Filters as numbers, on weights that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.errors import InspectionError
from fieldmark.inspection.filters import find_components, position_similarity, to_colours
from fieldmark.inspection.filters.drawing import draw_filters
from fieldmark.inspection.filters.numbers import plain_filters, view_filters
from fieldmark.inspection.options import InspectOptions


def test_kernels_share_one_colour_scale() -> None:
    kernels = np.zeros((2, 3, 3, 3), dtype=np.float32)
    kernels[0, :, 0] = 2.0  # an edge: left is bright, right is dark
    kernels[0, :, 2] = -2.0
    kernels[1, 1, 1, 0] = 1.0
    colours = to_colours(kernels)
    assert np.all(colours[0, :, 0] == 1.0)
    assert np.all(colours[0, :, 1] == 0.5)
    assert np.all(colours[0, :, 2] == 0.0)
    assert colours[1, 1, 1].tolist() == [0.75, 0.5, 0.5]


def test_filters_of_zeros_are_grey() -> None:
    assert np.all(to_colours(np.zeros((1, 2, 2, 3), dtype=np.float32)) == 0.5)


def test_components_of_filters_that_are_multiples_of_two_patterns() -> None:
    first = torch.zeros(1, 1, 2, 2, 3)
    first[..., 0] = 0.5  # of length 1: four reds of 0.5
    second = torch.zeros(1, 1, 2, 2, 3)
    second[0, 0, 0, 0, 1] = 1.0
    weight = torch.cat([3 * first, -4 * first, 2 * second, 0 * second])
    found = find_components(weight, 2)
    np.testing.assert_allclose(found.share, [25 / 29, 4 / 29], rtol=1e-5)
    np.testing.assert_allclose(found.filters[0], first[0], atol=1e-6)
    np.testing.assert_allclose(found.filters[1], second[0], atol=1e-6)


def test_similarity_of_positions_is_their_cosine() -> None:
    angles = torch.tensor([0.0, 60.0, 90.0, 180.0]).deg2rad()
    positions = 3 * torch.stack([angles.cos(), angles.sin()], dim=1)
    found = position_similarity(positions, (2, 2))
    np.testing.assert_allclose(found[0, 0], [[1.0, 0.5], [0.0, -1.0]], atol=1e-6)
    np.testing.assert_allclose(found[1, 0, 1, 1], 0.0, atol=1e-6)


def test_plain_filters_are_those_of_the_convolution(inspected) -> None:
    embedding = inspected.build("test_vit", 32).backbone.patch_embed
    filters = plain_filters(embedding)
    assert filters.shape == (64, 1, 16, 16, 3)
    assert torch.equal(filters[5, 0, 2, 3], embedding.proj.weight[5, :, 2, 3])
    assert view_filters(embedding) is None


def test_filters_of_views_answer_a_pixel_of_that_view(inspected) -> None:
    patches = {"kind": "rotated", "form": "published"}
    embedding = inspected.build("vit-small-data", 72, patches=patches).backbone.patch_embed
    filters = view_filters(embedding)
    assert filters.shape == (64, 7, 6, 6, 3)
    # The published order of a token's values: row, column, view, channel.
    place = ((2 * 6 + 3) * 7 + 4) * 3 + 1
    expected = embedding.views.proj.weight[:, place] * embedding.views.norm.weight[place]
    assert torch.equal(filters[:, 4, 2, 3, 1], expected)


def draw(subject, **options: object) -> list:
    return list(draw_filters(subject, InspectOptions(**options)))


@pytest.mark.parametrize(
    ("name", "size", "model", "details"),
    [
        ("cnn-baseline", 107, {}, ["conv1", "conv2-channel0"]),
        ("test_vit", 32, {}, ["patch_embed", "positions"]),
        ("vit-small-data", 72, {"patches": {"kind": "shifted"}}, ["shifted-patches", "positions"]),
        (
            "test_vit",
            32,
            {"patches": {"kind": "rotated", "form": "added"}},
            ["patch_embed", "rotated-patches", "positions"],
        ),
    ],
)
def test_what_is_drawn_suits_the_network(
    inspected, tmp_path: Path, name: str, size: int, model: dict, details: list[str]
) -> None:
    subject = inspected.make_subject(tmp_path, inspected.build(name, size, **model))
    drawings = draw(subject)
    assert [drawing.detail for drawing in drawings] == details
    for drawing in drawings:
        assert name in drawing.caption and "no image and no split" in drawing.caption


def test_chosen_channels_of_a_deeper_layer(inspected, tmp_path: Path) -> None:
    subject = inspected.make_subject(tmp_path, inspected.build("cnn-baseline", 107))
    (drawing,) = draw(subject, layers=("conv3",), channels=(5,))
    assert drawing.detail == "conv3-channel5"
    shown = drawing.figure.axes[0].images[7].get_array()
    expected = subject.classifier.backbone.conv3.weight[7, 5].detach().numpy()
    np.testing.assert_allclose(shown, expected)
    limits = {image.get_clim() for image in drawing.figure.axes[0].images}
    assert len(limits) == 1  # one common scale


def test_a_layer_that_does_not_exist_is_named_with_the_nearest(inspected, tmp_path: Path) -> None:
    subject = inspected.make_subject(tmp_path, inspected.build("cnn-baseline", 107))
    with pytest.raises(InspectionError, match=r"conv9: .* nearest are conv\d, conv\d"):
        draw(subject, layers=("conv9",))
    with pytest.raises(InspectionError, match=r"norm1: is a BatchNorm2d .* conv1, conv2"):
        draw(subject, layers=("norm1",))
    with pytest.raises(
        InspectionError, match=r"16: the kernels of conv2 read 16 channels, 0 to 15"
    ):
        draw(subject, layers=("conv2",), channels=(16,))


def test_a_network_without_position_embedding_says_so(inspected, tmp_path: Path) -> None:
    notes: list[str] = []
    subject = inspected.make_subject(tmp_path, inspected.build("test_vit", 32))
    subject.classifier.backbone.net.pos_embed = None
    details = [drawing.detail for drawing in draw(subject, note=notes.append)]
    assert details == ["patch_embed"]
    assert "adds no position embedding" in notes[0]
