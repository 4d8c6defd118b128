"""The same checks on every shipped recipe."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from PIL import Image

from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.recipes import Recipe, list_recipes, read_recipe
from fieldmark.recipes.schema import Model
from fieldmark.training.losses import as_shares, build_loss
from fieldmark.training.optimizers import build_optimizer, count_parameters
from fieldmark.transforms import (
    build_eval_transform,
    build_train_transform,
    build_transform_record,
)

NAMES = sorted(list_recipes())
TAG_VOCABULARY = 30522

# Small enough to train a step on a CPU. The others differ from these in the network alone, and
# every network trains a step in `test_models`.
STEPPED = [
    *("quick", "leaves-cnn", "leaves-cnn-as-published", "leaves-deit-frozen"),
    *("leaves-deit-finetune", "leaves-resnet18", "leaves-resnet18-as-published"),
    *("vit-small-cifar10", "sl-vit-cifar100", "rot-vit-flowers", "resnet56-cifar10"),
    *("vit-small-tiny-imagenet-as-published", "rot-vit-cifar10-as-published"),
    "deit-ti-flowers",
]

# (classes, all, trained) parameters, where the studies give them or their networks imply them.
PUBLISHED = {
    "leaves-cnn": (176, 2_171_568, 2_171_568),
    "leaves-cnn-as-published": (176, 2_171_568, 2_171_568),
    "leaves-resnet18": (176, 11_266_800, 11_266_800),
    "leaves-resnet18-as-published": (176, 11_266_800, 11_266_800),
    "leaves-deit-frozen": (176, 5_713_520, 189_104),
    "leaves-deit-frozen-as-published": (176, 5_713_520, 189_104),
    "leaves-deit-finetune": (176, 5_713_520, 5_713_520),
    "leaves-deit-finetune-as-published": (176, 5_713_520, 5_713_520),
    "leaves-vgg16": (176, 118_200_304, 103_485_616),
    "leaves-vgg16-as-published": (176, 118_200_304, 103_485_616),
}
# The same without anything frozen.
COUNTS = {
    "animesion-vit-b16": (3263, 88_206_527),
    "animesion-vit-b16-ifa": (3263, 88_206_540),
    "animesion-vit-b32": (3263, 89_939_135),
    "animesion-vit-b32-ifa-as-published": (3263, 89_939_148),
    "animesion-vit-l16": (3263, 306_511_039),
    "animesion-vit-l16-ifa": (3263, 306_511_064),
    "animesion-vit-l32-scratch": (3263, 308_821_183),
    "animesion-vit-l32-ifa": (3263, 308_821_208),
    "animesion-vit-b16-64px-bs16": (3263, 88_169_663),
    "animesion-vit-b32-64px": (3263, 89_929_919),
    "finetune-vit-b16": (1000, 86_567_656),
    "finetune-vit-b16s-as-published": (1000, 86_567_656),
    "finetune-vit-b32": (1000, 88_224_232),
    "finetune-r50-b16": (1000, 98_659_112),
    "deit-ti-flowers": (5, 5_526_730),
    "resnet56-flowers": (5, 852_693),
    "resnet56-cifar10": (10, 853_018),
    "resnet56-cifar100": (100, 858_868),
    "resnet56-tiny-imagenet": (200, 865_368),
    "vit-small-flowers": (5, 2_585_541),
    "sl-vit-flowers": (5, 2_614_273),
    "rot-vit-flowers": (5, 2_628_525),
    "vit-small-flowers-as-published": (5, 28_522_949),
    "sl-vit-flowers-as-published": (5, 28_727_245),
    "rot-vit-flowers-as-published": (5, 21_704_621),
    "vit-small-cifar10-as-published": (10, 21_666_762),
    "sl-vit-cifar10-as-published": (10, 21_695_498),
    "rot-vit-cifar10-as-published": (10, 21_709_746),
    "vit-small-cifar100-as-published": (100, 21_759_012),
    "sl-vit-cifar100-as-published": (100, 21_787_748),
    "rot-vit-cifar100-as-published": (100, 21_801_996),
    "vit-small-tiny-imagenet-as-published": (200, 21_861_512),
    "sl-vit-tiny-imagenet-as-published": (200, 21_890_248),
    "rot-vit-tiny-imagenet-as-published": (200, 21_904_496),
}


def build(model: Model, num_classes: int, image_size: int) -> Classifier:
    classifier, _ = build_classifier(
        model,
        num_classes=num_classes,
        image_size=image_size,
        tag_vocabulary_size=TAG_VOCABULARY,
        with_weights=False,
    )
    return classifier


@cache
def count(model: str, num_classes: int, image_size: int) -> tuple[int, int]:
    """Parameters of a network that has shapes but no numbers."""
    with torch.device("meta"):
        return count_parameters(build(Model.model_validate_json(model), num_classes, image_size))


@pytest.mark.parametrize("name", NAMES)
def test_recipe_builds_its_network(name: str) -> None:
    recipe = read_recipe(name)
    num_parameters, num_trained = count(recipe.model.model_dump_json(), 5, recipe.data.image_size)
    assert num_parameters >= num_trained > 0


@pytest.mark.parametrize("name", STEPPED)
def test_recipe_trains_one_step_on_its_own_transform(name: str) -> None:
    recipe: Recipe = read_recipe(name)
    classifier = build(recipe.model, 3, recipe.data.image_size)
    record = build_transform_record(
        recipe.data,
        model_statistics=classifier.backbone.statistics,
        dataset_statistics=lambda: classifier.backbone.statistics,
        interpolation=classifier.backbone.interpolation,
    )
    picture = Image.effect_noise((300, 200), 80).convert("RGB")
    transform = build_train_transform(record)
    images = torch.stack([transform(picture, seed) for seed in range(4)])
    assert build_eval_transform(record)(picture).shape == images.shape[1:]
    loss = build_loss(recipe.loss, task=recipe.task, class_counts=[2, 1, 1])
    optimizer = build_optimizer(classifier, recipe.optim)
    classifier.train()
    value = loss(classifier(images), as_shares(torch.tensor([0, 1, 2, 0]), 3))
    value.backward()
    optimizer.step()
    trained = [p for p in classifier.parameters() if p.requires_grad]
    assert torch.isfinite(value) and trained
    assert all(parameter.grad is not None for parameter in trained)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_recipe_has_the_published_number_of_parameters(name: str) -> None:
    recipe, (num_classes, *numbers) = read_recipe(name), PUBLISHED[name]
    found = count(recipe.model.model_dump_json(), num_classes, recipe.data.image_size)
    assert found == tuple(numbers)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_recipe_has_the_implied_number_of_parameters(name: str) -> None:
    recipe, (num_classes, number) = read_recipe(name), COUNTS[name]
    found = count(recipe.model.model_dump_json(), num_classes, recipe.data.image_size)
    assert found == (number, number)
