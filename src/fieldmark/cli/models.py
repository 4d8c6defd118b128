"""`fieldmark models`."""

from __future__ import annotations

from rich import box
from rich.table import Table

from fieldmark.cli.output import Output


def models(pattern: str | None = None, /, *, output: Output = Output()) -> None:
    """List the models that a recipe can name.

    Parameters
    ----------
    pattern
        Part of a name, or a pattern such as 'vit_*_patch16_*'.
    """
    from fieldmark.models.catalog import list_models

    found = list_models(pattern)
    table = Table("model", "source", "what it is", box=box.SIMPLE_HEAD)
    for model in found:
        table.add_row(model.name, model.source, model.line)
    result = {"models": [{"name": m.name, "source": m.source, "line": m.line} for m in found]}
    output.answer(result, table, f"{len(found)} models")
