"""When a run keeps its decoded images, what it says of that, and that no bit depends on it."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fieldmark.data.samples import draw_sample
from fieldmark.training import decoding
from fieldmark.training.events import EpochDone, Event, Note
from fieldmark.verbs import train

SETTINGS = ["data.image_size=32", "data.split.near_duplicates=false", "model.name=resnet10t"]
SETTINGS += ["optim.epochs=2", "workers=0", "precision=fp32"]


class Trained:
    """A small run, and what it said about decoded images."""

    def __init__(self, out: Path, *more: str) -> None:
        self.said: list[str] = []
        self.was_there = False
        self.out = out
        table = draw_sample("leaves", num_images=40, num_classes=2)
        train(table, recipe="quick", overrides=[*SETTINGS, *more], out=out, listener=self.listen)

    def listen(self, event: Event) -> None:
        if isinstance(event, Note) and "ecoded" in event.text:
            self.said.append(event.text)
        if isinstance(event, EpochDone):
            self.was_there |= (self.out / "decoded").is_dir()

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.out / "checkpoints" / "last" / "model.safetensors")


def test_small_set_is_kept_while_the_run_trains_and_announced(tmp_path: Path) -> None:
    run = Trained(tmp_path / "run")
    (sentence,) = run.said
    assert sentence.startswith(f"Decoded images are kept in {tmp_path / 'run' / 'decoded'} until")
    assert sentence.endswith("so that later epochs need not decode them; cache=off turns this off")
    assert run.was_there
    assert not (tmp_path / "run" / "decoded").exists()


@pytest.mark.parametrize("crop", ["whole", "shrunk"])
def test_weights_do_not_depend_on_the_cache(crop: str, tmp_path: Path) -> None:
    crop_from = f"data.augment.crop_from={crop}"
    off = Trained(tmp_path / "off", crop_from, "cache=off")
    runs = [Trained(tmp_path / "auto", crop_from)]
    folder = f"cache={tmp_path / 'kept'}"
    runs += [Trained(tmp_path / name, crop_from, folder) for name in ("first", "second")]
    assert off.said == []
    for run in runs:
        for name, weight in off.weights().items():
            assert torch.equal(weight, run.weights()[name]), name
    assert len(list((tmp_path / "kept").iterdir())) == 2  # train's form and val's


def test_single_epoch_keeps_nothing(tmp_path: Path) -> None:
    run = Trained(tmp_path / "run", "optim.epochs=1")
    assert run.said == []
    assert not run.was_there


def test_set_above_the_limit_is_decoded_each_time_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "AUTO_LIMIT_BYTES", 2**20)
    run = Trained(tmp_path / "run", "data.augment.crop_from=whole")
    (sentence,) = run.said
    assert "more than 1 MB; cache=FOLDER keeps any number" in sentence
    assert not run.was_there


def test_disk_without_room_is_left_alone_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 9 * 10**8, 10**8))
    run = Trained(tmp_path / "run", f"cache={tmp_path / 'kept'}")
    (sentence,) = run.said
    assert sentence.startswith("Decoded images are not kept: about ")
    assert "has 95 MB left" in sentence
    assert not (tmp_path / "kept").exists()


def test_images_too_large_to_keep_whole_say_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldmark.transforms.preparation._LEAST_WHOLE_PX", 0)
    monkeypatch.setattr("fieldmark.transforms.preparation._LARGEST_WHOLE", 1)
    run = Trained(tmp_path / "run", "data.augment.crop_from=whole")
    assert any("data.augment.crop_from=shrunk" in sentence for sentence in run.said)
