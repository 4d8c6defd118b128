from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from fieldmark.errors import ModelError
from fieldmark.models.vit.patches import replace_patch_embedding
from fieldmark.recipes.schema import Patches

SMALL = {"embed_dim": 48, "num_heads": 3, "depth": 2, "num_classes": 3}
FAMILIES = {
    "vit_tiny_patch16_224": 32,
    "deit_tiny_distilled_patch16_224": 32,
    "deit3_small_patch16_224": 32,
    "vit_base_patch16_clip_224": 32,
    "eva02_tiny_patch14_224": 28,
    "beit_base_patch16_224": 32,
}


def create(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    net: nn.Module = timm.create_model(name, **({"img_size": FAMILIES[name]} | SMALL | options))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)  # trained networks have no zeros
    return net.eval()


def patches(kind: str, form: str) -> Patches:
    return Patches.model_validate({"kind": kind, "form": form})


@pytest.mark.parametrize("name", FAMILIES)
def test_added_views_leave_a_pretrained_network_as_it_was(name: str) -> None:
    net = create(name)
    size = FAMILIES[name]
    images = torch.randn(2, 3, size, size)
    before, features, keys = net(images), net.forward_features(images), set(net.state_dict())
    replace_patch_embedding(net, patches("rotated", "added"))
    assert torch.equal(net(images), before)
    assert torch.equal(net.forward_features(images), features)
    added = set(net.state_dict()) - keys
    assert keys < set(net.state_dict())
    assert added == {
        f"patch_embed.views.{part}.{kind}"
        for part in ("norm", "proj")
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", ["shifted", "rotated"])
def test_published_views_take_the_place_of_the_projection(name: str, kind: str) -> None:
    net = create(name)
    keys = set(net.state_dict())
    replace_patch_embedding(net, patches(kind, "published"))
    lost = keys - set(net.state_dict())
    assert "patch_embed.proj.weight" in lost
    assert all(key.startswith("patch_embed.proj.") for key in lost)
    size = FAMILIES[name]
    images = torch.randn(2, 3, size, size)
    assert net(images).shape == (2, 3)
    net.train()(images).sum().backward()
    assert net.patch_embed.views.proj.weight.grad.abs().sum() > 0


def test_weights_loaded_after_the_swap_equal_the_original() -> None:
    net = create("vit_tiny_patch16_224")
    images = torch.randn(2, 3, 32, 32)
    swapped = create("vit_tiny_patch16_224")
    nn.init.normal_(swapped.patch_embed.proj.weight)
    replace_patch_embedding(swapped, patches("shifted", "added"))
    found = swapped.load_state_dict(net.state_dict(), strict=False)
    assert found.unexpected_keys == []
    assert all(key.startswith("patch_embed.views.") for key in found.missing_keys)
    assert torch.equal(swapped(images), net(images))


def test_timms_own_weight_filter_reads_the_added_embedding() -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    net = create("vit_tiny_patch16_224", img_size=48)
    replace_patch_embedding(net, patches("rotated", "added"))
    state = create("vit_tiny_patch16_224").state_dict()  # of 32 px: 2 x 2 positions, not 3 x 3
    net.load_state_dict(checkpoint_filter_fn(state, net), strict=False)
    assert net.patch_embed.grid_size == (3, 3)


@pytest.mark.parametrize("form", ["published", "added"])
def test_dynamic_image_size_keeps_working(form: str) -> None:
    net = create("vit_tiny_patch16_224", dynamic_img_size=True)
    expected = net(torch.ones(1, 3, 64, 48))
    replace_patch_embedding(net, patches("rotated", form))
    assert net(torch.ones(1, 3, 64, 48)).shape == (1, 3)
    if form == "added":
        assert torch.equal(net(torch.ones(1, 3, 64, 48)), expected)


def test_set_input_size_keeps_working() -> None:
    net = create("vit_tiny_patch16_224")
    expected = create("vit_tiny_patch16_224")
    replace_patch_embedding(net, patches("rotated", "added"))
    for each in (net, expected):
        each.set_input_size(img_size=64)
    images = torch.randn(1, 3, 64, 64)
    assert net.patch_embed.grid_size == (4, 4)
    assert torch.equal(net(images), expected(images))
    with pytest.raises(ModelError, match="cannot become 8 px"):
        net.set_input_size(patch_size=8)


def test_dtype_device_and_mode_are_those_of_the_network() -> None:
    net = create("vit_tiny_patch16_224").double()
    replace_patch_embedding(net, patches("rotated", "published"))
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float64}
    assert not net.patch_embed.views.rotations.training
    meta = create("vit_tiny_patch16_224").to("meta")
    replace_patch_embedding(meta, patches("rotated", "added"))
    assert {tensor.device.type for tensor in [*meta.parameters(), *meta.buffers()]} == {"meta"}
    assert meta(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 3)


def test_plain_leaves_the_network_alone() -> None:
    net = create("vit_tiny_patch16_224")
    before = net.patch_embed
    replace_patch_embedding(net, Patches())
    assert net.patch_embed is before


@pytest.mark.parametrize(
    "name,options,message",
    [
        ("resnet18", {}, "ResNet is none that is known"),
        ("swin_tiny_patch4_window7_224", {"img_size": 56}, "SwinTransformer is none"),
        ("vit_tiny_r_s16_p8_224", {"img_size": 32}, "HybridEmbed does not cut"),
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": (16, 8)}, "8 x 16 px"),
        ("vit_tiny_patch16_224", {"img_size": 4, "patch_size": 1, "depth": 1}, "have no half"),
    ],
)
def test_networks_without_square_patches_are_refused(
    name: str, options: dict[str, object], message: str
) -> None:
    net = timm.create_model(name, **options)
    with pytest.raises(ModelError, match=message):
        replace_patch_embedding(net, patches("rotated", "added"))
