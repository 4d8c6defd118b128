"""The attention weights of one pass.

Fused kernels compute attention without ever holding its weights. For the one pass that asks for
them each attention layer takes its other path, which computes the same with the weights in hand,
and a hook reads them where they pass through the layer's dropout (which is off). Then the layers
are as they were: every other pass stays fused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fieldmark.errors import InspectionError
from fieldmark.inspection.asking import repeat_tags
from fieldmark.models.classifier import Classifier
from fieldmark.models.vit.small_vit import SmallDataViT
from fieldmark.models.vit.token_path import has_token_path


@dataclass(frozen=True)
class AttentionWeights:
    """What each token read of which, in one pass of one image.

    weights: (L, heads, N, N); row i is what token i reads, and sums to 1. N tokens are prefix
        (class token, registers), tags, patches, in this order.
    grid: (h, w) of the patches.
    has_class_token: whether the first token of the prefix stands for the whole image.
    logits: (K,) of the same pass.
    """

    weights: Tensor
    num_prefix: int
    num_tags: int
    grid: tuple[int, int]
    has_class_token: bool
    logits: Tensor

    @property
    def first_patch(self) -> int:
        """Index of the first patch among the tokens."""
        return self.num_prefix + self.num_tags


def find_attention(classifier: Classifier) -> list[nn.Module]:
    """Return the attention layer of each block, first to last.

    Raises `InspectionError` for networks without attention among all patches.
    """
    backbone = classifier.backbone
    net = getattr(backbone, "net", None)
    if not isinstance(backbone, SmallDataViT) and (net is None or not has_token_path(net)):
        raise InspectionError(
            f"--what attention: '{backbone.name}' has no attention among all patches of an image "
            "(it is a CNN, or attends in windows). Ask which pixels decide by --what saliency, or "
            "what its layers see by --what features"
        )
    found = []
    for block in backbone.blocks:  # type: ignore[attr-defined]
        layers = [m for m in block.modules() if hasattr(m, "fused_attn") and hasattr(m, "qkv")]
        if len(layers) != 1:
            raise InspectionError(
                f"--what attention: the blocks of '{backbone.name}' have {len(layers)} attention "
                "layers each, and only one can be shown. Ask for --what saliency or features"
            )
        found.append(layers[0])
    return found


@contextmanager
def unfused(layers: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Let attention layers compute with their weights in hand, and collect those of each call."""
    collected: list[Tensor] = []
    were = [bool(layer.fused_attn) for layer in layers]
    hooks = []
    try:
        for layer in layers:
            dropout: nn.Module = layer.attn_drop  # type: ignore[assignment]
            hooks.append(dropout.register_forward_hook(partial(_keep, collected)))
            layer.fused_attn = False  # type: ignore[assignment]
        yield collected
    finally:
        for hook in hooks:
            hook.remove()
        for layer, was in zip(layers, were, strict=True):
            layer.fused_attn = was  # type: ignore[assignment]


def _keep(
    collected: list[Tensor], _module: nn.Module, _given: tuple[Tensor, ...], output: Tensor
) -> None:
    collected.append(output)


@torch.no_grad()
def read_attention(
    classifier: Classifier, pixels: Tensor, tag_ids: Tensor | None = None
) -> AttentionWeights:
    """Run one image (3, H, W), with its tags (T,), and return what attended to what.

    Raises `InspectionError` for networks without attention among all patches.
    """
    layers = find_attention(classifier)
    with unfused(layers) as collected:
        outputs = classifier(pixels[None], repeat_tags(tag_ids, 1), full=True)
    if len(collected) != len(layers):
        kind = type(layers[0]).__name__
        raise InspectionError(
            f"--what attention: layers of kind {kind} do not give their weights. Ask for --what "
            "saliency or features"
        )
    features = outputs.features
    rows, columns = features.grid
    weights = torch.stack([each[0].float() for each in collected])  # (L, heads, N, N)
    return AttentionWeights(
        weights=weights,
        num_prefix=features.num_prefix,
        num_tags=weights.shape[-1] - features.num_prefix - rows * columns,
        grid=features.grid,
        has_class_token=features.num_prefix > 0 and _has_class_token(classifier),
        logits=outputs.logits[0],
    )


def _has_class_token(classifier: Classifier) -> bool:
    """Whether the first prefix token is a class token, and not a register."""
    net = getattr(classifier.backbone, "net", None)
    return getattr(net, "cls_token", None) is not None
