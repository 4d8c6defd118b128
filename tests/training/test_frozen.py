"""A head learns the same from stored features as from a backbone that runs in each epoch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fieldmark.data.columns import Labels
from fieldmark.data.samples import draw_sample
from fieldmark.data.sampling import EpochOrder
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Table
from fieldmark.errors import StorageError
from fieldmark.runs import feature_store
from fieldmark.training.events import EpochDone, Event, FeaturesStored, Note, StepDone
from fieldmark.training.frozen import FeatureLoader
from fieldmark.verbs import Run, train

PLAIN = [
    *("data.augment.crop=none", "data.augment.color_jitter=[0,0,0,0]"),
    *("data.augment.horizontal_flip=0", "data.augment.rotation_degrees=0", "data.augment.zoom=0"),
    *("data.augment.random_erasing=0", "data.augment.randaugment_ops=0"),
]
SMALL = [
    *("data.image_size=32", "data.split.near_duplicates=false", "model.name=resnet10t"),
    *("model.freeze=backbone", "optim.epochs=3", "optim.batch_size=12", "workers=0"),
    *("precision=fp32", "device=cpu"),
    *PLAIN,
]
VIT = "model.name=vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def leaves() -> Table:
    return draw_sample("leaves", num_images=60, num_classes=3)


def run_with(
    table: Table, out: Path, *overrides: str, resume: bool = False, stop_at: int = 0
) -> tuple[Run, list[Event]]:
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if stop_at and sum(isinstance(e, StepDone) for e in events) == stop_at:
            raise KeyboardInterrupt

    settings = [*SMALL, *overrides]
    run = train(table, recipe="quick", overrides=settings, out=out, resume=resume, listener=listen)
    return run, events


def trace_of(events: list[Event]) -> list[float]:
    steps = [event.loss for event in events if isinstance(event, StepDone)]
    return steps + [event.val["nll"] for event in events if isinstance(event, EpochDone)]


def notes_of(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Note))


def num_computed(events: list[Event]) -> int:
    """Pictures that the backbone saw; 0 where all features were stored."""
    return max((event.total for event in events if isinstance(event, FeaturesStored)), default=0)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.head=mlp", "optim.accumulate=2", "ema=0.9"],
        ["model.head=ifa"],
        [VIT, "model.head=ifa", "model.head_token_norm=true", "loss.exclusion=0.01"],
        ["sampling=balanced", "loss.class_weights=balanced", "optim.max_updates=8"],
        ["model.name=cnn-baseline", "data.image_size=112", "optim.epochs=2"],
    ],
    ids=lambda overrides: " ".join(overrides) or "linear",
)
def test_same_losses_as_with_the_backbone_in_each_epoch(
    overrides: list[str], leaves: Table, tmp_path: Path
) -> None:
    _, each = run_with(leaves, tmp_path / "each", *overrides, "views=0")
    run, stored = run_with(leaves, tmp_path / "stored", *overrides, "views=1")
    assert num_computed(each) == 0
    assert num_computed(stored) == 48
    assert trace_of(stored) == pytest.approx(trace_of(each), abs=1e-4)
    last = run.folder.load_metrics()[-1]
    if last["is_best"]:
        assert run.evaluate(split="val").metrics["nll"] == pytest.approx(last["val_nll"], abs=1e-4)


def test_best_weights_are_the_whole_network(leaves: Table, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    runs = [run_with(leaves, tmp_path / str(k), f"views={k}")[0] for k in (0, 1)]
    each, stored = (load_file(run.path / "best" / "model.safetensors") for run in runs)
    assert each.keys() == stored.keys()
    frozen = [name for name in each if not name.startswith("fc.")]
    assert frozen
    assert all(torch.equal(each[name], stored[name]) for name in frozen)


def test_bf16_features_train_too(leaves: Table, tmp_path: Path) -> None:
    _, each = run_with(leaves, tmp_path / "each", "views=0", "precision=bf16")
    _, stored = run_with(leaves, tmp_path / "stored", "views=1", "precision=bf16")
    assert trace_of(stored) == pytest.approx(trace_of(each), abs=0.02)


def test_a_view_is_drawn_for_each_image_and_epoch(tmp_path: Path, leaves: Table) -> None:
    origin = feature_store.Origin("net", "w", "t", "pooled", "fp32", (2,))
    store = feature_store.FeatureStore(tmp_path, origin)
    num_images, num_views = len(leaves), 3
    keys = np.arange(num_images * num_views, dtype=np.uint64)
    store.add(keys, [torch.stack([torch.arange(180.0) // 3, torch.arange(180.0) % 3], dim=1)])
    rows = store.find(keys.reshape(num_images, num_views))
    order = EpochOrder.for_training(leaves, seed=1, sampling="natural")
    loader = FeatureLoader(store, rows, Labels(leaves), order, batch_size=16, seed=1)

    def shown(epoch: int, start: int = 0) -> torch.Tensor:
        return torch.cat([batch.images for batch in loader.epoch(epoch, start)])

    first, second = shown(0), shown(1)
    assert len(list(loader.epoch(0))) == loader.num_batches
    assert first[:, 0].long().tolist() == order.positions(0).tolist()
    assert sorted(set(first[:, 1].tolist())) == [0.0, 1.0, 2.0]
    again = dict(second.tolist())
    assert 0 < sum(again[image] != view for image, view in first.tolist()) < num_images
    assert torch.equal(shown(0, start=2), first[32:])


def test_flips_and_draws_are_stored_beside_the_plain_image(leaves: Table, tmp_path: Path) -> None:
    cache = f"cache={tmp_path / 'cache'}"
    flips = "data.augment.horizontal_flip=0.5"
    _, one = run_with(leaves, tmp_path / "1", cache, "views=1")
    _, two = run_with(leaves, tmp_path / "2", cache, flips)
    _, three = run_with(leaves, tmp_path / "3", cache, flips, "data.augment.zoom=0.1", "views=3")
    assert [num_computed(events) for events in (one, two, three)] == [48, 42, 42]
    assert "Views of each training image: plain, flipped left-right." in notes_of(two)
    assert "plain, flipped left-right, drawn 1. A larger `views`" in notes_of(three)


def test_a_cache_serves_other_heads_rates_and_seeds(leaves: Table, tmp_path: Path) -> None:
    cache = f"cache={tmp_path / 'cache'}"
    weights = tmp_path / "first" / "best" / "model.safetensors"
    start = [f"model.weights={weights}", cache, "views=1"]
    run_with(leaves, tmp_path / "first", "optim.epochs=0")
    _, first = run_with(leaves, tmp_path / "1", *start)
    _, second = run_with(leaves, tmp_path / "2", *start, "model.head=mlp", "optim.lr=0.01")
    _, third = run_with(leaves, tmp_path / "3", *start, "optim.batch_size=24", "seed=7")
    _, fourth = run_with(leaves, tmp_path / "4", *start, "seed=7", "optim.epochs=5")
    assert [num_computed(events) for events in (first, second, fourth)] == [48, 0, 0]
    # Another seed has another split: only images that were test images before are new.
    assert 0 < num_computed(third) <= 12


@pytest.mark.parametrize(
    ("change", "said"),
    [("seed=3", "weights"), ("data.image_size=64", "transform"), ("model.norm=group", "network")],
)
def test_what_changed_is_said_and_computed_anew(
    change: str, said: str, leaves: Table, tmp_path: Path
) -> None:
    cache = f"cache={tmp_path / 'cache'}"
    run_with(leaves, tmp_path / "before", cache)
    _, events = run_with(leaves, tmp_path / "after", cache, change)
    assert num_computed(events) == 48
    assert "are of other" in notes_of(events)
    assert said in notes_of(events).partition("are of other")[2].partition(":")[0]


def test_changed_images_are_computed_anew(leaves: Table, tmp_path: Path) -> None:
    cache = f"cache={tmp_path / 'cache'}"
    before, _ = run_with(leaves, tmp_path / "before", cache)
    split = before.folder.load_split()
    changed = [row["image"] for row in split if row["split"] == "train"][:2]
    images = dict(leaves.store.images)  # type: ignore[attr-defined]
    for name in changed:
        buffer = BytesIO()
        Image.open(BytesIO(images[name])).rotate(90).save(buffer, "PNG")
        images[name] = buffer.getvalue()
    rows = tuple(
        replace(row, split=entry["split"]) for row, entry in zip(leaves.rows, split, strict=True)
    )
    table = replace(leaves, rows=rows, store=MemoryStore(images))
    _, events = run_with(table, tmp_path / "after", cache)
    assert num_computed(events) == 2
    assert "2 of 48 images are new, changed" in notes_of(events)


def test_store_cut_short_is_built_anew_and_said(leaves: Table, tmp_path: Path) -> None:
    cache = f"cache={tmp_path / 'cache'}"
    _, whole = run_with(leaves, tmp_path / "before", cache)
    for path in (tmp_path / "cache").rglob("features.npy"):
        path.write_bytes(path.read_bytes()[:-1])
    _, events = run_with(leaves, tmp_path / "after", cache)
    assert num_computed(events) == 48
    assert "computed anew" in notes_of(events)
    assert trace_of(events) == trace_of(whole)


@pytest.mark.parametrize("moment", [1, 5])
def test_stopped_run_resumes_to_the_same_bits(moment: int, leaves: Table, tmp_path: Path) -> None:
    settings = [
        "data.augment.horizontal_flip=0.5",
        "checkpoint_minutes=0",
        "model.head_dropout=0.2",
    ]
    whole, _ = run_with(leaves, tmp_path / "whole", *settings)
    with pytest.raises(KeyboardInterrupt):
        run_with(leaves, tmp_path / "run", *settings, stop_at=moment)
    run, events = run_with(leaves, tmp_path / "run", *settings, resume=True)
    assert num_computed(events) == 0
    for name in ("best/model.safetensors", "checkpoints/last/model.safetensors"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_run_resumes_without_its_store(leaves: Table, tmp_path: Path) -> None:
    import shutil

    whole, _ = run_with(leaves, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_with(leaves, tmp_path / "run", stop_at=8)
    shutil.rmtree(tmp_path / "run" / "features")
    run, events = run_with(leaves, tmp_path / "run", resume=True)
    assert num_computed(events) == 48
    name = "best/model.safetensors"
    assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()


@pytest.mark.parametrize(
    ("override", "reason"),
    [("views=0", "views is 0"), ("loss.mixup=0.2", "mix pixels"), ("loss.cutmix=1", "mix pixels")],
)
def test_where_features_do_not_do_the_backbone_runs_and_that_is_said(
    override: str, reason: str, leaves: Table, tmp_path: Path
) -> None:
    run, events = run_with(leaves, tmp_path / "run", override, "optim.epochs=1")
    assert num_computed(events) == 0
    assert "runs in each epoch" in notes_of(events)
    assert reason in notes_of(events)
    assert not (run.path / "features").exists()


def test_tags_are_read_by_the_backbone_in_each_epoch(tmp_path: Path) -> None:
    table = draw_sample("characters", num_images=40, num_classes=3)
    _, events = run_with(table, tmp_path / "run", VIT, "model.tags=whole", "optim.epochs=1")
    assert "model.tags vary" in notes_of(events)


def test_a_stored_teacher_goes_with_stored_features(leaves: Table, tmp_path: Path) -> None:
    run_with(leaves, tmp_path / "teacher", "optim.epochs=1")
    distill = [f"loss.distill.teacher={tmp_path / 'teacher'}", "loss.distill.view=plain"]
    _, each = run_with(leaves, tmp_path / "each", *distill, "views=0")
    _, stored = run_with(leaves, tmp_path / "stored", *distill)
    assert num_computed(stored) == 48
    assert trace_of(stored) == pytest.approx(trace_of(each), abs=1e-4)
    live = ["data.augment.horizontal_flip=0.5", f"loss.distill.teacher={tmp_path / 'teacher'}"]
    _, events = run_with(leaves, tmp_path / "live", *live)
    assert "the teacher looks at the images" in notes_of(events)


def test_multilabel_targets_are_taken_whole(leaves: Table) -> None:
    rows = tuple(
        replace(row, labels=leaves.class_names[: 1 + place % 3])
        for place, row in enumerate(leaves.rows)
    )
    labels = Labels(replace(leaves, rows=rows, task="multilabel"))
    positions = np.array([2, 0, 1])
    assert labels.take(positions).tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert Labels(leaves).take(positions).tolist() == [Labels(leaves).read(p) for p in (2, 0, 1)]


def test_full_disk_is_told_in_bytes_and_frees_the_name(
    leaves: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[[object], object] = feature_store.shutil.disk_usage  # type: ignore[assignment]
    monkeypatch.setattr(feature_store.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(StorageError, match=r"need 98,304 bytes, and 100 are free"):
        run_with(leaves, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(feature_store.shutil, "disk_usage", real)
    run, _ = run_with(leaves, tmp_path / "run")
    about = next(run.path.glob("features/*/*/about.json"))
    assert json.loads(about.read_text())["origin"]["shape"] == [512]
