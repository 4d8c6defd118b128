"""`fieldmark recipes`."""

from __future__ import annotations

from rich import box
from rich.table import Table

from fieldmark.cli.output import Output


def recipes(name: str | None = None, /, *, output: Output = Output()) -> None:
    """List the shipped recipes, or show one: as written, then fully resolved.

    Parameters
    ----------
    name
        A shipped recipe.
    """
    from fieldmark.recipes import list_recipes, read_recipe, read_shipped_text, render_recipe

    if name is not None:
        recipe = read_recipe(name)
        result = {"name": name, "recipe": recipe.model_dump(mode="json")}
        whole = f"# --- every key, as resolved ---\n{render_recipe(recipe)}"
        output.answer(result, read_shipped_text(name), whole)
        return
    lines = list_recipes()
    table = Table("recipe", "what it is", box=box.SIMPLE_HEAD)
    for recipe_name, line in lines.items():
        table.add_row(recipe_name, line)
    output.answer({"recipes": [{"name": n, "description": d} for n, d in lines.items()]}, table)
