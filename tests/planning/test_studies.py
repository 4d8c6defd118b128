"""What a study file says: its faults, its variants and their names, its table of two axes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fieldmark.errors import ImageSizeError, ModelError, RecipeError
from fieldmark.planning.studies.checks import check_recipes
from fieldmark.planning.studies.expansion import name_folder
from fieldmark.planning.studies.plans import StudyPlan, read_study, render_study
from fieldmark.planning.studies.tables import build_pivot, measure_spread
from fieldmark.recipes import read_recipe
from fieldmark.recipes.values import parse_yaml


def plan(**keys: Any) -> StudyPlan:
    return read_study({"data": "sample:leaves", **keys})


def faults_of(source: Path | Mapping[str, Any], **options: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_study(source, **options)
    first, *faults = str(caught.value).splitlines()
    assert first.endswith("cannot be used:")
    return [fault.strip() for fault in faults]


def test_a_grid_is_every_combination_with_the_last_key_moving_fastest() -> None:
    found = plan(
        set={"optim.epochs": 2},
        grid={"optim.batch_size": [8, 16], "model.head": ["linear", "mlp"]},
        seeds=2,
    )
    assert [(r.optim.batch_size, r.model.head) for r in found.recipes] == [
        *((8, "linear"), (8, "mlp"), (16, "linear"), (16, "mlp"))
    ]
    assert {recipe.optim.epochs for recipe in found.recipes} == {2}
    assert [v.name for v in found.variants][:2] == [
        "batch_size-8-head-linear",
        "batch_size-8-head-mlp",
    ]
    assert [(axis.key, axis.label) for axis in found.axes] == [
        ("optim.batch_size", "batch_size"),
        ("model.head", "head"),
    ]
    assert found.seeds == (0, 1) and found.baseline == found.variants[0]


def test_named_variants_go_through_the_whole_grid() -> None:
    found = plan(
        grid={"optim.lr": [0.1, 0.01]},
        variants={
            "plain": None,
            "small, wide": {"recipe": "animesion-resnet18", "set": {"data.image_size": 64}},
        },
        baseline="small, wide-lr-0.1",
    )
    assert [v.name for v in found.variants] == [
        *("plain-lr-0.1", "plain-lr-0.01", "small, wide-lr-0.1", "small, wide-lr-0.01")
    ]
    assert found.variants[2].settings == {"variant": "small, wide", "optim.lr": 0.1}
    assert found.variants[2].folder == "small-wide-lr-0.1"
    assert found.recipes[2].data.image_size == 64
    assert found.recipes[2].model.name == read_recipe("animesion-resnet18").model.name
    assert found.baseline.name == "small, wide-lr-0.1"


def test_recipes_can_be_an_axis() -> None:
    found = plan(grid={"recipe": ["quick", "leaves-cnn"], "optim.epochs": [1, 2]})
    assert [v.name for v in found.variants][2:] == ["leaves-cnn-epochs-1", "leaves-cnn-epochs-2"]
    assert found.recipes[2].model == read_recipe("leaves-cnn").model


def test_keys_with_the_same_ending_are_told_apart() -> None:
    found = plan(grid={"model.tags.dropout": [0.1, 0.2], "model.dropout": [0.0, 0.5]})
    assert [axis.label for axis in found.axes] == ["model.tags.dropout", "model.dropout"]


def test_values_of_every_kind_reach_the_recipe() -> None:
    found = plan(
        set={"data.split.ratios": [0.5, 0.2, 0.3], "model.tags": "off"},
        grid={
            "data.augment.color_jitter": [[0, 0, 0, 0], [0.1, 0.1, 0.1, 0]],
            "model.patches": ["shifted", {"kind": "rotated", "fill": "edge"}],
            "optim.lr": ["1e-3"],
        },
    )
    assert found.recipes[0].data.split.ratios == (0.5, 0.2, 0.3)
    assert [recipe.model.patches.kind for recipe in found.recipes[:2]] == ["shifted", "rotated"]
    assert found.recipes[1].model.patches.fill == "edge"
    assert found.recipes[2].data.augment.color_jitter == (0.1, 0.1, 0.1, 0.0)
    assert found.recipes[0].optim.lr == 1e-3
    assert found.recipes[0].model.tags.tokenizer == "off"


def test_seeds_go_on_from_that_of_the_recipe_or_are_a_list() -> None:
    assert plan(set={"seed": 5}, seeds=3).seeds == (5, 6, 7)
    assert plan(seeds=[7, 3]).seeds == (7, 3)
    assert {recipe.seed for recipe in plan(seeds=[7, 3]).recipes} == {7}


def test_a_study_of_seeds_alone_is_named_after_its_recipe() -> None:
    assert [v.name for v in plan(recipe="leaves-cnn", seeds=2).variants] == ["leaves-cnn"]


def test_every_fault_of_the_file_and_its_recipes_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(
        "grids: 3\n"
        "metric: acuracy\n"
        "seeds: true\n"
        "set: {model.nam: x, data.source: other}\n"
        "grid:\n"
        "  optim.batch_size: [16, 0]\n"
        "  model.head: [linear, mpl]\n"
        "  optim.lr: 3\n"
        "variants:\n"
        "  big: {recipee: quick, set: {optim.batch_size: 3}}\n"
        "  odd: {set: {model.name: resnet19}}\n"
    )
    told = faults_of(file)
    for text in (
        "grids: unknown key. Did you mean 'grid'?",
        "metric: expected one of accuracy,",
        "Did you mean 'accuracy'?",
        "seeds: expected a number from 1, or a list of seeds (received True)",
        "model.nam: unknown key. Did you mean 'model.name'?",
        "set.data.source: stands under `data` in a study",
        "optim.batch_size: input should be greater than or equal to 1 (received 0) [",
        "Did you mean 'mlp'? [big-batch_size-16-head-mpl",
        "grid.optim.lr: input should be a valid list (received 3)",
        "variants.big.recipee: unknown key. Did you mean 'recipe'?",
        "variants.big.set.optim.batch_size: is in `grid` too",
    ):
        assert sum(text in fault for fault in told) == 1, (text, told)
    assert len(told) == 10


def test_a_fault_of_one_combination_names_it() -> None:
    (told,) = faults_of({"grid": {"model.name": ["resnet18", "resnet19"], "optim.lr": [1, 2, 3]}})
    assert "there is no model 'resnet19'" in told
    assert told.endswith("[name-resnet19-lr-1, name-resnet19-lr-2 and 1 more of 6 variants]")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "is a single run: give a `grid`, `variants` or more `seeds`"),
        ({"seeds": 0}, "seeds: expected a number from 1"),
        ({"seeds": [1, 1]}, "expected a list of different seeds"),
        ({"seeds": [-1]}, "expected seeds from 0"),
        ({"grid": {"optim.lr": []}}, "optim.lr has no values"),
        ({"grid": {"optim.lr": [1, 2, 1]}}, "optim.lr has the value 1 more than once"),
        ({"grid": {"seed": [1, 2]}}, "grid.seed: stands under `seeds`"),
        ({"variants": {"a": None, "b": None}}, "variants a and b are the same recipe"),
        ({"variants": {"a": None, " ": None}}, "expected 1 to 60 printable characters"),
        ({"seeds": 2, "keep_weights": "some"}, "keep_weights: expected auto, true or false"),
        ({"seeds": 2, "baseline": "quik"}, "quik is none of quick. Did you mean 'quick'?"),
        ({"seeds": 2, "optim": {"lr": 1}}, "A key of the recipe stands under `set`"),
        ({"seeds": 2, "recipe": "qick"}, "Did you mean 'quick'?"),
        (
            {"grid": {"recipe": ["quick", "leaves-cnn"]}, "variants": {"a": {"recipe": "quick"}}},
            "variants.a.recipe: `grid` gives the recipes",
        ),
    ],
)
def test_what_makes_no_study_is_told(keys: dict[str, Any], text: str) -> None:
    assert sum(text in fault for fault in faults_of(keys)) == 1


def test_files_that_are_no_study_are_told(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    for content, text in (("- 1", "found list"), ("", "found nothing"), ("a: [", "not valid YAML")):
        file.write_text(content)
        with pytest.raises(RecipeError, match=text):
            read_study(file)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_study(tmp_path / "none.yaml")


def test_data_and_settings_of_the_command_stand_in_place_of_the_files() -> None:
    keys = {"data": "here", "set": {"optim.epochs": 3}, "grid": {"optim.lr": [1, 2]}}
    found = read_study(keys, data="there", overrides=["optim.epochs=4", "ema=0.5"])
    assert found.file.data == "there"
    assert {(r.optim.epochs, r.ema) for r in found.recipes} == {(4, 0.5)}
    assert keys["set"] == {"optim.epochs": 3}
    told = faults_of(keys, overrides=["optim.lr=3", "optim.epochs"])
    assert told[0].startswith("--set optim.epochs: expected key=value")
    assert told[1].startswith("set.optim.lr: is in `grid` too")


def test_the_file_that_is_kept_says_the_same() -> None:
    found = plan(
        set={"model.tags": "off"}, grid={"optim.lr": [0.1, 0.01]}, variants={"a": None}, seeds=[4]
    )
    again = read_study(parse_yaml(render_study(found.file)))
    assert again == found


def test_folders_of_variants_are_safe_and_unlike_each_other() -> None:
    assert name_folder("shifted, local attention / 2") == "shifted-local-attention-2"
    assert name_folder("../..") == "variant" and len(name_folder("a" * 300)) == 80
    names = ["A b", "a/b", "ä b", "a-b-2"]
    found = plan(variants={name: {"set": {"ema": k / 10}} for k, name in enumerate(names)})
    folders = [variant.folder for variant in found.variants]
    assert len({folder.lower() for folder in folders}) == 4
    assert all(name_folder(folder) == folder for folder in folders)


def test_networks_that_cannot_be_built_are_told_before_training() -> None:
    vit = "model.name=vit_tiny_patch16_224"
    recipes = {
        "fine": read_recipe("quick", [vit]),
        "size": read_recipe("quick", [vit, "data.image_size=8"]),
        "local": read_recipe("quick", ["model.name=lecture-net", "model.attention=local"]),
        "loss": read_recipe("quick", [vit, "loss.exclusion=0.1"]),
        "file": read_recipe("quick", [vit, "model.weights=none.pth"]),
    }
    with pytest.raises(RecipeError) as caught:
        check_recipes(recipes)
    told = str(caught.value).splitlines()[1:]
    assert [line.rpartition("[")[2] for line in told] == [
        f"{name} of 5 variants]" for name in ("size", "local", "loss", "file")
    ]
    assert not isinstance(caught.value, ImageSizeError | ModelError)
    check_recipes({"fine": recipes["fine"]})


def test_two_axes_make_a_pivot_and_others_none() -> None:
    axes = plan(grid={"optim.batch_size": [8, 16], "model.head": ["linear", "mlp", "ifa"]}).axes
    scores = [
        ({"optim.batch_size": size, "model.head": head}, measure_spread([size, size + len(head)]))
        for head in ("mlp", "linear")
        for size in (16, 8)
    ]
    missing = [({"optim.batch_size": size, "model.head": "ifa"}, None) for size in (8, 16)]
    found = build_pivot(axes, [*scores, *missing])
    assert found is not None
    assert (found.rows, found.columns) == (("8", "16"), ("linear", "mlp", "ifa"))
    assert (found.row_label, found.column_label) == ("batch_size", "head")
    assert [[cell and cell.mean for cell in row] for row in found.cells] == [
        [11.0, 9.5, None],
        [19.0, 17.5, None],
    ]
    assert found.cells[0][1] is not None
    assert found.cells[0][1].deviation == pytest.approx(3 / 2**0.5)
    assert build_pivot(axes[:1], []) is None


def test_one_seed_has_no_deviation() -> None:
    assert measure_spread([0.5]).deviation is None


def test_the_study_of_the_benchmarks_is_one() -> None:
    found = read_study(Path(__file__).parents[2] / "benchmarks" / "frozen_heads.yaml")
    assert len(found.variants) * len(found.seeds) == 27
