"""`study`: a grid of recipes over seeds, resumable, then the comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldmark.data.table import Table
from fieldmark.errors import FieldmarkError, RunChangedError
from fieldmark.evaluation.comparison.comparing import compare_runs
from fieldmark.evaluation.comparison.records import Comparison
from fieldmark.evaluation.metrics import compute_metrics
from fieldmark.evaluation.predictions import load_predictions
from fieldmark.planning.studies.checks import check_recipes
from fieldmark.planning.studies.expansion import Variant
from fieldmark.planning.studies.plans import StudyPlan, read_study, render_study
from fieldmark.planning.studies.tables import measure_spread
from fieldmark.recipes import Recipe
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.study_folder import StudyFolder
from fieldmark.training.events import Event, Listener
from fieldmark.training.resume import name_changes
from fieldmark.verbs.study_records import Study, StudyRun, VariantScore, save_study
from fieldmark.verbs.training import resolve_recipe
from fieldmark.verbs.trials import SharedData, describe_changes, is_finished, run_trial

_NAMED_FAULTS = 5


@dataclass(frozen=True)
class _Planned:
    variant: Variant
    recipe: Recipe
    path: Path


def study(
    file: str | Path | Mapping[str, Any],
    *,
    data: Table | str | Path | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    listener: Listener | None = None,
    done: Callable[[StudyRun, int], None] | None = None,
) -> Study:
    """Train every variant of a study file with every seed, and compare them on test.

    `file` is the path of a study file or a mapping of the same keys; `data` and `overrides`
    (`key=value`) stand in place of what it says. `out` defaults to `runs/study-<file>`. Frozen
    backbones run once: their features are kept in the study's folder. With `resume`, runs that
    are finished stay, an interrupted one goes on, the others are trained. A run that fails is
    recorded, and the others go on. `done` is told each run and how many there are.

    Raises `RecipeError` with all faults of the file and its recipes before anything is trained,
    `RunExistsError` for an existing folder, `RunChangedError` where a run in it has another
    recipe.
    """
    source = None if data is None or isinstance(data, Table) else str(data)
    plan = read_study(file, data=source, overrides=overrides)
    stem = "custom" if isinstance(file, Mapping) else Path(file).stem
    folder = StudyFolder(Path(out or Path("runs") / f"study-{stem}").absolute())
    if resume:
        StudyFolder.open(folder.path)
    else:
        folder.refuse_existing()
    heard = listener or _ignore
    shared = SharedData(heard, data if isinstance(data, Table) else None)
    planned = _plan_runs(plan, folder, shared)
    _refuse_changed(planned)
    if not resume:
        StudyFolder.create(folder.path)
    folder.save_file(render_study(plan.file))
    runs: list[StudyRun] = []
    for each in planned:
        runs.append(_try(plan, each, shared, heard))
        if done is not None:
            done(runs[-1], len(planned))
    found = _summarize(plan, folder, runs)
    save_study(folder, found)
    return found


def _plan_runs(plan: StudyPlan, folder: StudyFolder, shared: SharedData) -> list[_Planned]:
    """Every run, the variants of one seed together; raise where a recipe must fail."""
    planned = []
    for seed in plan.seeds:
        for variant, recipe in zip(plan.variants, plan.recipes, strict=True):
            changes: dict[str, object] = {"seed": seed}
            if recipe.cache == "auto":
                changes["cache"] = str(folder.cache_dir)
            source = plan.file.data if shared.given is None else shared.given
            own = resolve_recipe(source, recipe.model_copy(update=changes))
            path = folder.runs_dir / f"{variant.folder}-s{seed}"
            planned.append(_Planned(variant, own, path))
    first = planned[: len(plan.variants)]
    check_recipes({each.variant.name: each.recipe for each in first})
    for each in first:
        shared.read(each.recipe)
    return planned


def _refuse_changed(planned: Sequence[_Planned]) -> None:
    """Raise where a run that is there was made by another recipe than is asked for now."""
    faults = []
    for each in planned:
        folder = RunFolder(each.path)
        changed = (
            name_changes(folder.load_recipe(), each.recipe) if folder.recipe_path.is_file() else []
        )
        if changed:
            faults.append(describe_changes(folder, changed))
    if faults:
        more = len(faults) - _NAMED_FAULTS
        rest = [f"and {more} runs more"] if more > 0 else []
        raise RunChangedError("\n".join([*faults[:_NAMED_FAULTS], *rest]))


def _try(plan: StudyPlan, planned: _Planned, shared: SharedData, listener: Listener) -> StudyRun:
    variant, recipe, path = planned.variant, planned.recipe, planned.path
    told = StudyRun(path.name, variant.name, recipe.seed, path, plan.file.metric, scores={})
    was_finished = is_finished(RunFolder(path))
    try:
        keeps = _keeps_weights(plan, recipe)
        folder = run_trial(recipe, path, shared, listener, keep_weights=keeps)
        scores = compute_metrics(load_predictions(folder.predictions_path("test")))
    except FieldmarkError as error:
        return replace(told, error=str(error))
    if plan.file.metric not in scores:
        raise FieldmarkError(
            f"metric '{plan.file.metric}': the predictions of {path} do not tell it. They tell "
            f"{', '.join(scores)}. Change it, and go on by --resume"
        )
    seconds = folder.load_environment().get("seconds")
    return replace(told, scores=scores, seconds=seconds, is_kept=was_finished)


def _keeps_weights(plan: StudyPlan, recipe: Recipe) -> bool:
    """A frozen backbone would be stored once a run, and its head is trained again in seconds."""
    asked = plan.file.keep_weights
    return recipe.model.freeze == "none" if asked == "auto" else bool(asked)


def _summarize(plan: StudyPlan, folder: StudyFolder, runs: Sequence[StudyRun]) -> Study:
    comparison, notes = _compare(plan, runs)
    others = _count_others(folder, runs)
    if others:
        notes.append(f"{others} in {folder.runs_dir} are not of this study file.")
    return Study(
        path=folder.path,
        metric=plan.file.metric,
        seeds=plan.seeds,
        axes=plan.axes,
        baseline=plan.baseline.name,
        variants=tuple(_score(variant, runs) for variant in plan.variants),
        runs=tuple(runs),
        comparison=comparison,
        weights_are_kept=all(_keeps_weights(plan, recipe) for recipe in plan.recipes),
        notes=tuple(notes),
    )


def _score(variant: Variant, runs: Sequence[StudyRun]) -> VariantScore:
    own = [run for run in runs if run.variant == variant.name and run.error is None]
    names = own[0].scores if own else {}
    common = [name for name in names if all(name in run.scores for run in own)]
    seconds = [run.seconds for run in own if run.seconds is not None]
    return VariantScore(
        name=variant.name,
        settings=variant.settings,
        scores={name: measure_spread([run.scores[name] for run in own]) for name in common},
        num_seeds=len(own),
        seconds=measure_spread(seconds).mean if seconds else None,
    )


def _compare(plan: StudyPlan, runs: Sequence[StudyRun]) -> tuple[Comparison | None, list[str]]:
    """All variants against the baseline, under their names; with what is worth a note."""
    ended = [run for run in runs if run.error is None]
    names = dict.fromkeys(run.variant for run in ended)
    if len(names) < 2:
        return None, []
    notes = []
    baseline = plan.baseline.name
    if baseline not in names:
        baseline = next(iter(names))
        notes.append(f"{plan.baseline.name} has no run, so {baseline} is the baseline.")
    first = next(run.path for run in ended if run.variant == baseline)
    try:
        found = compare_runs(
            [run.path for run in ended], baseline=first, metric=plan.file.metric, split="test"
        )
    except FieldmarkError as error:
        return None, [*notes, f"The variants cannot be compared: {error}"]
    # What is said of each pair is said once, by the command; here it would be said many times.
    of_pairs = tuple(f"{pair.a} and {pair.b}: " for pair in found.pairs)
    notes += [note for note in found.notes if not note.startswith(of_pairs)]
    if len(plan.seeds) == 1:  # which is said of the study as a whole
        notes = [note for note in notes if " single seed" not in note]
    return _rename(found, {str(run.path): run.variant for run in ended}), notes


def _rename(found: Comparison, variants: Mapping[str, str]) -> Comparison:
    """Rows and pairs by the names of the variants, which folders need not have."""
    names = {row.name: variants[row.runs[0]] for row in found.rows}
    rows = tuple(replace(row, name=names[row.name]) for row in found.rows)
    pairs = tuple(replace(pair, a=names[pair.a], b=names[pair.b]) for pair in found.pairs)
    return replace(found, rows=rows, pairs=pairs)


def _count_others(folder: StudyFolder, runs: Sequence[StudyRun]) -> str:
    """Runs of an earlier study file, in words."""
    own = {run.path.name for run in runs}
    others = [path for path in folder.runs_dir.glob("*") if path.name not in own]
    return f"{len(others)} run{'s' * (len(others) > 1)}" if others else ""


def _ignore(event: Event) -> None:
    """Nobody listens."""
