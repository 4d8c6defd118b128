"""What the documents show must work as it stands there."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from fieldmark.cli.app import COMMANDS, main
from fieldmark.models.catalog import find_model
from fieldmark.models.classifier import build_classifier
from fieldmark.models.summary.table import summarize
from fieldmark.planning.studies.plans import read_study
from fieldmark.planning.studies.schema import StudyFile
from fieldmark.recipes import list_recipes, read_recipe
from fieldmark.recipes.schema import Model
from fieldmark.recipes.values import parse_yaml

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
FENCES = re.findall(r"```(\w+)\n(.*?)```", MODELS, flags=re.DOTALL)
COMMAND_LINES = [line for kind, body in FENCES if kind == "bash" for line in body.splitlines()]


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


def test_python_of_the_models_page_prints_what_stands_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = [(a, b) for a, b in pairwise(FENCES) if a[0] == "python"]
    assert len(snippets) >= 4
    for (_, body), (kind, printed) in snippets:
        assert kind == "text"
        exec(compile(body, "models.md", "exec"), {})
        assert capsys.readouterr().out == printed


def test_summaries_of_the_models_page_print_what_stands_below_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = [(a[1], b[1]) for a, b in pairwise(FENCES) if a[1].startswith("fieldmark summary")]
    assert shown
    for command, printed in shown:
        main(shlex.split(command)[1:])
        assert _trim(capsys.readouterr().out) == _trim(printed)


@pytest.mark.parametrize("line", [x for x in COMMAND_LINES if x.startswith("fieldmark train")])
def test_trainings_of_the_models_page_have_recipes_that_build(line: str) -> None:
    words = shlex.split(line)
    name = words[words.index("--recipe") + 1] if "--recipe" in words else "quick"
    recipe = read_recipe(name, [word for word in words if "=" in word])
    model = recipe.model.model_copy(update={"pretrained": False})
    build_classifier(
        model, num_classes=14, image_size=recipe.data.image_size, tag_vocabulary_size=55
    )


def test_the_study_of_the_models_page_is_one() -> None:
    (file,) = [body for kind, body in FENCES if kind == "yaml"]
    plan = read_study(parse_yaml(file))
    assert (len(plan.variants), plan.seeds) == (9, (0, 1, 2))
    named = re.findall(r"^\| `([a-z_]+)` \| (?!\d)", MODELS.partition("## 13.")[2], re.MULTILINE)
    assert named == [field.alias or key for key, field in StudyFile.model_fields.items()]


def test_counts_of_networks_on_the_models_page_are_right() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \|[^|]+\| (\d+), (\d+) \| ([\d,]+) \| ([\d,.]+) \| ([\d,]+) \|",
        MODELS,
        flags=re.MULTILINE,
    )
    assert len(rows) > 10
    for name, num_classes, image_size, *shown in rows:
        found = summarize(name, num_classes=int(num_classes), image_size=int(image_size))
        fields = [r.receptive_field for r in found.layers if isinstance(r.receptive_field, int)]
        counts = [f"{found.parameters:,}", f"{found.mult_adds / 1e6:,.2f}", f"{fields[-1]:,}"]
        assert (name, counts) == (name, shown)


def test_counts_of_patches_on_the_models_page_are_right() -> None:
    for kind in ("plain", "shifted", "rotated"):
        shown = _read_counts(rf"^\| `{kind}` \|[^|]+\|[^|]+\| (.*) \|$")
        options = [{"patches": {"kind": kind, "form": form}} for form in ("published", "added")]
        assert shown == [_count("vit_tiny_patch16_224", **option) for option in options]


def test_counts_of_the_small_vit_on_the_models_page_are_right() -> None:
    rows = _read_counts(r"^\| .*(?:plain|local|rotated) \| (\d.*) \|$")
    options: list[dict[str, Any]] = [
        {"patches": "plain"},
        {"patches": "shifted", "attention": "local"},
        {"patches": "rotated"},
    ]
    assert rows == [
        _count(name, num_classes, **option)
        for name in ("vit-small-data", "vit-small-data-as-published")
        for option in options
        for num_classes in (5, 10, 100, 200)
    ]


def test_keys_named_on_the_models_page_exist() -> None:
    named = set(re.findall(r"`((?:model|loss|optim|data)(?:\.[a-z_]+)+)", MODELS))
    assert "model.head" in named
    for key in named:
        section = read_recipe("quick", [])
        for part in key.split("."):
            assert hasattr(section, part), key
            section = getattr(section, part)


def test_every_figure_of_the_models_page_is_drawn_and_shown() -> None:
    shown = re.findall(r"\]\(images/models/([\w-]+\.svg)\)", MODELS)
    drawn = [path.name for path in (ROOT / "docs" / "images" / "models").iterdir()]
    assert sorted(shown) == sorted(drawn)


def _trim(text: str) -> list[str]:
    """Lines without the blanks of the table's margins."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read_counts(pattern: str) -> list[int]:
    rows = re.findall(pattern, MODELS, flags=re.MULTILINE)
    assert rows
    return [int(cell.replace(",", "")) for row in rows for cell in row.split(" | ")]


def _count(name: str, num_classes: int = 1000, **model: Any) -> int:
    size = find_model(name).image_size
    with torch.device("meta"):
        network, _ = build_classifier(
            Model(name=name, **model), num_classes=num_classes, image_size=size
        )
    return sum(parameter.numel() for parameter in network.parameters())
