"""The same checks on every shipped recipe."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from fieldmark.models.classifier import build_classifier
from fieldmark.recipes import Recipe, list_recipes, read_recipe
from fieldmark.training.losses import as_shares, build_loss
from fieldmark.training.optimizers import build_optimizer, count_parameters
from fieldmark.transforms import (
    build_eval_transform,
    build_train_transform,
    build_transform_record,
)

# (all, trained) parameters at 176 classes, where the studies give them.
PUBLISHED = {
    "leaves-cnn": (2_171_568, 2_171_568),
    "leaves-cnn-as-published": (2_171_568, 2_171_568),
    "leaves-resnet18": (11_266_800, 11_266_800),
    "leaves-deit-frozen": (5_713_520, 189_104),
    "leaves-deit-finetune": (5_713_520, 5_713_520),
}


def build(recipe: Recipe, num_classes: int):
    model = recipe.model.model_copy(update={"pretrained": False})
    classifier, _ = build_classifier(
        model, num_classes=num_classes, image_size=recipe.data.image_size
    )
    return classifier


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_recipe_trains_one_step_on_its_own_transform(name: str) -> None:
    recipe = read_recipe(name)
    classifier = build(recipe, num_classes=3)
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
    assert count_parameters(build(read_recipe(name), num_classes=176)) == PUBLISHED[name]
