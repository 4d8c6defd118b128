"""Learning from a teacher: its answers, where they come from, and what becomes of the loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fieldmark.data.loaders import Batch, build_loader
from fieldmark.data.samples import draw_sample
from fieldmark.data.table import Table
from fieldmark.errors import ModelError, RecipeError, RunChangedError
from fieldmark.recipes import Recipe, read_recipe
from fieldmark.recipes.schema import Augment
from fieldmark.training.distillation import Distillation, LiveAnswers, StoredAnswers, renormalize
from fieldmark.training.events import Event, Note, StepDone, TeacherAsked
from fieldmark.training.schooling import Schooling
from fieldmark.training.teachers import load_teacher
from fieldmark.transforms import TransformRecord, build_eval_transform, is_random
from fieldmark.verbs import Run, train

SMALL = [
    "data.image_size=32",
    "data.split.near_duplicates=false",
    "model.name=test_vit",
    "optim.batch_size=8",
    "optim.epochs=2",
    "workers=0",
    "precision=fp32",
    "device=cpu",
]
UNAUGMENTED = [
    "data.augment.crop=none",
    "data.augment.horizontal_flip=0",
    "data.augment.rotation_degrees=0",
    "data.augment.color_jitter=[0,0,0,0]",
]


@cache
def draw_table() -> Table:
    return draw_sample("leaves", num_images=40, num_classes=3)


@pytest.fixture(scope="module")
def teacher_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the same classes with another image size and other statistics."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    changes = ["data.image_size=48", "data.normalize=half", "optim.epochs=0", "seed=7"]
    train(draw_table(), recipe=read_recipe("quick", [*SMALL, *changes]), out=out)
    return out


def learn(
    out: Path,
    *overrides: str,
    resume: bool = False,
    listener: Callable[[Event], None] | None = None,
) -> tuple[Run, list[Event]]:
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if listener is not None:
            listener(event)

    recipe = read_recipe("quick", [*SMALL, *overrides])
    return train(draw_table(), recipe=recipe, out=out, resume=resume, listener=listen), events


def weights_of(run: Run) -> bytes:
    return (run.path / "checkpoints" / "last" / "model.safetensors").read_bytes()


def losses_in(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepDone)]


def record_of(size: int, mean: float, std: float) -> TransformRecord:
    return TransformRecord(
        image_size=size,
        resize="squash",
        crop=1.0,
        interpolation="bilinear",
        mean=(mean, mean, mean),
        std=(std, std, std),
        augment=Augment(),
    )


def made_of(logits: Tensor, *, mode: str, tau: float = 1.0) -> Distillation:
    return Distillation(lambda batch: logits, True, mode, 0.5, tau)  # type: ignore[arg-type]


BATCH = Batch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), torch.tensor([0, 1]))


def test_hard_answers_are_the_first_class() -> None:
    answers = made_of(torch.tensor([[0.1, 3.0, 1.0], [2.0, 0.0, 1.0]]), mode="hard").answer(BATCH)
    assert answers.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


def test_soft_answers_are_probabilities_at_the_temperature() -> None:
    logits = torch.tensor([[0.1, 3.0, 1.0], [2.0, 0.0, 1.0]])
    answers = made_of(logits, mode="soft", tau=4.0).answer(BATCH)
    assert torch.allclose(answers, functional.softmax(logits / 4.0, dim=1))


def test_stored_answers_are_read_by_the_row_of_each_image() -> None:
    stored = StoredAnswers(np.arange(12, dtype=np.float32).reshape(4, 3))
    batch = replace(BATCH, positions=torch.tensor([3, 1]))
    assert stored(batch).tolist() == [[9.0, 10.0, 11.0], [3.0, 4.0, 5.0]]


def test_renormalized_images_are_those_of_the_other_transform() -> None:
    student, teacher = record_of(8, 0.25, 0.5), record_of(8, 0.5, 0.2)
    pixels = torch.rand(2, 3, 8, 8)
    renewed = renormalize((pixels - 0.25) / 0.5, student, teacher)
    assert torch.allclose(renewed, (pixels - 0.5) / 0.2, atol=1e-6)
    assert renormalize(pixels, student, replace(teacher, image_size=12)).shape == (2, 3, 12, 12)


def test_images_of_the_same_transform_are_left_alone() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert renormalize(images, record_of(8, 0.5, 0.5), record_of(8, 0.5, 0.5)) is images


@pytest.mark.parametrize(
    "change",
    [
        {"crop": "random"},
        {"crop": "resized"},
        {"horizontal_flip": 0.5},
        {"vertical_flip": 0.5},
        {"rotation_degrees": 5.0},
        {"zoom": 0.1},
        {"color_jitter": (0.0, 0.0, 0.0, 0.1)},
        {"randaugment_ops": 1},
        {"random_erasing": 0.1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_random_change_is_seen(change: dict[str, object]) -> None:
    assert is_random(Augment(**change))  # type: ignore[arg-type]
    assert not is_random(Augment())


@pytest.mark.parametrize("view", ["same", "plain"])
def test_stored_answers_equal_live_ones_without_augmentation(
    view: str, teacher_dir: Path, tmp_path: Path
) -> None:
    options = [f"loss.distill.teacher={teacher_dir}", f"loss.distill.view={view}"]
    run, events = learn(tmp_path / "run", *UNAUGMENTED, *options)
    asked = [event for event in events if isinstance(event, TeacherAsked)]
    split = run.folder.restore_table(draw_table()).select("train")
    assert (asked[-1].done, asked[-1].total) == (len(split), len(split))
    stored = StoredAnswers(np.load(run.folder.teacher_dir / "logits.npy"))
    teacher = load_teacher(str(teacher_dir), split.class_names, "cpu")
    student = run.predictor().transform._normalize
    assert student is not None
    loader = build_loader(
        split,
        build_eval_transform(teacher.transform) if view == "plain" else run.predictor().transform,
        batch_size=5,
        order=None,
        seed=0,
        num_workers=0,
    )
    record = teacher.transform
    if view == "same":
        config = json.loads((run.folder.best_dir / "config.json").read_text())
        record = TransformRecord.from_json(config["fieldmark"]["transform"])
    live = LiveAnswers(teacher, record, "cpu", "fp32")
    for batch in loader.epoch(0):
        assert torch.allclose(live(batch), stored(batch), atol=1e-4)


def test_run_from_stored_answers_equals_one_from_live_ones(
    teacher_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*UNAUGMENTED, f"loss.distill.teacher={teacher_dir}", "loss.distill.mode=soft"]
    _, stored = learn(tmp_path / "stored", *options)
    monkeypatch.setattr(Schooling, "_varies", lambda self, student: True)
    live_run, live = learn(tmp_path / "live", *options)
    assert not live_run.folder.teacher_dir.exists()
    assert losses_in(stored) == pytest.approx(losses_in(live), rel=1e-4)


def test_alpha_0_equals_no_teacher_bit_for_bit(teacher_dir: Path, tmp_path: Path) -> None:
    without, _ = learn(tmp_path / "without")
    silent, events = learn(
        tmp_path / "silent", f"loss.distill.teacher={teacher_dir}", "loss.distill.alpha=0"
    )
    assert weights_of(silent) == weights_of(without)
    assert any("alpha is 0" in event.text for event in events if isinstance(event, Note))


@pytest.mark.parametrize(
    "options",
    [
        ["loss.distill.view=same", "loss.mixup=0.4"],
        ["loss.distill.view=plain", "loss.mixup=0.4", "loss.distill.mode=soft"],
        ["loss.distill.view=plain", "loss.cutmix=1", "loss.distill.alpha=1"],
        ["loss.distill.mode=soft", "loss.distill.tau=3", "precision=bf16"],
        ["model.name=deit_tiny_distilled_patch16_224", "loss.label_smoothing=0.1"],
    ],
    ids=lambda options: " ".join(options),
)
def test_every_kind_of_teaching_trains(
    options: list[str], teacher_dir: Path, tmp_path: Path
) -> None:
    run, events = learn(
        tmp_path / "run", f"loss.distill.teacher={teacher_dir}", "optim.epochs=1", *options
    )
    assert np.isfinite(losses_in(events)).all()
    assert run.folder.teacher_dir.is_dir() == ("loss.distill.view=plain" in options)


class KilledError(Exception):
    """Stands for a kill: nothing is tidied up."""


def test_killed_run_with_a_stored_teacher_resumes_to_the_same_bits(
    teacher_dir: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "teacher"
    shutil.copytree(teacher_dir, gone)
    options = [f"loss.distill.teacher={gone}", "loss.distill.view=plain", "loss.mixup=0.2"]
    options += ["checkpoint_minutes=0", "optim.accumulate=2"]
    whole, _ = learn(tmp_path / "whole", *options)

    def die(event: Event) -> None:
        if isinstance(event, StepDone) and event.epoch == 2 and event.batch == 3:
            raise KilledError

    with pytest.raises(KilledError):
        learn(tmp_path / "killed", *options, listener=die)
    shutil.rmtree(gone)  # whose answers are all in the run
    resumed, events = learn(tmp_path / "killed", *options, resume=True)
    assert not any(isinstance(event, TeacherAsked) for event in events)
    assert weights_of(resumed) == weights_of(whole)


def test_run_killed_while_its_teacher_is_asked_asks_again(
    teacher_dir: Path, tmp_path: Path
) -> None:
    options = [f"loss.distill.teacher={teacher_dir}", "loss.distill.view=plain", "optim.epochs=1"]

    def die(event: Event) -> None:
        if isinstance(event, TeacherAsked):
            raise KilledError

    with pytest.raises(KilledError):
        learn(tmp_path / "run", *options, listener=die)
    resumed, events = learn(tmp_path / "run", *options, resume=True)
    assert any(isinstance(event, TeacherAsked) for event in events)
    assert np.isfinite(np.load(resumed.folder.teacher_dir / "logits.npy")).all()


def test_stored_answers_of_something_else_are_refused(teacher_dir: Path, tmp_path: Path) -> None:
    options = [f"loss.distill.teacher={teacher_dir}", "loss.distill.view=plain", "optim.epochs=1"]
    run, _ = learn(tmp_path / "run", *options)
    origin = run.folder.teacher_dir / "origin.json"
    stored = json.loads(origin.read_text())
    origin.write_text(json.dumps({**stored, "class_names": ["x", "y", "z"]}))
    with pytest.raises(RunChangedError, match="other class_names"):
        learn(tmp_path / "run", *options, resume=True)
    origin.write_text(json.dumps(stored))
    np.save(run.folder.teacher_dir / "logits.npy", np.zeros((3, 3), dtype=np.float32))
    with pytest.raises(RunChangedError, match=r"shape \(3, 3\)"):
        learn(tmp_path / "run", *options, resume=True)


def test_teacher_of_other_classes_is_refused_by_name(teacher_dir: Path, tmp_path: Path) -> None:
    table = draw_sample("leaves", num_images=50, num_classes=5)
    recipe = read_recipe("quick", [*SMALL, f"loss.distill.teacher={teacher_dir}"])
    missing = sorted(set(table.class_names) - set(draw_table().class_names))
    with pytest.raises(ModelError, match="lacks 2") as told:
        train(table, recipe=recipe, out=tmp_path / "run")
    assert all(name in str(told.value) for name in missing)
    assert not (tmp_path / "run").exists()


def test_classes_in_another_order_are_matched_by_name(teacher_dir: Path) -> None:
    names = draw_table().class_names
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        plain = load_teacher(str(teacher_dir), names, "cpu").classify(images)
        turned = load_teacher(str(teacher_dir), names[::-1], "cpu").classify(images)
    assert torch.equal(plain.flip(1), turned)


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("resnet18", ModelError, "published for 1000 classes, but there are 3"),
        ("resnet81", RecipeError, "neither the folder of a run nor a timm name"),
        ("runs/nowhere", RecipeError, "neither the folder of a run"),
        ("cnn-baseline", RecipeError, "published weights"),
    ],
)
def test_teachers_that_there_are_not(name: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        load_teacher(name, draw_table().class_names, "cpu")


def test_teacher_for_many_labels_is_refused() -> None:
    recipe: Recipe = read_recipe("quick", ["task=multilabel", "loss.distill=somewhere"])
    with pytest.raises(RecipeError, match="multiclass, not multilabel"):
        train(replace(draw_table(), task="multilabel"), recipe=recipe, out="unused")
    assert not Path("unused").exists()
