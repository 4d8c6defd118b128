"""Learning-rate schedules as pure factors of the peak rate; only `plateau` remembers anything."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fieldmark.recipes.schema import Optim

CONSTANT_EPOCH_MILESTONES = (0.4, 0.8)


@dataclass
class Schedule:
    """Factor of the learning rate at an update.

    Every schedule rises linearly over `warmup` updates, min(1, s / w), so that the first update of
    a warm-up has rate 0 (as both Vision-Transformer studies do). Cosine falls to 0 at the end:
    0.5 (1 + cos(pi clip((s - w) / (T - w), 0, 1))). With `optim.max_updates` the run is that many
    updates long, whatever the number of epochs.
    """

    optim: Optim
    updates_per_epoch: int
    plateau_factor: float = 1.0
    plateau_best: float = field(default=math.inf)
    plateau_waited: int = 0

    @property
    def num_updates(self) -> int:
        """Updates of the whole run, T."""
        if self.optim.max_updates and self.optim.epochs:
            return self.optim.max_updates
        return self.updates_per_epoch * self.optim.epochs

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole run; the last one may end early."""
        return -(-self.num_updates // max(1, self.updates_per_epoch))

    @property
    def num_warmup(self) -> int:
        """Updates of the warm-up, w."""
        warmup = self.optim.warmup
        return round(warmup * self.num_updates) if warmup < 1.0 else int(warmup)

    def factor(self, update: int) -> float:
        """Factor of the peak learning rate at `update`, counted from 0."""
        warmup = self.num_warmup
        rise = min(1.0, update / warmup) if warmup else 1.0
        return rise * self._fall(update)

    def observe(self, val_loss: float) -> None:
        """Tell an epoch's validation loss; `plateau` lowers the rate after `patience` bad ones."""
        if self.optim.schedule != "plateau":
            return
        if val_loss < self.plateau_best:
            self.plateau_best, self.plateau_waited = val_loss, 0
            return
        self.plateau_waited += 1
        if self.plateau_waited > self.optim.patience:
            self.plateau_factor *= self.optim.decay
            self.plateau_waited = 0

    def state(self) -> dict[str, float | int]:
        """What must be restored to go on."""
        return {
            "plateau_factor": self.plateau_factor,
            "plateau_best": self.plateau_best,
            "plateau_waited": self.plateau_waited,
        }

    def restore(self, state: dict[str, float | int]) -> None:
        """Take back what `state` gave."""
        self.plateau_factor = float(state["plateau_factor"])
        self.plateau_best = float(state["plateau_best"])
        self.plateau_waited = int(state["plateau_waited"])

    def _fall(self, update: int) -> float:
        optim, epoch = self.optim, update // max(1, self.updates_per_epoch)
        if optim.schedule == "cosine":
            falling = max(1, self.num_updates - self.num_warmup)
            share = min(1.0, max(0.0, (update - self.num_warmup) / falling))
            return 0.5 * (1.0 + math.cos(math.pi * share))
        if optim.schedule == "step":
            return optim.decay ** (epoch // optim.decay_epochs)
        if optim.schedule == "constant_epoch":
            passed = [m for m in CONSTANT_EPOCH_MILESTONES if epoch >= round(m * self.num_epochs)]
            return optim.decay ** len(passed)
        return self.plateau_factor
