"""The head of the leaf study's VGG-16."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from fieldmark.models.heads import LinearHead


class WideLinearHead(LinearHead):
    """Linear D -> hidden, ReLU, dropout, then the linear layer hidden -> K.

    The leaf study (section 3.2, table 2) puts it on VGG-16's frozen convolutions with D = 25,088
    and hidden = 4,096: 103,485,616 parameters are trained for 176 classes. The keys of the last
    layer are `weight` and `bias`, as in every linear head.
    """

    def __init__(
        self, width: int, num_classes: int, *, hidden: int = 4096, dropout: float = 0.5
    ) -> None:
        super().__init__(hidden, num_classes, dropout=dropout)
        self.hidden = nn.Linear(width, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return super().forward(functional.relu(self.hidden(features)))
