"""`fieldmark summary` and `fieldmark models`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from fieldmark.cli import main
from fieldmark.cli.layer_tree import grow_tree, walk
from fieldmark.models.catalog import CATALOG
from fieldmark.models.summary.table import LayerRow


def show(*words: object, capsys: pytest.CaptureFixture[str]) -> str:
    main([str(word) for word in words])
    return capsys.readouterr().out


def test_json_has_the_keys_of_the_interface(answer: Callable[..., dict]) -> None:
    result = answer("summary", "alexnet")
    assert result["parameters"] == result["trainable_parameters"] == 61_100_840
    assert result["mult_adds"] == 714_682_664
    assert result["memory_bytes"]["total"] == 248_958_944
    assert sum(layer["mult_adds"] for layer in result["layers"]) == 714_682_664
    conv = next(layer for layer in result["layers"] if layer["kind"] == "Conv2d")
    assert conv["output_shape"] == [64, 55, 55]
    assert conv["receptive_field"] == 11


def test_options_reach_the_network(answer: Callable[..., dict]) -> None:
    words = ["vit_tiny_patch16_224", "--image-size", 32, "--classes", 5, "--batch-size", 64]
    keys = ["--set", "model.head=ifa", "--set", "optim.name=sgd"]
    result = answer("summary", *words, *keys)
    assert (result["image_size"], result["num_classes"], result["batch_size"]) == (32, 5, 64)
    assert result["layers"][-1]["output_shape"] == [] or result["layers"][-1]["name"] == "head"
    assert any(layer["name"] == "head.join" for layer in result["layers"])
    assert result["training_bytes"]["optimizer"] == "sgd"
    assert result["training_bytes"]["batch_size"] == 64


def test_a_recipe_gives_the_rest(answer: Callable[..., dict]) -> None:
    result = answer("summary", "--recipe", "quick")
    assert (result["name"], result["image_size"], result["batch_size"]) == ("resnet10t", 96, 16)


@pytest.mark.parametrize("columns", [80, 100])
def test_the_table_fits_and_ends_in_totals(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for name, depth in (("alexnet", 3), ("vit-small-data", 9)):
        table, totals = show("summary", name, "--depth", depth, capsys=capsys).split("\nparameters")
        assert all(len(line) <= columns for line in table.splitlines())
        assert table.splitlines()[2].rstrip().endswith("sees")
        assert "mult-adds" in totals
    told = show("summary", "alexnet", capsys=capsys)
    assert "714,682,664 per image" in told
    assert "248.96 MB" in told
    assert "\x1b" not in told, "no colours where nobody looks"


def test_equal_blocks_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    told = show("summary", "vit_tiny_patch16_224", capsys=capsys)
    (line,) = [line for line in told.splitlines() if "12 x Block" in line]
    assert "0-11" in line
    assert "5,338,368" in line, "of all twelve"


def test_tree_nests_and_folds_in_the_order_of_calls() -> None:
    def row(name: str, parameters: int) -> LayerRow:
        return LayerRow(name, "Kind", (4,), parameters, parameters, 0, 16, None, True)

    rows = [row("", 1), row("stem", 2), row("blocks.0", 0), row("blocks.0.fc", 5)]
    rows += [row("blocks.1", 0), row("blocks.1.fc", 5), row("blocks.2", 3), row("stem", 0)]
    tree = grow_tree(rows)
    assert tree.parameters == sum(row.parameters for row in rows)
    lines = [(level, times, branch.label) for level, times, branch in walk(tree, depth=9)]
    assert lines == [
        *((0, 1, "stem"), (0, 1, "blocks"), (1, 2, "0-1"), (2, 2, "fc"), (1, 1, "2")),
        (0, 1, "stem"),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["alexnt"], "Did you mean 'alexnet'"),
        ([], "--recipe"),
        (["resnet18", "--classes", "0"], "--classes"),
        (["resnet18", "--depth", "0"], "--depth"),
        (["resnet18", "--batch-size", "0"], "optim.batch_size"),
        (["resnet18", "--image-size", "1"], "data.image_size"),
        (["vit_tiny_patch16_224", "--image-size", "50"], "64 px"),
        (["resnet18", "--set", "model.heads=ifa"], "Did you mean 'model.head'"),
        (["resnet18", "--recipe", "quik"], "Did you mean 'quick'"),
        (["resnet18", "--set", "model.patches=rotated"], "model.patches"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_clear_error(
    words: list[str], told: str, refusal: Callable[..., str]
) -> None:
    assert told in refusal("summary", *words)


def test_help_says_what_the_numbers_mean_and_imports_no_torch() -> None:
    code = (
        "from fieldmark.cli import main\n"
        "try: main(['summary', '--help'])\nexcept SystemExit: pass\n"
        "import sys\nassert not {'torch', 'timm', 'torchvision'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in ("--image-size", "--classes", "--batch-size", "(weights + bias)", "attention"):
        assert word in done.stdout


def test_models_are_one_line_each_with_their_source(
    capsys: pytest.CaptureFixture[str], answer: Callable[..., dict]
) -> None:
    lines = show("models", capsys=capsys).splitlines()
    for name, line in zip(CATALOG, lines, strict=False):
        assert line.startswith(f"{name} ")
        assert CATALOG[name].source in line
        assert CATALOG[name].description in line
    assert lines[-1].endswith(" models")
    result = answer("models", "alexnet")
    assert result["models"][0].keys() == {"name", "source", "line"}
