"""`train`: data and a recipe in, a run out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.data.sources import build_table
from fieldmark.data.table import Table
from fieldmark.errors import RecipeError
from fieldmark.recipes import Recipe, read_recipe
from fieldmark.training.events import Event, Listener
from fieldmark.training.session import train_run
from fieldmark.verbs.run import Run


def train(
    data: Table | str | Path | None = None,
    *,
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Train one run and return it.

    `data` may be left out where the recipe names its source. `recipe` is a shipped name, a file
    or a `Recipe`; `overrides` are `key=value` on top of it. `out` defaults to
    `runs/<data>-<recipe>`; a folder that exists is refused unless `resume`, which takes the
    run's own recipe where none is given.
    """
    if resume and recipe is None and out is not None and (Path(out) / "recipe.yaml").is_file():
        recipe = Path(out) / "recipe.yaml"
    resolved = resolve_recipe(data, recipe, overrides)
    table = data if isinstance(data, Table) else build_table(resolved.data, resolved.task)
    path = Path(out) if out is not None else _default_path(resolved, recipe)
    folder = train_run(table, resolved, path, resume=resume, listener=listener or _ignore)
    return Run(folder, table)


def resolve_recipe(
    data: Table | str | Path | None,
    recipe: str | Path | Recipe | None,
    overrides: Sequence[str] = (),
) -> Recipe:
    """The recipe as a run keeps it: `overrides` on top, data and files written into it.

    Raises `RecipeError` where neither `data` nor the recipe names a source.
    """
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    return _resolve_files(_resolve_source(chosen, data))


def _resolve_source(recipe: Recipe, data: Table | str | Path | None) -> Recipe:
    """The recipe with the data written into it, so that its file alone repeats the run."""
    if isinstance(data, Table):
        found = {
            "source": _absolute(data.source),
            "columns": dict(data.columns),
            "image_root": None if data.image_root is None else _absolute(data.image_root),
            "allow_outside": data.allow_outside,
        }
        section = recipe.data.model_copy(update=found)
        return recipe.model_copy(update={"data": section, "task": data.task})
    source = data if data is not None else recipe.data.source
    if source is None:
        raise RecipeError(
            "DATA is missing: give a folder, a table, sample:leaves or another form "
            "(`fieldmark train --help`), or a recipe whose data.source names it"
        )
    root = recipe.data.image_root
    found = {"source": _absolute(source), "image_root": None if root is None else _absolute(root)}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=found)})


def _resolve_files(recipe: Recipe) -> Recipe:
    """The recipe with the files it names made absolute, so that it repeats the run anywhere."""
    found: dict[str, object] = {}
    if recipe.model.weights is not None:
        found["weights"] = _absolute(recipe.model.weights)
    tags, distill = recipe.model.tags, recipe.loss.distill
    named = {key: getattr(tags, key) for key in ("vocabulary", "exclude")}
    files = {key: _absolute(name) for key, name in named.items() if name and Path(name).exists()}
    found["tags"] = tags.model_copy(update=files)
    loss = recipe.loss
    if distill.teacher is not None and Path(distill.teacher).is_dir():  # else a name of timm
        teacher = {"teacher": _absolute(distill.teacher)}
        loss = loss.model_copy(update={"distill": distill.model_copy(update=teacher)})
    model = recipe.model.model_copy(update=found)
    return recipe.model_copy(update={"model": model, "loss": loss})


def _absolute(source: str | Path) -> str:
    """The source with its path made absolute, also behind `hf:` or `daf:`."""
    if Path(source).exists():
        return str(Path(source).absolute())
    form, separator, rest = str(source).partition(":")
    place, tail_separator, tail = rest.partition(":")
    if separator and Path(place).is_dir():
        return f"{form}:{Path(place).absolute()}{tail_separator}{tail}"
    return str(source)


def _default_path(resolved: Recipe, recipe: str | Path | Recipe | None) -> Path:
    source = (resolved.data.source or "data").rstrip("/")
    # sample:leaves -> leaves; a folder or file -> its name; train.csv says less than its folder.
    stem = Path(source.rsplit(":", 1)[-1]).stem
    if stem in {"train", "table", "labels", "data"} and Path(source).exists():
        stem = Path(source).parent.name or stem
    kind = "custom" if isinstance(recipe, Recipe) else Path(recipe or "quick").stem
    return Path("runs") / (stem if kind == "recipe" else f"{stem}-{kind}")


def _ignore(event: Event) -> None:
    """Nobody listens."""
