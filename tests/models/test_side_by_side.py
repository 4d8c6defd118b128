"""Images side by side on one wide map: the same convolution, its gradients and its checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from fieldmark.models import side_by_side
from fieldmark.models.classifier import build_classifier
from fieldmark.models.side_by_side import LARGEST_SIDE, SideBySideConv2d, lay_side_by_side
from fieldmark.recipes.schema import Model


def answer(layer: nn.Conv2d, maps: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of what goes in, of kernel and bias."""
    found = layer(maps)
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view(found.shape)
    sources = [maps, *layer.parameters()]
    return [found, *torch.autograd.grad(found, sources, weights)]


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(4, 4), (7, 5), (1, 1), (2, 3), (13, 14)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_plain_convolution(
    kernel: int, stride: int, size: tuple[int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 6, kernel, stride, kernel // 2, bias=bias).double()
    maps = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)

    pairs = zip(answer(plain, maps), answer(SideBySideConv2d.of(plain), maps), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(other, one, rtol=0, atol=1e-12)


def test_only_training_on_small_maps_is_done_so(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = SideBySideConv2d.of(nn.Conv2d(2, 2, 3, padding=1))
    taken: list[tuple[int, ...]] = []
    whole = SideBySideConv2d._convolve_wide

    def note(self: SideBySideConv2d, maps: Tensor, *size: int) -> Tensor:
        taken.append(tuple(maps.shape))
        return whole(self, maps, *size)

    monkeypatch.setattr(SideBySideConv2d, "_convolve_wide", note)
    small = torch.randn(2, 2, LARGEST_SIDE, LARGEST_SIDE)
    layer(small)
    assert taken == [tuple(small.shape)]
    layer(torch.randn(2, 2, LARGEST_SIDE + 1, 1))
    layer.eval()(small)
    layer.train().requires_grad_(False)(small)
    with torch.no_grad():
        layer.requires_grad_(True)(small)
    assert len(taken) == 1


def test_the_answer_lies_channels_last() -> None:
    layer = SideBySideConv2d.of(nn.Conv2d(2, 3, 3, padding=1))
    found = layer(torch.randn(4, 2, 5, 5).to(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_late_layers_of_a_resnet_take_it_and_keep_parameters_and_names() -> None:
    classifier, _ = build_classifier(Model(name="resnet18"), num_classes=3, image_size=64)
    parameters = dict(classifier.named_parameters())

    assert lay_side_by_side(classifier.backbone) == 4  # 256 to 512 channels, and three of 512

    after = dict(classifier.named_parameters())
    assert list(after) == list(parameters)
    assert all(after[name] is parameter for name, parameter in parameters.items())
    copied = copy.deepcopy(classifier)  # an average of weights is kept so
    assert sum(isinstance(layer, SideBySideConv2d) for layer in copied.modules()) == 4
    assert lay_side_by_side(classifier.backbone) == 0


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 8, (3, 1), padding=1),
        nn.Conv2d(8, 8, 3, stride=(1, 2), padding=1),
        nn.ConvTranspose2d(8, 8, 3, padding=1),
    ],
    ids=str,
)
def test_other_convolutions_stay(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "FEWEST_WEIGHTS", 1)
    assert lay_side_by_side(nn.Sequential(layer)) == 0  # type: ignore[arg-type]
