"""The IFA head: Intermediate Features Aggregation (Rios, Hu, Lai, "Animesion", figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from fieldmark.models.heads import Reads


class IfaHead(nn.Module):
    """Joins what every layer says of the image: linear over layers, ReLU, layer norm, linear.

    The class tokens of all L blocks, the last one before its norm, stand side by side (B, D, L).
    One linear layer L -> 1, the same for all D channels, makes one vector of them. Beside the
    linear head with its layer norm (2 D + D K + K parameters) this adds L + 1, no more.

    Stages of a CNN differ in width: each is projected to the widest first.
    """

    reads: ClassVar[Reads] = "layers"

    def __init__(
        self,
        layer_widths: Sequence[int],
        num_classes: int,
        *,
        dropout: float = 0.0,
        token_norm: bool = False,
        layer_softmax: bool = False,
    ) -> None:
        """Take L layers of these widths, the widest D.

        token_norm: a layer norm on each layer's token before they are joined (the encoder's last
        norm is not part of the published head). layer_softmax: weights of the layers that are
        positive and sum to 1, without bias, in place of free ones.
        """
        super().__init__()
        width, num_layers = max(layer_widths), len(layer_widths)
        self.num_classes = num_classes
        self.layer_widths = tuple(layer_widths)
        self.projections = nn.ModuleList(
            nn.Linear(layer_width, width)
            for layer_width in (layer_widths if len(set(layer_widths)) > 1 else ())
        )
        self.token_norms = nn.ModuleList(
            nn.LayerNorm(width, eps=1e-6) for _ in (layer_widths if token_norm else ())
        )
        self.join = nn.Linear(num_layers, 1, bias=not layer_softmax)
        if self.join.bias is not None:
            # It is one number for all channels. Drawn at random, as published, it can exceed all
            # short tokens, and a ReLU that is zero everywhere never learns.
            nn.init.zeros_(self.join.bias)
        self.layer_softmax = layer_softmax
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, num_classes)

    @property
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """The one behind the norm."""
        return (self.output,)

    @property
    def layer_weights(self) -> Tensor:
        """(L,): how much each layer counts."""
        weights = self.join.weight[0]
        return weights.softmax(dim=0) if self.layer_softmax else weights

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, L) -> (B, K)."""
        if len(self.projections):
            features = self._project(features)
        if len(self.token_norms):
            features = self._normalize(features)
        joined = features @ self.layer_weights  # (B, D)
        if self.join.bias is not None:
            joined = joined + self.join.bias
        return self.output(self.dropout(self.norm(joined.relu())))  # type: ignore[no-any-return]

    def _project(self, features: Tensor) -> Tensor:
        """Bring each stage from its true width to D."""
        stages = zip(features.unbind(dim=2), self.layer_widths, self.projections, strict=True)
        return torch.stack([to_width(stage[:, :own]) for stage, own, to_width in stages], dim=2)

    def _normalize(self, features: Tensor) -> Tensor:
        tokens = zip(features.unbind(dim=2), self.token_norms, strict=True)
        return torch.stack([norm(token) for token, norm in tokens], dim=2)
