from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from fieldmark.cli.output import Output
from fieldmark.cli.report import report
from fieldmark.errors import FieldmarkError, RunNotFoundError


def test_command_writes_a_page_for_each_run(
    drawn: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = drawn.draw_table(["a", "b", "c"], 20)
    folders = [drawn.save_run(tmp_path / name, table) for name in ("one", "two")]
    drawn.predict_test(folders[0], table)
    report([folder.path for folder in folders], search_seconds=0, output=Output(json=True))
    result = json.loads(capsys.readouterr().out)
    answer = result["reports"]
    # Without predictions of the second there is nothing to compare, and that is told.
    assert result["comparison"] is None and "two" in result["comparison_refused"]
    assert [page["split"] for page in answer] == ["test", None]
    assert "fieldmark evaluate" in answer[1]["notes"][-1]
    for page, folder in zip(answer, folders, strict=True):
        assert page["run"] == str(folder.path)
        assert Path(page["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_wrong_run_is_told_before_anything_is_written(
    drawn: SimpleNamespace, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "one", drawn.draw_table(["a", "b"], 10))
    with pytest.raises(RunNotFoundError, match="one"):
        report([folder.path, tmp_path / "three"])
    assert not (folder.path / "report.html").exists()


def test_several_runs_are_compared_on_a_page(
    drawn: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = drawn.draw_table(["a", "b", "c"], 60)
    folders = [drawn.save_run(tmp_path / name, table) for name in ("one", "two")]
    for folder, head in zip(folders, ("linear", "mlp"), strict=True):
        recipe = folder.load_recipe()
        model = recipe.model.model_copy(update={"head": head})
        folder.save_recipe(recipe.model_copy(update={"model": model}))
        drawn.predict_test(folder, table, skill=2.0 if head == "mlp" else 1.0)
    paths = [folder.path for folder in folders]
    report(paths, search_seconds=0, output=Output(json=True))
    result = json.loads(capsys.readouterr().out)
    assert result["comparison"] == str(tmp_path / "comparison.html")
    assert "Which differences are real" in Path(result["comparison"]).read_text(encoding="utf-8")
    report(paths, compare=tmp_path / "page.html", search_seconds=0, output=Output())
    assert f"compare  {tmp_path / 'page.html'}" in capsys.readouterr().out


def test_a_comparison_that_was_asked_for_and_cannot_be_made_is_an_error(
    drawn: SimpleNamespace, tmp_path: Path
) -> None:
    tables = [drawn.draw_table(["a", "b"], count) for count in (20, 40)]
    folders = [drawn.save_run(tmp_path / str(len(table)), table) for table in tables]
    for folder, table in zip(folders, tables, strict=True):
        drawn.predict_test(folder, table)
    with pytest.raises(FieldmarkError, match="images"):
        report([folder.path for folder in folders], compare=tmp_path / "page.html")
    assert not (folders[0].path / "report.html").exists()
    with pytest.raises(FieldmarkError, match="a comparison takes two or more"):
        report([folders[0].path], compare=tmp_path / "page.html")
    with pytest.raises(FieldmarkError, match="--search-seconds: expected seconds from 0"):
        report([folders[0].path], search_seconds=-1)
