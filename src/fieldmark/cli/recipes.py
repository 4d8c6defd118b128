"""`fieldmark recipes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Column, Table

from fieldmark.cli.output import Output

if TYPE_CHECKING:
    from fieldmark.recipes.families import Family


def recipes(name: str | None = None, /, *, output: Output = Output()) -> None:
    """List the shipped recipes, or show one: as written, then fully resolved.

    Parameters
    ----------
    name
        A shipped recipe.
    """
    from fieldmark.recipes import read_recipe, read_shipped_text, render_recipe

    if name is not None:
        recipe = read_recipe(name)
        result = {"name": name, "recipe": recipe.model_dump(mode="json")}
        whole = f"# --- every key, as resolved ---\n{render_recipe(recipe)}"
        output.answer(result, read_shipped_text(name), whole)
        return
    _list(output)


def _list(output: Output) -> None:
    from fieldmark.recipes import list_recipes
    from fieldmark.recipes.family_files import read_families

    lines, families = list_recipes(), read_families()
    published = {name: text for family in families for name, text in family.rows().items()}
    composed = {name for family in families for name in family.names()}
    plain = Table(_name_column(), "what it is", box=box.SIMPLE_HEAD)
    for name, line in lines.items():
        if name not in composed:
            plain.add_row(name, line)
    shown: list[str | Table] = [plain]
    for family in families:
        shown += [_introduce(family), _tabulate(family)]
    entries = [
        {"name": name, "description": line, "published": published.get(name)}
        for name, line in lines.items()
    ]
    output.answer({"recipes": entries}, *shown)


def _introduce(family: Family) -> str:
    """What the family is, and how its names are made."""
    name = family.prefix
    for group in family.groups:
        words = "|".join(group.words if group.required else (f"-{word}" for word in group.words))
        name += f"{'-' if name else ''}<{words}>" if group.required else f"[{words}]"
    about = family.about[0].upper() + family.about[1:]
    return f"{about}.\nNames: {name}\nPublished: {family.score}."


def _tabulate(family: Family) -> Table:
    table = Table(_name_column(), "what it is", "published", box=box.SIMPLE_HEAD)
    for name, published in family.rows().items():
        words = family.find_words(name) or {}
        table.add_row(name, family.describe(words), published)
    return table


def _name_column() -> Column:
    return Column("recipe", no_wrap=True)  # names are there to be copied
