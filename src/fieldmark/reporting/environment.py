"""Where templates are found, and what they may use; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from fieldmark.reporting.wording import WORDING


def build_environment(tools: Mapping[str, object] | None = None) -> Environment:
    """Templates in which all data are escaped, with the words of every page and these `tools`."""
    environment = Environment(
        loader=PackageLoader("fieldmark.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(tools or {})
    environment.filters.update(WORDING)
    return environment
