"""Random starts other than a network's own."""

from __future__ import annotations

from torch import nn


def start_xavier(network: nn.Module) -> None:
    """Draw every convolution and linear layer anew, Xavier-uniform (Glorot and Bengio 2010).

    Animesion trains its CNNs from scratch so. Biases start at zero; norms stay as they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def start_at_zero(layers: tuple[nn.Linear, ...]) -> None:
    """Set last layers to zero, so that every class is equally probable at first."""
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
