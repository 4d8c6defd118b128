"""What can be known to fail before anything is trained: losses, files and networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from fieldmark.errors import FieldmarkError, RecipeError
from fieldmark.models.classifier import build_classifier
from fieldmark.models.timm_backbone import UNFIT_ERRORS
from fieldmark.planning.studies.plans import name_variants
from fieldmark.recipes import Recipe
from fieldmark.training.objectives import check_objective

# As many tags as a network is built for here; how many there are plays no part.
_NUM_TAGS = 100


def check_recipes(recipes: Mapping[str, Recipe]) -> None:
    """Raise `RecipeError` with all that must fail, of recipes by the name of their variant.

    Each distinct network is built without numbers in it.
    """
    by_fault: dict[str, list[str]] = {}
    known: dict[str, tuple[str, ...]] = {}
    for name, recipe in recipes.items():
        key = f"{recipe.data.image_size} {recipe.model.model_dump_json()}"
        if key not in known:
            known[key] = tuple(_find_network_faults(recipe))
        for fault in (*known[key], *_find_loss_faults(recipe)):
            by_fault.setdefault(fault, []).append(name)
    if by_fault:
        raise RecipeError(_tell(by_fault, len(recipes)))


def _find_network_faults(recipe: Recipe) -> Iterator[str]:
    weights = recipe.model.weights
    if weights is not None and not Path(weights).expanduser().is_file():
        yield f"model.weights: {weights}: there is no such file"
    try:
        with torch.device("meta"):
            build_classifier(
                recipe.model,
                num_classes=2,
                image_size=recipe.data.image_size,
                tag_vocabulary_size=_NUM_TAGS,
                with_weights=False,
            )
    except FieldmarkError as error:
        yield str(error)
    except UNFIT_ERRORS:
        # Some networks need numbers while they are built: training tells of those.
        return


def _find_loss_faults(recipe: Recipe) -> Iterator[str]:
    try:
        check_objective(recipe)
    except RecipeError as error:
        yield from str(error).splitlines()


def _tell(by_fault: Mapping[str, Sequence[str]], num_variants: int) -> str:
    faults = [name_variants(fault, names, num_variants) for fault, names in by_fault.items()]
    return "\n".join(["study: cannot be run:", *(f"  {fault}" for fault in faults)])
