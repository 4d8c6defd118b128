"""Recipe values as plain trees: read from YAML, laid over each other, written back."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

Values = dict[str, Any]


def parse_yaml(text: str) -> Any:
    """Read YAML 1.2 as far as recipes need it; raises `yaml.YAMLError`."""
    return yaml.load(text, _Loader)


def merge_values(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """Lay one tree over another, key by key."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = merge_values(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def sort_values(values: Mapping[str, Any], section: type[BaseModel]) -> Values:
    """Bring keys into the order of the schema; unknown ones go last."""
    places = {key: place for place, key in enumerate(section.model_fields)}
    found = {}
    for key in sorted(values, key=lambda key: places.get(key, len(places))):
        value, inner = values[key], section_of(section, key)
        nested = inner is not None and isinstance(value, Mapping)
        found[key] = sort_values(value, inner) if nested else value  # type: ignore[arg-type]
    return found


def section_of(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the section that stands under this key; None for a plain or an unknown one."""
    field = section.model_fields.get(key)
    annotation = None if field is None else field.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def render_values(values: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield the lines of a tree: sections as blocks, lists on one line."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield f"{'  ' * depth}{key}:"
            yield from render_values(value, depth + 1)
        else:
            yield f"{'  ' * depth}{key}: {render_value(value)}"


def render_value(value: object) -> str:
    """One value on one line."""
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


class _Loader(yaml.SafeLoader):
    """YAML with the booleans of YAML 1.2 (`off` stays a word) and no key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        ]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"key written twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF")
)
