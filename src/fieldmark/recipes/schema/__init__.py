"""The recipe: everything that decides a run, as one frozen, validated tree.

Every key has a default, a one-line meaning and a range. `recipe` is the root, its sections are in
`data`, `model` and `learning`. Reading, overriding and explaining faults is in `recipes.loading`;
nothing here touches files.
"""

from fieldmark.recipes.schema.data import Augment, Data, Split, Statistics
from fieldmark.recipes.schema.learning import Distill, Loss, Optim
from fieldmark.recipes.schema.model import Model, Patches, Tags
from fieldmark.recipes.schema.recipe import Recipe
from fieldmark.recipes.schema.section import Metric, Section, Share, Task

__all__ = [
    "Augment",
    "Data",
    "Distill",
    "Loss",
    "Metric",
    "Model",
    "Optim",
    "Patches",
    "Recipe",
    "Section",
    "Share",
    "Split",
    "Statistics",
    "Tags",
    "Task",
]
