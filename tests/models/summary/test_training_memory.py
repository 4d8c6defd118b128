"""What a step keeps for backward is counted as a real step keeps it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.classifier import build_classifier
from fieldmark.models.summary.table import summarize
from fieldmark.models.vit.plain_attention import take_plain_attention
from fieldmark.recipes.schema import Model

BATCH = 3


def keep_in_a_real_step(network: nn.Module, size: int, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps beside the network, each storage once."""
    own = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
    ):
        logits = network.train()(torch.zeros(BATCH, 3, size, size)).float()
        functional.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.long))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("name", "attention", "size"),
    [
        ("vit_tiny_patch16_224", "global", 96),
        ("vit_tiny_patch16_224", "local", 96),
        ("vit-small-data", "global", 72),
        ("eva02_tiny_patch14_224", "global", 56),
        ("resnet18", "global", 64),
    ],
)
def test_a_processor_keeps_what_is_counted(
    name: str, attention: str, size: int, precision: str
) -> None:
    model = Model.model_validate({"name": name, "attention": attention})
    counted = summarize(
        name,
        model=model,
        num_classes=10,
        image_size=size,
        batch_size=BATCH,
        precision=precision,  # type: ignore[arg-type]
    ).training
    network, _ = build_classifier(model, num_classes=10, image_size=size, with_weights=False)
    dtype = torch.float32
    if precision == "bf16":
        dtype = torch.bfloat16
        assert isinstance(network.backbone, nn.Module)
        take_plain_attention(network.backbone, size)
    assert counted.precision == precision
    kept = keep_in_a_real_step(network, size, dtype)
    assert counted.activations == pytest.approx(kept, rel=0.01)


def test_only_bf16_on_a_processor_keeps_the_products_of_attention() -> None:
    """ViT-tiny at 224 px: 12 blocks of 3 heads with 197 x 197 probabilities of 2 bytes an image."""

    processor, gpu, fp32 = (
        summarize(
            "vit_tiny_patch16_224",
            batch_size=1000,  # beside which the rounded weights are nothing
            precision=precision,  # type: ignore[arg-type]
            device=device,  # type: ignore[arg-type]
        ).training.activations
        for precision, device in (("bf16", "cpu"), ("bf16", "cuda"), ("fp32", "cpu"))
    )
    fused = processor - 1000 * 12 * 3 * 197**2 * 2
    assert 0.5 < fused / fp32 < 0.75
    # A GPU rounds no layer norm, a processor does.
    assert fused < gpu < fp32


def test_many_tokens_stay_with_fused_attention() -> None:
    """Beyond 320 tokens: four times the tokens, four times the memory."""
    small, large = (
        summarize("vit_tiny_patch16_224", image_size=size, batch_size=1000, precision="bf16")
        for size in (320, 640)
    )
    ratio = large.training.activations / small.training.activations
    assert ratio == pytest.approx(4, rel=0.05)


def test_counting_leaves_autocast_as_it_is() -> None:
    summarize("test_resnet", image_size=32, precision="bf16")
    assert not torch.is_autocast_enabled("cpu")
    assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    layer = nn.Linear(2, 2)
    assert layer(torch.zeros(1, 2)).dtype == torch.float32
