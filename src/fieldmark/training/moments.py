"""`Moment`: where in a run a batch is learned from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """The address of a batch (epoch and batch count from 0) and how far the run has come.

    share_done: updates that are done, as a share of all, 0 to 1.
    """

    epoch: int
    batch: int
    share_done: float
