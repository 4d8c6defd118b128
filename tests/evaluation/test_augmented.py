from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fieldmark.errors import FieldmarkError
from fieldmark.evaluation.augmented import (
    AUGMENTATIONS,
    AugmentedTransform,
    AveragedClassifier,
    average_logits,
    choose_augmentations,
    name_augmentations,
)
from fieldmark.models.probabilities import log_probabilities
from fieldmark.recipes.schema import Augment
from fieldmark.transforms import EvalTransform, TransformRecord

RECORD = TransformRecord(
    image_size=32,
    resize="squash",
    crop=1.0,
    interpolation="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    augment=Augment(),
)


def draw_image() -> Image.Image:
    """Red grows to the right, green downward."""
    across = np.linspace(0, 255, 64, dtype=np.uint8)
    red, green = np.meshgrid(across, across)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 9)], axis=2))


def show(*names: str) -> dict[str, torch.Tensor]:
    """The views of the image by name, each (3, 32, 32)."""
    chosen = [a for a in AUGMENTATIONS if a.name in ("plain", *names)]
    shown = AugmentedTransform(RECORD, chosen)(draw_image())
    assert shown.shape == (len(chosen), 3, 32, 32)
    return dict(zip([a.name for a in chosen], shown, strict=True))


def test_the_order_is_fixed() -> None:
    assert [a.name for a in choose_augmentations("2")] == ["plain", "flipped"]
    names = [a.name for a in choose_augmentations("13")]
    assert names[2:6] == ["moved left", "moved right", "moved up", "moved down"]
    assert names[6] == "crop, centre" and names[-2:] == ["larger", "smaller"]


def test_names_choose_groups_and_always_the_plain_image() -> None:
    assert len(choose_augmentations("five-crop")) == 6
    chosen = choose_augmentations("scales, flip")
    assert [a.name for a in chosen] == ["plain", "flipped", "larger", "smaller"]
    assert name_augmentations("scales, flip") == "tta-flip-scales"
    assert name_augmentations("02") == "tta2"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("1", r"a number from 2 to 13, not 1"),
        ("14", r"a number from 2 to 13, not 14"),
        ("-3", r"not -3"),
        ("flips", r"tta 'flips'.*Did you mean 'flip'"),
        ("", r"tta ''"),
    ],
)
def test_other_words_are_told(words: str, told: str) -> None:
    with pytest.raises(FieldmarkError, match=told):
        choose_augmentations(words)


def test_the_plain_view_is_the_evaluation_transform_bit_for_bit() -> None:
    assert torch.equal(show()["plain"], EvalTransform(RECORD)(draw_image()))


def test_flip_and_shifts_move_the_same_pixels() -> None:
    views = show("flipped", "moved left", "moved right", "moved up", "moved down")
    plain = views["plain"]
    assert torch.equal(views["flipped"], plain.flip(2))
    assert torch.equal(views["moved left"][:, :, :-2], plain[:, :, 2:])
    assert torch.equal(views["moved right"][:, :, 2:], plain[:, :, :-2])
    assert torch.equal(views["moved up"][:, :-2], plain[:, 2:])
    assert torch.equal(views["moved down"][:, 2:], plain[:, :-2])
    assert torch.equal(views["moved left"][:, :, -1], plain[:, :, -1])  # the edge goes on


def test_crops_and_scales_show_the_parts_they_are_called_after() -> None:
    corners = [f"crop, {v} {h}" for v in ("top", "bottom") for h in ("left", "right")]
    views = show("crop, centre", *corners, "larger", "smaller")
    red = {name: float(view[0].mean()) for name, view in views.items()}
    green = {name: float(view[1].mean()) for name, view in views.items()}
    assert red["crop, top left"] < red["crop, centre"] < red["crop, top right"]
    assert green["crop, top left"] < green["crop, centre"] < green["crop, bottom left"]
    width = {name: float(view[0].max() - view[0].min()) for name, view in views.items()}
    assert width["larger"] < width["crop, centre"] < width["plain"]
    small = views["smaller"][0, 16]
    assert small[:3].unique().numel() == 1 and small[-3:].unique().numel() == 1


@pytest.mark.parametrize("resize", ["shorter", "pad"])
def test_other_ways_to_resize_work_as_well(resize: str) -> None:
    from dataclasses import replace

    record = replace(RECORD, resize=resize, crop=0.9)
    picture = draw_image().crop((0, 0, 40, 64))
    assert AugmentedTransform(record, AUGMENTATIONS)(picture).shape == (13, 3, 32, 32)


@pytest.mark.parametrize(("task", "outputs"), [("multiclass", 5), ("binary", 1), ("multilabel", 4)])
def test_the_average_is_of_probabilities(task: str, outputs: int) -> None:
    logits = 4 * torch.randn(3, 6, outputs, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.5, 0.25, 0.25])
    for given, shares in ((None, torch.full((3,), 1 / 3)), (weights, weights)):
        averaged = log_probabilities(average_logits(logits, task, given), task).exp()
        each = torch.stack([log_probabilities(one.double(), task).exp() for one in logits])
        expected = (shares.double()[:, None, None] * each).sum(dim=0)
        assert torch.allclose(averaged, expected, atol=1e-7)


def test_the_energy_of_the_average_is_the_mean_energy() -> None:
    logits = torch.randn(4, 3, 7)
    energy = average_logits(logits, "multiclass").logsumexp(dim=1)
    assert torch.allclose(energy, logits.double().logsumexp(dim=2).mean(dim=0))


def test_very_sure_networks_stay_finite() -> None:
    for task, logits in (
        ("multiclass", torch.tensor([[[500.0, 0.0]], [[0.0, 800.0]]])),
        ("binary", torch.tensor([[[300.0]], [[400.0]]])),
    ):
        assert average_logits(logits, task).isfinite().all()


def test_the_averaged_classifier_sees_each_view_and_its_tags() -> None:
    class Sums(nn.Module):
        def forward(self, images: torch.Tensor, tags: torch.Tensor | None = None) -> torch.Tensor:
            total = images.flatten(1).sum(dim=1, keepdim=True)
            return torch.cat([total, 0 * total], dim=1) + (0 if tags is None else tags[:, :1])

    images, tags = torch.randn(3, 2, 3, 4, 4), torch.ones(3, 5)
    alone = Sums()
    expected = (alone(images[:, 0]).softmax(1) + alone(images[:, 1]).softmax(1)) / 2
    for answer in (
        AveragedClassifier(alone, "multiclass")(images),
        AveragedClassifier(alone, "multiclass")(images, tags),
    ):
        assert torch.allclose(answer.softmax(1).float(), expected, atol=1e-5)
