"""Recipes in and out: YAML files, the shipped library, overrides, and faults told to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fieldmark.errors import RecipeError, hint, nearest
from fieldmark.recipes.family_files import find_text, read_families, suggest_name
from fieldmark.recipes.schema import Recipe, Section
from fieldmark.recipes.values import merge_values, parse_yaml, render_value, section_of

LIBRARY = files("fieldmark.recipes") / "library"
DEFAULT_RECIPE = "quick"
_OTHER_WORDS = {
    "learning_rate": "lr",
    "wd": "weight_decay",
    "arch": "name",
    "scheduler": "schedule",
}


def read_recipe(name_or_path: str | Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of that shipped name or YAML file, with `key=value` overrides applied.

    A recipe may name another as its `base` and give only what differs. Every fault in the file
    and in the overrides is reported at once.
    """
    values, origin = _read_values(name_or_path or DEFAULT_RECIPE, seen=())
    faults = _apply(values, overrides)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        # The first fault of a key is enough: a union reports one for each of its members.
        details = [detail for detail in error.errors() if not _is_beside_the_point(detail)]
        by_key = {_dotted(detail): _explain(detail) for detail in reversed(details)}
        faults += reversed(by_key.values())
    if faults:
        raise RecipeError("\n".join([f"{origin}: cannot be used:", *(f"  {f}" for f in faults)]))
    return recipe


def list_recipes() -> dict[str, str]:
    """Name -> one line, for every shipped recipe, those of families behind the others."""
    lines = {
        name: str(parse_yaml(read_shipped_text(name)).get("description", ""))
        for name in _plain_names()
    }
    for family in read_families():
        for name in family.names():
            lines[name] = family.title + family.describe(family.find_words(name) or {})
    return lines


def read_shipped_text(name: str) -> str:
    """The text of a shipped recipe, comments included."""
    if name in _plain_names():
        return (LIBRARY / f"{name}.yaml").read_text(encoding="utf-8")
    text = find_text(name)
    if text is None:
        reordered = suggest_name(name)
        meant = f" Did you mean '{reordered}'?" if reordered else hint(name, list_recipes())
        raise RecipeError(
            f"recipe '{name}': there is none of that name.{meant} "
            "`fieldmark recipes` lists them; a file is given by its path ending in .yaml"
        )
    return text


def render_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML, each key with its meaning as a comment."""
    return "\n".join(_render_section(recipe, depth=0)) + "\n"


def _plain_names() -> list[str]:
    names = [entry.name for entry in LIBRARY.iterdir() if entry.name.endswith(".yaml")]
    return sorted(name.removesuffix(".yaml") for name in names)


def _read_values(name_or_path: str | Path, seen: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    path = Path(name_or_path)
    is_file = path.suffix in {".yaml", ".yml"} or isinstance(name_or_path, Path)
    origin = f"recipe {name_or_path}"
    if str(name_or_path) in seen:
        raise RecipeError(f"{origin}: its `base` leads back to itself: {' > '.join(seen)}")
    text = _read_file(path) if is_file else read_shipped_text(str(name_or_path))
    try:
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: not valid YAML: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise RecipeError(f"{origin}: expected `key: value` lines, found {type(values).__name__}")
    values = _spell_out(Recipe, values)
    base = values.pop("base", None)
    if base is not None:
        below, _ = _read_values(str(base), (*seen, str(name_or_path)))
        values = merge_values(below, values)
    return values, origin


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {path}: is not UTF-8 text") from error
    except OSError as error:
        raise RecipeError(
            f"recipe {path}: cannot be read: {error.strerror}. "
            "Give a file, or one of the names that `fieldmark recipes` lists"
        ) from error


def _spell_out(section: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Write sections that are given as one word in full, so that they merge key by key."""
    spelled = dict(values)
    for key, value in values.items():
        inner = section_of(section, key)
        if inner is None or value is None:
            continue
        if isinstance(value, dict):
            spelled[key] = _spell_out(inner, value)
        elif issubclass(inner, Section) and inner.word_key is not None:
            spelled[key] = {inner.word_key: value}
    return spelled


def _apply(values: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Write each `a.b=value` into the tree; return what could not be."""
    faults = []
    for override in overrides:
        dotted, separator, text = override.partition("=")
        if not separator or not dotted.strip():
            faults.append(f"--set {override}: expected key=value, e.g. --set optim.lr=0.01")
            continue
        try:
            value = parse_yaml(text)
        except yaml.YAMLError:
            value = text
        keys = dotted.strip().split(".")
        for key in reversed(keys):
            value = {key: value}
        values.update(merge_values(values, _spell_out(Recipe, value)))
    return faults


def _explain(detail: ErrorDetails) -> str:
    """One fault in words: which key, what came, what was expected."""
    place = detail["loc"]
    keys, dotted = _real_keys(place), _dotted(detail)
    if detail["type"] == "extra_forbidden":
        return f"{dotted}: unknown key.{_key_hint(keys)}"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    received = "" if isinstance(detail["input"], dict) else f" (received {detail['input']!r})"
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        choices = [
            c.strip("'") for c in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")
        ]
        return f"{dotted}: {message}{received}.{hint(detail['input'], choices)}"
    return f"{dotted}: {message}{received}"


def _is_beside_the_point(detail: ErrorDetails) -> bool:
    """Whether a section was given where a word is also possible: its own fault says more."""
    return detail["type"] == "literal_error" and isinstance(detail["input"], dict)


def _dotted(detail: ErrorDetails) -> str:
    return ".".join(map(str, _real_keys(detail["loc"]))) or "recipe"


def _real_keys(place: Sequence[str | int]) -> list[str | int]:
    """The place without the tried member of a union, which pydantic adds to it."""
    section: type[BaseModel] | None = Recipe
    keys: list[str | int] = []
    for part in place:
        known = section is not None and part in section.model_fields
        if keys and section is None and not isinstance(part, int):
            break
        keys.append(part)
        section = section_of(section, str(part)) if known and section is not None else None
    return keys


def _key_hint(keys: Sequence[str | int]) -> str:
    """The nearest key of the same section, else the nearest anywhere in the recipe."""
    every = dict(_walk_keys(Recipe, ""))
    dotted, last = ".".join(map(str, keys)), str(keys[-1])
    wanted = _OTHER_WORDS.get(last, last)
    same_name = [key for key, name in every.items() if name == wanted]
    close = (
        same_name
        or nearest(dotted, every)
        or [key for name in nearest(last, every.values()) for key in every if every[key] == name]
    )
    return f" Did you mean '{close[0]}'?" if close else " `fieldmark recipes quick` shows all keys"


def _walk_keys(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for key in section.model_fields:
        yield f"{prefix}{key}", key
        inner = section_of(section, key)
        if inner is not None:
            yield from _walk_keys(inner, f"{prefix}{key}.")


def _render_section(section: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, BaseModel) and section_of(type(section), key):
            yield f"{indent}{key}:  # {field.description}"
            yield from _render_section(value, depth + 1)
        else:
            plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            yield f"{indent}{key}: {render_value(plain)}  # {field.description}"
