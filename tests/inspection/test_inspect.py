"""`inspect`: the verb and the command, on runs made without training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fieldmark as fm
from fieldmark.cli import main
from fieldmark.errors import InspectionError, RunChangedError
from fieldmark.inspection.kinds import KINDS, choose_kinds, load_kind
from fieldmark.runs.figures import load_figures

TAGS = {"tokenizer": "whole", "min_count": 1, "max_tokens": 12}


@pytest.fixture(scope="module")
def trained(inspected, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inspected.make_run(tmp_path_factory.mktemp("runs") / "tagged", tags=TAGS)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "tagged"))


def test_the_command_draws_and_answers_in_json(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            *("inspect", str(run), "--what", "filters,attention,features", "--images", "1"),
            *("--json", "--quiet"),
        ]
    )
    answer = json.loads(capsys.readouterr().out)
    kinds = [figure["what"] for figure in answer["figures"]]
    assert kinds == [*["filters"] * 2, *["features"] * 3, *["attention"] * 4]
    assert answer["notes"] == []
    for figure in answer["figures"]:
        assert Path(figure["png"]).read_bytes().startswith(b"\x89PNG")
        assert "<svg" in Path(figure["svg"]).read_text(encoding="utf-8")
        assert "test_vit" in figure["caption"]
        assert "test split" in figure["caption"] or "no image and no split" in figure["caption"]
    assert len(load_figures(fm.load_run(run).folder)) == len(kinds)


def test_without_images_of_its_own_the_rest_is_drawn_with_a_note(run: Path) -> None:
    source = Path(fm.load_run(run).recipe.data.source)
    hidden = source.parent.rename(source.parent.with_name(f"{source.parent.name}-hidden"))
    notes: list[str] = []
    try:
        drawn = fm.inspect(fm.load_run(run), note=notes.append)
        with pytest.raises(InspectionError, match="Name a picture by --image PATH"):
            fm.inspect(fm.load_run(run), what=["features"], note=notes.append)
        with pytest.warns(UserWarning, match="own images are gone"):
            fm.inspect(fm.load_run(run), what=["filters"])
    finally:
        hidden.rename(source.parent)
    assert {entry.what for entry in drawn} == {"filters"}
    assert "own images are gone" in notes[0]
    assert any("--image PATH" in note for note in notes[1:])


def test_an_image_that_has_changed_is_refused_and_one_that_is_gone_is_replaced(
    run: Path, tmp_path: Path
) -> None:
    opened = fm.load_run(run)
    table = opened.folder.restore_table(fm.read_table(opened.recipe.data.source))
    source = Path(opened.recipe.data.source).parent
    copied = Path(shutil.copytree(source, tmp_path / "set"))
    moved = fm.read_table(copied / Path(opened.recipe.data.source).name)
    here = type(opened)(opened.folder, moved)
    names = [row.image for row in table.select("test").rows]
    (copied / names[0]).unlink()
    notes: list[str] = []
    fm.inspect(here, what=["attention"], num_images=len(names) - 1, note=notes.append)
    assert f"are gone, others were taken in their place: {names[0]}" in notes[0]
    for name in names[1:]:
        shutil.copyfile(copied / table.select("train").rows[0].image, copied / name)
    with pytest.raises(RunChangedError, match="have changed since the run was made"):
        fm.inspect(here, what=["attention"], note=notes.append)


def test_a_given_image_is_known_by_its_bytes(run: Path, tmp_path: Path) -> None:
    opened = fm.load_run(run)
    source = Path(opened.recipe.data.source)
    row = opened.folder.load_split()[0]
    copied = shutil.copyfile(source.parent / row["image"], tmp_path / "mine.png")
    entries = fm.inspect(opened, what=["attention"], images=[copied], tags=["smile"])
    assert f"mine.png ({row['split']} split, labelled {row['label']})" in entries[0].caption
    assert entries[0].stem == "attention-test_vit-rollout-mine"


def test_after_an_inspection_other_passes_stay_fused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = fm.load_run(run)
    fm.inspect(opened, what=["attention"], num_images=1)
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counted(*words, **settings):
        calls.append(1)
        return fused(*words, **settings)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    opened.evaluate()
    assert calls


def test_attention_of_a_cnn_is_refused_when_asked_for_and_noted_otherwise(
    inspected, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    run = inspected.make_run(tmp_path / "cnn", name="cnn-baseline", image_size=107)
    told = refusal("inspect", run, "--what", "attention")
    assert "'cnn-baseline' has no attention" in told and "--what saliency" in told
    assert "nearest are" in refusal("inspect", run, "--what", "features", "--layers", "convv1")
    notes: list[str] = []
    drawn = fm.inspect(
        fm.load_run(run), num_images=1, methods=["grad-cam"], steps=4, note=notes.append
    )
    assert {"filters", "features", "saliency"} <= {entry.what for entry in drawn}
    assert any("has no attention" in note for note in notes)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--what", "atention"), "Did you mean 'attention'?"),
        (("--what", "features", "--image", "nowhere.png"), "nowhere.png: cannot be opened"),
        (("--what", "features", "--split", "tst"), "Did you mean 'test'?"),
        (("--what", "features", "--images", "0"), "expected at least 1, not 0"),
    ],
)
def test_bad_input_is_named(
    run: Path, words: tuple[str, ...], told: str, refusal: Callable[..., str]
) -> None:
    assert told in refusal("inspect", run, *words)


def test_tags_for_a_run_that_takes_none_are_refused(
    inspected, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    run = inspected.make_run(tmp_path / "bare")
    image = next((tmp_path / "bare-faces").rglob("*.png"))
    words = ("--what", "features", "--image", image, "--tags", "hat")
    assert "was trained without tags" in refusal("inspect", run, *words)


def test_an_unknown_option_is_named(run: Path) -> None:
    with pytest.raises(InspectionError, match=r"no option 'layer'. Did you mean 'layers'"):
        fm.inspect(fm.load_run(run), layer=["blocks.1"])


def test_a_kind_that_is_not_installed_does_not_break_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(KINDS, "layers", "fieldmark.inspection.absent:draw_layers")
    assert "layers" not in choose_kinds(())
    assert {"filters", "features", "attention", "saliency"} <= set(choose_kinds(()))
    with pytest.raises(InspectionError, match="cannot draw it"):
        load_kind("layers")
