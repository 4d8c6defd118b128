"""`fieldmark summary`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fieldmark.cli.layer_tree import Branch, grow_tree, walk
from fieldmark.cli.output import Output, stdout_for_results
from fieldmark.errors import RecipeError

if TYPE_CHECKING:
    from fieldmark.models.summary.table import LayerRow, Summary

KILO, MEGA = 1e3, 1e6
COLUMNS = ("shape", "parameters", "M mult-adds", "output kB", "sees")
NARROWEST_LABEL = 16


def summary(
    name: str | None = None,
    /,
    *,
    image_size: int | None = None,
    classes: int = 1000,
    batch_size: int | None = None,
    recipe: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    depth: int = 3,
    output: Output = Output(),
) -> None:
    """Show a network layer by layer: output shape, parameters, multiply-adds, receptive field.

    What the numbers mean is in `--help`; see `app.SUMMARY_HELP`.

    Parameters
    ----------
    name
        A model, e.g. alexnet or vit_base_patch16_224 (`fieldmark models` lists them).
    image_size
        Side of the images, px. Default: the model's own.
    classes
        Number of classes.
    batch_size
        Images per step, for the memory. Default: 1.
    recipe
        Take model, image size, batch size and optimizer from this recipe.
    set_
        Keys of the recipe: model.patches=rotated model.head=ifa optim.name=sgd precision=bf16 ...
    depth
        Levels of modules shown; equal neighbours stand in one line.
    """
    from fieldmark.models.summary.table import summarize
    from fieldmark.recipes import read_recipe

    given = {"model.name": name, "data.image_size": image_size, "optim.batch_size": batch_size}
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None] + [*set_]
    keys = {override.partition("=")[0] for override in overrides}
    _check(classes=classes, depth=depth, has_model=recipe is not None or "model.name" in keys)
    wanted = read_recipe(recipe, overrides)
    takes_size = recipe is not None or "data.image_size" in keys
    takes_batch = recipe is not None or "optim.batch_size" in keys
    with stdout_for_results():
        found = summarize(
            wanted.model.name,
            image_size=wanted.data.image_size if takes_size else None,
            num_classes=classes,
            batch_size=wanted.optim.batch_size if takes_batch else 1,
            model=wanted.model,
            optim=wanted.optim,
            precision="fp32" if wanted.precision == "auto" else wanted.precision,
            device="cpu" if wanted.device in ("auto", "cpu") else "cuda",
        )
    output.answer(_as_json(found), _draw_layers(found, depth), _write_totals(found))


def _check(*, classes: int, depth: int, has_model: bool) -> None:
    if not has_model:
        raise RecipeError(
            "the name of a model is missing: give one, e.g. `fieldmark summary resnet18`, or "
            "--recipe. `fieldmark models` lists the names"
        )
    for option, value in (("--classes", classes), ("--depth", depth)):
        if value < 1:
            raise RecipeError(f"{option}: expected at least 1, not {value}")


def _as_json(found: Summary) -> dict[str, object]:
    training = found.training
    return {
        "name": found.name,
        "image_size": found.image_size,
        "num_classes": found.num_classes,
        "batch_size": found.batch_size,
        "parameters": found.parameters,
        "trainable_parameters": found.trainable_parameters,
        "mult_adds": found.mult_adds,
        "memory_bytes": {
            "input": found.input_bytes,
            "forward_backward": found.forward_backward_bytes,
            "parameters": found.parameter_bytes,
            "total": found.total_bytes,
        },
        "training_bytes": asdict(training) | {"total": training.total},
        "layers": [_layer_as_json(row) for row in found.layers],
    }


def _layer_as_json(row: LayerRow) -> dict[str, object]:
    return {
        "name": row.name,
        "kind": row.kind,
        "output_shape": list(row.output_shape),
        "parameters": row.parameters,
        "trainable_parameters": row.trainable_parameters,
        "mult_adds": row.mult_adds,
        "activation_bytes": row.activation_bytes,
        "receptive_field": row.receptive_field,
    }


def _draw_layers(found: Summary, depth: int) -> Table:
    table = Table(
        title=f"{found.name}, {found.image_size} px, {found.num_classes:,} classes",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    rows = [
        (
            "x".join(map(str, branch.output_shape)),
            f"{times * branch.parameters:,}" if branch.parameters else "",
            _millions(times * branch.mult_adds),
            _kilobytes(branch.activation_bytes),
            "" if branch.receptive_field is None else str(branch.receptive_field),
            Text.assemble("  " * level, branch.label, " ", (_name_kind(branch), "dim")),
        )
        for level, times, branch in walk(grow_tree(found.rows), depth)
    ]
    rooms = [
        max(len(heading), *(len(row[index]) for row in rows))
        for index, heading in enumerate(COLUMNS)
    ]
    # Numbers keep their room; where the terminal is narrow, names of layers are cut.
    left = Console().width - sum(rooms) - 2 * len(rooms) - 3
    width = max(NARROWEST_LABEL, left)
    table.add_column("layer", overflow="ellipsis", no_wrap=True, max_width=width)
    for heading, room in zip(COLUMNS, rooms, strict=True):
        table.add_column(heading, justify="right", no_wrap=True, min_width=room)
    for *numbers, label in rows:
        table.add_row(label, *numbers)
    return table


def _name_kind(branch: Branch) -> str:
    kind = branch.kind.lstrip("_")
    return f"{branch.count} x {kind}" if branch.count > 1 else kind


def _millions(value: int) -> str:
    if not value:
        return ""
    return f"{value / MEGA:,.2f}" if value >= 0.005 * MEGA else "<0.01"


def _kilobytes(value: int) -> str:
    if not value:
        return ""
    return f"{value / KILO:,.0f}" if value >= 10 * KILO else f"{value / KILO:.2g}"


def _write_totals(found: Summary) -> str:
    training = found.training
    sizes = {
        "input": found.input_bytes,
        "outputs and their gradients": found.forward_backward_bytes,
        "parameters": found.parameter_bytes,
    }
    kept = {
        "parameters": training.parameters,
        "gradients": training.gradients,
        training.optimizer: training.optimizer_state,
        "kept for backward": training.activations,
    }
    batch = f"MB at batch size {found.batch_size},"
    place = "" if training.precision == "fp32" else f" on {training.device}"
    return "\n".join(
        [
            f"parameters   {found.parameters:,}, trained {found.trainable_parameters:,}",
            f"mult-adds    {found.mult_adds:,} per image",
            f"memory       {found.total_bytes / MEGA:,.2f} {batch} fp32:",
            f"             {_write_sum(sizes)}",
            f"training     {training.total / MEGA:,.2f} {batch} {training.precision}{place}:",
            f"             {_write_sum(kept)}",
        ]
    )


def _write_sum(parts: dict[str, int]) -> str:
    return " + ".join(f"{name} {size / MEGA:,.2f}" for name, size in parts.items())
