"""What the documents show must work as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fieldmark.cli.app import COMMANDS
from fieldmark.recipes import list_recipes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(snippet, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "leaves" / "best" / "model.safetensors").is_file()


def test_readme_names_every_command() -> None:
    assert [name for name in COMMANDS if f"`fieldmark {name}" not in README] == []


def test_readme_names_only_files_that_exist() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_recipes_named_in_the_readme_exist() -> None:
    named = re.findall(r"--recipe ([a-z0-9-]+)(?![a-z0-9/-])", README)
    assert set(named) <= list_recipes().keys()


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/**/*.md")), ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert [path for path in linked if not (document.parent / path).exists()] == []
