"""Reading a study file: every fault in it and in the recipes it makes is told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fieldmark.errors import RecipeError, UnknownModelError, hint
from fieldmark.models.catalog import find_model
from fieldmark.planning.studies.expansion import (
    RECIPE_AXIS,
    VARIANT_AXIS,
    Axis,
    Variant,
    expand,
    find_axes,
)
from fieldmark.planning.studies.schema import NamedVariant, StudyFile
from fieldmark.recipes import Recipe, read_recipe
from fieldmark.recipes.values import parse_yaml, render_values

# Keys of a recipe that a study gives in another place.
_ELSEWHERE = {"seed": "seeds", "data.source": "data"}
_NAMED_VARIANTS = 2


@dataclass(frozen=True)
class StudyPlan:
    """What a study will do. recipes: one for each of `variants`, of the first seed."""

    file: StudyFile
    axes: tuple[Axis, ...]
    variants: tuple[Variant, ...]
    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...]
    baseline: Variant


def read_study(
    source: str | Path | Mapping[str, Any],
    *,
    data: str | None = None,
    overrides: Sequence[str] = (),
) -> StudyPlan:
    """Read a study file, or a mapping of the same keys, and every recipe that it makes.

    `data` stands in place of the file's, `overrides` (`key=value`) on top of its `set`. Raises
    `RecipeError`, whose text tells all faults of the file and of all its recipes.
    """
    origin = "study" if isinstance(source, Mapping) else f"study {source}"
    values = dict(source) if isinstance(source, Mapping) else _read_file(Path(source), origin)
    faults: list[str] = []
    if data is not None:
        values["data"] = data
    study = _validate(_add_overrides(values, overrides, faults), faults)
    plan = None if study is None else _plan(study, faults)
    if faults or plan is None:
        raise RecipeError("\n".join([f"{origin}: cannot be used:", *(f"  {f}" for f in faults)]))
    return plan


def render_study(study: StudyFile) -> str:
    """The file with every key, as YAML."""
    values = study.model_dump(mode="json", by_alias=True)
    return "\n".join(render_values(values)) + "\n"


def name_variants(fault: str, names: Sequence[str], num_variants: int) -> str:
    """A fault with the variants that have it, unless all have."""
    if len(names) == num_variants:
        return fault
    shown = ", ".join(names[:_NAMED_VARIANTS])
    more = len(names) - _NAMED_VARIANTS
    return f"{fault} [{shown}{f' and {more} more' if more > 0 else ''} of {num_variants} variants]"


def _read_file(path: Path, origin: str) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{origin}: is not UTF-8 text") from error
    except OSError as error:
        raise RecipeError(f"{origin}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        kind = "nothing" if values is None else type(values).__name__
        raise RecipeError(f"{origin}: expected `key: value` lines, found {kind}")
    return {str(key): value for key, value in values.items()}


def _add_overrides(
    values: dict[str, Any], overrides: Sequence[str], faults: list[str]
) -> dict[str, Any]:
    given = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            faults.append(f"--set {override}: expected key=value, e.g. --set optim.epochs=10")
            continue
        try:
            given[key.strip()] = parse_yaml(text)
        except yaml.YAMLError:
            given[key.strip()] = text
    settings = values.get("set")
    if given and (settings is None or isinstance(settings, dict)):
        values["set"] = {**(settings or {}), **given}
    return values


def _validate(values: dict[str, Any], faults: list[str]) -> StudyFile | None:
    """The study; where keys are at fault, what is left without them, to find further faults."""
    try:
        return StudyFile.model_validate(values)
    except ValidationError as error:
        details = error.errors()
    # The first fault of a place is enough: a union reports one for each of its members.
    by_place = {_dotted(detail): _explain(detail) for detail in reversed(details)}
    faults += reversed(by_place.values())
    left: dict[str, Any] = values
    for detail in details:
        left = _without(left, detail["loc"])
    try:
        return StudyFile.model_validate(left)
    except ValidationError:
        return None


def _without(values: dict[str, Any], place: Sequence[str | int]) -> dict[str, Any]:
    """The tree without what stands at `place`, or the deepest part of it that there is."""
    key, rest = str(place[0]), place[1:]
    inner = values.get(key)
    if rest and isinstance(inner, dict) and str(rest[0]) in inner:
        return {**values, key: _without(inner, rest)}
    return {k: v for k, v in values.items() if k != key}


def _dotted(detail: ErrorDetails) -> str:
    place = [str(part) for part in detail["loc"]]
    return ".".join(place[:1] if place[:1] in (["seeds"], ["keep_weights"]) else place)


def _explain(detail: ErrorDetails) -> str:
    dotted, last = _dotted(detail), str(detail["loc"][-1])
    if detail["type"] == "extra_forbidden":
        section = StudyFile if len(detail["loc"]) == 1 else NamedVariant
        known = [field.alias or name for name, field in section.model_fields.items()]
        close = hint(last, known)
        if not close and last.partition(".")[0] in Recipe.model_fields:
            close = f" A key of the recipe stands under `set`: set: {{{last}: ...}}"
        return f"{dotted}: unknown key.{close or ' Known are ' + ', '.join(known)}"
    if dotted == "keep_weights":
        return f"{dotted}: expected auto, true or false (received {detail['input']!r})"
    message = detail["msg"].removeprefix("Value error, ")
    received = "" if isinstance(detail["input"], dict) else f" (received {detail['input']!r})"
    return f"{dotted}: {message[0].lower()}{message[1:]}{received}"


def _plan(study: StudyFile, faults: list[str]) -> StudyPlan | None:
    """Everything that follows from the file; what is wrong goes to `faults`."""
    from fieldmark.evaluation.metrics import METRICS  # which needs torch

    # Of a study that is at fault already, what is missing may be what could not be read.
    was_whole = not faults
    faults += _find_contradictions(study)
    variants = expand(study)
    recipes = _read_recipes(variants, faults)
    if study.metric not in METRICS:
        known = f"expected one of {', '.join(METRICS)}"
        faults.append(f"metric: {known}, not {study.metric}.{hint(study.metric, METRICS)}")
    names = {variant.name: variant for variant in variants}
    baseline = variants[0] if study.baseline is None else names.get(study.baseline)
    if baseline is None and was_whole:
        told = ", ".join(names) if len(names) <= 12 else f"{len(names)} variants"
        close = hint(str(study.baseline), names)
        faults.append(f"baseline: {study.baseline} is none of {told}.{close}")
    seeds = _find_seeds(study, [recipe.seed for recipe in recipes.values()])
    if was_whole and len(variants) * len(seeds) < 2:
        faults.append("is a single run: give a `grid`, `variants` or more `seeds`")
    if faults or baseline is None:
        return None
    found = [recipes[variant.name].model_copy(update={"seed": seeds[0]}) for variant in variants]
    return StudyPlan(study, find_axes(study), variants, tuple(found), seeds, baseline)


def _find_contradictions(study: StudyFile) -> Iterator[str]:
    """Keys that are given twice, or in the wrong place."""
    places: dict[str, Mapping[str, Any]] = {"set": study.settings, "grid": study.grid}
    for name, variant in study.variants.items():
        places[f"variants.{name}.set"] = variant.settings
    for place, settings in places.items():
        for key in settings:
            wanted = _ELSEWHERE.get(key)
            # A first seed may be set; which there are says `seeds`.
            if wanted is not None and (place, key) != ("set", "seed"):
                yield f"{place}.{key}: stands under `{wanted}` in a study"
            if place != "grid" and key in study.grid:
                yield f"{place}.{key}: is in `grid` too, which would take its place"
            if key == VARIANT_AXIS:
                yield f"{place}.{key}: is no key of a recipe. Named variants are `variants`"
    if RECIPE_AXIS in study.grid:
        for name, variant in study.variants.items():
            if variant.recipe is not None:
                yield f"variants.{name}.recipe: `grid` gives the recipes"


def _read_recipes(variants: Sequence[Variant], faults: list[str]) -> dict[str, Recipe]:
    """The recipe of each variant by its name; a fault of several is told once."""
    recipes: dict[str, Recipe] = {}
    by_fault: dict[str, list[str]] = {}
    for variant in variants:
        try:
            recipe = read_recipe(variant.recipe, variant.overrides)
            find_model(recipe.model.name)
            recipes[variant.name] = recipe
        except UnknownModelError as error:
            by_fault.setdefault(str(error), []).append(variant.name)
        except RecipeError as error:
            lines = str(error).splitlines()
            for line in lines[1:] or lines:
                by_fault.setdefault(line.strip(), []).append(variant.name)
    faults += (name_variants(fault, names, len(variants)) for fault, names in by_fault.items())
    same: dict[str, str] = {}
    for name, recipe in recipes.items():
        first = same.setdefault(recipe.model_dump_json(), name)
        if first != name:
            faults.append(f"variants {first} and {name} are the same recipe")
    return recipes


def _find_seeds(study: StudyFile, recipe_seeds: Sequence[int]) -> tuple[int, ...]:
    if isinstance(study.seeds, tuple):
        return study.seeds
    first = recipe_seeds[0] if recipe_seeds else 0
    return tuple(range(first, first + study.seeds))
