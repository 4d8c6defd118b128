"""`fieldmark check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

from cyclopts import Parameter

from fieldmark.cli.output import Output, stdout_for_results
from fieldmark.errors import RecipeError, hint

if TYPE_CHECKING:
    from fieldmark.data.audit.crops import Geometry
    from fieldmark.data.audit.deep import Network
    from fieldmark.data.table import Table
    from fieldmark.recipes.schema import Task


def check(
    data: str,
    /,
    *,
    task: str | None = None,
    column: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    image_root: str | None = None,
    allow_outside: bool = False,
    recipe: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    deep: bool = False,
    model: str | None = None,
    weights: Path | None = None,
    out: Path = Path("audit.html"),
    page: Annotated[bool, Parameter(negative="--no-page")] = True,
    output: Output = Output(),
) -> None:
    """Look for faults in labelled images before anything is trained on them.

    Unreadable and odd files, copies (exact, mirrored, look-alike), labels that contradict each
    other, leaks across a given split, class sizes and names, telling tags, and what a crop would
    discard. Nothing is changed but the page.

    Parameters
    ----------
    data
        Labelled images, in any form that `train` takes.
    task
        multiclass, binary or multilabel.
    column
        Columns of the table by role, e.g. image=path label=species.
    image_root
        The folder that image paths are relative to. Default: the table's.
    allow_outside
        Accept image paths that leave that folder.
    recipe
        The recipe whose resize and crop are judged. Default: the defaults of all recipes.
    set_
        Change the recipe: key=value, e.g. data.image_size=384 data.resize=shorter.
    deep
        Also find labels that look wrong, and copies that only a network sees (minutes on a CPU;
        needs the extra `audit`).
    model
        With --deep: the network that looks. Default: vit_tiny_patch16_224.
    weights
        With --deep: its weights file. Default: its published weights.
    out
        The page with pictures. An older page is replaced, any other file is refused.
    page
        Write no page.
    """
    from fieldmark.cli.audit_view import as_json, draw_audit
    from fieldmark.reporting.audit_page import check_place
    from fieldmark.verbs.audit import check as check_verb

    network = _choose_network(deep, model, weights)
    geometry = _choose_geometry(recipe, set_)
    if page:
        check_place(out)  # before the work, not after it
    table = _read_data(
        data, task=task, column=column, image_root=image_root, allow_outside=allow_outside
    )
    with stdout_for_results(), output.counting("looking") as counter:
        found = check_verb(table, geometry=geometry, network=network, progress=counter)
    written = found.save_page(out).absolute() if page else None
    shown = draw_audit(found)
    if written is not None:
        shown.append(f"page     {written}")
    output.answer(as_json(found) | {"page": None if written is None else str(written)}, *shown)


def _choose_network(deep: bool, model: str | None, weights: Path | None) -> Network | None:
    if not deep:
        if model is not None or weights is not None:
            raise RecipeError(f"--{'model' if model else 'weights'} goes with --deep: add it")
        return None
    from fieldmark.data.audit.deep import DEFAULT_MODEL, Network

    return Network(model or DEFAULT_MODEL, None if weights is None else str(weights))


def _read_data(
    data: str,
    *,
    task: str | None,
    column: tuple[str, ...],
    image_root: str | None,
    allow_outside: bool,
) -> Table:
    from fieldmark.data.sources import read_table
    from fieldmark.recipes.schema import Task

    if task is not None and task not in get_args(Task):
        known = get_args(Task)
        raise RecipeError(f"--task {task}: expected one of {', '.join(known)}.{hint(task, known)}")
    return read_table(
        data,
        task=cast("Task | None", task),
        columns=dict(pair.partition("=")[::2] for pair in column),
        image_root=image_root,
        allow_outside=allow_outside,
    )


def _choose_geometry(recipe: str | None, changes: tuple[str, ...]) -> Geometry:
    """How the recipe cuts images; without one, at 224 px, since `quick` sees less than most do."""
    from fieldmark.data.audit.crops import Geometry
    from fieldmark.recipes import read_recipe

    usual = [] if recipe is not None else [f"data.image_size={Geometry().image_size}"]
    data = read_recipe(recipe, [*usual, *changes]).data
    return Geometry(data.image_size, data.resize, data.crop)
