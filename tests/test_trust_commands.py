"""Calibration, caution in predictions, test-time augmentation and ensembles as commands."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fieldmark as fm
from fieldmark.cli import main
from fieldmark.data.images import decode_image
from fieldmark.data.prepare import hash_table
from fieldmark.data.samples import draw_sample
from fieldmark.data.sources import read_table
from fieldmark.data.table import Table
from fieldmark.errors import DataError, RunError
from fieldmark.evaluation.predictions import load_predictions
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.probabilities import num_outputs
from fieldmark.recipes.schema import Data, Model, Recipe, Statistics
from fieldmark.runs.best import Identity, save_best
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.tables import save_table
from fieldmark.transforms import (
    TransformRecord,
    build_eval_transform,
    build_transform_record,
)
from fieldmark.verbs.ensemble import ensemble

HALF = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaves") / "set"
    return save_table(draw_sample("leaves", num_images=60, num_classes=3), folder)


def split_in_turn(table: Table, shift: int = 0) -> Table:
    rows = [replace(r, split=SPLITS[(i // 3 + shift) % 3]) for i, r in enumerate(table.rows)]
    return table.with_rows(rows)


def make_run(path: Path, source: Path, table: Table, *, seed: int, size: int = 32) -> Path:
    """A run folder as training leaves it: a random backbone, and a head fitted in one step."""
    torch.manual_seed(seed)
    model = Model(name="test_vit")
    recipe = Recipe(task=table.task, data=Data(source=str(source), image_size=size), model=model)
    outputs = num_outputs(table.task, len(table.class_names))
    classifier, _ = build_classifier(model, num_classes=outputs, image_size=size)
    record = build_transform_record(
        recipe.data,
        model_statistics=HALF,
        dataset_statistics=lambda: HALF,
        interpolation="bicubic",
    )
    fit_head(classifier, table, record)
    folder = RunFolder.create(path)
    folder.save_recipe(recipe)
    folder.save_classes(table)
    folder.save_split(table, hash_table(table))
    identity = Identity(table.task, table.class_names, model, record)
    save_best(folder.best_dir, classifier, identity, {"epoch": 1, "value": 0.5})
    return folder.path


def fit_head(classifier: Classifier, table: Table, record: TransformRecord) -> None:
    """Ridge regression of the labels of all images, so that many are right and some wrong."""
    rows = table.rows
    images = torch.stack([build_eval_transform(record)(open_image(table, r.image)) for r in rows])
    classes = torch.tensor([table.class_index[r.label] for r in rows])
    wanted = 4.0 * torch.eye(len(table.class_names))[classes]
    with torch.no_grad():
        features = classifier.eval().features(images).pooled  # (N, D)
        center = features.mean(dim=0)
        moved = features - center
        gram = moved.T @ moved + 0.1 * moved.var() * len(rows) * torch.eye(moved.shape[1])
        weight = torch.linalg.solve(gram, moved.T @ wanted).T  # (K, D)
        last = classifier.head.last_layers[0]
        last.weight.copy_(weight[: len(last.weight)])
        last.bias.copy_(-(last.weight @ center))


def open_image(table: Table, image: str) -> Image.Image:
    return decode_image(table.store.read(image))


@pytest.fixture(scope="module")
def fresh(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = split_in_turn(read_table(leaves))
    return make_run(tmp_path_factory.mktemp("runs") / "fresh", leaves, table, seed=1)


@pytest.fixture(scope="module")
def calibrated(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "calibrated"
    shutil.copytree(fresh, path)
    fm.load_run(path).calibrate(coverage=0.8, keep=0.5)
    return path


def test_evaluate_calibrates_and_leaves_the_scores_as_they_are(
    fresh: Path, tmp_path: Path, answer: Callable[..., dict]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(fresh, run)
    plain = answer("evaluate", run)
    result = answer("evaluate", run, "--calibrate", "--coverage", 0.8)
    assert result["metrics"] == plain["metrics"]
    calibration = result["calibration"]
    assert calibration["coverage"] == 0.8 and calibration["keep"] == 0.95
    assert set(calibration["sets"]) == {"lac", "aps", "raps"}
    assert set(calibration["reject"]) == {"probability", "calibrated_probability", "energy"}
    assert calibration["check"]["num_images"] == 18 and calibration["check"]["split"] == "test"
    assert json.loads((run / "calibration.json").read_text())["sets"] == calibration["sets"]
    assert (run / "predictions" / "val.parquet").is_file()
    on_val = answer("evaluate", run, "--split", "val", "--calibrate")
    assert "check" not in on_val["calibration"]


def test_calibration_is_shown_on_a_terminal(
    calibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", str(calibrated), "--calibrate", "--coverage", "0.8", "--keep", "0.5"])
    shown = capsys.readouterr().out
    for words in (
        "temperature",
        "label sets hold it (lac)",
        "answered (energy)",
        "nine of ten cases",
    ):
        assert words in shown


def test_predict_gives_label_sets_and_says_unknown(
    calibrated: Path,
    leaves: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    answer: Callable[..., dict],
) -> None:
    rows = answer("predict", calibrated, leaves, "--sets", "--reject")["predictions"]
    stored = json.loads((calibrated / "calibration.json").read_text())
    for row in rows:
        names = [entry["label"] for entry in row["top"]]
        scores = [1.0 - entry["probability"] for entry in row["top"]]
        threshold = stored["sets"]["lac"]
        # The image whose score is the threshold may differ in its last bits.
        least = sum(score < threshold - 1e-5 for score in scores)
        most = sum(score < threshold + 1e-5 for score in scores)
        assert max(1, least) <= len(row["label_set"]) <= max(1, most)
        assert row["label_set"] == names[: len(row["label_set"])]
        beyond = row["top"][0]["probability"] - stored["reject"]["probability"]
        assert row["unknown"] is (beyond < 0) or abs(beyond) < 1e-5
    assert 0 < sum(row["unknown"] for row in rows) < len(rows)
    out = tmp_path / "out.csv"
    answer(*("predict", calibrated, leaves, "--sets", "aps", "--reject", "--out", out, "--top", 1))
    table = list(csv.DictReader(out.read_text().splitlines()))
    assert list(table[0]) == ["image", "label", "p1", "label_set", "unknown"]
    for line, row in zip(table, rows, strict=True):
        assert line["unknown"] == ("yes" if row["unknown"] else "no")
        expected = "unknown" if row["unknown"] else row["top"][0]["label"]
        assert line["label"] == expected
    main(["predict", str(calibrated), str(leaves), "--sets", "--reject", "--quiet"])
    shown = capsys.readouterr().out
    assert "label set" in shown and "unknown (" in shown


def test_a_threshold_of_ones_own_needs_no_calibration(
    fresh: Path, leaves: Path, answer: Callable[..., dict]
) -> None:
    rows = answer("predict", fresh, leaves, "--reject", 2.0)["predictions"]
    assert all(row["unknown"] for row in rows)
    rows = answer("predict", fresh, leaves, "--reject", -99, "--reject-by", "energy")["predictions"]
    assert not any(row["unknown"] for row in rows)


def test_calibrated_probabilities_are_those_at_the_temperature(
    calibrated: Path, leaves: Path, answer: Callable[..., dict]
) -> None:
    plain = answer("predict", calibrated, leaves, "--sets")["predictions"]
    told = answer("predict", calibrated, leaves, "--sets", "--calibrated")
    values = json.loads((calibrated / "calibration.json").read_text())
    temperature = values["temperature"]["temperature"]
    assert temperature != 1.0
    for one, other in zip(plain, told["predictions"], strict=True):
        p = np.array([entry["probability"] for entry in one["top"]]) ** (1 / temperature)
        found = [entry["probability"] for entry in other["top"]]
        assert found == pytest.approx(p / p.sum(), abs=1e-4)
        assert one["label_set"] == other["label_set"]


def test_what_is_not_calibrated_says_how(
    fresh: Path, leaves: Path, refusal: Callable[..., str]
) -> None:
    for words in (["--sets"], ["--reject"], ["--calibrated"]):
        told = refusal("predict", fresh, leaves, *words)
        assert f"fieldmark evaluate {fresh} --calibrate" in told
    told = refusal("predict", fresh, leaves, "--sets", "apps")
    assert "Did you mean 'aps'" in told


def test_a_calibration_of_other_weights_or_changed_by_hand_is_refused(
    calibrated: Path, leaves: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(calibrated, run)
    values = json.loads((run / "calibration.json").read_text())
    for changed, words in (
        ({**values, "selected": {"epoch": 9}}, "is of epoch 9"),
        ({**values, "sets": {}}, "was changed or is of another version"),
        ({**values, "format": 7}, "format 7, expected 1"),
    ):
        (run / "calibration.json").write_text(json.dumps(changed))
        told = refusal("predict", run, leaves, "--sets")
        assert words in told and "--calibrate" in told
    (run / "calibration.json").write_text("{")
    assert "cannot be read" in refusal("predict", run, leaves, "--sets")


def test_options_that_do_not_go_together_are_told(fresh: Path, refusal: Callable[..., str]) -> None:
    told = refusal("evaluate", fresh, "--coverage", 0.9)
    assert "--coverage and --keep say how to --calibrate" in told
    told = refusal("evaluate", fresh, "--calibrate", "--tta", 2)
    assert "Give one of the two" in told
    told = refusal("evaluate", fresh, "--tta", 2, "--backend", "onnxruntime")
    assert "--backend onnxruntime: --tta is computed by eager alone" in told
    told = refusal("evaluate", fresh, "--calibrate", "--coverage", 0.99)
    assert "needs at least 99 labelled validation images, and there are 21" in told


def test_a_run_without_validation_images_cannot_be_calibrated(leaves: Path, tmp_path: Path) -> None:
    table = split_in_turn(read_table(leaves))
    rows = [replace(r, split="train" if r.split == "val" else r.split) for r in table.rows]
    run = fm.load_run(make_run(tmp_path / "run", leaves, table.with_rows(rows), seed=1))
    with pytest.raises(DataError, match="holds no validation images"):
        run.calibrate()


def test_a_multilabel_run_is_refused_before_any_image_is_read(leaves: Path, tmp_path: Path) -> None:
    table = replace(split_in_turn(read_table(leaves)), task="multilabel")
    run = fm.load_run(make_run(tmp_path / "run", leaves, table, seed=1))
    for ask in (run.calibrate, lambda: run.caution(sets="lac"), lambda: run.caution(reject=0.5)):
        with pytest.raises(DataError, match="multi-label"):
            ask()


def test_augmented_scores_are_of_the_mean_probability_and_tell_the_change(
    fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Callable[..., dict]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(fresh, run)
    alone = answer("evaluate", run, "--tta", "flip")
    assert "change" not in alone and "evaluate once without tta" in alone["notes"][0]
    assert len(alone["notes"]) == 2
    plain = answer("evaluate", run)
    result = answer("evaluate", run, "--tta", 2)
    assert result["predictions"] == str(run / "predictions" / "test-tta2.parquet")
    stored = load_predictions(run / "predictions" / "test-tta2.parquet")
    predictor = fm.load_run(run).predictor()
    table = fm.load_run(run).select_images("test")
    for place, row in enumerate(table.rows[:5]):
        pixels = predictor.transform(open_image(table, row.image))[None]
        with torch.inference_mode():
            views = [predictor.classifier(x).softmax(1) for x in (pixels, pixels.flip(3))]
        expected = ((views[0] + views[1]) / 2)[0].sort(descending=True).values
        assert stored.top_probability[place] == pytest.approx(expected.numpy(), abs=1e-5)
    assert len(set(result["notes"])) == len(result["notes"])
    change = result["change"]["metrics"]["nll"]
    assert change == pytest.approx(result["metrics"]["nll"] - plain["metrics"]["nll"])
    assert set(result["intervals"]) == set(result["metrics"])
    main(["evaluate", str(run), "--tta", "flip,scales", "--quiet"])
    assert "change   against plain" in capsys.readouterr().out
    assert (run / "predictions" / "test-tta-flip-scales.parquet").is_file()


def test_a_class_that_training_never_saw_is_named(
    leaves: Path, tmp_path: Path, answer: Callable[..., dict]
) -> None:
    table = split_in_turn(read_table(leaves))
    unseen = table.rows[-1].label
    rows = [replace(r, split="test") if r.label == unseen else r for r in table.rows]
    run = make_run(tmp_path / "run", leaves, table.with_rows(rows), seed=1)
    told = f"Images of 1 class in this split that training never saw count as wrong: {unseen}."
    for words in ([], ["--tta", 2], ["--data", leaves]):
        assert answer("evaluate", run, *words)["notes"].count(told) == 1


def test_head_middle_and_tail_are_told_beside_the_metrics(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Callable[..., dict]
) -> None:
    table = split_in_turn(read_table(leaves))
    rare = table.rows[-1].label
    for_test = (r.label == rare and r.split == "train" for r in table.rows)
    rows = [
        replace(row, split="test") if moved else row
        for row, moved in zip(table.rows, for_test, strict=True)
    ]
    run = make_run(tmp_path / "run", leaves, table.with_rows(rows), seed=1)
    result = answer("evaluate", run)
    head, tail = result["groups"][0], result["groups"][-1]
    assert tail["part"] == "tail" and tail["fewest_trained"] == tail["most_trained"] == 0
    own = next(entry for entry in result["classes"] if entry["label"] == rare)
    assert tail["num_classes"] == 1 and tail["recall"] == own["recall"]
    others = [e["recall"] for e in result["classes"] if e["label"] != rare and e["support"]]
    assert head["recall"] == pytest.approx(sum(others) / len(others))
    main(["evaluate", str(run), "--quiet"])
    assert "tail     mean recall" in capsys.readouterr().out


@pytest.fixture(scope="module")
def other(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another image size and other weights, on the same split."""
    table = split_in_turn(read_table(leaves))
    return make_run(tmp_path_factory.mktemp("runs") / "other", leaves, table, seed=2, size=48)


def test_an_ensemble_is_the_mean_of_its_members_and_is_kept_like_a_run(
    fresh: Path,
    other: Path,
    tmp_path: Path,
    answer: Callable[..., dict],
    refusal: Callable[..., str],
) -> None:
    out = tmp_path / "both"
    result = answer("ensemble", fresh, other, "--out", out)
    assert [m["weight"] for m in result["members"]] == [0.5, 0.5]
    together = load_predictions(out / "predictions" / "test.parquet")
    alone = [fm.load_run(run).evaluate().predictions for run in (fresh, other)]
    expected = (alone[0].true_probability + alone[1].true_probability) / 2
    assert together.true_probability == pytest.approx(expected, abs=1e-5)
    own = answer("evaluate", fresh)["metrics"]
    assert result["members"][0]["metrics"] == pytest.approx(own, abs=1e-5)
    assert result["change"]["against"] == "fresh"
    assert json.loads((out / "ensemble.json").read_text())["members"][1]["name"] == "other"
    assert fm.load_run(out).report().split == "test"
    with pytest.raises(RunError, match="is an ensemble, which keeps predictions and no weights"):
        fm.load_run(out).predictor()
    assert "already there" in refusal("ensemble", fresh, other, "--out", out)


def test_greedy_weights_come_from_validation_images(
    fresh: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["ensemble", str(fresh), str(other), "--greedy", "--out", str(tmp_path / "e"), "--quiet"])
    assert "ensemble" in capsys.readouterr().out
    about = json.loads((tmp_path / "e" / "ensemble.json").read_text())
    counts, nlls = about["selection"]["counts"], about["selection"]["val_nll"]
    weights = np.array(counts) / sum(counts)
    val = [fm.load_run(run).evaluate(split="val").predictions for run in (fresh, other)]
    mixed = sum(w * np.exp(-v.loss) for w, v in zip(weights, val, strict=True))
    assert nlls[-1] == pytest.approx(-np.log(mixed).mean(), abs=1e-5)
    assert [m["weight"] for m in about["members"]] == pytest.approx(weights)


def test_a_member_that_trained_on_the_test_images_is_refused(
    fresh: Path, leaves: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    table = split_in_turn(read_table(leaves), shift=1)
    leaky = make_run(tmp_path / "leaky", leaves, table, seed=2)
    told = refusal("ensemble", fresh, leaky, "--out", tmp_path / "e")
    assert "of 18, 18 were learned from here" in told
    assert f"fieldmark train {fresh / 'split.csv'} --image-root FOLDER" in told
    assert not (tmp_path / "e").exists()


def test_members_that_do_not_go_together_are_told(
    fresh: Path, leaves: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert "expected two runs or more, not 1" in refusal("ensemble", fresh)
    assert "is named 2 times" in refusal("ensemble", fresh, fresh)
    table = read_table(leaves)
    names = (*table.class_names[:2], "a stranger")
    rows = [replace(r, labels=(names[table.class_index[r.label]],)) for r in table.rows]
    strange = replace(split_in_turn(table.with_rows(rows)), class_names=names)
    path = make_run(tmp_path / "strange", leaves, strange, seed=1)
    told = refusal("ensemble", fresh, path)
    assert "other classes: a stranger only here" in told
    turned = replace(split_in_turn(table), class_names=table.class_names[::-1])
    path = make_run(tmp_path / "turned", leaves, turned, seed=1)
    assert "in another order" in refusal("ensemble", fresh, path)


def test_the_python_verb_takes_runs(fresh: Path, other: Path, tmp_path: Path) -> None:
    done = ensemble([fm.load_run(fresh), other], out=tmp_path / "e")
    assert done.evaluation.num_images == 18 and done.selection is None
    assert done.best_single == "fresh" and done.change is not None
