from __future__ import annotations

from torch import nn

from fieldmark.models.classic.cnn_baseline import CnnBaseline
from fieldmark.models.depths import depths_by_child
from fieldmark.models.records import BackboneOptions
from fieldmark.models.timm_zoo import build_timm_backbone


def test_children_are_levels_in_order() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2, bias=False))
    assert depths_by_child(module) == {"0.weight": 0, "0.bias": 0, "2.weight": 1}


def test_baseline_deepens_from_image_to_wide_layer() -> None:
    depths = CnnBaseline(image_size=107).parameter_depths()
    order = ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3", "conv4", "wide")
    assert [depths[f"{name}.weight"] for name in order] == list(range(8))


def test_vit_deepens_block_by_block() -> None:
    depths = build_timm_backbone(
        "vit_tiny_patch16_224", BackboneOptions(image_size=32)
    ).parameter_depths()
    assert depths["pos_embed"] == depths["patch_embed.proj.weight"] == 0
    assert [depths[f"blocks.{i}.norm1.weight"] for i in range(12)] == list(range(1, 13))
    assert depths["norm.weight"] == 12
