"""One forward pass watched from inside: what each module is given to compute, layer by layer.

The pass runs on a copy of the network that has shapes but no numbers (torch's meta device): no
arithmetic and no memory, so the largest networks answer at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fieldmark.models.classifier import Outputs
from fieldmark.models.features import Features
from fieldmark.models.summary.receptive_field import ReceptiveFields
from fieldmark.models.vit.patches import ViewPatchEmbed, token_reach_px
from fieldmark.recipes.schema import Patches


@dataclass
class Call:
    """One call of one module.

    output_shape: of the first tensor that it returned, batch axis included; None before that.
    mult_adds: of its own operations, without those of the modules inside it.
    receptive_field: px, "all", or None where it is not known.
    """

    name: str
    module: nn.Module
    output_shape: tuple[int, ...] | None = None
    mult_adds: int = 0
    receptive_field: int | Literal["all"] | None = None


def make_hollow(network: nn.Module, device: str = "meta") -> nn.Module:
    """Copy a network without its numbers; the original stays as it is.

    Under torch's `FakeTensorMode` the copy behaves as if it were on `device`.
    """
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        hollow = torch.empty_like(parameter, device=device)
        memo[id(parameter)] = nn.Parameter(hollow, parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device=device)
    return copy.deepcopy(network, memo)


@torch.no_grad()
def trace(network: nn.Module, images: Tensor, run: Callable[[], object]) -> list[Call]:
    """Return the calls of `run()`, outermost first, in the order in which they began.

    `run` reads `images` (1, 3, H, H). Identities are left out; modules that have parameters but
    were not called come right behind their parent.
    """
    fields = ReceptiveFields(images.shape[-1])
    fields.start(images)
    watch = _Watch(fields)
    with _watched(network, watch), watch:
        run()
    calls = [call for call in watch.calls if not isinstance(call.module, nn.Identity)]
    return _add_uncalled(network, calls)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of the module that is running, and follows receptive fields."""

    def __init__(self, fields: ReceptiveFields) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fields = fields
        self.calls: list[Call] = []
        self.running: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.fields.follow(func, args, result)
        if self.running:
            self.running[-1].mult_adds += count_mult_adds(func, args, kwargs or {}, result)
        return result

    def begin(self, name: str, module: nn.Module, _inputs: object) -> None:
        call = Call(name, module)
        self.calls.append(call)
        self.running.append(call)

    def end(self, module: nn.Module, _inputs: object, output: object) -> None:
        call = self.running.pop()
        tensor = first_tensor(output)
        if tensor is None:
            return
        call.output_shape = tuple(tensor.shape)
        if isinstance(module, ViewPatchEmbed):
            # How it computes its views is its own affair; how far they reach is known.
            kind: Literal["shifted", "rotated"] = "rotated" if module.views.rotations else "shifted"
            patch_px, image_px = module.patch_size[0], self.fields.image_size
            px = ceil(token_reach_px(Patches(kind=kind), patch_px, image_px))
            self.fields.set_tokens(tensor, px=px, patch_px=patch_px)
        call.receptive_field = self.fields.read(tensor)


def count_mult_adds(
    operation: Any, arguments: Sequence[Any], options: dict[str, Any], result: Any
) -> int:
    """Count the multiply-adds of an operation of torch (an ATen overload).

    Convolutions and matrix products as torch's own counter has them (it counts two operations
    per multiply-add), and one for each bias that is added, so that a layer counts
    (weights + bias) x positions. Everything else counts nothing.
    """
    packet = operation.overloadpacket
    if packet not in flop_registry:
        return 0
    count = flop_registry[packet](*arguments, **options, out_val=result) // 2
    name = packet.__name__
    has_bias = name in {"addmm", "baddbmm"} or (name == "convolution" and arguments[2] is not None)
    return int(count) + (result.numel() if has_bias else 0)


@contextmanager
def _watched(network: nn.Module, watch: _Watch) -> Iterator[None]:
    hooks = []
    try:
        for name, module in network.named_modules():
            hooks.append(module.register_forward_pre_hook(partial(watch.begin, name)))
            hooks.append(module.register_forward_hook(watch.end))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def first_tensor(output: object) -> Tensor | None:
    """Return what stands for an output: of `Features` what the head reads by default."""
    if isinstance(output, Features):
        output = [part for part in (output.pooled, output.layers) if part is not None]
    elif isinstance(output, Outputs):
        output = output.logits
    return next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)


def expect_tensor(output: object) -> Tensor:
    """Return the first tensor of an output; raise `TypeError` where it has none."""
    tensor = first_tensor(output)
    if tensor is None:
        raise TypeError(f"the network returns no tensor, but {type(output).__name__}")
    return tensor


def _add_uncalled(network: nn.Module, calls: list[Call]) -> list[Call]:
    """Some modules are only read by their parent, such as the projection in torch's attention."""
    called = {call.name for call in calls}
    for name, module in network.named_modules():
        if name in called or not any(True for _ in module.parameters(recurse=False)):
            continue
        parent = name.rpartition(".")[0]
        inside = [
            index
            for index, call in enumerate(calls)
            if call.name == parent or call.name.startswith(f"{parent}.") or not parent
        ]
        calls.insert(inside[-1] + 1 if inside else len(calls), Call(name, module))
        called.add(name)
    return calls
