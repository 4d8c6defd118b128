"""Runs that end after a number of updates, mid-epoch if need be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from fieldmark.data.samples import draw_sample
from fieldmark.data.table import Table
from fieldmark.recipes import read_recipe
from fieldmark.runs.checkpoints import load_checkpoint
from fieldmark.training.events import EpochDone, Event, Finished, Saved, StepDone
from fieldmark.verbs import Run, train

SMALL = [
    "data.image_size=32",
    "data.split.near_duplicates=false",
    "model.name=test_vit",
    "model.drop_path=0.1",
    "optim.batch_size=8",
    "optim.accumulate=2",
    "optim.epochs=1",
    "optim.warmup=2",
    "loss.mixup=0.2",
    "checkpoint_minutes=0",
    "workers=0",
    "precision=fp32",
]


@cache
def draw_table() -> Table:
    return draw_sample("leaves", num_images=60, num_classes=3)


class KilledError(Exception):
    """Stands for a kill: nothing is tidied up."""


def learn(
    out: Path,
    num_updates: int,
    *,
    resume: bool = False,
    die: Callable[[Event, list[Event]], bool] = lambda event, before: False,
) -> tuple[Run, list[Event]]:
    """Train on 42 images: 6 batches and so 3 updates an epoch."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        if die(event, events):
            raise KilledError
        events.append(event)

    recipe = read_recipe("quick", [*SMALL, f"optim.max_updates={num_updates}"])
    return train(draw_table(), recipe=recipe, out=out, resume=resume, listener=listen), events


def files_of(run: Run) -> list[bytes]:
    names = ("checkpoints/last/model.safetensors", "best/model.safetensors")
    return [(run.path / name).read_bytes() for name in names]


def steps_in(events: list[Event]) -> list[StepDone]:
    return [event for event in events if isinstance(event, StepDone)]


@pytest.mark.parametrize(
    ("num_updates", "epochs"), [(2, [4]), (3, [6]), (5, [6, 4])], ids=["part", "whole", "more"]
)
def test_run_ends_after_so_many_updates(
    num_updates: int, epochs: list[int], tmp_path: Path
) -> None:
    run, events = learn(tmp_path / "run", num_updates)
    steps = steps_in(events)
    assert [step.batch for step in steps] == [b + 1 for count in epochs for b in range(count)]
    assert {step.num_epochs for step in steps} == {len(epochs)}
    assert sum(isinstance(event, EpochDone) for event in events) == len(epochs)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.epochs) == ("all updates done", len(epochs))
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert all("val_accuracy" in line for line in lines)
    saved = load_checkpoint(run.folder.last_dir)
    assert saved is not None and saved.state["progress"]["updates"] == num_updates
    assert any(isinstance(event, Saved) and event.what == "best" for event in events)


def test_schedule_spans_exactly_the_updates(tmp_path: Path) -> None:
    _, events = learn(tmp_path / "run", 5)
    rates = [step.lr / 3e-3 for step in steps_in(events)][1::2]
    expected = [
        0.5 * (1 + math.cos(math.pi * max(0.0, (s - 2) / 3))) * min(1.0, s / 2) for s in range(5)
    ]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    "moment",
    ["in the first epoch", "in the last epoch", "after the last update"],
)
def test_killed_run_resumes_to_the_same_bits(moment: str, tmp_path: Path) -> None:
    def die(event: Event, before: list[Event]) -> bool:
        epoch_ended = any(isinstance(earlier, EpochDone) for earlier in before)
        if moment == "after the last update":
            return isinstance(event, EpochDone) and epoch_ended
        is_there = epoch_ended == (moment == "in the last epoch")
        return isinstance(event, StepDone) and event.batch == 3 and is_there

    whole, _ = learn(tmp_path / "whole", 5)
    with pytest.raises(KilledError):
        learn(tmp_path / "run", 5, die=die)
    resumed, events = learn(tmp_path / "run", 5, resume=True)
    assert files_of(resumed) == files_of(whole)
    if moment == "after the last update":
        assert not steps_in(events)


def test_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    run, _ = learn(tmp_path / "run", 2)
    before = files_of(run)
    again, events = learn(tmp_path / "run", 2, resume=True)
    assert files_of(again) == before and not steps_in(events)
