from __future__ import annotations

import pytest

from fieldmark.errors import ImageSizeError, ModelError, UnknownModelError
from fieldmark.models.records import BackboneOptions
from fieldmark.models.timm_zoo import build_timm_backbone, find_image_sizes, find_timm_size


@pytest.mark.parametrize(
    ("name", "image_size", "sizes"),
    [
        ("vit_tiny_patch16_224", 100, [96, 112]),
        ("vit_tiny_patch16_224", 10, [16]),
        ("vit_tiny_patch16_224", 96, [96]),
        ("densenet121", 16, [32]),
    ],
)
def test_nearest_sizes_are_found(name: str, image_size: int, sizes: list[int]) -> None:
    assert find_image_sizes(name, image_size) == sizes


def test_size_error_says_patch_and_both_neighbours() -> None:
    with pytest.raises(ImageSizeError, match=r"100 px.*patches of 16 px.*96 px and 112 px"):
        build_timm_backbone("vit_tiny_patch16_224", BackboneOptions(image_size=100))


def test_windows_are_fitted_or_refused() -> None:
    assert (
        build_timm_backbone("swin_tiny_patch4_window7_224", BackboneOptions(image_size=96)).stride
        == 32
    )
    with pytest.raises(ImageSizeError, match="Nearest sizes that work"):
        build_timm_backbone("test_coatnet", BackboneOptions(image_size=100))


def test_unknown_weights_of_a_known_network_are_named() -> None:
    assert find_timm_size("resnet18.a1_in1k") == 224
    with pytest.raises(UnknownModelError, match=r"no weights named 'a9_in1k'.*a1_in1k"):
        find_timm_size("resnet18.a9_in1k")


@pytest.mark.parametrize("name", ["resnet", "hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp", ""])
def test_other_names_are_unknown(name: str) -> None:
    assert find_timm_size(name) is None


def test_encoders_without_pooling_are_refused() -> None:
    with pytest.raises(ModelError, match="pools no features"):
        build_timm_backbone("qwen3_vit_88m_enc", BackboneOptions(image_size=768))
