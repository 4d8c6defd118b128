"""Hooks on the real forward pass, so that what is shown is what ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from fieldmark.errors import InspectionError, nearest
from fieldmark.models.features import Features

PREFIX = "backbone."


def list_layers(network: nn.Module) -> list[str]:
    """The dotted names of all modules, outermost first, without the leading `backbone.`."""
    return [short_name(name) for name, _ in network.named_modules() if name not in ("", "backbone")]


def short_name(name: str) -> str:
    """The name of a layer as people write it."""
    return name.removeprefix(PREFIX)


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Return the layer of that name, with or without `backbone.`; raises `InspectionError`."""
    layers = dict(network.named_modules())
    for full in (name, f"{PREFIX}{name}"):
        if name and full in layers:
            return layers[full]
    names = list_layers(network)
    close = nearest(name.removeprefix(PREFIX), names, count=4) or names[:4]
    raise InspectionError(
        f"--layers {name}: the network has no layer of that name. The nearest are "
        f"{', '.join(close)}. `fieldmark summary MODEL` lists them all"
    )


@contextmanager
def record_outputs(
    network: nn.Module, names: Sequence[str] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Keep what layers return while the network runs: name -> output, in the order of the calls.

    names: as `find_layer` takes them; None: all layers. Only tensors are kept. A layer that is
    called again has its second output under `name#2`. What runs behind a layer is given a copy,
    so that an operation in place does not change what is kept; the numbers stay the same, and
    gradients reach the kept tensor.
    """
    chosen = list_layers(network) if names is None else list(names)
    modules = {short_name(name): find_layer(network, name) for name in chosen}
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()
    hooks = [
        module.register_forward_hook(partial(_keep, outputs, calls, name))
        for name, module in modules.items()
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _keep(
    outputs: dict[str, Tensor],
    calls: Counter[str],
    name: str,
    _module: nn.Module,
    _given: Any,
    output: Any,
) -> Tensor | None:
    if not isinstance(output, Tensor):
        return None
    calls[name] += 1
    outputs[name if calls[name] == 1 else f"{name}#{calls[name]}"] = output
    return output.clone()


def as_maps(output: Tensor, features: Features, network: nn.Module) -> Tensor | None:
    """Lay one image's output of a layer (1, ...) on the image's plane: (C, h, w).

    (1, C, h, w) is a map already; tokens (1, N, D) lose prefix and tags and go to their grid.
    None where it has no plane: vectors, and tokens of another number.
    """
    if output.ndim == 4:
        net = getattr(getattr(network, "backbone", network), "net", None)
        is_last = getattr(net, "output_fmt", "NCHW") == "NHWC"
        return output[0].movedim(-1, 0) if is_last else output[0]
    if output.ndim != 3:
        return None
    rows, columns = features.grid
    num_tags = 0 if features.tags is None else features.tags.shape[1]
    leading = output.shape[1] - rows * columns
    if leading not in (0, features.num_prefix, features.num_prefix + num_tags):
        return None
    return output[0, leading:].T.unflatten(1, (rows, columns))
