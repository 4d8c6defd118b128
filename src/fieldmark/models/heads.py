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

    @property
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """The linear layers that give logits."""
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

    @property
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """The head itself."""
        return (self,)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return super().forward(functional.dropout(features, self.dropout, self.training))


class DistilledHead(nn.Module):
    """A linear layer for the class token and one for the distillation token of DeiT.

    Both classify; prediction takes the mean of their logits (Touvron et al. 2021, section 4).
    """

    reads: ClassVar[Reads] = "pooled"

    def __init__(self, width: int, num_classes: int, *, dropout: float = 0.0) -> None:
        """Take both tokens side by side: `width` is 2 D."""
        super().__init__()
        self.num_classes = num_classes
        self.dropout = nn.Dropout(dropout)
        self.class_token = nn.Linear(width // 2, num_classes)
        self.distillation_token = nn.Linear(width // 2, num_classes)

    @property
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """Both."""
        return (self.class_token, self.distillation_token)

    def branches(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2 D) -> logits (B, K) of the class token and of the distillation token."""
        class_token, distillation_token = self.dropout(features).chunk(2, dim=1)  # (B, D) each
        return self.class_token(class_token), self.distillation_token(distillation_token)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 2 D) -> (B, K)."""
        class_logits, distillation_logits = self.branches(features)
        return (class_logits + distillation_logits) / 2


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

    @property
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """The second."""
        return (self.output,)

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
