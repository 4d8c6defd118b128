"""Going on with an interrupted run: what a checkpoint holds, and what must be unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldmark.errors import RunChangedError, RunExistsError, RunNotFoundError
from fieldmark.recipes import Recipe
from fieldmark.runs.checkpoints import Checkpoint
from fieldmark.runs.folder import RunFolder
from fieldmark.training.loop import Parts, Progress

# Keys that may differ when a run goes on: they change where and how often, not what.
_FREE_ON_RESUME = {"workers", "cache", "checkpoint_minutes", "description"}


def open_run_folder(path: Path, recipe: Recipe, resume: bool) -> RunFolder:
    """Make the folder of a new run, or open one to go on with; another recipe is refused."""
    if not resume:
        folder = RunFolder.create(path)
        folder.save_recipe(recipe)
        return folder
    if not path.is_dir():
        raise RunNotFoundError(
            f"{path.absolute()}: there is no run to resume. Leave out --resume to start it"
        )
    folder = RunFolder(path.absolute())
    if folder.recipe_path.is_file():
        _check_same_recipe(folder, recipe)
    elif any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise RunExistsError(
            f"{folder.path}: is not a run folder: it holds files, but no recipe.yaml. "
            "Give another `--out`"
        )
    else:
        # Killed before its first file was whole.
        folder.save_recipe(recipe)
    return folder


def _check_same_recipe(folder: RunFolder, recipe: Recipe) -> None:
    changed = name_changes(folder.load_recipe(), recipe)
    if changed:
        raise RunChangedError(
            f"{folder.path}: was started with another recipe ({'; '.join(changed)}). "
            f"Resume it by `--recipe {folder.recipe_path}`, or train a new run"
        )


def name_changes(before: Recipe, after: Recipe) -> list[str]:
    """`key: value before -> value after` of every key that a run may not go on with changed."""
    then, now = (_flatten(recipe.model_dump(mode="json")) for recipe in (before, after))
    return [
        f"{key}: {then.get(key)} -> {now.get(key)}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key) and key not in _FREE_ON_RESUME
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def restore_progress(checkpoint: Checkpoint | None) -> Progress:
    """Where the run stood; the beginning where there is no checkpoint."""
    return Progress() if checkpoint is None else Progress(**checkpoint.state["progress"])


def take_checkpoint(parts: Parts, progress: Progress) -> Checkpoint:
    """Everything that a run needs to go on bit for bit."""
    weights = parts.trained_model.state_dict()
    scaler = parts.accelerator.scaler
    return Checkpoint(
        weights,
        {
            "progress": progress.as_state(),
            "optimizer": parts.optimizer.state_dict(),
            "schedule": parts.schedule.state(),
            "averaged": None if parts.averaged is None else parts.averaged.state_dict(),
            "scaler": None if scaler is None else dict(scaler.state_dict()),
        },
    )


def restore_parts(parts: Parts, checkpoint: Checkpoint) -> None:
    """Give model, optimizer, schedule and averages the state of a checkpoint."""
    parts.trained_model.load_state_dict(dict(checkpoint.weights))
    parts.optimizer.load_state_dict(checkpoint.state["optimizer"])
    parts.schedule.restore(checkpoint.state["schedule"])
    if parts.averaged is not None:
        parts.averaged.load_state_dict(checkpoint.state["averaged"])
    if parts.accelerator.scaler is not None and checkpoint.state["scaler"] is not None:
        parts.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
