from __future__ import annotations

import re
from pathlib import Path

import pytest

from fieldmark.errors import RecipeError
from fieldmark.recipes import list_recipes, read_recipe, read_shipped_text
from fieldmark.recipes.families import FAITHFUL, Family
from fieldmark.recipes.family_files import read_families

FAMILIES = {family.prefix: family for family in read_families()}
ANIMESION = FAMILIES["animesion"]
ROWS = [(family, row) for family in read_families() for row in family.rows()]
NAMES = {prefix: family.names() for prefix, family in FAMILIES.items()}
DIFFERENCES = [
    (table, row, column)
    for table in ANIMESION.tables
    for row in table.differences
    for column in range(len(table.columns))
]


def find_score(family: Family, title: str, row: str, column: str) -> float:
    (table,) = (t for t in family.tables if t.title == title and column in t.columns)
    return table.scores[row][table.columns.index(column)]


def test_every_row_of_the_studies_is_there() -> None:
    """80 of Animesion (10 of them implied), 4 of fine-tuning, 17 of the small sets."""
    assert {prefix: len(family.rows()) for prefix, family in FAMILIES.items()} == {
        "animesion": 80,
        "finetune": 4,
        "": 17,
    }
    assert {prefix: len(names) for prefix, names in NAMES.items()} == {
        "animesion": 160,
        "finetune": 8,
        "": 30,  # the four of ResNet-56 have no code to be faithful to
    }


@pytest.mark.parametrize(("family", "name"), ROWS, ids=[name for _, name in ROWS])
def test_row_is_a_recipe_with_its_score(family: Family, name: str) -> None:
    words = family.find_words(name)
    assert words is not None and family.find_misfit(words) is None
    text = read_shipped_text(name)
    assert f"--recipe {name}\n" in text
    assert "Published (" in text and "not measured here" in text
    assert all(len(line) <= 100 for line in text.splitlines() if line.startswith("#"))


@pytest.mark.parametrize("name", NAMES["animesion"])
def test_animesion_trains_as_the_study_says(name: str) -> None:
    recipe, is_faithful = read_recipe(name), name.endswith(FAITHFUL)
    optim, data, model = recipe.optim, recipe.data, recipe.model
    batch = re.search(r"-bs(\d+)", name)
    has_cosine = any(word in name for word in ("-ifa", "-tags", "-cosine"))
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 1e-3, 0.9, 0.0)
    assert optim.epochs == 50
    assert optim.batch_size == (int(batch[1]) if batch else 64)
    assert (optim.schedule, optim.warmup) == (
        ("cosine", 1000) if has_cosine else ("constant_epoch", 0)
    )
    assert optim.decay == pytest.approx(1 / 3)
    assert data.image_size == (64 if "-64px" in name else 128)
    assert (data.resize, data.normalize, data.min_images) == ("squash", "half", 20)
    assert (data.augment.crop, data.augment.crop_margin_px) == ("random", 32)
    assert data.augment.horizontal_flip == 0.5
    assert data.augment.color_jitter == (0.1, 0.1, 0.1, 0.1)
    assert data.split.rule == ("as_published" if is_faithful else "exact")
    assert model.pretrained == ("-scratch" not in name)
    assert model.init == ("xavier" if "-scratch" in name else "own")
    assert model.head == ("ifa" if "-ifa" in name else "linear")
    is_vit = "-vit-" in name
    assert model.head_zero_init == (is_vit and "-ifa" not in name)
    assert model.dropout == (0.1 if is_vit else 0.0)
    assert model.positions == ("corners" if is_vit and is_faithful else "timm")


@pytest.mark.parametrize("name", [name for name in NAMES["animesion"] if "-tags" in name])
def test_animesion_tags_are_word_pieces(name: str) -> None:
    tags, is_faithful = read_recipe(name).model.tags, name.endswith(FAITHFUL)
    length = re.search(r"-tags(\d*)", name)
    assert length is not None
    assert (tags.tokenizer, tags.max_tokens) == ("wordpiece", int(length[1] or 32))
    assert (tags.mask_padding, tags.type_embedding) == (not is_faithful, not is_faithful)
    assert (tags.hide, tags.shuffle) == ((0.0, False) if is_faithful else (0.15, True))
    assert tags.vocabulary == ("bert-base-uncased" if is_faithful else None)


@pytest.mark.parametrize("name", NAMES["finetune"])
def test_finetuning_is_a_hundred_updates_of_256_images(name: str) -> None:
    recipe = read_recipe(name)
    optim, data = recipe.optim, recipe.data
    assert (optim.name, optim.lr, optim.momentum, optim.clip_norm) == ("sgd", 1e-3, 0.9, 1.0)
    assert (optim.batch_size, optim.accumulate, optim.max_updates) == (32, 8, 100)
    assert (optim.schedule, optim.warmup) == ("cosine", 10)
    assert (data.image_size, data.normalize, data.augment.crop) == (224, "half", "resized")
    assert data.augment.crop_scale == (0.05, 1.0)
    assert recipe.model.head_zero_init and recipe.model.pretrained
    assert recipe.model.dropout == (0.1 if "r50" in name else 0.0)


@pytest.mark.parametrize("name", NAMES[""])
def test_small_sets_train_as_the_text_or_as_the_notebooks_say(name: str) -> None:
    recipe, is_faithful = read_recipe(name), name.endswith(FAITHFUL)
    optim, is_deit = recipe.optim, name.startswith("deit-ti")
    assert (optim.name, optim.batch_size, optim.epochs) == ("adamw", 256, 50)
    assert optim.lr == (2.5e-4 if is_deit else 1e-3)
    assert optim.decay_all == is_faithful
    if is_faithful:
        assert (optim.schedule, optim.warmup, optim.eps) == ("constant", 0.0, 1e-7)
        # Their decay is 1e-4 a step whatever the learning rate, PyTorch's is times it.
        assert optim.weight_decay * optim.lr == pytest.approx(1e-4)
    else:
        assert (optim.schedule, optim.warmup, optim.weight_decay) == ("cosine", 0.1, 1e-4)


@pytest.mark.parametrize(
    ("name", "size", "model"),
    [
        ("vit-small-flowers", 72, "vit-small-data"),
        ("rot-vit-flowers", 72, "vit-small-data"),
        ("vit-small-flowers-as-published", 224, "vit-small-data-as-published-p16"),
        ("sl-vit-flowers-as-published", 224, "vit-small-data-as-published-p16"),
        ("rot-vit-flowers-as-published", 72, "vit-small-data-as-published"),
        ("sl-vit-cifar10-as-published", 72, "vit-small-data-as-published"),
        ("deit-ti-flowers-as-published", 224, "deit_tiny_distilled_patch16_224"),
        ("resnet56-flowers", 224, "resnet56-cifar"),
        ("resnet56-cifar100", 32, "resnet56-cifar"),
        ("resnet56-tiny-imagenet", 64, "resnet56-cifar"),
    ],
)
def test_small_sets_have_the_studys_image_sizes(name: str, size: int, model: str) -> None:
    recipe = read_recipe(name)
    assert (recipe.data.image_size, recipe.model.name) == (size, model)


def test_patches_and_attention_of_the_small_networks() -> None:
    def read(name: str) -> tuple[str, str, str]:
        model = read_recipe(name).model
        return model.patches.kind, model.attention, model.patches.angles

    assert read("vit-small-cifar10") == ("plain", "global", "per_image")
    assert read("sl-vit-cifar10") == ("shifted", "local", "per_image")
    assert read("rot-vit-cifar10") == ("rotated", "global", "per_image")
    assert read("rot-vit-cifar10-as-published") == ("rotated", "global", "as_published")


@pytest.mark.parametrize("name", ["deit-ti-flowers", "deit-ti-flowers-as-published"])
def test_distillation_names_what_stands_for_the_teacher(name: str) -> None:
    """A word that is no run and no network, so that it cannot be forgotten silently."""
    recipe = read_recipe(name)
    assert recipe.loss.distill.teacher == "TEACHER"
    assert (recipe.loss.distill.mode, recipe.loss.distill.alpha) == ("hard", 0.5)
    assert recipe.loss.label_smoothing == 0.1
    assert "loss.distill.teacher=RUN" in read_shipped_text(name)


@pytest.mark.parametrize(
    ("table", "row", "column"), DIFFERENCES, ids=[f"{t.title}-{r}-{c}" for t, r, c in DIFFERENCES]
)
def test_published_differences_follow_from_the_scores(table, row: str, column: int) -> None:
    """Tables 3 and 5 against table 1's other schedule, table 6 against its implied baseline."""
    title, baseline_row = table.baselines[row]
    baseline = find_score(ANIMESION, title, baseline_row, table.columns[column])
    difference = 100 * (table.scores[row][column] / baseline - 1)
    assert difference == pytest.approx(table.differences[row][column], abs=0.00501)


@pytest.mark.parametrize(
    ("network", "gains"),
    [
        ("vit-b16", [-0.16, 0.97, 2.91, 6.20, 14.99]),
        ("vit-b32", [-0.31, -0.08, 2.93, 9.09, 27.10]),
    ],
)
def test_gains_of_ifa_over_the_other_schedule(network: str, gains: list[float]) -> None:
    for size, gain in zip(["-bs16", "-bs32", "", "-bs128", "-bs256"], gains, strict=True):
        score = find_score(ANIMESION, "table 6", f"{network}-ifa{size}", "DAF")
        baseline = find_score(ANIMESION, "table 2", f"{network}{size}", "DAF")
        assert 100 * (score / baseline - 1) == pytest.approx(gain, abs=0.00501)


@pytest.mark.parametrize("family", read_families(), ids=lambda family: family.about)
def test_tables_agree_where_they_print_the_same_row(family: Family) -> None:
    seen: dict[tuple[str, str], float] = {}
    for table in family.tables:
        for row, scores in table.scores.items():
            for column, score in zip(table.columns, scores, strict=True):
                assert seen.setdefault((row, column), score) == score


def test_words_that_no_table_has_together_are_a_recipe_too(tmp_path: Path) -> None:
    name = "animesion-vit-b32-ifa-tags16-bs256-as-published"
    recipe = read_recipe(name)
    assert name not in list_recipes()
    assert recipe.optim.batch_size == 256 and recipe.model.tags.max_tokens == 16
    assert "nothing for this combination" in read_shipped_text(name)
    path = tmp_path / "copy.yaml"
    path.write_text(read_shipped_text(name))
    assert read_recipe(path) == recipe


def test_word_for_a_default_changes_nothing() -> None:
    assert read_recipe("animesion-vit-b16-128px-bs64") == read_recipe("animesion-vit-b16")
    assert read_recipe("animesion-vit-b16-tags32") == read_recipe("animesion-vit-b16-tags")


def test_recipe_of_a_family_can_be_the_base_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: rot-vit-cifar10\noptim: {epochs: 3}")
    assert read_recipe(path).optim.epochs == 3
    assert read_recipe(path).model.patches.kind == "rotated"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("animesion-vit-b16-tags-ifa", "Did you mean 'animesion-vit-b16-ifa-tags'?"),
        ("animesion-as-published-vit-b16", "Did you mean 'animesion-vit-b16-as-published'?"),
        ("rot-vit-cifra10", "Did you mean 'rot-vit-cifar10'?"),
        ("finetune-vit-b17", "Did you mean 'finetune-vit-b1"),
        ("animesion-resnet18-tags", "'tags' goes only with vit-b16, vit-b32, vit-l16, vit-l32"),
        ("resnet56-cifar10-as-published", "goes only with vit-small, sl-vit, rot-vit, deit-ti"),
        ("animesion", "none of that name"),
        ("animesion-vit-b16-", "none of that name"),
        ("animesion-vit-b16-bs512", "none of that name"),
    ],
)
def test_unknown_combination_names_the_nearest(name: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(name)
    assert told in str(caught.value)
