"""Recipes: what decides a run. `schema` says what there is, `loading` brings it in and out."""

from fieldmark.recipes.loading import list_recipes, read_recipe, read_shipped_text, render_recipe
from fieldmark.recipes.schema import Recipe

__all__ = ["Recipe", "list_recipes", "read_recipe", "read_shipped_text", "render_recipe"]
