"""Names of others: ViTs of transformers and torchvision to timm's, VGG of timm to torchvision's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_TRANSFORMERS_MARK = "embeddings.patch_embeddings.projection.weight"
_TRANSFORMERS_PREFIXES = ("vit.", "deit.")
# Both namings of transformers: `encoder.layer.0.attention.attention.query` before its version 5,
# `layers.0.attention.q_proj` since.
_TRANSFORMERS = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(?:attention\.query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(?:attention\.key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(?:attention\.value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^(?:cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
)

_TORCHVISION_MARK = "conv_proj.weight"
_TORCHVISION = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
    (r"^heads\.pre_logits\.", "pre_logits."),
)

_TIMM_VGG = {
    "pre_logits.fc1.": "classifier.0.",
    "pre_logits.fc2.": "classifier.3.",
    "head.fc.": "classifier.6.",
}


def rename_to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a ViT or DeiT of transformers, or a ViT of torchvision, under timm's names.

    Query, key and value become one matrix. Any other state dict comes back as it is.
    """
    if any(name.endswith(_TRANSFORMERS_MARK) for name in state):
        bare = {_strip(name): tensor for name, tensor in state.items()}
        return _join_attention(_rename(bare, _TRANSFORMERS))
    if _TORCHVISION_MARK in state:
        return _rename(state, _TORCHVISION)
    return dict(state)


def rename_to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a VGG of timm under torchvision's names, its wide convolutions as linear layers.

    Any other state dict comes back as it is.
    """
    if "pre_logits.fc1.weight" not in state:
        return dict(state)
    renamed = {}
    for name, tensor in state.items():
        prefix = next((old for old in _TIMM_VGG if name.startswith(old)), None)
        if prefix is not None:
            name = _TIMM_VGG[prefix] + name.removeprefix(prefix)
            tensor = tensor.flatten(1) if tensor.ndim == 4 else tensor  # (D', D, h, w)
        renamed[name] = tensor
    return renamed


def _strip(name: str) -> str:
    for prefix in _TRANSFORMERS_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _rename(state: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _join_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stack q, k, v (D, D) each into qkv (3 D, D), and so their biases."""
    joined = {}
    for name, tensor in state.items():
        place = re.fullmatch(r"(.*\.attn)\.([qkv])\.(weight|bias)", name)
        if place is None:
            joined[name] = tensor
            continue
        parts = [state.get(f"{place[1]}.{part}.{place[3]}") for part in "qkv"]
        if place[2] == "q" and all(part is not None for part in parts):
            joined[f"{place[1]}.qkv.{place[3]}"] = torch.cat([p for p in parts if p is not None])
        elif any(part is None for part in parts):
            joined[name] = tensor  # incomplete: it is reported as not used
    return joined
