from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fieldmark.cli.app import main
from fieldmark.recipes import Recipe, list_recipes, read_recipe


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(["recipes", *words])
    return capsys.readouterr().out


def test_list_has_every_row_with_its_published_score(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys)
    for name in list_recipes():
        if not name.startswith(("animesion", "finetune")) and not name.endswith("as-published"):
            assert f" {name} " in text
    assert " animesion-vit-b16-64px-bs256 " in text and "33.41 DAF" in text
    assert "animesion-<vit-b16|vit-b32|" in text and "[-as-published]" in text


def test_json_lists_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    entries = json.loads(run(capsys, "--json"))["recipes"]
    assert [entry["name"] for entry in entries] == list(list_recipes())
    published = {entry["name"]: entry["published"] for entry in entries}
    assert published["animesion-vit-b16-ifa"] == "86.22 DAF, 78.44 DAFull (table 5, table 6)"
    assert published["quick"] is None


@pytest.mark.parametrize("name", ["quick", "animesion-vit-b16-ifa", "leaves-vgg16-as-published"])
def test_one_recipe_is_shown_as_written_and_whole(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, name)
    assert "fieldmark train" in text and "# --- every key, as resolved ---" in text
    shown = json.loads(run(capsys, name, "--json"))["recipe"]
    assert Recipe.model_validate(shown) == read_recipe(name)


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from fieldmark.cli.app import main; main(['recipes']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
