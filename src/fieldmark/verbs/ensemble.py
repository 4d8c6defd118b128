"""`ensemble`: the mean of several runs' probabilities, evaluated like a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldmark.errors import RunError
from fieldmark.evaluation.change import Change, measure_change
from fieldmark.evaluation.ensembles import Selection, predict_ensemble, select_members
from fieldmark.evaluation.metrics import compute_metrics
from fieldmark.runs.folder import RunFolder
from fieldmark.training.devices import choose_device
from fieldmark.verbs.run import Evaluation, Run, load_run, score_predictions

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Member:
    """A run in an ensemble. weight: its share of the mean. metrics: its own, on the same images."""

    name: str
    path: Path
    weight: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Ensemble:
    """An ensemble of runs, stored as a folder of its own with predictions and no weights.

    change: against `best_single`, the member of least val nll where a greedy choice was made, else
    the one named first. selection: how a greedy choice went, else None.
    """

    run: Run
    evaluation: Evaluation
    members: tuple[Member, ...]
    best_single: str
    change: Change | None
    selection: Selection | None


def ensemble(
    runs: Sequence[str | Path | Run],
    *,
    split: str = "test",
    greedy: bool = False,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Ensemble:
    """Average the probabilities of runs over the images of a split, and score them like a run.

    Recipes, networks and image sizes may differ; the classes must not, and the split must hold
    the same images in all members, for an image that one of them trained on would count as known.
    greedy: weights from validation images (`evaluation.ensembles.select_members`); else all
    members count alike. `out`: the new folder, `runs/ensemble` by default. Raises `RunError` with
    the reason where the runs do not go together.
    """
    members = [run if isinstance(run, Run) else load_run(run) for run in runs]
    _check_number(members)
    _check_classes(members)
    for name in dict.fromkeys(["val", split] if greedy else [split]):
        _check_split(members, name)
    names = _name(members)
    selection = _select(members, progress) if greedy else None
    weights = [1.0 / len(members)] * len(members)
    if selection is not None:
        weights = list(selection.weights)
    table = members[0].select_images(split)
    predictors = [member.predictor(choose_device()) for member in members]
    together, alone = predict_ensemble(predictors, table, weights=weights, progress=progress)
    described = [
        Member(name, member.path, weight, compute_metrics(single))
        for name, member, weight, single in zip(names, members, weights, alone, strict=True)
    ]
    folder = RunFolder.create_ensemble(
        Path(out or Path("runs") / "ensemble"),
        members[0].folder,
        _as_json(described, selection),
    )
    best = 0 if selection is None else selection.first
    return Ensemble(
        run=Run(folder, members[0].table),
        evaluation=score_predictions(together, folder, split, table),
        members=tuple(described),
        best_single=names[best],
        change=measure_change(alone[best], together),
        selection=selection,
    )


def _check_number(members: Sequence[Run]) -> None:
    if len(members) < 2:
        raise RunError(f"ensemble: expected two runs or more, not {len(members)}")
    for path, count in Counter(member.path.resolve() for member in members).items():
        if count > 1:
            raise RunError(f"ensemble: {path} is named {count} times. Name each run once")


def _check_classes(members: Sequence[Run]) -> None:
    first = members[0]
    for other in members[1:]:
        if other.recipe.task != first.recipe.task:
            raise RunError(
                f"{other.path}: its task is {other.recipe.task}, that of {first.path} is "
                f"{first.recipe.task}. An ensemble needs one task"
            )
        if other.class_names == first.class_names:
            continue
        only_first = [name for name in first.class_names if name not in set(other.class_names)]
        only_other = [name for name in other.class_names if name not in set(first.class_names)]
        if not only_first and not only_other:
            told = "the same classes in another order"
        else:
            told = (
                f"other classes: {_list(only_other)} only here, {_list(only_first)} only in "
                f"{first.path}"
            )
        raise RunError(f"{other.path}: has {told}. An ensemble averages over the same classes")


def _check_split(members: Sequence[Run], split: str) -> None:
    """Refuse members whose images of this split are not the same, byte for byte."""
    first = members[0]
    own = {row["content_hash"] for row in first.folder.load_split() if row["split"] == split}
    for other in members[1:]:
        places = {row["content_hash"]: row["split"] for row in other.folder.load_split()}
        found = Counter(places.get(content, "none") for content in own)
        num_theirs = sum(place == split for place in places.values())
        if found[split] == len(own) == num_theirs:
            continue
        seen = [
            f"{found[place]:,} {what}"
            for place, what in (
                ("train", "were learned from here"),
                ("val", "are its val images, which selected the epoch"),
                ("test", "are its test images"),
                ("none", "are not here"),
            )
            if place != split and found[place]
        ]
        told = "; ".join(seen) or f"it has {num_theirs:,}"
        raise RunError(
            f"{other.path}: its {split} images are not those of {first.path}: of {len(own):,}, "
            f"{told}. A score on images that a member has learned from says nothing. Train the "
            f"members on one split, which different seeds do not have by themselves: `fieldmark "
            f"train {first.folder.split_path} --image-root FOLDER ...`"
        )


def _select(members: Sequence[Run], progress: Progress | None) -> Selection:
    predictors = [member.predictor(choose_device()) for member in members]
    _, alone = predict_ensemble(predictors, members[0].select_images("val"), progress=progress)
    return select_members(alone)


def _name(members: Sequence[Run]) -> list[str]:
    """Folder names, with their parents' where these are not enough to tell the members apart."""
    names = [member.path.name for member in members]
    if len(set(names)) < len(names):
        names = [f"{member.path.parent.name}/{member.path.name}" for member in members]
    return names


def _as_json(members: Sequence[Member], selection: Selection | None) -> dict[str, object]:
    return {
        "members": [
            {"name": m.name, "run": str(m.path), "weight": m.weight, "metrics": m.metrics}
            for m in members
        ],
        "selection": None
        if selection is None
        else {"counts": list(selection.counts), "val_nll": list(selection.nlls)},
    }


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) or "none"
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
