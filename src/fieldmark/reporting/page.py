"""What every page is: one HTML file with its own style, script and pictures, asking no network."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fieldmark.reporting.figures import FIGURES
from fieldmark.reporting.material import as_text
from fieldmark.reporting.wording import WORDING


def render_page(template: str, **content: object) -> str:
    """The page that `template`, which extends `page.html.j2`, makes of `content`.

    Its script is allowed by its digest alone, so nothing that a class name or a file name smuggles
    in could run even if it were not escaped.
    """
    environment = build_environment()
    script = environment.get_template("report.js").render()
    page = environment.get_template(template).render(
        **content,
        style=Markup(environment.get_template("report.css").render()),
        script=Markup(script),
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        version=version("fieldmark"),
    )
    return as_text(page)


def build_environment() -> Environment:
    """Where templates are found, escaped, with the figures and the words that they use."""
    environment = Environment(
        loader=PackageLoader("fieldmark.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tools: Mapping[str, object] = FIGURES
    environment.globals.update(tools)
    environment.filters.update(WORDING)
    return environment
