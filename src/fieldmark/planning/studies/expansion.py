"""From a study file to its variants: every combination, each with a name and its keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from fieldmark.planning.studies.schema import NamedVariant, StudyFile
from fieldmark.recipes.values import render_value

MAX_FOLDER_NAME = 80
VARIANT_AXIS = "variant"
RECIPE_AXIS = "recipe"


@dataclass(frozen=True)
class Axis:
    """What a study varies. key: of the recipe, `recipe` or `variant`. label: short, for a table."""

    key: str
    label: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Variant:
    """One row of a study, before any seed.

    settings: its value on each axis, by the axis's key. folder: the name without what a file
    system might not take. overrides: `key=value` on top of `recipe`.
    """

    name: str
    folder: str
    recipe: str
    settings: Mapping[str, Any]
    overrides: tuple[str, ...]


def find_axes(study: StudyFile) -> tuple[Axis, ...]:
    """The axes in the order of the file; named variants are one, and come first."""
    endings = Counter(key.rpartition(".")[2] for key in study.grid)
    axes = [Axis(VARIANT_AXIS, VARIANT_AXIS, tuple(study.variants))] if study.variants else []
    for key, values in study.grid.items():
        ending = key.rpartition(".")[2]
        is_clear = endings[ending] == 1 and ending != VARIANT_AXIS
        axes.append(Axis(key, ending if is_clear else key, tuple(values)))
    return tuple(axes)


def expand(study: StudyFile) -> tuple[Variant, ...]:
    """Every combination of named variants and grid values, the last axis moving fastest.

    A study without either is one variant, named after its recipe.
    """
    axes = find_axes(study)
    drafts = [_draft(study, axes, values) for values in product(*(axis.values for axis in axes))]
    names = _make_unique([name for name, *_ in drafts])
    folders = _make_unique([name_folder(name) for name in names])
    return tuple(
        Variant(name, folder, recipe, settings, overrides)
        for name, folder, (_, recipe, settings, overrides) in zip(
            names, folders, drafts, strict=True
        )
    )


def write_value(value: Any) -> str:
    """A value as a person writes it."""
    return value if isinstance(value, str) else render_value(value)


def name_folder(name: str) -> str:
    """`name` with nothing in it that a file system or a shell might not take, never empty."""
    bare = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-._")
    return bare[:MAX_FOLDER_NAME].rstrip("-._") or "variant"


def _draft(
    study: StudyFile, axes: Sequence[Axis], values: Sequence[Any]
) -> tuple[str, str, dict[str, Any], tuple[str, ...]]:
    settings = {axis.key: value for axis, value in zip(axes, values, strict=True)}
    named = study.variants.get(settings.get(VARIANT_AXIS, ""), NamedVariant())
    recipe = settings.get(RECIPE_AXIS) or named.recipe or study.recipe
    keys = {key: value for key, value in settings.items() if key in study.grid}
    keys.pop(RECIPE_AXIS, None)
    overrides = tuple(_as_overrides({**study.settings, **named.settings, **keys}))
    name = "-".join(_name_part(axis, value) for axis, value in zip(axes, values, strict=True))
    return name or Path(str(recipe)).stem, str(recipe), settings, overrides


def _name_part(axis: Axis, value: Any) -> str:
    if axis.key == VARIANT_AXIS:
        return str(value)
    if axis.key == RECIPE_AXIS:
        return Path(str(value)).stem
    return f"{axis.label}-{write_value(value)}"


def _as_overrides(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        yield f"{key}={render_value(value)}"


def _make_unique(names: Sequence[str]) -> list[str]:
    """Tell equal names apart by a number, as file systems do that ignore case."""
    taken: set[str] = set()
    found = []
    for name in names:
        candidate, count = name, 1
        while candidate.lower() in taken:
            count += 1
            candidate = f"{name}-{count}"
        taken.add(candidate.lower())
        found.append(candidate)
    return found
