"""A study through the command line and in Python, on a few drawn leaves."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from safetensors.torch import load_file

import fieldmark as fm
from fieldmark.cli import main
from fieldmark.data.samples import draw_sample
from fieldmark.errors import RunChangedError
from fieldmark.evaluation.predictions import load_predictions
from fieldmark.recipes.values import render_values
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.tables import save_table
from fieldmark.training.events import EpochDone, Event, FeaturesStored, ImagesScanned, StepDone

SETTINGS = {
    "data.image_size": 32,
    "data.split.near_duplicates": False,
    "model.name": "test_vit",
    "model.freeze": "backbone",
    "model.head_dropout": 0.2,
    "optim.epochs": 2,
    "workers": 0,
    "precision": "fp32",
    "device": "cpu",
}
GRID = {"optim.batch_size": [8, 16], "model.head": ["linear", "mlp"]}
NAMES = [f"batch_size-{size}-head-{head}" for size in (8, 16) for head in ("linear", "mlp")]


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaves") / "set"
    save_table(draw_sample("leaves", num_images=48, num_classes=3), folder)
    return folder / "table.csv"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the backbone, so that its features are the same for every seed."""
    import timm
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "test_vit.safetensors"
    state = timm.create_model("test_vit", num_classes=3, img_size=32).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def keys(leaves: Path, weights: Path) -> dict[str, Any]:
    settings = {**SETTINGS, "model.weights": str(weights)}
    return {"data": str(leaves), "set": settings, "grid": GRID, "seeds": 2}


@pytest.fixture(scope="module")
def whole(keys: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A study of 2 x 2 variants and 2 seeds, with all that it said."""
    events: list[Event] = []
    out = tmp_path_factory.mktemp("whole") / "study"
    return Whole(fm.study(keys, out=out, listener=events.append), events)


class Whole:
    def __init__(self, study: fm.Study, events: list[Event]) -> None:
        self.study, self.events = study, events


def write(keys: dict[str, Any], path: Path) -> Path:
    path.write_text("\n".join(render_values(keys)) + "\n", encoding="utf-8")
    return path


def without_times(folder: RunFolder) -> list[dict[str, Any]]:
    times = {"seconds", "images_per_second"}
    return [{k: v for k, v in line.items() if k not in times} for line in folder.load_metrics()]


def test_images_are_read_once_and_the_backbone_runs_once(whole: Whole) -> None:
    scans = [event for event in whole.events if isinstance(event, ImagesScanned)]
    assert [event.done for event in scans if event.done == event.total] == [48]
    stored = [event.total for event in whole.events if isinstance(event, FeaturesStored)]
    views = 2
    # Of each image its plain view, and the other where it is in the train split of a seed.
    trained = {
        row["image"]
        for run in whole.study.runs
        for row in RunFolder.open(run.path).load_split()
        if row["split"] == "train"
    }
    segments = (whole.study.path / "cache" / "features").glob("*/segment-*/about.json")
    rows = [json.loads(about.read_text())["num_rows"] for about in segments]
    assert sum(rows) == 48 + (views - 1) * len(trained)
    assert stored and max(stored) <= sum(rows)
    assert not list((whole.study.path / "runs").glob("*/features"))


def test_scores_are_those_of_the_stored_predictions(whole: Whole) -> None:
    study = whole.study
    assert [run.name for run in study.runs] == [f"{n}-s{seed}" for seed in (0, 1) for n in NAMES]
    for each in study.variants:
        own = [run.scores["accuracy"] for run in study.runs if run.variant == each.name]
        assert each.scores["accuracy"].mean == pytest.approx(mean(own))
        assert each.scores["accuracy"].deviation == pytest.approx(stdev(own))
    for run in study.runs:
        folder = RunFolder.open(run.path)
        tested = [row["image"] for row in folder.load_split() if row["split"] == "test"]
        assert list(load_predictions(folder.predictions_path("test")).images) == tested
        # A frozen backbone would be there eight times.
        assert not folder.best_dir.exists() and not folder.last_dir.exists()


def test_comparison_is_against_the_first_variant(whole: Whole) -> None:
    found = whole.study.comparison
    assert found is not None
    assert {row.name for row in found.rows} == set(NAMES)
    assert {pair.b for pair in found.pairs} == {NAMES[0]} and len(found.pairs) == 3
    same = fm.compare([run.path for run in whole.study.runs], baseline=whole.study.runs[0].path)
    assert [pair.difference for pair in found.pairs] == [pair.difference for pair in same.pairs]


def test_files_hold_what_was_found(whole: Whole) -> None:
    path = whole.study.path
    told = json.loads((path / "study.json").read_text())
    assert [v["name"] for v in told["variants"]] == NAMES
    assert told["table"]["columns"] == ["linear", "mlp"]
    with (path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and rows[1]["model.head"] == "mlp"
    assert float(rows[1]["accuracy"]) == told["runs"][1]["scores"]["accuracy"]
    assert "optim.batch_size: [8, 16]" in (path / "study.yaml").read_text()


@pytest.mark.parametrize("name", [f"{NAMES[1]}-s0", f"{NAMES[2]}-s1"])
def test_a_run_is_the_same_as_alone(whole: Whole, name: str, tmp_path: Path) -> None:
    inside = RunFolder.open(whole.study.path / "runs" / name)
    alone = fm.train(recipe=inside.recipe_path, overrides=["cache=auto"], out=tmp_path / "alone")
    assert without_times(alone.folder) == without_times(inside)
    assert alone.folder.split_path.read_bytes() == inside.split_path.read_bytes()
    # Weights that were not kept are made again in the run itself, to the same bits.
    shutil.copytree(inside.path, tmp_path / "again")
    again = fm.train(out=tmp_path / "again", resume=True)
    assert without_times(again.folder) == without_times(inside)
    first, second = (load_file(run.path / "best" / "model.safetensors") for run in (alone, again))
    assert first.keys() == second.keys()
    assert all((first[key] == second[key]).all() for key in first)
    answers = load_predictions(inside.predictions_path("test"))
    told = alone.evaluate().predictions
    assert answers.images == told.images
    assert answers.true_probability == pytest.approx(told.true_probability, abs=1e-5)


def test_weights_are_kept_on_demand_and_are_those_of_a_run_alone(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    asked = {**keys, "grid": {"model.head": ["linear", "mlp"]}, "seeds": 1, "keep_weights": True}
    study = fm.study(asked, out=tmp_path / "study")
    inside = RunFolder.open(study.runs[1].path)
    alone = fm.train(recipe=inside.recipe_path, overrides=["cache=auto"], out=tmp_path / "alone")
    mine, other = (load_file(p / "best" / "model.safetensors") for p in (inside.path, alone.path))
    assert mine.keys() == other.keys()
    assert all((mine[key] == other[key]).all() for key in mine)
    assert not inside.last_dir.exists()


def test_a_study_goes_on_where_it_was_stopped(
    whole: Whole, keys: dict[str, Any], tmp_path: Path
) -> None:
    """Killed within a run, then one finished run is lost as well."""
    events: list[Event] = []

    def stop(event: Event) -> None:
        events.append(event)
        if sum(isinstance(e, EpochDone) for e in events) == 5:
            raise KeyboardInterrupt

    out = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        fm.study(keys, out=out, listener=stop)
    shutil.rmtree(out / "runs" / f"{NAMES[0]}-s0")
    kept = RunFolder(out / "runs" / f"{NAMES[1]}-s0").metrics_path
    written = kept.stat().st_mtime_ns
    trained: list[Event] = []
    study = fm.study(keys, out=out, resume=True, listener=trained.append)
    assert [run.is_kept for run in study.runs] == [False, True, *[False] * 6]
    assert kept.stat().st_mtime_ns == written
    assert sum(isinstance(e, EpochDone) for e in trained) == 7 * 2
    assert [run.scores for run in study.runs] == [run.scores for run in whole.study.runs]
    (kept.parent / "best").mkdir()  # weights that somebody made again
    again = fm.study(keys, out=out, resume=True)
    assert (kept.parent / "best").exists()
    assert all(run.is_kept for run in again.runs)
    assert again.comparison == study.comparison


def test_an_interrupted_run_goes_on_from_its_checkpoint(
    whole: Whole, keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldmark.verbs.trials.SPACING_SECONDS", 0.0)
    events: list[Event] = []

    def stop(event: Event) -> None:
        events.append(event)
        is_later = any(isinstance(e, EpochDone) for e in events)
        if isinstance(event, StepDone) and is_later:
            raise KeyboardInterrupt

    out = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        fm.study(keys, out=out, listener=stop)
    trained: list[Event] = []
    study = fm.study(keys, out=out, resume=True, listener=trained.append)
    first = next(e.epoch for e in trained if isinstance(e, EpochDone))
    assert first == 2
    assert study.runs[0].scores == whole.study.runs[0].scores


def test_a_file_may_grow_and_must_not_change(
    whole: Whole, keys: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "study"
    small = {**keys, "grid": {**GRID, "optim.batch_size": [8]}, "seeds": 1}
    fm.study(small, out=out)
    study = fm.study(keys, out=out, resume=True)
    assert sum(run.is_kept for run in study.runs) == 2
    assert [run.scores for run in study.runs] == [run.scores for run in whole.study.runs]
    shrunk = fm.study(small, out=out, resume=True)
    assert any("6 runs in" in note and "not of this study" in note for note in shrunk.notes)
    with pytest.raises(RunChangedError) as caught:
        fm.study(keys, overrides=["optim.lr=0.5"], out=out, resume=True)
    assert "optim.lr: 0.003 -> 0.5" in str(caught.value)
    assert "and 3 runs more" in str(caught.value)


def test_an_existing_folder_is_refused(
    keys: dict[str, Any], whole: Whole, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    file = write(keys, tmp_path / "grid.yaml")
    assert "is already there" in refusal("study", file, "--out", whole.study.path)
    assert "there is no study to resume" in refusal("study", file, "--out", "none", "--resume")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    told = refusal("study", file, "--out", tmp_path / "full", "--resume")
    assert "is not the folder of a study" in told
    wrong = write({**keys, "grid": {"optim.lr": [0.1, -1]}}, tmp_path / "wrong.yaml")
    assert "[lr--1 of 2 variants]" in refusal("study", wrong, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_is_recorded_and_the_others_go_on(
    keys: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    answer: Callable[..., dict[str, Any]],
) -> None:
    # Weights that are multiplied by -999 in each step.
    wild = {"optim.name": "sgd", "optim.lr": 100, "optim.weight_decay": 10, "optim.epochs": 6}
    rates = {"fine": {}, "wild": {"set": wild}}
    keys = {k: v for k, v in keys.items() if k != "grid"} | {"variants": rates, "seeds": 1}
    keys["set"] = {**keys["set"], "model.head": "mlp"}
    file = write(keys, tmp_path / "rates.yaml")
    told = answer("study", file, "--out", tmp_path / "study")
    assert told["failed"] == ["wild-s0"]
    fine, wild = told["runs"]
    assert fine["scores"]["accuracy"] >= 0 and "error" not in fine
    assert wild["scores"] == {} and "loss" in wild["error"]
    assert told["variants"][1]["mean"] is None and told["pairs"] == []
    del rates["fine"]
    file = write({**keys, "seeds": 2}, tmp_path / "rates.yaml")
    with pytest.raises(SystemExit) as caught:
        main(["study", str(file), "--out", str(tmp_path / "all"), "--quiet"])
    assert caught.value.code == 1
    shown = capsys.readouterr().out
    assert "failed   wild, seeds 0, 1: the loss " in shown and "2 failed" in shown


def test_the_command_prints_a_pivot_and_its_json_has_every_key(
    keys: dict[str, Any],
    whole: Whole,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: Callable[..., dict[str, Any]],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(whole.study.path, tmp_path / "runs" / "study-grid")
    shutil.rmtree(tmp_path / "runs" / "study-grid" / "runs" / f"{NAMES[3]}-s1")
    # Elsewhere its cache is another folder, and that changes nothing.
    file = write(keys, tmp_path / "grid.yaml")
    main(["study", str(file), "--resume"])
    shown = capsys.readouterr()
    assert "8/8  batch_size-16-head-mlp-s1  accuracy " in shown.err
    assert "1/8  batch_size-8-head-linear-s0  accuracy " in shown.err
    assert shown.err.count("  kept") == 7
    lines = [line.rstrip() for line in shown.out.splitlines()]
    assert lines[0] == "accuracy on test, 2 seeds; batch_size down, head across"
    place = next(
        k for k, line in enumerate(lines) if line.split() == ["batch_size", "linear", "mlp"]
    )
    for row, size in zip(lines[place + 2 : place + 4], (8, 16), strict=True):
        own = [v for v in whole.study.variants if v.settings["optim.batch_size"] == size]
        cells = [
            f"{v.scores['accuracy'].mean:.3f} ± {v.scores['accuracy'].deviation:.3f}" for v in own
        ]
        assert row.split() == [str(size), *" ".join(cells).split()]
    assert any(line.startswith("differences to 8, linear (batch_size, head)") for line in lines)
    assert "runs     1 trained, 7 kept" in shown.out
    assert max(map(len, lines[:-1])) <= 80

    told = answer("study", file, "--resume")
    assert set(told) >= {
        *("path", "metric", "seeds", "axes", "variants", "rows", "pairs", "runs", "failed"),
    }
    assert told["seeds"] == [0, 1] and told["failed"] == []
    assert set(told["variants"][0]) >= {
        *("name", "settings", "mean", "deviation", "num_seeds", "seconds"),
    }
    assert set(told["runs"][0]) >= {"name", "seed", "path", "scores", "seconds"}
    assert told == json.loads(Path("runs/study-grid/study.json").read_text())


def test_networks_that_learn_keep_their_weights(leaves: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "model.name": "test_resnet.r160_in1k", "optim.epochs": 1}
    del settings["model.freeze"]
    table = fm.read_table(leaves)
    keys = {"set": settings, "variants": {"low": {"set": {"optim.lr": 1e-4}}, "high": None}}
    study = fm.study(keys, data=table, out=tmp_path / "study")
    assert study.failed == () and study.weights_are_kept
    for run in study.runs:
        assert (run.path / "best" / "model.safetensors").is_file()
        assert fm.load_run(run.path).evaluate().metrics["accuracy"] == run.scores["accuracy"]
    assert study.comparison is not None and len(study.comparison.pairs) == 1


def test_a_metric_that_predictions_do_not_tell_is_said_after_the_first_run(
    keys: dict[str, Any], tmp_path: Path, refusal: Callable[..., str]
) -> None:
    file = write({**keys, "metric": "auroc"}, tmp_path / "grid.yaml")
    told = refusal("study", file, "--out", tmp_path / "study", "--quiet")
    assert "metric 'auroc'" in told and "They tell accuracy" in told
    assert len(list((tmp_path / "study" / "runs").iterdir())) == 1
