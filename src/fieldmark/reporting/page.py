"""What every page is: one HTML file with its own style, script and pictures, asking no network."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib.metadata import version

from markupsafe import Markup

from fieldmark.reporting.environment import build_environment
from fieldmark.reporting.figures import FIGURES
from fieldmark.reporting.material import as_text


def render_page(template: str, **content: object) -> str:
    """The page that `template`, which extends `page.html.j2`, makes of `content`.

    Its script is allowed by its digest alone, so nothing that a class name or a file name smuggles
    in could run even if it were not escaped.
    """
    environment = build_environment(FIGURES)
    script = environment.get_template("report.js").render()
    page = environment.get_template(template).render(
        **content,
        style=Markup(environment.get_template("report.css").render()),
        script=Markup(script),
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        version=version("fieldmark"),
    )
    return as_text(page)
