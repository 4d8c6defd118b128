from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldmark.data.samples import draw_sample
from fieldmark.training.events import DataReady, Event, Finished, ModelReady, Note, Saved, StepDone
from fieldmark.verbs import Run, train

SMALL = [
    "data.image_size=32",
    "data.split.near_duplicates=false",
    "model.name=resnet10t",
    "optim.epochs=2",
    "workers=0",
    "precision=fp32",
]


def run_with(tmp_path: Path, *overrides: str) -> tuple[Run, list[Event]]:
    events: list[Event] = []
    table = draw_sample("leaves", num_images=60, num_classes=3)
    run = train(
        table,
        recipe="quick",
        overrides=[*SMALL, *overrides],
        out=tmp_path / "run",
        listener=events.append,
    )
    return run, events


def last(events: list[Event], kind: type):
    return [event for event in events if isinstance(event, kind)][-1]


def test_events_tell_the_whole_run_in_order(tmp_path: Path) -> None:
    _, events = run_with(tmp_path)
    kinds = [type(event).__name__ for event in events]
    order = ["RunOpened", "ImagesScanned", "DataReady", "ModelReady", "StepDone", "EpochDone"]
    places = [kinds.index(name) for name in order]
    assert places == sorted(places)
    assert kinds[-1] == "Finished"
    assert last(events, DataReady).num_images == {"train": 42, "val": 6, "test": 12}
    assert last(events, ModelReady).parameters > 4_000_000
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [step.batch for step in steps] == [*range(1, steps[0].num_batches + 1)] * 2
    assert {event.what for event in events if isinstance(event, Saved)} == {"best", "last"}


def test_run_stops_early_without_a_better_epoch(tmp_path: Path) -> None:
    _, events = run_with(tmp_path, "optim.epochs=9", "early_stop=2", "optim.lr=1e-12")
    finished = last(events, Finished)
    assert finished.reason == "stopped early"
    assert finished.epochs < 9
    assert finished.epochs == finished.best_epoch + 2


def test_without_val_the_last_epoch_is_kept_and_said(tmp_path: Path) -> None:
    run, events = run_with(tmp_path, "data.split.ratios=[0.8,0.2]")
    assert last(events, Finished).best_epoch == 2
    assert last(events, Finished).value is None
    assert any("no val split" in event.text for event in events if isinstance(event, Note))
    selected = json.loads((run.path / "best" / "config.json").read_text())["fieldmark"]["selected"]
    assert selected["epoch"] == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ["sampling=balanced", "optim.name=sgd", "optim.schedule=step", "optim.decay_epochs=1"],
        ["loss.class_weights=balanced", "loss.focal=2", "optim.name=adam", "select=nll"],
        ["loss.logit_adjustment=1", "loss.cutmix=1", "optim.schedule=constant_epoch", "select=sum"],
        ["precision=bf16", "ema=0.9", "optim.warmup=3", "optim.clip_norm=1", "select=kappa"],
        ["model.freeze=backbone", "model.head=mlp", "data.normalize=dataset", "select=macro_f1"],
        ["workers=2", "data.resize=pad", "data.normalize=half", "data.augment.randaugment_ops=2"],
    ],
    ids=lambda overrides: " ".join(overrides[:2]),
)
def test_every_option_trains(overrides: list[str], tmp_path: Path) -> None:
    run, events = run_with(tmp_path, *overrides)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    finished = last(events, Finished)
    key = f"val_{finished.metric}"
    best = min if finished.metric == "nll" else max
    assert finished.value == best(line[key] for line in lines)
    assert lines[finished.best_epoch - 1][key] == finished.value


def test_workers_change_no_bit_of_the_weights(tmp_path: Path) -> None:
    weights = []
    for count in (0, 2):
        run, _ = run_with(tmp_path / str(count), f"workers={count}", "loss.mixup=0.2")
        weights.append((run.path / "best" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_caller_keeps_its_random_state(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run_with(tmp_path, "optim.epochs=1")
    assert torch.equal(torch.rand(3), expected)
