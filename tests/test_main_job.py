"""The main job through the command line: train, evaluate, predict, on drawn leaves."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldmark.cli import main
from fieldmark.data.samples import draw_sample
from fieldmark.runs.tables import save_table

SMALL = [
    *("--set", "data.image_size=48", "model.name=resnet10t", "optim.epochs=2", "workers=0"),
    *("precision=fp32", "data.split.near_duplicates=false"),
]


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaves") / "set"
    return save_table(draw_sample("leaves", num_images=80, num_classes=4), folder)


@pytest.fixture(scope="module")
def run_path(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "leaves"
    main(["train", str(leaves), "--out", str(out), "--quiet", *SMALL])
    return out


def test_run_folder_holds_everything(run_path: Path) -> None:
    for name in (
        "recipe.yaml",
        "classes.json",
        "split.csv",
        "metrics.jsonl",
        "environment.json",
        "checkpoints/last/model.safetensors",
        "best/model.safetensors",
        "best/config.json",
        "predictions/test.parquet",
    ):
        assert (run_path / name).is_file(), name
    assert (run_path / "report.html").stat().st_size > 10_000
    assert list((run_path / "tensorboard").glob("events.*"))
    assert not list(run_path.rglob("*.part"))
    rows = read_rows(run_path / "split.csv")
    assert set(rows[0]) == {"image", "label", "split", "content_hash"}
    assert {row["split"] for row in rows} == {"train", "val", "test"}


def test_train_answers_in_json(leaves: Path, tmp_path: Path, answer: Callable[..., dict]) -> None:
    result = answer("train", leaves, "--out", tmp_path / "run", *SMALL)
    assert result["run"] == str(tmp_path / "run")
    assert result["epochs"] == 2
    assert result["best"]["metric"] == "accuracy" and result["best"]["epoch"] in (1, 2)
    assert result["seconds"] > 0 and result["images_per_second"] > 0
    assert result["peak_memory_mb"] > 0


def test_progress_elsewhere_than_on_a_terminal_is_one_plain_line_per_epoch(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", str(leaves), "--out", str(tmp_path / "run"), "--no-evaluate", *SMALL])
    shown = capsys.readouterr()
    assert "\x1b" not in shown.err + shown.out
    lines = shown.err.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/2", "2/2"]
    assert lines[0].split() == ["run", str(tmp_path / "run")]
    assert shown.out.splitlines()[-1].split() == ["run", str(tmp_path / "run")]


def test_recipe_of_a_run_repeats_it(
    run_path: Path, tmp_path: Path, answer: Callable[..., dict]
) -> None:
    answer("train", "--recipe", run_path / "recipe.yaml", "--out", tmp_path / "again")
    for name in ("split.csv", "classes.json", "recipe.yaml", "best/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (run_path / name).read_bytes(), name


def test_evaluate_answers_in_json(run_path: Path, answer: Callable[..., dict]) -> None:
    result = answer("evaluate", run_path)
    keys = {"accuracy", "top5_accuracy", "macro_f1", "kappa", "sum", "nll", "ece"}
    assert keys <= result["metrics"].keys()
    assert result["metrics"].keys() == result["intervals"].keys()
    low, high = result["intervals"]["accuracy"]
    assert low <= result["metrics"]["accuracy"] <= high
    assert result["num_images"] == sum(c["support"] for c in result["classes"]) == 16


def test_predict_agrees_with_evaluate_and_keeps_the_order(
    run_path: Path, leaves: Path, answer: Callable[..., dict]
) -> None:
    from fieldmark.evaluation.predictions import load_predictions

    stored = load_predictions(run_path / "predictions" / "test.parquet")
    inputs = [leaves.parent / image for image in stored.images]
    result = answer("predict", run_path, *inputs, "--top", 3)
    assert [p["image"] for p in result["predictions"]] == [str(path) for path in inputs]
    for place, prediction in enumerate(result["predictions"]):
        first = prediction["top"][0]
        assert len(prediction["top"]) == 3
        assert first["label"] == stored.class_names[stored.top_index[place, 0]]
        assert first["probability"] == pytest.approx(stored.top_probability[place, 0], abs=1e-5)


def test_single_predictor_agrees_with_the_batch(run_path: Path, leaves: Path) -> None:
    import fieldmark as fm

    run = fm.load_run(run_path)
    image = leaves.parent / run.folder.load_split()[0]["image"]
    single = run.predictor()(image, top=2)
    batch = run.predict([image], top=2)[0].top
    assert [c.label for c in single] == [c.label for c in batch]
    assert [c.probability for c in single] == pytest.approx(
        [c.probability for c in batch], abs=1e-5
    )


def test_predict_reports_bad_files_in_place(
    run_path: Path, leaves: Path, tmp_path: Path, answer: Callable[..., dict]
) -> None:
    good = next((leaves.parent / "images").iterdir())
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(good.read_bytes()[:200])
    result = answer("predict", run_path, broken, good, missing)
    kinds = ["error" in prediction for prediction in result["predictions"]]
    assert kinds == [True, False, True]
    assert result["predictions"][2]["error"].startswith("cannot be opened"), "the path is beside it"


def test_predict_that_reads_nothing_answers_once_and_fails(
    run_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Callable[..., dict]
) -> None:
    with pytest.raises(SystemExit) as caught:
        answer("predict", run_path, tmp_path / "missing.png")
    told = capsys.readouterr()
    assert caught.value.code == 2
    assert "cannot be opened" in json.loads(told.out)["predictions"][0]["error"]
    assert told.err == "fieldmark: none of the 1 images could be read\n"


def test_predict_writes_a_submission(
    run_path: Path, leaves: Path, tmp_path: Path, answer: Callable[..., dict]
) -> None:
    table = leaves.parent / "unlabelled.csv"
    images = [row["image"] for row in read_rows(leaves)][:5]
    table.write_text("image\n" + "\n".join(images) + "\n")
    answer("predict", run_path, table, "--out", tmp_path / "a.csv", "--top", 2)
    rows = list(csv.reader((tmp_path / "a.csv").read_text().splitlines()))
    assert rows[0] == ["image", "label", "p1", "p2"]
    assert [row[0] for row in rows[1:]] == images
    answer("predict", run_path, table, "--out", tmp_path / "b.csv", "--top", 0)
    assert (tmp_path / "b.csv").read_text().splitlines()[0] == "image,label"


def test_best_loads_in_timm_with_the_same_logits(run_path: Path, leaves: Path) -> None:
    import timm
    import torch

    import fieldmark as fm

    predictor = fm.load_run(run_path).predictor()
    timm_model = timm.create_model(f"local-dir:{run_path / 'best'}", pretrained=True).eval()
    images = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        assert torch.allclose(timm_model(images), predictor.classifier(images), atol=1e-5)


def test_epochs_zero_keeps_the_weights_and_is_scored(
    leaves: Path, run_path: Path, tmp_path: Path, answer: Callable[..., dict]
) -> None:
    weights = run_path / "best" / "model.safetensors"
    words = [*SMALL, "optim.epochs=0", f"model.weights={weights}"]
    result = answer("train", leaves, "--out", tmp_path / "kept", *words)
    again = answer("evaluate", run_path)
    assert result["epochs"] == 0
    assert result["test"]["metrics"] == pytest.approx(again["metrics"])


def test_changed_images_are_refused(
    leaves: Path, tmp_path: Path, answer: Callable[..., dict], refusal: Callable[..., str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(leaves.parent, copy)
    out = tmp_path / "run"
    answer("train", copy / "table.csv", "--out", out, *SMALL, "optim.epochs=0")
    rows = read_rows(out / "split.csv")
    one, other = (row["image"] for row in [r for r in rows if r["split"] == "test"][:2])
    shutil.copy(copy / one, copy / other)
    told = refusal("evaluate", out)
    assert "changed since the run was made" in told and other in told


def test_bad_images_are_listed_and_left_out(
    leaves: Path, tmp_path: Path, answer: Callable[..., dict], refusal: Callable[..., str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(leaves.parent, copy)
    (copy / "images" / "0003.png").write_bytes(b"not an image")
    words = [*SMALL, "optim.epochs=0"]
    answer("train", copy / "table.csv", "--out", tmp_path / "run", *words)
    left_out = read_rows(tmp_path / "run" / "left_out.csv")
    assert [row["image"] for row in left_out] == ["images/0003.png"]
    assert "unreadable" in left_out[0]["reason"]
    told = refusal("train", copy / "table.csv", "--max-bad", "1%", "--out", tmp_path / "r")
    assert "0003.png" in told and "--max-bad" in told


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_other_tasks_run_end_to_end(
    task: str, leaves: Path, tmp_path: Path, answer: Callable[..., dict]
) -> None:
    table = leaves.parent / f"{task}.csv"
    rows = read_rows(leaves)
    names = sorted({row["label"] for row in rows})
    if task == "binary":
        labels = ["first" if row["label"] in names[:2] else "second" for row in rows]
    else:
        halves = {name: "a" if index < 2 else "b" for index, name in enumerate(names)}
        labels = [f"{halves[row['label']]};{row['label']}" for row in rows]
    lines = [f"{row['image']},{label}" for row, label in zip(rows, labels, strict=True)]
    table.write_text("image,label\n" + "\n".join(lines) + "\n")
    words = ["--task", task, "--out", tmp_path / "run", *SMALL]
    result = answer("train", table, *words)
    assert result["test"]["num_images"] > 10
    assert 0 <= result["test"]["metrics"]["macro_f1"] <= 1
    prediction = answer("predict", tmp_path / "run", leaves.parent / "images")
    assert len(prediction["predictions"]) == 80


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "sample:leafs"], "Did you mean 'leaves'"),
        (["train", "no/such/folder"], "no/such/folder"),
        (["train"], "DATA is missing"),
        (["train", "sample:leaves", "--recipe", "quik"], "Did you mean 'quick'"),
        (["train", "sample:leaves", "--set", "optim.lrr=1"], "Did you mean 'optim.lr'"),
        (["train", "sample:leaves", "--split", "0.9,0.9,0.1"], "must sum to 1"),
        (["train", "sample:leaves", "--max-bad", "many"], "max_bad"),
        (["train", "sample:leaves", "--set", "device=gpu9"], "device"),
        (["evaluate", "no/run"], "no such run folder"),
        (["predict", "no/run", "x.jpg"], "no such run folder"),
        (["trian"], "train"),
        (["sample", "flowers", "/tmp/x"], "leaves"),
        (["recipes", "quik"], "Did you mean 'quick'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_clear_error(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in refusal(*words)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.name=resnet81", "resnet18"),
        ("model.name=vit_tiny_patch16_224", "patch"),
        ("model.weights=missing.pth", "missing.pth"),
    ],
)
def test_bad_models_are_told(
    setting: str, told: str, leaves: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    words = [*SMALL, setting, "data.image_size=50", "--out", tmp_path / "run"]
    assert told in refusal("train", leaves, *words)
    assert not (tmp_path / "run").exists(), "the corrected command must be free to use the name"


def test_weights_with_code_are_refused_and_do_not_run(
    leaves: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    import pickle

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "it_ran",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    words = [*SMALL, f"model.weights={tmp_path / 'evil.pth'}", "--out", tmp_path / "run"]
    assert "code" in refusal("train", leaves, *words)
    assert not (tmp_path / "it_ran").exists()


def test_loss_that_explodes_names_step_rate_and_cures(
    leaves: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    words = [*SMALL, "optim.name=sgd", "optim.lr=100", "optim.warmup=0", "optim.epochs=20"]
    told = refusal("train", leaves, *words, "--out", tmp_path / "run")
    assert (
        re.search("the loss (on val )?became", told)
        and "learning rate" in told
        and "optim.lr" in told
    )
