"""What one training step holds in memory, counted without taking it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fieldmark.recipes.schema import Optim

Precision = Literal["fp32", "bf16", "fp16"]
Device = Literal["cpu", "cuda"]

BYTES_PER_NUMBER = 4
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_STATES_PER_PARAMETER = {"adam": 2, "adamw": 2}


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one training step at `batch_size` images, when backward begins.

    precision, device: as what it is counted. parameters: with buffers, fp32 in any precision.
    gradients, optimizer: of the parameters that are trained. activations: what the forward pass
    keeps for the backward pass, the images included, and in half precision the rounded weights.
    A step also needs room for the operation that is running and for gradients of activations:
    peaks measured on a processor were 1.25 to 1.5 times this total.
    """

    precision: Precision
    device: Device
    batch_size: int
    optimizer: str
    parameters: int
    gradients: int
    optimizer_state: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.gradients + self.optimizer_state + self.activations


def measure_training_memory(
    network: nn.Module,
    run: Callable[[int], Tensor],
    batch_size: int,
    optim: Optim,
    *,
    precision: Precision,
    device: Device,
) -> TrainingMemory:
    """Count for a network whose `run(batch_size)` returns logits (B, K).

    Adam and AdamW keep two numbers for each trained parameter, SGD with momentum one. Run it on
    a hollow network (`tracing.make_hollow`) on that device: nothing is computed. A network that
    needs numbers is counted on the CPU for any device.
    """
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    stored = sum(t.nbytes for t in (*network.parameters(), *network.buffers()))
    states = _STATES_PER_PARAMETER.get(optim.name, 1 if optim.momentum else 0)
    was_training = network.training
    network.train()
    try:
        with _FusedAttention(), _rounded(precision, device):
            activations = _count_saved(network, run, batch_size)
    finally:
        network.train(was_training)
    return TrainingMemory(
        precision=precision,
        device=device,
        batch_size=batch_size,
        optimizer=optim.name,
        parameters=stored,
        gradients=trained * BYTES_PER_NUMBER,
        optimizer_state=states * trained * BYTES_PER_NUMBER,
        activations=activations,
    )


def _count_saved(network: nn.Module, run: Callable[[int], Tensor], batch_size: int) -> int:
    """Count two and three images and go on in a straight line.

    One image alone is refused by batch norm where it leaves one value per channel, and where
    numbers are needed, many would take long.
    """
    two, three = (_saved_bytes(network, run, count) for count in (2, 3))
    return two + (batch_size - 2) * (three - two)


def _saved_bytes(network: nn.Module, run: Callable[[int], Tensor], batch_size: int) -> int:
    """Sum the storages kept for backward, each once, without those of the network itself."""
    own = {_storage_id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage_id(tensor) not in own:
            kept[_storage_id(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = run(batch_size).float()
        labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        functional.cross_entropy(logits, labels)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _storage_id(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def _rounded(precision: Precision, device: Device) -> Iterator[None]:
    """What `torch.autocast` does, also for a GPU that is not there."""
    was_enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, precision != "fp32")
    torch.set_autocast_dtype(device, _TYPES[precision])
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, was_enabled)
        torch.set_autocast_dtype(device, dtype)


class _FusedAttention(TorchFunctionMode):
    """Attention as processors and GPUs compute it, keeping no (N, N) products for backward.

    Without a device torch would take the formula step by step, which keeps them; a processor is
    there, and a mask that is learned is taken so everywhere.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func is not functional.scaled_dot_product_attention or args[0].is_cpu:
            return func(*args, **options)
        names = ("attn_mask", "dropout_p", "is_causal", "scale")
        options |= dict(zip(names, args[3:], strict=False))
        mask = options.get("attn_mask")
        if mask is not None and mask.requires_grad:
            return func(*args[:3], **options)
        kind = args[0].device.type
        inputs = args[:3]
        if kind != "meta" and torch.is_autocast_enabled(kind):
            inputs = [tensor.to(torch.get_autocast_dtype(kind)) for tensor in inputs]
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        is_causal, scale = options.get("is_causal", False), options.get("scale")
        return fused(*inputs, 0.0, is_causal, attn_mask=mask, scale=scale)[0]
