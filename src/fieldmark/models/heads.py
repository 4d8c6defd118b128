"""Heads: what maps the features of a backbone to logits.

A head is a plain module from one tensor of `Features` to logits (B, K); `reads` names that
tensor, so that the classifier computes no other and stored features can train a head alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn
from torch.nn import functional

Reads = Literal["pooled", "layers"]


class Head(Protocol):
    """An `nn.Module` that classifies one tensor of `Features`."""

    reads: ClassVar[Reads]

    @property
    def num_classes(self) -> int:
        """K."""
        ...

    def __call__(self, features: Tensor) -> Tensor:
        """Map `Features.pooled` (B, D) or `Features.layers` (B, D, L) to logits (B, K)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As `nn.Module` has it."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """As `nn.Module` has it."""
        ...


class LinearHead(nn.Linear):
    """Dropout, then one linear layer D -> K, whose keys are `weight` and `bias`."""

    reads: ClassVar[Reads] = "pooled"

    def __init__(self, width: int, num_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__(width, num_classes)
        self.num_classes = num_classes
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return super().forward(functional.dropout(features, self.dropout, self.training))


class MlpHead(nn.Module):
    """Linear D -> hidden, ReLU, dropout, linear hidden -> K.

    The head of the leaf study's DeiT is 192 -> 512 -> 176 with dropout 0.3.
    """

    reads: ClassVar[Reads] = "pooled"

    def __init__(
        self, width: int, num_classes: int, *, hidden: int = 512, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.hidden = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return self.output(self.dropout(self.hidden(features).relu()))  # type: ignore[no-any-return]


class NormalizedLinearHead(LinearHead):
    """A linear head whose logits are batch-normalised, as the leaf study's CNN baseline has it.

    Training needs batches of at least two images; evaluation uses the running statistics.
    """

    def __init__(self, width: int, num_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__(width, num_classes, dropout=dropout)
        self.norm = nn.BatchNorm1d(num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return self.norm(super().forward(features))  # type: ignore[no-any-return]
