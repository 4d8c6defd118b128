"""How deep each parameter lies, for learning rates that fall from the head to the image."""

from __future__ import annotations

from torch import nn


def depths_by_child(module: nn.Module) -> dict[str, int]:
    """Number the direct children that have parameters; the module's own are level 0 too."""
    depths = {name: 0 for name, _ in module.named_parameters(recurse=False)}
    children = [
        (name, child)
        for name, child in module.named_children()
        if next(child.parameters(), None) is not None
    ]
    for level, (prefix, child) in enumerate(children):
        depths |= {f"{prefix}.{name}": level for name, _ in child.named_parameters()}
    return depths
