"""Guessing which network a state dict belongs to, for error messages."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_VIT_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
_RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (1, 1, 1, 1)): "resnet10t",
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (2, 2, 2, 2)): "resnet26",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
_VGG_LETTERS = {8: "a", 10: "b", 13: "d", 16: "e"}
_VGG_LAYERS = {8: 11, 10: 13, 13: 16, 16: 19}


def guess_model(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of a common ViT or CNN by names and shapes; None: no idea.

    It is a name of the catalog for our own networks, a timm name for others.
    """
    return (
        _guess_vit(state)
        or _guess_cifar_resnet(state)
        or _guess_resnet(state)
        or _guess_plain_cnn(state)
        or _guess_small_cnn(state)
    )


def _guess_vit(state: Mapping[str, Tensor]) -> str | None:
    patches = state.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 4 or "cls_token" not in state:
        return None
    size = _VIT_SIZES.get(patches.shape[0])
    if size is None or "blocks.0.attn.qkv.weight" not in state:
        return None
    if "dist_token" in state:
        return f"deit_{size}_distilled_patch{patches.shape[-1]}_224"
    return f"vit_{size}_patch{patches.shape[-1]}_224"


def _guess_cifar_resnet(state: Mapping[str, Tensor]) -> str | None:
    counts = _count_blocks(state)
    if _side_and_width(state, "conv1") != (3, 16) or counts[3] or len(set(counts[:3])) > 1:
        return None
    suffix = "-b" if "layer2.0.shortcut.0.weight" in state else ""
    return f"resnet{6 * counts[0] + 2}-cifar{suffix}" if counts[0] else None


def _guess_resnet(state: Mapping[str, Tensor]) -> str | None:
    name = _RESNETS.get(("layer1.0.conv3.weight" in state, _count_blocks(state)))
    gate = state.get("layer1.0.se.fc1.weight")
    if gate is None or name is None:
        return name
    hidden, channels = gate.shape[:2]
    return f"se-{name}" if 16 * hidden == channels else f"se{name}"


def _count_blocks(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the number of blocks in layer1 to layer4."""
    blocks = {match[0] for name in state if (match := re.match(r"layer([1-4])\.(\d+)\.", name))}
    return tuple(
        sum(block.startswith(f"layer{stage}.") for block in blocks) for stage in range(1, 5)
    )


def _guess_plain_cnn(state: Mapping[str, Tensor]) -> str | None:
    """Tell AlexNet and the VGGs, whose convolutions are all in `features`."""
    if _side_and_width(state, "features.0") == (11, 64):
        return "alexnet"
    kernels = [
        tensor.shape[-1]
        for name, tensor in state.items()
        if re.match(r"features\.\d+\.weight", name) and tensor.ndim == 4
    ]
    if _side_and_width(state, "features.0") != (3, 64) or len(kernels) not in _VGG_LETTERS:
        return None
    has_norms = any(name.endswith("running_mean") for name in state)
    if has_norms or "pre_logits.fc1.weight" in state:  # not in the lecture's table, or timm's form
        return f"vgg{_VGG_LAYERS[len(kernels)]}" + ("_bn" if has_norms else "")
    return "vgg-c" if 1 in kernels else f"vgg-{_VGG_LETTERS[len(kernels)]}"


def _guess_small_cnn(state: Mapping[str, Tensor]) -> str | None:
    if _side_and_width(state, "conv1") == (5, 6) and "fc1.weight" in state:
        return "lecture-net"
    if _side_and_width(state, "conv1") == (7, 16) and "conv4.weight" in state:
        return "cnn-baseline"
    return None


def _side_and_width(state: Mapping[str, Tensor], name: str) -> tuple[int, int] | None:
    """Return kernel side and output channels of a convolution."""
    weight = state.get(f"{name}.weight")
    if weight is None or weight.ndim != 4:
        return None
    return weight.shape[-1], weight.shape[0]
