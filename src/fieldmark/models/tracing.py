"""One forward pass watched from inside: what each module is given to compute, layer by layer.

The pass runs on a copy of the network that has shapes but no numbers (torch's meta device): no
arithmetic and no memory, so the largest networks answer at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fieldmark.models.features import Features
from fieldmark.models.receptive_field import ReceptiveFields


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


@dataclass(frozen=True)
class TokenField:
    """Tokens of the module `name` see `px` and are `patch_px` apart, whatever it computes."""

    name: str
    px: int
    patch_px: int


def make_hollow(network: nn.Module) -> nn.Module:
    """Copy a network without its numbers; the original stays as it is."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        hollow = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        memo[id(parameter)] = hollow
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(network, memo)


@torch.no_grad()
def trace(
    network: nn.Module,
    inputs: Sequence[Tensor],
    run: Callable[[], object],
    token_field: TokenField | None = None,
) -> list[Call]:
    """Return the calls of `run()`, outermost first, in the order in which they began.

    inputs: images (1, 3, H, H), and ids of tags (1, T) where there are any. Identities are left
    out; modules that have parameters but were not called come right behind their parent.
    """
    fields = ReceptiveFields(inputs[0].shape[-1])
    fields.start(inputs[0])
    watch = _Watch(fields)
    with _watched(network, watch, token_field), watch:
        run()
    calls = [call for call in watch.calls if not isinstance(call.module, nn.Identity)]
    return _add_uncalled(network, calls)


class _Watch(TorchDispatchMode):
    """Counts the operations of the module that is running, and follows receptive fields."""

    def __init__(self, fields: ReceptiveFields) -> None:
        super().__init__()
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

    def begin(self, name: str, module: nn.Module) -> None:
        call = Call(name, module)
        self.calls.append(call)
        self.running.append(call)

    def end(self, output: object) -> None:
        call = self.running.pop()
        tensor = _first_tensor(output)
        if tensor is not None:
            call.output_shape = tuple(tensor.shape)
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
def _watched(network: nn.Module, watch: _Watch, token_field: TokenField | None) -> Iterator[None]:
    hooks = []

    def begin_at(name: str) -> Callable[..., None]:
        return lambda module, _: watch.begin(name, module)

    def end_at(name: str) -> Callable[..., None]:
        def end(_module: nn.Module, _inputs: object, output: object) -> None:
            if token_field is not None and name == token_field.name:
                tokens = _first_tensor(output)
                if tokens is not None:
                    px, patch_px = token_field.px, token_field.patch_px
                    watch.fields.set_tokens(tokens, px=px, patch_px=patch_px)
            watch.end(output)

        return end

    try:
        for name, module in network.named_modules():
            hooks.append(module.register_forward_pre_hook(begin_at(name)))
            hooks.append(module.register_forward_hook(end_at(name)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _first_tensor(output: object) -> Tensor | None:
    if isinstance(output, Features):
        return output.pooled
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    return next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)


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
