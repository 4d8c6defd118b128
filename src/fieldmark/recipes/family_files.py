"""The shipped families of recipes, read from their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from fieldmark.errors import RecipeError
from fieldmark.recipes.families import Family, Group, Note, PublishedTable, Word
from fieldmark.recipes.values import parse_yaml

FAMILIES = files("fieldmark.recipes") / "library" / "families"


def find_text(name: str) -> str | None:
    """Return the text of a recipe of any family; None where no family has that name.

    Raises `RecipeError` for words that do not go together.
    """
    for family in read_families():
        words = family.find_words(name)
        if words is None:
            continue
        misfit = family.find_misfit(words)
        if misfit is not None:
            raise RecipeError(
                f"recipe '{name}': '{misfit[0]}' goes only with {', '.join(misfit[1])}. "
                "`fieldmark recipes` lists what there is"
            )
        return family.render(name, words)
    return None


def suggest_name(name: str) -> str | None:
    """Return the recipe whose name has the same words in another order, if there is one."""
    sorted_names = (family.sort_words(name) for family in read_families())
    return next((found for found in sorted_names if found is not None), None)


@cache
def read_families() -> tuple[Family, ...]:
    """Every shipped family."""
    paths = sorted(
        (path for path in FAMILIES.iterdir() if path.name.endswith(".yaml")), key=lambda p: p.name
    )
    return tuple(_build(parse_yaml(path.read_text(encoding="utf-8"))) for path in paths)


def _build(values: Mapping[str, Any]) -> Family:
    return Family(
        prefix=values.get("prefix", ""),
        title=f"{values['title']}: " if "title" in values else "",
        about=values["about"],
        data=values["data"],
        score=values["score"],
        common=values["common"],
        kinds=values.get("kinds", {}),
        groups=tuple(_build_groups(values["groups"])),
        notes=tuple(Note(n["text"], n["with"], n.get("without")) for n in values.get("notes", ())),
        tables=tuple(_build_tables(values["tables"])),
        costs=values.get("costs", {}),
    )


def _build_groups(groups: list[Mapping[str, Any]]) -> Iterator[Group]:
    for group in groups:
        words = {
            name: Word(
                line=word.get("line", ""),
                kind=word.get("kind", ""),
                only=tuple(word.get("only", ())),
                recipe=word.get("recipe", {}),
                with_=word.get("with", {}),
                data=word.get("data", ""),
            )
            for name, word in group["words"].items()
        }
        yield Group(group["name"], words, required=group.get("required", False))


def _build_tables(tables: list[Mapping[str, Any]]) -> Iterator[PublishedTable]:
    for table in tables:
        baselines = {row: next(iter(b.items())) for row, b in table.get("baselines", {}).items()}
        yield PublishedTable(
            title=table["title"],
            columns=tuple(table["columns"]),
            scores={row: tuple(scores) for row, scores in table["scores"].items()},
            differences={row: tuple(d) for row, d in table.get("differences", {}).items()},
            baselines=baselines,
        )
