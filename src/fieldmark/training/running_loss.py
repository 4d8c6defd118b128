"""The loss of an epoch so far, read from the device only when somebody asks for it.

A GPU works through what it is told while Python tells it more. Asking for a number makes Python
wait until all of that is done, so that the GPU then waits for Python. On a CPU there is nothing
to wait for, and a loss that is not finite is told before anything is learned from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

MOST_PENDING = 64


@dataclass
class RunningLoss:
    """Adds up the losses of one epoch.

    check: told (loss, batch, update) of each, in order, and raises where it is not finite.
    is_deferred: losses are on a device that works behind Python's back, so they are read many at
    once, or when asked for. sum: of loss times images, `count` of images, so far.
    """

    check: Callable[[float, int, int], None]
    is_deferred: bool = False
    sum: float = 0.0
    count: int = 0
    _means: list[float] = field(default_factory=list)
    _pending: list[_Pending] = field(default_factory=list)

    def add(self, loss: Tensor | None, num_images: int, *, batch: int, update: int) -> None:
        """Note the mean loss () of a batch; None for one that was not learned from."""
        value = None if loss is None else loss.detach()
        self._pending.append(_Pending(value, num_images, batch, update))
        if not self.is_deferred or len(self._pending) == MOST_PENDING:
            self.settle()

    def settle(self) -> None:
        """Read all that is not read yet: one transfer."""
        pending, self._pending = self._pending, []
        losses = [entry.loss for entry in pending if entry.loss is not None]
        values = iter(torch.stack(losses).tolist() if losses else ())
        for entry in pending:
            if entry.loss is not None:
                value = next(values)
                self.check(value, entry.batch, entry.update)
                self.sum += value * entry.num_images
                self.count += entry.num_images
            self._means.append(self.sum / max(1, self.count))

    def reader(self) -> Callable[[], float]:
        """A function that gives the mean loss per image as it is now, whenever it is called."""
        index = len(self._means) + len(self._pending) - 1

        def read() -> float:
            if index >= len(self._means):
                self.settle()
            return self._means[index]

        return read


@dataclass(frozen=True)
class _Pending:
    loss: Tensor | None
    num_images: int
    batch: int
    update: int
