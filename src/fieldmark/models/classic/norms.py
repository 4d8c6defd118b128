"""Other normalisation in place of a CNN's batch norm, for comparing them on one network.

Each kind computes y = (x - E[x]) / sqrt(Var[x] + eps) * gamma + beta; they differ in what E and
Var are taken over (lecture, section "Normalization Layers", equation 5 and figure 20).
"""

from __future__ import annotations

from typing import Any, TypeGuard

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d, GroupNormAct
from timm.layers.std_conv import StdConv2d, StdConv2dSame
from torch import nn

from fieldmark.errors import ModelError

KINDS = ("batch", "layer", "instance", "group", "weight_standardized")
NUM_GROUPS = 32
WEIGHT_EPS = 1e-5


def replace_norms(net: nn.Module, kind: str) -> None:
    """Replace every batch norm of a CNN, in place; parameters keep their names.

    batch: as it is, over images and pixels of a channel. layer: over an image. instance: over a
    channel of an image. group: over a group of channels of an image (Wu, He 2018), 32 groups or,
    where these would not be of at least two channels, the most that are. weight_standardized:
    group, and the weights of each filter of a convolution are standardised too (Qiao et al. 2019,
    eps 1e-5 within the root). Raises `ModelError` for a network without batch norm.
    """
    if kind not in KINDS:
        raise ModelError(f"model.norm: expected one of {', '.join(KINDS)}, not '{kind}'.")
    places = [(parent, *child) for parent in net.modules() for child in parent.named_children()]
    if not any(isinstance(child, nn.BatchNorm2d) for _, _, child in places):
        raise ModelError(
            f"model.norm: '{getattr(net, 'name', type(net).__name__)}' has no batch norm that "
            f"'{kind}' could replace. Set model.norm=own."
        )
    if kind == "batch":
        return
    for parent, name, child in places:
        if isinstance(child, nn.BatchNorm2d):
            setattr(parent, name, _replace_norm(child, kind))
        elif kind == "weight_standardized" and _reads_maps(child):
            setattr(parent, name, _standardize(child))


def _replace_norm(norm: nn.BatchNorm2d, kind: str) -> nn.GroupNorm:
    """Return the group norm that a kind is: of one group, of one channel each, or between.

    gamma and beta are kept, because some networks start some of them at zero on purpose.
    """
    channels = norm.num_features
    num_groups = {"layer": 1, "instance": channels}.get(kind) or _count_groups(channels)
    replaced: nn.GroupNorm
    if isinstance(norm, BatchNormAct2d):
        replaced = GroupNormAct(channels, num_groups, eps=norm.eps, apply_act=False)
        replaced.drop, replaced.act = norm.drop, norm.act
    else:
        replaced = nn.GroupNorm(num_groups, channels, eps=norm.eps)
    replaced.weight, replaced.bias = norm.weight, norm.bias
    return replaced


def _count_groups(channels: int) -> int:
    most = min(NUM_GROUPS, max(1, channels // 2))
    return next(count for count in range(most, 0, -1) if channels % count == 0)


def _reads_maps(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Tell convolutions of maps from the 1 x 1 ones with a bias, which gate (SE) or classify.

    A filter of a single weight has no variance to be standardised by.
    """
    return (
        isinstance(module, nn.Conv2d)
        and (module.bias is None or module.weight[0, 0].numel() > 1)
        and module.weight[0].numel() > 1
    )


def _standardize(conv: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with the same parameters that standardises its weights when used."""
    is_same = isinstance(conv, Conv2dSame)
    shape: dict[str, Any] = {
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "padding": "same" if is_same else conv.padding,
        "dilation": conv.dilation,
        "groups": conv.groups,
        "bias": conv.bias is not None,
    }
    kind = StdConv2dSame if is_same else StdConv2d
    standardized = kind(conv.in_channels, conv.out_channels, **shape, eps=WEIGHT_EPS)
    standardized.weight, standardized.bias = conv.weight, conv.bias
    return standardized
