"""`long_tail`: remedies for rare classes side by side, on features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldmark.data.class_sizes import PARTS
from fieldmark.data.table import Table
from fieldmark.errors import DataError, FieldmarkError, RecipeError
from fieldmark.evaluation.class_scores import GroupScore, score_groups
from fieldmark.evaluation.metrics import compute_metrics
from fieldmark.evaluation.predictions import load_predictions
from fieldmark.planning.studies.tables import Spreading, measure_spread
from fieldmark.recipes import Recipe
from fieldmark.runs.folder import RunFolder
from fieldmark.training.events import Event, Listener
from fieldmark.verbs.training import resolve_recipe
from fieldmark.verbs.trials import SharedData, run_trial

PLAIN = "plain"
# What each changes in the section `loss`, but for sampling.
METHODS: Mapping[str, Mapping[str, object]] = {
    PLAIN: {},
    "class weights": {"class_weights": "balanced"},
    "balanced sampling": {},
    "logit adjustment": {"logit_adjustment": 1.0},
    "focal": {"focal": 2.0},
}
BALANCED_SAMPLING = "balanced sampling"
_WITHOUT = {"class_weights": "none", "logit_adjustment": 0.0, "focal": 0.0}
# Features are stored only where they are of single images.
_UNMIXED = {"mixup": 0.0, "cutmix": 0.0}
SCORES = ("accuracy", "macro_f1", *PARTS)


@dataclass(frozen=True)
class Trial:
    """One run. scores: by the names of `SCORES`, on its test split; parts by mean recall."""

    method: str
    seed: int
    path: Path
    scores: Mapping[str, float]


@dataclass(frozen=True)
class MethodScore:
    """A method over the seeds. differences: to the plain loss, seed by seed; none for itself."""

    method: str
    scores: Mapping[str, Spreading]
    differences: Mapping[str, Spreading]


@dataclass(frozen=True)
class LongTail:
    """What each method does to the head, the middle and the tail of the classes.

    parts: those of the first seed, as its plain run scores them.
    """

    path: Path
    seeds: tuple[int, ...]
    num_test: int
    parts: tuple[GroupScore, ...]
    methods: tuple[MethodScore, ...]
    trials: tuple[Trial, ...]


def long_tail(
    data: Table | str | Path | None = None,
    *,
    recipe: str | Path | Recipe = "leaves-deit-frozen",
    overrides: Sequence[str] = (),
    seeds: int = 3,
    out: str | Path | None = None,
    listener: Listener | None = None,
    done: Callable[[Trial, int], None] | None = None,
) -> LongTail:
    """Train the head of a frozen backbone with each method and seed, and compare on the tests.

    Class weights, balanced sampling, logit adjustment (Menon et al. 2021), focal loss (Lin et al.
    2017), and none of them. The backbone runs once over the images; its features are kept in the
    folder `cache` beside the runs, or in the recipe's `cache`. Each seed draws another split and
    another start, the same for all methods. Runs keep predictions and no weights; those that are
    there are not trained again. `done` is told each run and how many there are.

    Raises `RecipeError` for tags and `DataError` for a multi-label task, which this cannot
    compare, `RunChangedError` where `out` holds runs of another recipe.
    """
    if seeds < 1:
        raise FieldmarkError(f"seeds: expected a number from 1, not {seeds}")
    base = resolve_recipe(data, recipe, overrides)
    _check(base)
    source = (base.data.source or "data").rstrip("/").rsplit(":", 1)[-1]
    folder = Path(out or Path("runs") / f"long-tail-{Path(source).stem}").absolute()
    if base.cache in ("auto", "off"):
        base = base.model_copy(update={"cache": str(folder / "cache")})
    heard = listener or _ignore
    shared = SharedData(heard, data if isinstance(data, Table) else None)
    table = shared.read(base)
    trials = []
    chosen = tuple(range(base.seed, base.seed + seeds))
    for seed in chosen:
        for method in METHODS:
            own = resolve_recipe(table, _change(base, method, seed))
            path = folder / f"{method.replace(' ', '-')}-s{seed}"
            run = run_trial(own, path, shared, heard, keep_weights=False)
            trial = Trial(method, seed, path, _score(run))
            trials.append(trial)
            if done is not None:
                done(trial, seeds * len(METHODS))
    first = RunFolder.open(trials[0].path)
    return LongTail(
        path=folder,
        seeds=chosen,
        num_test=sum(row["split"] == "test" for row in first.load_split()),
        parts=tuple(_score_parts(first)),
        methods=tuple(_summarize(method, trials) for method in METHODS),
        trials=tuple(trials),
    )


def _check(recipe: Recipe) -> None:
    if recipe.task == "multilabel":
        raise DataError(
            "task multilabel: an image of several classes belongs to the head and to the tail at "
            "once, so there is nothing to divide. Compare runs by `fieldmark train` instead"
        )
    if recipe.model.tags.tokenizer != "off":
        raise RecipeError(
            "model.tags: features of tagged images vary from epoch to epoch and are not stored. "
            "Set model.tags=off"
        )
    if recipe.views == 0:
        raise RecipeError("views: is 0, which stores no features. Set views=1 or more")
    if recipe.optim.epochs == 0:
        raise RecipeError("optim.epochs: is 0, so no head is learned. Set it from 1")


def _change(recipe: Recipe, method: str, seed: int) -> Recipe:
    """The recipe with a frozen backbone and this method alone."""
    loss = recipe.loss.model_copy(update={**_WITHOUT, **_UNMIXED, **METHODS[method]})
    sampling = "balanced" if method == BALANCED_SAMPLING else "natural"
    return recipe.model_copy(
        update={
            "loss": loss,
            "sampling": sampling,
            "seed": seed,
            "model": recipe.model.model_copy(update={"freeze": "backbone"}),
        }
    )


def _score(folder: RunFolder) -> dict[str, float]:
    metrics = compute_metrics(load_predictions(folder.predictions_path("test")))
    return {
        "accuracy": metrics["accuracy"],
        "macro_f1": metrics["macro_f1"],
        **{part.part: part.recall for part in _score_parts(folder) if part.recall is not None},
    }


def _score_parts(folder: RunFolder) -> list[GroupScore]:
    predictions = load_predictions(folder.predictions_path("test"))
    return score_groups(predictions, folder.load_train_counts())


def _summarize(method: str, trials: Sequence[Trial]) -> MethodScore:
    plain = {trial.seed: trial.scores for trial in trials if trial.method == PLAIN}
    own = [trial for trial in trials if trial.method == method]
    names = [name for name in SCORES if all(name in trial.scores for trial in trials)]
    differences = {}
    if method != PLAIN:
        differences = {
            name: measure_spread([t.scores[name] - plain[t.seed][name] for t in own])
            for name in names
        }
    scores = {name: measure_spread([trial.scores[name] for trial in own]) for name in names}
    return MethodScore(method, scores, differences)


def _ignore(event: Event) -> None:
    """Nobody listens."""
