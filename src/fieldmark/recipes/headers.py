"""The comment on top of a recipe that is composed of parts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

_WIDTH = 98


def render_header(
    name: str,
    *,
    line: str,
    data: str,
    cost: str | None,
    score: str | None,
    measure: str,
    notes: Sequence[str],
) -> Iterator[str]:
    """Yield comment lines: what it is, the command, published scores and cost, notes.

    `data` may explain itself in brackets, which the command leaves out.
    """
    command, _, explained = data.partition(" (")
    yield from _comment(f"{name} - {line}")
    yield "#"
    yield f"#   fieldmark train {command} --recipe {name}"
    yield "#"
    if explained:
        yield from _comment(f"DATA: {data}")
    yield from _comment(
        f"Published ({measure}): {score}."
        if score
        else "Published: nothing for this combination of parts."
    )
    if cost:
        yield from _comment(f"Cost in the study: {cost}.")
    yield from _comment("Cost and score: not measured here.")
    for note in notes:
        yield from _comment(note)
    yield "#"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False)]
