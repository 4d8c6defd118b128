from __future__ import annotations

import math

import pytest
import torch

from fieldmark.training.running_loss import MOST_PENDING, RunningLoss


class Seen(list[tuple[float, int, int]]):
    def __call__(self, value: float, batch: int, update: int) -> None:
        self.append((value, batch, update))


def add_all(running: RunningLoss, losses: list[float | None]) -> list[float]:
    readers = []
    for batch, loss in enumerate(losses):
        tensor = None if loss is None else torch.tensor(loss, requires_grad=True) * 1.0
        running.add(tensor, batch + 1, batch=batch, update=batch // 2)
        readers.append(running.reader())
    return [read() for read in readers]


LOSSES = [2.0, None, 1.0, 4.0]
MEANS = [2.0, 2.0, (2 + 3) / 4, (2 + 3 + 16) / 8]


@pytest.mark.parametrize("is_deferred", [False, True])
def test_each_step_keeps_the_mean_of_its_own_moment(is_deferred: bool) -> None:
    running = RunningLoss(Seen(), is_deferred=is_deferred)
    assert add_all(running, LOSSES) == pytest.approx(MEANS)
    assert (running.sum, running.count) == (21.0, 8)


def test_on_a_device_nothing_is_read_until_somebody_asks() -> None:
    seen = Seen()
    running = RunningLoss(seen, is_deferred=True)
    for batch in range(MOST_PENDING - 1):
        running.add(torch.tensor(1.0), 4, batch=batch, update=batch)
        running.reader()
    assert seen == []
    running.add(torch.tensor(1.0), 4, batch=MOST_PENDING - 1, update=0)
    assert len(seen) == MOST_PENDING  # so that few of them wait at any time


def test_on_a_cpu_each_loss_is_checked_before_the_next_batch() -> None:
    seen = Seen()
    RunningLoss(seen).add(torch.tensor(3.0), 4, batch=7, update=3)
    assert seen == [(3.0, 7, 3)]


def test_a_loss_read_late_is_checked_with_its_own_place() -> None:
    def check(value: float, batch: int, update: int) -> None:
        if not math.isfinite(value):
            raise ValueError(f"batch {batch}, update {update}")

    running = RunningLoss(check, is_deferred=True)
    for batch, loss in enumerate([1.0, math.nan, 1.0]):
        running.add(torch.tensor(loss), 4, batch=batch, update=batch)
    with pytest.raises(ValueError, match="batch 1, update 1"):
        running.settle()


def test_a_resumed_epoch_goes_on_with_its_sum() -> None:
    running = RunningLoss(Seen(), sum=30.0, count=10)
    running.add(torch.tensor(1.0), 10, batch=3, update=3)
    assert running.reader()() == 2.0
