from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from fieldmark.cli.output import Output
from fieldmark.cli.report import report
from fieldmark.errors import RunNotFoundError


def test_command_writes_a_page_for_each_run(
    drawn: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = drawn.draw_table(["a", "b", "c"], 20)
    folders = [drawn.save_run(tmp_path / name, table) for name in ("one", "two")]
    drawn.predict_test(folders[0], table)
    report([folder.path for folder in folders], output=Output(json=True))
    answer = json.loads(capsys.readouterr().out)["reports"]
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
