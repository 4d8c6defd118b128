"""The kinds of figures, by name; each is imported only when it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from fieldmark.errors import InspectionError, hint

if TYPE_CHECKING:
    from fieldmark.inspection.options import InspectOptions
    from fieldmark.inspection.subject import Subject
    from fieldmark.runs.figures import Drawing

    Draw = Callable[[Subject, InspectOptions], Iterator[Drawing]]

KINDS = {
    "filters": "fieldmark.inspection.filters:draw_filters",
    "features": "fieldmark.inspection.features:draw_features",
    "attention": "fieldmark.inspection.attention:draw_attention",
    "saliency": "fieldmark.inspection.saliency:draw_saliency",
    "layers": "fieldmark.inspection.layers:draw_layers",
    "landscape": "fieldmark.inspection.landscape:draw_landscape",
    "neighbours": "fieldmark.inspection.neighbours:draw_neighbours",
    "mistakes": "fieldmark.inspection.mistakes:draw_mistakes",
    "classes": "fieldmark.inspection.classes:draw_classes",
}

SLOW = frozenset({"layers", "landscape", "neighbours"})
"""Kinds that take minutes, as they read many images: drawn only when asked for by name."""


def choose_kinds(what: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds asked for, in the order of `KINDS`; none: all that are there and quick.

    Raises `InspectionError` for a name that is no kind.
    """
    unknown = [name for name in what if name not in KINDS]
    if unknown:
        raise InspectionError(
            f"--what {unknown[0]}: there is no such kind of figure.{hint(unknown[0], KINDS)} "
            f"Choose among {', '.join(KINDS)}"
        )
    if what:
        return tuple(name for name in KINDS if name in what)
    return tuple(name for name in KINDS if name not in SLOW and is_available(name))


def is_available(kind: str) -> bool:
    """Whether the module of a kind is part of this installation."""
    return find_spec(KINDS[kind].partition(":")[0]) is not None


def load_kind(kind: str) -> Draw:
    """Import what draws a kind; raises `InspectionError` where it is not there."""
    if not is_available(kind):
        raise InspectionError(
            f"--what {kind}: this installation of fieldmark cannot draw it. Choose among "
            f"{', '.join(name for name in KINDS if is_available(name))}"
        )
    home, _, name = KINDS[kind].partition(":")
    return cast("Draw", getattr(import_module(home), name))
