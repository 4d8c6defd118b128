"""`inspect`: the figures of what a run learned and why it answered."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fieldmark.data.sources import build_table
from fieldmark.data.table import Table
from fieldmark.errors import DataError, InspectionError, RunChangedError, hint
from fieldmark.inspection.kinds import choose_kinds, load_kind
from fieldmark.inspection.options import InspectOptions, ignore_note
from fieldmark.inspection.subject import Subject
from fieldmark.runs.figures import FigureEntry, save_drawings
from fieldmark.training.devices import choose_device
from fieldmark.verbs.run import Run


def inspect(
    run: Run,
    *,
    images: Sequence[str | Path] = (),
    what: Sequence[str] = (),
    **options: Any,
) -> list[FigureEntry]:
    """Draw figures of a run into its `figures/`, and return what they show.

    images: pictures to look at; none: some of the run's test split.
    what: kinds of `inspection.kinds.KINDS`; none: all that the network and the data allow and
        that take seconds. Then a kind that cannot be drawn becomes a note, in place of an error.
    options: fields of `InspectOptions`. Notes become warnings where no `note` takes them.

    Raises `InspectionError` for what cannot be drawn as asked.
    """
    chosen = _read_options(options)
    kinds = choose_kinds(what)
    subject = Subject(
        folder=run.folder,
        predictor=run.predictor(choose_device()),
        table=_find_table(run, chosen.note),
        images=tuple(map(str, images)),
    )
    drawn: list[FigureEntry] = []
    for kind in kinds:
        try:
            drawn += save_drawings(run.folder, load_kind(kind)(subject, chosen))
        except InspectionError as error:
            if what:
                raise
            chosen.note(str(error))
    return drawn


def _read_options(options: dict[str, Any]) -> InspectOptions:
    known = [field.name for field in fields(InspectOptions)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InspectionError(
            f"inspect: there is no option '{unknown[0]}'.{hint(unknown[0], known)} Options are "
            f"{', '.join(known)}"
        )
    chosen = InspectOptions(**options)
    if chosen.note is ignore_note:
        return replace(chosen, note=_warn)
    return chosen


def _warn(note: str) -> None:
    warnings.warn(note, stacklevel=4)


def _find_table(run: Run, note: Callable[[str], None]) -> Table | None:
    """The run's own images with their split; where they are gone, a note says so."""
    try:
        source = run.table or build_table(run.recipe.data, run.recipe.task)
        return run.folder.restore_table(source)
    except (DataError, RunChangedError) as error:
        note(f"the run's own images are gone: figures that need them are left out. {error}")
        return None
