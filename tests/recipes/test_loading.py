from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.errors import RecipeError
from fieldmark.recipes import Recipe, list_recipes, read_recipe, read_shipped_text, render_recipe


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_shipped_recipe_is_valid_described_and_shows_its_command(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.description
    assert f"--recipe {name}" in read_shipped_text(name) or "fieldmark train DATA" in (
        read_shipped_text(name)
    )


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_rendered_recipe_reads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name, ["seed=7", "data.source=a b/c.csv", "data.columns.image=pfad"])
    path = tmp_path / "recipe.yaml"
    path.write_text(render_recipe(recipe))
    assert read_recipe(path) == recipe


def test_every_key_has_a_meaning() -> None:
    lines = [line for line in render_recipe(Recipe()).splitlines() if line.strip()]
    assert all("  # " in line and "None" not in line.split("  # ")[1] for line in lines)


def test_override_changes_one_key() -> None:
    plain, changed = read_recipe("quick"), read_recipe("quick", ["optim.lr=1e-4"])
    assert changed.optim.lr == 1e-4
    assert changed.optim.model_copy(update={"lr": plain.optim.lr}) == plain.optim


def test_two_shares_are_train_and_test() -> None:
    assert read_recipe("quick", ["data.split.ratios=[0.8,0.2]"]).data.split.ratios == (0.8, 0, 0.2)


def test_off_is_a_word_not_a_boolean() -> None:
    assert read_recipe("quick", ["cache=off"]).cache == "off"


def test_all_faults_are_reported_at_once_with_the_nearest_key() -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(
            "quick",
            ["optim.learning_rate=1", "optm.lr=3", "optim.batch_size=0", "select=acuracy", "foo"],
        )
    text = str(caught.value)
    assert "optim.learning_rate: unknown key. Did you mean 'optim.lr'?" in text
    assert "optm: unknown key. Did you mean 'optim'?" in text
    assert "optim.batch_size" in text and "(received 0)" in text
    assert "Did you mean 'accuracy'?" in text
    assert "--set foo: expected key=value" in text


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.split.ratios=[0.5,0.1,0.1]", "must sum to 1, not 0.7"),
        ("data.augment.color_jitter=[0,0,0,0.9]", "hue"),
        ("data.augment.crop_scale=[0.9,0.1]", "low <= high"),
        ("data.normalize={mean: [0,0,0], std: [1,0,1]}", "standard deviation"),
        ("model={weights: a.pth, pretrained: true}", "not both"),
        ("optim.lr=.nan", "finite"),
    ],
)
def test_values_out_of_range_are_told(override: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        read_recipe("quick", [override])


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'leaves-cnn'"):
        read_recipe("leaves-cn")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("optim: {lr: 1", "not valid YAML"),
        ("- a\n- b", "expected `key: value`"),
        ("seed: 1\nseed: 2", "written twice: seed"),
        ("base: nonsense", "there is none of that name"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_broken_recipe_file_is_told(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=told):
        read_recipe(path)


def test_base_that_leads_back_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(f"base: {second}")
    second.write_text(f"base: {first}")
    with pytest.raises(RecipeError, match="leads back"):
        read_recipe(first)


def test_missing_recipe_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")


@given(key=st.text(max_size=20), value=st.text(max_size=20))
def test_any_override_gives_a_recipe_or_a_recipe_error(key: str, value: str) -> None:
    with contextlib.suppress(RecipeError):
        assert isinstance(read_recipe("quick", [f"{key}={value}"]), Recipe)
