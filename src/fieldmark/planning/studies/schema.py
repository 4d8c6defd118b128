"""What a study file may say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from fieldmark.recipes.schema import Section

MAX_SEED = 2**32
MAX_NAME = 60


class NamedVariant(Section):
    """One variant by name: keys of its own, and a recipe of its own where it needs one."""

    recipe: str | None = Field(default=None, description="in place of the study's recipe")
    settings: dict[str, Any] = Field(default_factory=dict, alias="set", description="recipe keys")


class StudyFile(Section):
    """A study: variants of a recipe, each over the same seeds.

    `grid` gives every combination of its values, `variants` names some; with both, every variant
    is taken through the whole grid.
    """

    data: str | None = Field(default=None, description="labelled images, in any form of DATA")
    recipe: str = Field(default="quick", min_length=1, description="a shipped name or a .yaml file")
    settings: dict[str, Any] = Field(
        default_factory=dict, alias="set", description="keys of the recipe, for every run"
    )
    grid: dict[str, list[Any]] = Field(
        default_factory=dict, description="keys of the recipe (or `recipe`), each with its values"
    )
    variants: dict[str, NamedVariant] = Field(
        default_factory=dict, description="further variants by name"
    )
    seeds: int | tuple[int, ...] = Field(
        default=1, description="how many, from the recipe's seed on, or a list of them"
    )
    metric: str = Field(default="accuracy", description="what variants are compared by, on test")
    baseline: str | None = Field(
        default=None, description="the variant that all others are held against; null: the first"
    )
    keep_weights: Literal["auto"] | bool = Field(
        default="auto",
        description="keep `best/` of each run; auto: where the whole network was trained",
    )

    @field_validator("grid", mode="after")
    @classmethod
    def _has_values(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in grid.items():
            if not values:
                raise ValueError(f"{key} has no values; expected a list, e.g. {key}: [1, 2]")
            twice = [value for place, value in enumerate(values) if value in values[:place]]
            if twice:
                raise ValueError(f"{key} has the value {twice[0]} more than once")
        return grid

    @field_validator("variants", mode="before")
    @classmethod
    def _may_be_empty(cls, variants: Any) -> Any:
        """`plain:` with nothing behind it is the recipe as it is."""
        if not isinstance(variants, dict):
            return variants
        return {name: {} if entry is None else entry for name, entry in variants.items()}

    @field_validator("variants", mode="after")
    @classmethod
    def _has_names(cls, variants: dict[str, NamedVariant]) -> dict[str, NamedVariant]:
        for name in variants:
            if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
                raise ValueError(
                    f"the name {name!r}: expected 1 to {MAX_NAME} printable characters"
                )
        return variants

    @field_validator("seeds", mode="before")
    @classmethod
    def _are_seeds(cls, seeds: Any) -> Any:
        many = seeds if isinstance(seeds, list | tuple) else [seeds]
        if any(not isinstance(seed, int) or isinstance(seed, bool) for seed in many):
            raise ValueError("expected a number from 1, or a list of seeds")
        if many is not seeds:
            if seeds < 1:
                raise ValueError("expected a number from 1, or a list of seeds")
            return seeds
        if not many or len(set(many)) < len(many):
            raise ValueError("expected a list of different seeds, at least one")
        if min(many) < 0 or max(many) >= MAX_SEED:
            raise ValueError(f"expected seeds from 0 to {MAX_SEED - 1}")
        return tuple(many)
