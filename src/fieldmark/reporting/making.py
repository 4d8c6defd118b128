"""How a run was made: the recipe, what it cost, and on which machine and versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from fieldmark.recipes import Recipe, render_recipe
from fieldmark.reporting.material import Material
from fieldmark.reporting.wording import say_count, say_duration, say_energy, say_memory

_COMMENT = "  # "


@dataclass(frozen=True)
class Making:
    """What to repeat a run by, and what to expect of it.

    changes: recipe keys that differ from the defaults, with their values. recipe: its lines as
    (yaml, meaning). cost, machine, versions: names and values in words; empty before the end.
    """

    changes: tuple[tuple[str, str], ...]
    recipe: tuple[tuple[str, str], ...]
    cost: tuple[tuple[str, str], ...]
    machine: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]


def build_making(material: Material) -> Making:
    """Recipe and environment in words."""
    environment = material.environment
    return Making(
        changes=tuple(_find_changes(material.recipe, Recipe())),
        recipe=tuple(
            line.partition(_COMMENT)[::2] for line in render_recipe(material.recipe).splitlines()
        ),
        cost=tuple(_say_cost(environment)),
        machine=tuple(_say_machine(environment)),
        versions=tuple(_say_versions(environment)),
    )


def _find_changes(
    section: BaseModel, default: BaseModel, prefix: str = ""
) -> Iterator[tuple[str, str]]:
    for key in type(section).model_fields:
        value, usual = getattr(section, key), getattr(default, key)
        if isinstance(value, BaseModel) and type(value) is type(usual):
            yield from _find_changes(value, usual, f"{prefix}{key}.")
        elif value != usual:
            yield f"{prefix}{key}", _say_value(value)


def _say_value(value: object) -> str:
    if isinstance(value, BaseModel):
        return ", ".join(f"{key} {_say_value(inner)}" for key, inner in value)
    if isinstance(value, tuple | list):
        return ", ".join(map(_say_value, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_say_value(inner)}" for key, inner in value.items())
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _say_cost(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "seconds" in environment:
        yield "Training time", say_duration(environment["seconds"])
    if "images_per_second" in environment:
        yield "Speed", f"{say_count(round(environment['images_per_second']))} images/s"
    if "peak_memory_mb" in environment:
        yield "Peak memory", say_memory(environment["peak_memory_mb"])
    energy = environment.get("energy_wh", {})
    if energy:
        names = ", ".join(energy)
        yield "Energy", f"{say_energy(sum(energy.values()))} ({names}, all that ran on it)"


def _say_machine(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    named = {
        "Hardware": "device_name",
        "Device": "device",
        "Precision": "precision",
        "CPU cores": "cpu_cores",
        "Threads": "threads",
        "System": "platform",
    }
    for name, key in named.items():
        if environment.get(key) is not None:
            yield name, str(environment[key])


def _say_versions(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "python" in environment:
        yield "Python", str(environment["python"])
    for package, version in environment.get("packages", {}).items():
        if version is not None:
            yield package, str(version)
    if environment.get("git_commit"):
        yield "git commit", str(environment["git_commit"])
