"""Which networks there are: those of our own in `CATALOG`, and every classifier of timm.

Nothing here imports torch until a network is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from fieldmark.errors import UnknownModelError, hint
from fieldmark.models.classic.leaf_records import LEAF_RECORDS
from fieldmark.models.classic.records import CLASSIC_RECORDS
from fieldmark.models.records import BackboneOptions, ModelRecord
from fieldmark.models.vit.records import SMALL_VIT_RECORDS

if TYPE_CHECKING:
    from fieldmark.models.backbones import Backbone

TIMM_NAMES_FILE = "timm_names.tsv"


@dataclass(frozen=True)
class ModelSummary:
    """One line of `fieldmark models`."""

    name: str
    source: str
    line: str


def list_models(pattern: str | None = None) -> list[ModelSummary]:
    """List the networks whose name matches, ours first.

    `pattern` is part of a name, or has `*`, `?` or `[...]` as in file names. Raises
    `UnknownModelError` where nothing matches.
    """
    ours = [ModelSummary(r.name, r.source, r.description) for r in CATALOG.values()]
    every = [*ours, *_read_timm_names()]
    if not pattern:
        return every
    found = [model for model in every if _matches(model.name, pattern)]
    if not found:
        names = [model.name for model in every]
        raise UnknownModelError(
            f"there is no model like '{pattern}'.{hint(pattern, names)} "
            "`fieldmark models` lists all."
        )
    return found


def find_model(name: str) -> ModelRecord:
    """Return the record of a catalog name or of a timm name, with or without `.tag`.

    Raises `UnknownModelError` that names the nearest.
    """
    if name in CATALOG:
        return CATALOG[name]
    from fieldmark.models.timm_zoo import find_timm_size

    default_size = find_timm_size(name)
    if default_size is None:
        names = [model.name for model in list_models()]
        kin = [own for own in CATALOG if own.startswith(f"{name}-")]  # resnet20 -> resnet20-cifar
        meant = f" Did you mean '{kin[0]}'?" if kin else hint(name.partition(".")[0], names)
        raise UnknownModelError(
            f"model.name: there is no model '{name}'.{meant} "
            "`fieldmark models PATTERN` lists those that there are."
        )
    return ModelRecord(
        name=name,
        source="timm",
        description="network of timm",
        image_size=default_size,
        build_backbone=lambda options: _build_timm(name, options),
    )


def _matches(name: str, pattern: str) -> bool:
    if any(character in pattern for character in "*?["):
        return fnmatchcase(name, pattern)
    return pattern in name


@cache
def _read_timm_names() -> tuple[ModelSummary, ...]:
    """Read the list that is shipped; its lines are name, image size and names of the weights."""
    text = resources.files("fieldmark.models").joinpath(TIMM_NAMES_FILE).read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        ModelSummary(name, "timm", f"{size} px; weights: {tags or 'none'}")
        for name, size, tags in rows
    )


def _build_timm(name: str, options: BackboneOptions) -> Backbone:
    from fieldmark.models.timm_zoo import build_timm_backbone

    return build_timm_backbone(name, options)


CATALOG: dict[str, ModelRecord] = {
    record.name: record for record in (*LEAF_RECORDS, *CLASSIC_RECORDS, *SMALL_VIT_RECORDS)
}
