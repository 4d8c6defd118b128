from __future__ import annotations

import math

import pytest

from fieldmark.recipes.schema import Optim
from fieldmark.training.schedules import Schedule


def rates(schedule: str, updates_per_epoch: int = 10, **values: object) -> Schedule:
    return Schedule(Optim(schedule=schedule, **values), updates_per_epoch)  # type: ignore[arg-type]


def test_cosine_starts_at_zero_peaks_after_warmup_and_ends_at_zero() -> None:
    schedule = rates("cosine", 100, epochs=50, warmup=1000)
    assert schedule.factor(0) == 0.0
    assert schedule.factor(500) == 0.5
    assert schedule.factor(1000) == 1.0
    assert schedule.factor(3000) == pytest.approx(0.5)
    assert schedule.factor(5000) == pytest.approx(0.0)


def test_warmup_below_one_is_a_share_of_all_updates() -> None:
    assert rates("cosine", 10, epochs=10, warmup=0.1).num_warmup == 10


def test_constant_epoch_gives_the_three_published_rates() -> None:
    schedule = rates("constant_epoch", 1, epochs=50, decay=1 / 3, lr=1e-3)
    seen = [1e-3 * schedule.factor(epoch) for epoch in (0, 19, 20, 39, 40, 49)]
    assert seen == pytest.approx([1e-3, 1e-3, 3.333e-4, 3.333e-4, 1.111e-4, 1.111e-4], rel=1e-3)


def test_step_decays_every_so_many_epochs() -> None:
    schedule = rates("step", 2, epochs=9, decay=0.1, decay_epochs=3)
    assert schedule.factor(5) == 1.0
    assert schedule.factor(6) == pytest.approx(0.1)
    assert schedule.factor(12) == pytest.approx(0.01)


def test_plateau_waits_then_lowers_and_remembers() -> None:
    schedule = rates("plateau", decay=0.5, patience=2)
    for loss in (1.0, 1.1, 1.2):
        schedule.observe(loss)
    assert schedule.factor(0) == 1.0
    again = rates("plateau", decay=0.5, patience=2)
    again.restore(schedule.state())
    again.observe(1.3)
    assert again.factor(0) == 0.5


def test_constant_stays() -> None:
    assert {rates("constant").factor(update) for update in range(50)} == {1.0}


def test_nothing_else_observes_the_loss() -> None:
    schedule = rates("cosine")
    schedule.observe(math.inf)
    assert schedule.plateau_factor == 1.0


@pytest.mark.parametrize("batch_size", [16, 64, 256])
def test_animesion_cosine_in_its_own_numbers(batch_size: int) -> None:
    steps_per_epoch = 322_947 // batch_size
    schedule = rates("cosine", steps_per_epoch, epochs=50, warmup=1000)
    assert schedule.num_updates == 50 * steps_per_epoch
    assert 1e-3 * schedule.factor(0) == 0.0
    assert 1e-3 * schedule.factor(1) == pytest.approx(1e-6)
    assert 1e-3 * schedule.factor(1000) == 1e-3
    assert 1e-3 * schedule.factor(schedule.num_updates) == pytest.approx(0.0, abs=1e-18)


def test_constant_epoch_decays_after_epochs_20_and_40_of_50() -> None:
    schedule = rates("constant_epoch", 5046, epochs=50, decay=1 / 3)
    ends = [1e-3 * schedule.factor(epoch * 5046 - 1) for epoch in (1, 20, 40, 50)]
    starts = [1e-3 * schedule.factor(epoch * 5046) for epoch in (20, 40)]
    assert ends == pytest.approx([1e-3, 1e-3, 1e-3 / 3, 1e-3 / 9])
    assert starts == pytest.approx([1e-3 / 3, 1e-3 / 9])


@pytest.mark.parametrize("updates_per_epoch", [4, 12, 192, 400])
def test_schedule_of_a_hundred_updates_whatever_the_epoch(updates_per_epoch: int) -> None:
    schedule = rates("cosine", updates_per_epoch, epochs=3, max_updates=100, warmup=10)
    assert schedule.num_updates == 100
    assert schedule.num_epochs == math.ceil(100 / updates_per_epoch)
    for step in range(101):
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, (step - 10) / 90))))
        assert schedule.factor(step) == pytest.approx(fall * min(1.0, step / 10))


def test_no_epochs_stay_none_with_a_number_of_updates() -> None:
    schedule = rates("cosine", 10, epochs=0, max_updates=100)
    assert (schedule.num_updates, schedule.num_epochs) == (0, 0)
