"""The long-tail comparison through the command line, on a few drawn characters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import pytest

from fieldmark.cli import main
from fieldmark.data.samples import draw_sample
from fieldmark.evaluation.predictions import load_predictions
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.tables import save_table

SMALL = [
    *("--recipe", "quick", "--set", "data.image_size=32", "model.name=test_vit"),
    *("optim.epochs=2", "workers=0", "precision=fp32", "data.split.near_duplicates=false"),
]
METHODS = ["plain", "class weights", "balanced sampling", "logit adjustment", "focal"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "set"
    save_table(draw_sample("characters", num_images=48, num_classes=4), folder)
    return folder / "table.csv"


def test_every_method_runs_over_the_seeds_and_the_backbone_once(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], refusal: Callable[..., str]
) -> None:
    words = ["long-tail", str(faces), *SMALL, "--seeds", "2", "--out", str(tmp_path / "lt")]
    main([*words, "--json", "--quiet"])
    result = json.loads(capsys.readouterr().out)
    assert [m["method"] for m in result["methods"]] == METHODS and result["seeds"] == [0, 1]
    runs = {(r["method"], r["seed"]): r for r in result["runs"]}
    assert len(runs) == 10
    for method in result["methods"]:
        own = [runs[method["method"], seed]["scores"]["tail"] for seed in (0, 1)]
        assert method["scores"]["tail"]["mean"] == pytest.approx(mean(own))
        assert method["scores"]["tail"]["deviation"] == pytest.approx(stdev(own))
        if method["method"] != "plain":
            plain = [runs["plain", seed]["scores"]["tail"] for seed in (0, 1)]
            moved = mean(a - b for a, b in zip(own, plain, strict=True))
            assert method["differences"]["tail"]["mean"] == pytest.approx(moved)
    stores = list((tmp_path / "lt" / "cache" / "features").glob("*"))
    assert len(stores) == 2  # of one backbone for each seed, since these start at random
    folder = RunFolder.open(Path(runs["focal", 1]["run"]))
    assert folder.load_recipe().loss.focal == 2.0 and folder.load_recipe().seed == 1
    assert not folder.best_dir.exists()
    tested = [row["image"] for row in folder.load_split() if row["split"] == "test"]
    assert list(load_predictions(folder.predictions_path("test")).images) == tested

    written = folder.metrics_path.stat().st_mtime_ns
    main([*words, "--quiet"])  # nothing is trained again
    shown = capsys.readouterr().out
    assert folder.metrics_path.stat().st_mtime_ns == written
    for text in (*METHODS, "focal - plain", "±", "thirds by size"):
        assert text in shown
    told = refusal(*words, "--set", "optim.lr=0.5")
    assert "was trained with another recipe" in told


def test_what_cannot_be_compared_is_told(
    faces: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    for words, text in (
        (["--seeds", "0"], "seeds: expected a number from 1, not 0"),
        (["--set", "model.tags=whole"], "Set model.tags=off"),
        (["--set", "views=0"], "stores no features"),
        (["--set", "optim.epochs=0"], "no head is learned"),
        (["--task", "multilabel"], "belongs to the head and to the tail at once"),
    ):
        given = ["long-tail", faces, *SMALL, "--out", tmp_path / "lt", *words]
        assert text in refusal(*given)
