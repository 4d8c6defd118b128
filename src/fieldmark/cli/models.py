"""`fieldmark models`."""

from __future__ import annotations

from rich.text import Text

from fieldmark.cli.output import Output

WIDEST_NAME = 44


def models(pattern: str | None = None, /, *, output: Output = Output()) -> None:
    """List the models that a recipe can name.

    Parameters
    ----------
    pattern
        Part of a name, or a pattern such as 'vit_*_patch16_*'.
    """
    from fieldmark.models.catalog import list_models

    found = list_models(pattern)
    # One line each, however narrow the terminal, so that the list can be searched line by line.
    name_room = min(WIDEST_NAME, max(len(model.name) for model in found))
    source_room = max(len(model.source) for model in found)
    shown = Text("\n").join(
        Text.assemble(
            f"{model.name:<{name_room}}  ",
            (f"{model.source:<{source_room}}  ", "dim"),
            model.line,
        )
        for model in found
    )
    result = {"models": [{"name": m.name, "source": m.source, "line": m.line} for m in found]}
    output.answer(result, shown, f"\n{len(found)} model{'' if len(found) == 1 else 's'}")
