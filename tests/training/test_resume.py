"""A run killed at any moment and resumed ends with the weights of the uninterrupted run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldmark.errors import RunChangedError, RunExistsError, RunNotFoundError, StorageError
from fieldmark.recipes import Recipe, read_recipe
from fieldmark.training.events import EpochDone, Event, StepDone

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fieldmark.verbs", "fieldmark.data.samples"])

OVERRIDES = [
    "data.image_size=32",
    "data.split.near_duplicates=false",
    "model.name=resnet10t",
    "model.drop_path=0.1",
    "optim.batch_size=8",
    "optim.accumulate=2",
    "optim.epochs=3",
    "optim.schedule=plateau",
    "optim.patience=0",
    "loss.mixup=0.2",
    "ema=0.9",
    "workers=0",
    "checkpoint_minutes=0",
    "precision=fp32",
]


def small_recipe(*more: str) -> Recipe:
    return read_recipe("quick", [*OVERRIDES, *more])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_step(count: int) -> Callable[[Event], None]:
    seen = 0

    def listener(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, StepDone)
        if seen == count:
            die()

    return listener


def die_at_epoch_end(event: Event) -> None:
    if isinstance(event, EpochDone):
        die()


def die_in_write(what: str, count: int) -> None:
    """Kill at the count-th checkpoint: with half of its weights written, or between the renames."""
    from fieldmark.runs import checkpoints

    calls = 0
    real_weights, real_rename = checkpoints.save_weights, Path.rename

    def save_weights(weights: dict, path: Path) -> None:
        nonlocal calls
        real_weights(weights, path)
        if "checkpoints" in path.parts:
            calls += 1
            if calls == count:
                path.write_bytes(path.read_bytes()[:1000])
                die()

    def rename(self: Path, target: Path) -> Path:
        nonlocal calls
        done = real_rename(self, target)
        if self.name == "last":
            calls += 1
            if calls == count:
                die()
        return done

    if what == "half written":
        checkpoints.save_weights = save_weights
    else:
        Path.rename = rename  # type: ignore[method-assign, assignment]


def train_in_child(out: Path, moment: tuple[str, int], resume: bool) -> None:
    import torch

    from fieldmark.data.samples import draw_sample
    from fieldmark.verbs import train

    torch.set_num_threads(1)
    kind, count = moment
    listener: Callable[[Event], None] | None = None
    if kind == "step":
        listener = die_at_step(count)
    elif kind == "epoch end":
        listener = die_at_epoch_end
    elif kind != "never":
        die_in_write(kind, count)
    table = draw_sample("leaves", num_images=60, num_classes=3)
    train(table, recipe=small_recipe(), out=out, resume=resume, listener=listener)


def run_child(out: Path, moment: tuple[str, int], resume: bool = False) -> int:
    child = CONTEXT.Process(target=train_in_child, args=(out, moment, resume))
    child.start()
    child.join(120)
    assert child.exitcode is not None
    return child.exitcode


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run_child(out, ("never", 0)) == 0
    return out


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("best/model.safetensors", "checkpoints/last/model.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    timeless = [
        [
            {k: v for k, v in json.loads(line).items() if k not in ("seconds", "images_per_second")}
            for line in (run / "metrics.jsonl").read_text().splitlines()
        ]
        for run in (one, other)
    ]
    assert timeless[0] == timeless[1]
    assert len(timeless[0]) == 3


@pytest.mark.parametrize(
    "moment",
    [
        ("step", 1),
        ("step", 8),
        ("epoch end", 1),
        ("half written", 3),
        ("between renames", 4),
    ],
    ids=lambda moment: f"{moment[0]} {moment[1]}",
)
def test_killed_run_resumes_to_the_same_bits(
    moment: tuple[str, int], whole_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run_child(out, moment) == -signal.SIGKILL
    assert run_child(out, ("never", 0), resume=True) == 0
    assert_same_run(whole_run, out)


def test_run_killed_twice_resumes_to_the_same_bits(whole_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run_child(out, ("step", 3)) == -signal.SIGKILL
    assert run_child(out, ("step", 5), resume=True) == -signal.SIGKILL
    assert run_child(out, ("never", 0), resume=True) == 0
    assert_same_run(whole_run, out)


def test_finished_run_resumes_to_itself(whole_run: Path) -> None:
    before = (whole_run / "best" / "model.safetensors").read_bytes()
    assert run_child(whole_run, ("never", 0), resume=True) == 0
    assert (whole_run / "best" / "model.safetensors").read_bytes() == before


def test_existing_run_is_refused_without_resume(whole_run: Path) -> None:
    from fieldmark.verbs import train

    with pytest.raises(RunExistsError, match="--resume"):
        train("sample:leaves", recipe=small_recipe(), out=whole_run)


def test_resume_with_a_changed_recipe_names_what_changed(whole_run: Path) -> None:
    from fieldmark.data.samples import draw_sample
    from fieldmark.verbs import train

    table = draw_sample("leaves", num_images=60, num_classes=3)
    with pytest.raises(RunChangedError, match=r"optim\.lr: 0\.003 -> 0\.1"):
        train(table, recipe=small_recipe("optim.lr=0.1"), out=whole_run, resume=True)


def test_resume_of_nothing_is_told(tmp_path: Path) -> None:
    from fieldmark.verbs import train

    with pytest.raises(RunNotFoundError, match="no run to resume"):
        train("sample:leaves", recipe=small_recipe(), out=tmp_path / "none", resume=True)


def test_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldmark.data.samples import draw_sample
    from fieldmark.runs import checkpoints
    from fieldmark.verbs import train

    real, calls = checkpoints.save_weights, 0

    def save_weights(weights: dict, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(weights, path)

    monkeypatch.setattr(checkpoints, "save_weights", save_weights)
    table = draw_sample("leaves", num_images=60, num_classes=3)
    with pytest.raises(StorageError, match="No space left on device"):
        train(table, recipe=small_recipe(), out=tmp_path / "run")
    saved = checkpoints.load_checkpoint(tmp_path / "run" / "checkpoints" / "last")
    assert saved is not None and saved.state["progress"]["updates"] >= 3
