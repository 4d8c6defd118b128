from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from fieldmark.errors import ModelError
from fieldmark.models.vit.attention import SelfAttention, attend, make_attention_local

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_tiny_patch16_224", {}),
    "deit-distilled": ("deit_tiny_distilled_patch16_224", {}),
    "eva02": ("eva02_tiny_patch14_224", {"img_size": 28, "patch_size": 14}),
    "eva": ("eva_large_patch14_196", {"img_size": 28, "embed_dim": 48, "num_heads": 3}),
    "dinov3": ("vit_small_patch16_dinov3", {"embed_dim": 48, "num_heads": 3}),
    "rope-shared-keys": (
        "vit_small_patch16_dinov3",
        {
            "embed_dim": 48,
            "num_heads": 4,
            "attn_type": "rope",
            "num_kv_heads": 2,
            "qkv_fused": False,
        },
    ),
    "beit": ("beit_base_patch16_224", {"embed_dim": 48, "num_heads": 3}),
    "beit-shared-bias": (
        "beit_base_patch16_224",
        {
            "embed_dim": 48,
            "num_heads": 3,
            "use_rel_pos_bias": False,
            "use_shared_rel_pos_bias": True,
        },
    ),
    "dinov2-registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 28}),
    "siglip": ("vit_base_patch16_siglip_224", {"embed_dim": 48, "num_heads": 3}),
    "parallel": ("vit_small_patch16_18x2_224", {"embed_dim": 48, "num_heads": 3}),
    "inner-norms": ("vit_tiny_patch16_224", {"qk_norm": True, "scale_attn_norm": True}),
}
FAMILIES = pytest.mark.parametrize("family", SMALL)


def build(family: str, **keys: Any) -> nn.Module:
    torch.manual_seed(0)
    name, options = SMALL[family]
    net = timm.create_model(
        name, **{"img_size": 32, "depth": 2, "num_classes": 3, **options, **keys}
    )
    with torch.no_grad():  # so that zero-initialised gates and tables count
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return net


def draw(net: nn.Module, count: int = 2) -> Tensor:
    side = net.patch_embed.img_size[0]
    return torch.randn(count, 3, side, side)


def attention_layers(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if hasattr(module, "attn_drop")]


def close_diagonal(layer: nn.Module) -> None:
    """Let timm's own forward pass run with a mask that closes the diagonal."""
    forward = layer.forward

    def masked(tokens: Tensor, **keys: Any) -> Tensor:
        diagonal = torch.eye(tokens.shape[1], dtype=torch.bool)
        closed = torch.zeros(diagonal.shape).masked_fill(diagonal, -torch.inf)
        if "shared_rel_pos_bias" in inspect.signature(forward).parameters:
            shared = keys.pop("shared_rel_pos_bias", None)
            return forward(tokens, closed if shared is None else shared + closed)
        return forward(tokens, **{**keys, "attn_mask": closed})

    layer.forward = masked


def record_probabilities(net: nn.Module, run: Callable[[], object]) -> list[Tensor]:
    """Attention probabilities (B, heads, N, N) of each layer, read from the unfused path."""
    seen: list[Tensor] = []
    hooks = []
    for layer in attention_layers(net):
        layer.fused_attn = False
        hook = layer.attn_drop.register_forward_hook(lambda _, __, output: seen.append(output))
        hooks.append(hook)
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return seen


def diagonal(probabilities: Tensor) -> Tensor:
    return probabilities.diagonal(dim1=-2, dim2=-1)


@FAMILIES
def test_no_token_attends_to_itself(family: str) -> None:
    net = build(family).eval()
    make_attention_local(net)
    layers = record_probabilities(net, lambda: net(draw(net)))
    assert len(layers) >= 2
    for probabilities in layers:
        assert probabilities.shape[-1] > 1
        assert torch.all(diagonal(probabilities) == 0.0)
        assert torch.allclose(probabilities.sum(dim=-1), torch.ones(()), atol=1e-5)


@FAMILIES
def test_at_the_start_it_is_timms_attention_with_a_closed_diagonal(family: str) -> None:
    net = build(family).eval()
    images = draw(net)
    for layer in attention_layers(net):
        width = layer.proj.in_features
        if hasattr(layer, "gate"):
            layer.gate = nn.Linear(layer.proj.out_features, width)
    local = copy.deepcopy(net)
    make_attention_local(local)
    for layer in attention_layers(net):
        close_diagonal(layer)
    with torch.no_grad():
        assert torch.allclose(local(images), net(images), atol=1e-5)


@FAMILIES
def test_fused_and_explicit_attention_agree(family: str) -> None:
    net = build(family).eval()
    make_attention_local(net)
    images = draw(net)
    with torch.no_grad():
        fused = net(images)
        for layer in attention_layers(net):
            assert layer.fused_attn
            layer.fused_attn = False
        assert torch.allclose(net(images), fused, atol=1e-5)


@FAMILIES
def test_pretrained_names_and_shapes_stay(family: str) -> None:
    net = build(family)
    weights = copy.deepcopy(net.state_dict())
    make_attention_local(net)
    added = net.state_dict().keys() - weights.keys()
    assert added and all(name.endswith("attn.temperature") for name in added)
    assert net.load_state_dict(weights, strict=False).missing_keys == sorted(
        added, key=list(net.state_dict()).index
    )
    assert not net.load_state_dict(weights, strict=False).unexpected_keys


@FAMILIES
def test_temperature_starts_at_the_root_of_the_head_width(family: str) -> None:
    net = build(family)
    make_attention_local(net)
    for name, parameter in net.named_parameters():
        if name.endswith("temperature"):
            layer = net.get_submodule(name.rpartition(".")[0])
            head_width = layer.proj.in_features / layer.num_heads
            assert parameter.shape == (1,)
            assert parameter.item() == pytest.approx(head_width**0.5)


@FAMILIES
def test_gradient_reaches_every_parameter(family: str) -> None:
    net = build(family).train()
    make_attention_local(net)
    net(draw(net)).square().sum().backward()
    # A key's bias adds the same to all scores of a query: its gradient is zero but for rounding.
    assert not [
        name
        for name, parameter in net.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0.0
    ]


@pytest.mark.parametrize("family", ["vit", "eva02", "rope-shared-keys", "dinov2-registers"])
@pytest.mark.parametrize("kind", ["bool", "float", "per-head"])
def test_a_padding_mask_is_kept_beside_the_diagonal(family: str, kind: str) -> None:
    net = build(family).eval()
    make_attention_local(net)
    block = net.blocks[0]
    width = block.attn.proj.out_features
    tokens = torch.randn(2, 7, width)
    visible = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    visible[:, :, :, 5:] = False
    mask: Tensor = visible
    if kind == "float":
        mask = torch.zeros(2, 1, 1, 7).masked_fill(~visible, -torch.inf)
    if kind == "per-head":
        mask = visible.expand(2, block.attn.num_heads, 7, 7)
    (probabilities,) = record_probabilities(block, lambda: block(tokens, attn_mask=mask))
    assert torch.all(diagonal(probabilities) == 0.0)
    assert torch.all(probabilities[..., 5:] == 0.0)
    assert torch.allclose(probabilities.sum(dim=-1), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("family", ["beit", "beit-shared-bias"])
def test_beit_takes_its_mask_as_shared_bias(family: str) -> None:
    net = build(family).eval()
    make_attention_local(net)
    hidden = torch.zeros(2, 1, 1, 5)
    hidden[..., 4] = -torch.inf
    block, tokens = net.blocks[0], torch.randn(2, 5, 48)
    (probabilities,) = record_probabilities(
        block, lambda: block(tokens, shared_rel_pos_bias=hidden)
    )
    assert torch.all(diagonal(probabilities) == 0.0)
    assert torch.all(probabilities[..., 4] == 0.0)


def test_bias_that_is_added_counts() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 1, 4, 8).unbind(0)
    bias, temperature, off = torch.randn(1, 1, 4, 4), torch.tensor([2.0]), nn.Dropout(0.0)
    scores = query @ key.transpose(-2, -1) / 2.0 + bias
    scores.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    for fused in (True, False):
        mixed = attend(query, key, value, off, mask=bias, temperature=temperature, fused=fused)
        assert torch.allclose(mixed, scores.softmax(dim=-1) @ value, atol=1e-6)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_token_that_sees_nothing_else_sees_itself(fused: bool, dtype: torch.dtype) -> None:
    query = torch.randn(2, 1, 3, 8, dtype=dtype)
    value = torch.randn(2, 1, 3, 8, dtype=dtype)
    temperature = torch.tensor([2.0], dtype=dtype)
    only_first = torch.tensor([True, False, False])
    mixed = attend(
        query,
        query,
        value,
        nn.Dropout(0.0),
        mask=only_first,
        temperature=temperature,
        fused=fused,
    )
    assert torch.allclose(mixed, value[:, :, :1].expand_as(value), atol=1e-2)
    one = attend(
        query[:, :, :1],
        query[:, :, :1],
        value[:, :, :1],
        nn.Dropout(0.0),
        temperature=temperature,
        fused=fused,
    )
    assert torch.allclose(one, value[:, :, :1], atol=1e-2)


@pytest.mark.parametrize("family", ["vit", "eva02", "beit"])
def test_copy_and_meta_device_and_saved_weights_work(family: str) -> None:
    net = build(family).eval()
    make_attention_local(net)
    images = draw(net)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("temperature"):
                parameter.mul_(1.5)
        expected = net(images)
        assert torch.equal(copy.deepcopy(net)(images), expected)
        again = build(family).eval()
        make_attention_local(again)
        again.load_state_dict(net.state_dict())
        assert torch.equal(again(images), expected)
        with torch.device("meta"):
            hollow = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1)
        make_attention_local(hollow)
        assert hollow.blocks[0].attn.temperature.is_meta
        assert hollow(images.new_empty(1, 3, 32, 32, device="meta")).shape == (1, 1000)


def test_dropout_of_attention_is_active_in_training_alone() -> None:
    layer = SelfAttention(16, num_heads=2, head_width=4, local=True, dropout=0.5)
    tokens = torch.randn(2, 5, 16)
    with torch.no_grad():
        assert not torch.equal(layer(tokens), layer(tokens))
        layer.eval()
        assert torch.equal(layer(tokens), layer(tokens))


def test_global_attention_is_torchs_own() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(16, num_heads=2, head_width=8).eval()
    reference = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    with torch.no_grad():
        reference.in_proj_weight.copy_(layer.qkv.weight)
        reference.in_proj_bias.copy_(layer.qkv.bias)
        reference.out_proj.weight.copy_(layer.proj.weight)
        reference.out_proj.bias.copy_(layer.proj.bias)
        tokens = torch.randn(2, 5, 16)
        hidden = torch.tensor([False, False, False, True, True]).expand(2, 5)
        expected = reference(tokens, tokens, tokens, key_padding_mask=hidden)[0]
        assert torch.allclose(layer(tokens, ~hidden[:, None, None, :]), expected, atol=1e-6)
    assert "temperature" not in layer.state_dict()


def test_local_attention_of_our_own_excludes_the_diagonal() -> None:
    layer = SelfAttention(16, num_heads=4, head_width=64, local=True).eval()
    assert layer.temperature is not None and layer.temperature.item() == 8.0
    visible = torch.tensor([True, True, True, True, False])
    (probabilities,) = record_probabilities(layer, lambda: layer(torch.randn(2, 5, 16), visible))
    assert torch.all(diagonal(probabilities) == 0.0)
    assert torch.all(probabilities[..., 4] == 0.0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet10t", "no Vision Transformer"),
        ("swin_tiny_patch4_window7_224", "no Vision Transformer"),
        ("cait_xxs24_224", "no Vision Transformer"),
        ("vit_relpos_small_patch16_224", "no Vision Transformer"),
        ("vit_dwee_patch16_reg1_gap_256", "attention of another kind"),
    ],
)
def test_other_networks_are_refused_with_what_is_possible(name: str, reason: str) -> None:
    with torch.device("meta"):
        net = timm.create_model(name)
    with pytest.raises(ModelError, match=reason) as caught:
        make_attention_local(net)
    assert "vit_tiny_patch16_224" in str(caught.value)
    assert "model.attention=global" in str(caught.value)
    assert not any("temperature" in key for key, _ in net.named_parameters())


def test_causal_attention_is_refused() -> None:
    net = build("vit").eval()
    make_attention_local(net)
    with pytest.raises(ModelError, match="is_causal=False"):
        net(draw(net), is_causal=True)
