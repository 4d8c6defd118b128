"""The seeded loss trace: a refactoring that changes a number here changed what training does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fieldmark.data.samples import draw_sample
from fieldmark.recipes import read_recipe
from fieldmark.training.events import EpochDone, Event, StepDone
from fieldmark.verbs import train

EVERYTHING = [
    "data.image_size=32",
    "data.augment.crop_scale=[0.5,1]",
    "data.augment.crop_from=whole",
    "data.augment.rotation_degrees=10",
    "data.augment.random_erasing=0.3",
    "data.normalize=dataset",
    "data.split.near_duplicates=false",
    "model.name=resnet10t",
    "model.drop_path=0.1",
    "optim.batch_size=12",
    "optim.accumulate=2",
    "optim.clip_norm=1.0",
    "optim.epochs=2",
    "optim.layer_decay=0.9",
    "loss.mixup=0.2",
    "loss.cutmix=1.0",
    "loss.label_smoothing=0.1",
    "ema=0.9",
    "workers=0",
    "precision=fp32",
    "device=cpu",
]
# Running mean of the loss after each batch, then the loss on val after each epoch.
TRACE = [
    *(1.4618, 1.4341, 1.4096, 1.3896, 1.3992, 1.3779),
    *(1.6722, 1.5557, 1.4508, 1.4403, 1.4771, 1.3732),
]


def test_seeded_loss_trace(tmp_path: Path) -> None:
    trace: list[float] = []

    def listener(event: Event) -> None:
        if isinstance(event, StepDone):
            trace.append(event.loss)
        elif isinstance(event, EpochDone):
            trace.append(event.val["nll"])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    table = draw_sample("leaves", num_images=80, num_classes=4)
    recipe = read_recipe("quick", EVERYTHING)
    train(table, recipe=recipe, out=tmp_path / "run", listener=listener)
    torch.set_num_threads(threads)
    assert trace == pytest.approx(TRACE, rel=2e-3)


def test_thirty_two_images_are_memorised(tmp_path: Path) -> None:
    table = draw_sample("leaves", num_images=32, num_classes=4)
    settings = ["data.image_size=48", "data.split.ratios=[1,0,0]", "optim.epochs=25"]
    settings += ["optim.batch_size=16", "workers=0", "precision=fp32"]
    settings += ["data.augment.crop=none", "data.augment.color_jitter=[0,0,0,0]"]
    run = train(table, recipe="quick", overrides=settings, out=tmp_path / "run")
    assert run.evaluate(split="train").metrics["accuracy"] == 1.0
