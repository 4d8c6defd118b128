"""A run that takes tags, through the public verbs and the command line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fieldmark as fm
from fieldmark.cli import main
from fieldmark.data.prepare import hash_table
from fieldmark.data.samples import draw_sample
from fieldmark.data.sources import read_table
from fieldmark.data.table import Table
from fieldmark.data.tags import TagVocabulary, build_tag_vocabulary
from fieldmark.evaluation.predictions import load_predictions
from fieldmark.models.classifier import build_classifier
from fieldmark.recipes.schema import Data, Model, Recipe, Statistics
from fieldmark.runs.best import Identity, save_best
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.tables import save_table
from fieldmark.seeds import derive_seed
from fieldmark.transforms import build_transform_record
from fieldmark.verbs.training import _resolve_files

HALF = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "set"
    return save_table(draw_sample("characters", num_images=24, num_classes=3), folder)


def make_run(path: Path, faces: Path, tags: dict[str, object]) -> Path:
    """A run folder as training leaves it, with the weights that it started from."""
    torch.manual_seed(derive_seed("verbs"))
    table = read_table(faces)
    splits = [("train", "val", "test", "test")[place % 4] for place in range(len(table))]
    rows = [replace(r, split=s) for r, s in zip(table.rows, splits, strict=True)]
    table = table.with_rows(rows)
    model = Model(name="test_vit", tags=tags)
    recipe = Recipe(data=Data(source=str(faces), image_size=32), model=model)
    vocabulary = build_vocabulary(model, table)
    size = 0 if vocabulary is None else vocabulary.size
    classifier, _ = build_classifier(model, num_classes=3, image_size=32, tag_vocabulary_size=size)
    record = build_transform_record(
        recipe.data,
        model_statistics=HALF,
        dataset_statistics=lambda: HALF,
        interpolation="bicubic",
    )
    folder = RunFolder.create(path)
    folder.save_recipe(recipe)
    folder.save_classes(table)
    folder.save_split(table, hash_table(table))
    identity = Identity("multiclass", table.class_names, model, record, vocabulary)
    save_best(folder.best_dir, classifier, identity, {"epoch": 0})
    return folder.path


def build_vocabulary(model: Model, table: Table) -> TagVocabulary | None:
    if model.tags.tokenizer == "off":
        return None
    return build_tag_vocabulary(model.tags, [r.tags or () for r in table.select("train").rows])


@pytest.fixture(scope="module")
def tagged(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tags = {"tokenizer": "whole", "min_count": 1, "max_tokens": 12, "propose": "full"}
    return make_run(tmp_path_factory.mktemp("runs") / "tagged", faces, tags)


@pytest.fixture(scope="module")
def untagged(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "untagged", faces, {})


def test_evaluate_scores_with_and_without_tags(tagged: Path, answer: Callable[..., dict]) -> None:
    result = answer("evaluate", tagged)
    bare = result["without_tags"]
    assert bare["metrics"].keys() == result["metrics"].keys() == bare["intervals"].keys()
    assert bare["metrics"]["nll"] != pytest.approx(result["metrics"]["nll"], abs=1e-4)
    assert result["predictions"] == str(tagged / "predictions" / "test.parquet")
    assert bare["predictions"] == str(tagged / "predictions" / "test-without-tags.parquet")
    one, other = (load_predictions(Path(p["predictions"])) for p in (result, bare))
    assert one.images == other.images and len(one) == 12


def test_evaluate_shows_both_on_a_terminal(
    tagged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", str(tagged), "--quiet"])
    shown = capsys.readouterr().out
    assert "with tags" in shown and "without tags" in shown


def test_a_run_without_tags_is_scored_once(untagged: Path, answer: Callable[..., dict]) -> None:
    result = answer("evaluate", untagged)
    assert "without_tags" not in result
    assert not any("tags" in note for note in result["notes"])
    assert not (untagged / "predictions" / "test-without-tags.parquet").exists()


def test_scores_of_images_without_any_tags_say_so(tagged: Path, faces: Path) -> None:
    run = fm.load_run(tagged)
    table = read_table(faces)
    bare = table.with_rows([replace(row, tags=None) for row in table.rows])
    scores = run.evaluate(bare)
    assert scores.without_tags is None
    unseen = "Images of 1 class in this split that training never saw count as wrong: kuro."
    assert scores.notes == (
        unseen,
        "None of the images has tags: these are the scores without tags.",
    )
    some = table.with_rows([bare.rows[0], *table.rows[1:]])
    told = (unseen, "1 of 24 images have no tags: they count in both scores.")
    assert run.evaluate(some).notes == told


def test_progress_of_both_passes_is_one(tagged: Path) -> None:
    seen: list[tuple[int, int]] = []
    fm.load_run(tagged).evaluate(progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (24, 24)


def test_predict_reads_tags_from_a_table_and_none_from_files(
    tagged: Path, faces: Path, answer: Callable[..., dict]
) -> None:
    first = answer("predict", tagged, faces, "--top", 3)["predictions"]
    files = [faces.parent / entry["image"] for entry in first]
    second = answer("predict", tagged, *files, "--top", 3)["predictions"]
    stored = load_predictions(tagged / "predictions" / "test-without-tags.parquet")
    by_name = {Path(entry["image"]).name: entry["top"][0] for entry in second}
    for place, image in enumerate(stored.images):
        expected = float(stored.top_probability[place, 0])
        assert by_name[Path(image).name]["probability"] == pytest.approx(expected, abs=1e-5)
    pairs = zip(first, second, strict=True)
    assert any(a["top"][0]["probability"] != b["top"][0]["probability"] for a, b in pairs)


@pytest.mark.parametrize(("words", "count"), [(["--tags", "3"], 3), (["--tags"], 10)])
def test_predict_proposes_tags(
    words: list[str], count: int, tagged: Path, faces: Path, answer: Callable[..., dict]
) -> None:
    rows = answer("predict", tagged, faces, *words)["predictions"]
    known = {tag for row in read_table(faces).rows for tag in row.tags or ()}
    for row in rows:
        shares = [entry["share"] for entry in row["tags"]]
        assert len(row["tags"]) == count
        assert shares == sorted(shares, reverse=True)
        assert {entry["tag"] for entry in row["tags"]} <= known


def test_proposed_tags_come_in_a_table_that_can_be_read_again(
    tagged: Path, faces: Path, tmp_path: Path, answer: Callable[..., dict]
) -> None:
    out = tmp_path / "out.csv"
    answer("predict", tagged, faces, "--out", out, "--top", 1, "--tags", 2)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert list(rows[0]) == ["image", "label", "p1", "tags"]
    assert all(len(row["tags"].split(";")) == 2 for row in rows)
    table = read_table(out, image_root=faces.parent, labelled=False)
    assert table.rows[0].tags == tuple(rows[0]["tags"].split(";"))


def test_predict_shows_proposed_tags_on_a_terminal(
    tagged: Path, faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["predict", str(tagged), str(faces), "--quiet", "--tags", "1"])
    assert "proposed tags" in capsys.readouterr().out


def test_asking_for_tags_in_vain_is_one_clear_error(
    tagged: Path, untagged: Path, faces: Path, refusal: Callable[..., str]
) -> None:
    told = refusal("predict", untagged, faces, "--tags")
    assert "this run was trained without tags" in told and "model.tags.propose=full" in told
    told = refusal("predict", tagged, faces, "--tags", "0")
    assert "--tags: expected one number of tags from 1, not 0" in told


def test_a_named_vocabulary_file_is_written_absolute_into_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    monkeypatch.chdir(tmp_path)
    for name, expected in (
        ("vocab.txt", str(tmp_path / "vocab.txt")),
        ("bert-base-uncased", "bert-base-uncased"),
    ):
        tags = {"tokenizer": "wordpiece", "vocabulary": name}
        resolved = _resolve_files(Recipe(model=Model(tags=tags)))
        assert resolved.model.tags.vocabulary == expected
