"""Whole runs of what an objective can be composed of: tags, exclusion, a published teacher."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from fieldmark.data.samples import draw_sample
from fieldmark.data.table import Table
from fieldmark.errors import ModelError, RecipeError, RunChangedError
from fieldmark.models import classifier as classifiers
from fieldmark.models.weights.published import PublishedWeights
from fieldmark.recipes import read_recipe
from fieldmark.runs.best import load_best
from fieldmark.training.events import Event, Note, StepDone
from fieldmark.training.teachers import load_teacher
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
    "checkpoint_minutes=0",
]
TAGS = ["model.tags=whole", "model.tags.max_tokens=8", "model.tags.min_count=1"]


class KilledError(Exception):
    """Stands for a kill: nothing is tidied up."""


@cache
def draw_tagged() -> Table:
    return draw_sample("characters", num_images=60, num_classes=3)


def learn(
    out: Path, *overrides: str, resume: bool = False, die_at: int = 0
) -> tuple[Run, list[Event]]:
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if die_at and len(steps_in(events)) == die_at:
            raise KilledError

    recipe = read_recipe("quick", [*SMALL, *overrides])
    return train(draw_tagged(), recipe=recipe, out=out, resume=resume, listener=listen), events


def steps_in(events: list[Event]) -> list[StepDone]:
    return [event for event in events if isinstance(event, StepDone)]


def weights_of(run: Run) -> bytes:
    return (run.path / "checkpoints" / "last" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["model.tags.propose=off"],
        ["model.tags.propose=bert", "model.tags.shuffle=true"],
        ["model.tags.propose=full", "model.tags.mask_padding=false"],
        ["model.tags.propose=sigmoid", "model.tags.tokenizer=wordpiece", "model.tags.clean=true"],
        ["model.tags.propose=full", "model.head=ifa", "loss.exclusion=0.01", "precision=bf16"],
        ["model.tags.image=false"],
    ],
    ids=lambda options: " ".join(options),
)
def test_every_use_of_tags_trains(options: list[str], tmp_path: Path) -> None:
    run, events = learn(tmp_path / "run", *TAGS, *options)
    assert np.isfinite([step.loss for step in steps_in(events)]).all()
    _, identity = load_best(run.folder.find_best())
    assert identity.vocabulary == run.folder.load_tags()
    assert identity.vocabulary is not None and identity.vocabulary.tags


def test_vocabulary_is_of_the_training_split_alone(tmp_path: Path) -> None:
    run, _ = learn(tmp_path / "run", *TAGS, "optim.epochs=0")
    vocabulary = run.folder.load_tags()
    train_rows = run.folder.restore_table(draw_tagged()).select("train").rows
    assert vocabulary is not None
    assert set(vocabulary.tags) == {tag for row in train_rows for tag in row.tags or ()}


def test_network_learns_which_tags_are_hidden(tmp_path: Path) -> None:
    options = ["model.tags.propose=full", "model.tags.hide=0", "optim.epochs=12"]
    _, events = learn(tmp_path / "run", *TAGS, *options, "optim.lr=3e-3")
    steps = steps_in(events)
    last_of_epoch = [step.loss for step in steps if step.batch == step.num_batches]
    assert last_of_epoch[-1] < 0.75 * last_of_epoch[0]


def test_killed_run_with_masked_tags_resumes_to_the_same_bits(tmp_path: Path) -> None:
    options = [*TAGS, "model.tags.propose=sigmoid", "model.tags.shuffle=true"]
    whole, _ = learn(tmp_path / "whole", *options)
    with pytest.raises(KilledError):
        learn(tmp_path / "killed", *options, die_at=8)
    resumed, _ = learn(tmp_path / "killed", *options, resume=True)
    assert weights_of(resumed) == weights_of(whole)


def test_changed_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        learn(tmp_path / "run", *TAGS, die_at=2)
    (tmp_path / "run" / "tags.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(RunChangedError, match=r"tags\.json"):
        learn(tmp_path / "run", *TAGS, resume=True)


def test_tags_that_name_the_class_are_told(tmp_path: Path) -> None:
    table = draw_tagged()
    rows = [
        type(row)(row.image, row.labels, (*(row.tags or ()), f"{row.label} (cosplay)"), row.split)
        for row in table.rows
    ]
    events: list[Event] = []
    recipe = read_recipe("quick", [*SMALL, *TAGS, "optim.epochs=0"])
    train(table.with_rows(rows), recipe=recipe, out=tmp_path / "run", listener=events.append)
    assert any("(cosplay)" in event.text for event in events if isinstance(event, Note))


def test_exclusion_rewards_layers_that_differ(tmp_path: Path) -> None:
    _, plain = learn(tmp_path / "plain", "model.head=ifa", "optim.epochs=1")
    _, excluded = learn(
        tmp_path / "excluded", "model.head=ifa", "optim.epochs=1", "loss.exclusion=0.5"
    )
    assert steps_in(excluded)[0].loss < steps_in(plain)[0].loss


def test_exclusion_without_its_head_fails_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"loss\.exclusion: .* Set model\.head=ifa"):
        learn(tmp_path / "run", "loss.exclusion=0.01")
    assert not (tmp_path / "run").exists()


def test_run_that_reads_tags_teaches_a_student_without(tmp_path: Path) -> None:
    teacher, _ = learn(tmp_path / "teacher", *TAGS, "optim.epochs=1")
    options = [f"loss.distill.teacher={teacher.path}", "optim.epochs=1"]
    run, _ = learn(tmp_path / "student", *options, "loss.distill.view=plain")
    logits = np.load(run.folder.teacher_dir / "logits.npy")
    assert logits.shape[1] == 3 and np.isfinite(logits).all()
    with pytest.raises(RecipeError, match=r"loss\.distill\.view=plain"):
        learn(tmp_path / "other", *options)


def test_published_network_teaches_with_its_own_transform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=1000).eval()
    path = tmp_path / "model.safetensors"
    save_file(net.state_dict(), path)
    monkeypatch.setattr(classifiers, "fetch_weights", lambda name: PublishedWeights(path, "a test"))
    teacher = load_teacher("test_vit", [f"class {number}" for number in range(1000)], "cpu")
    config = timm.get_pretrained_cfg("test_vit")
    assert config is not None
    assert teacher.transform.image_size == config.input_size[-1]
    assert teacher.transform.mean == tuple(config.mean)
    assert teacher.transform.crop == config.crop_pct
    images = torch.rand(2, 3, teacher.transform.image_size, teacher.transform.image_size)
    with torch.no_grad():
        assert torch.allclose(teacher.classify(images), net(images), atol=1e-5)
    assert not any(p.requires_grad for p in teacher.classifier.parameters())


def test_published_weights_without_a_head_teach_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = timm.create_model("test_vit", num_classes=0)
    path = tmp_path / "model.safetensors"
    save_file(net.state_dict(), path)
    monkeypatch.setattr(classifiers, "fetch_weights", lambda name: PublishedWeights(path, "a test"))
    with pytest.raises(ModelError, match="classify nothing"):
        load_teacher("test_vit", [str(number) for number in range(1000)], "cpu")
