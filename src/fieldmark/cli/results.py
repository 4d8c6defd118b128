"""Results as JSON and as what a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from fieldmark.cli.progress import TrainingView
from fieldmark.cli.trust import describe_change

if TYPE_CHECKING:
    from fieldmark.evaluation.class_scores import GroupScore
    from fieldmark.training.events import Profiled
    from fieldmark.verbs import Evaluation, Run

Shown = str | Table | Text
WORST_SHOWN = 5


def describe_training(view: TrainingView) -> tuple[dict[str, object], list[Shown]]:
    """The JSON of `train`, and the closing lines."""
    done = view.finished
    if done is None:
        return {}, []
    result: dict[str, object] = {
        "run": str(done.path),
        "epochs": done.epochs,
        "best": {"epoch": done.best_epoch, "metric": done.metric, "value": done.value},
        "seconds": round(done.seconds, 2),
        "images_per_second": round(done.images_per_second, 1),
        "peak_memory_mb": round(done.peak_memory_mb, 1),
    }
    value = "the last" if done.value is None else f"val {done.metric} {done.value:.3f}"
    cost = (
        f"{done.seconds:.0f} s, {done.images_per_second:.0f} images/s, {done.peak_memory_mb:.0f} MB"
    )
    lines: list[Shown] = [
        f"best     epoch {done.best_epoch}, {value} ({done.reason}; {cost})",
        f"run      {done.path}",
    ]
    if view.profiled is not None:
        result["profile"] = _describe_profile(view.profiled)
        lines = [_profile_table(view.profiled), *lines]
    return result, lines


def _describe_profile(profiled: Profiled) -> dict[str, object]:
    keys = ("name", "seconds", "share", "calls")
    return {
        "seconds": profiled.seconds,
        "steps": profiled.steps,
        "phases": [dict(zip(keys, phase, strict=True)) for phase in profiled.phases],
        "path": str(profiled.path),
        "trace": None if profiled.trace_path is None else str(profiled.trace_path),
    }


def _profile_table(profiled: Profiled) -> Table:
    trace = profiled.trace_path
    table = Table(
        title=f"where the time went: {profiled.seconds:.1f} s, {profiled.steps} steps",
        caption=None if trace is None else f"{trace.name}: a few steps, for ui.perfetto.dev",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
    )
    table.add_column("what", no_wrap=True)
    for name in ("seconds", "share", "times", "ms each"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, seconds, share, calls in profiled.phases:
        each = f"{1000 * seconds / calls:.1f}" if calls else ""
        table.add_row(name, f"{seconds:.2f}", f"{share:.1%}", str(calls), each)
    return table


def describe_evaluation(
    run: Run, scores: Evaluation, split: str
) -> tuple[dict[str, object], list[Shown]]:
    """The JSON of `evaluate`, and a table of metrics with the weakest classes below."""
    result: dict[str, object] = {
        "run": str(run.path),
        "split": split,
        "num_images": scores.num_images,
        "metrics": dict(scores.metrics),
        "intervals": _as_lists(scores.intervals),
        "classes": [
            {
                "label": c.name,
                "precision": c.precision,
                "recall": c.recall,
                "f1": c.f1,
                "support": c.support,
            }
            for c in scores.classes
        ],
        "groups": [asdict(part) for part in scores.groups],
        "errors": [{"image": i, "error": reason} for i, reason in scores.errors.items()],
        "predictions": str(scores.path),
        "notes": list(scores.notes),
        "backend": None if scores.backend is None else dict(scores.backend.to_json()),
    }
    if scores.without_tags is not None:
        result["without_tags"] = {
            "metrics": dict(scores.without_tags.metrics),
            "intervals": _as_lists(scores.without_tags.intervals),
            "predictions": str(scores.without_tags.path),
        }
    shown: list[Shown] = [_metrics_table(scores, split)]
    if scores.change is not None:
        result["change"], told = describe_change(scores.change, "plain")
        shown.append(told)
    shown += [f"note     {note}" for note in scores.notes]
    if len(scores.groups) > 1:
        shown += [f"{part.part:<8} {_score_part(part)}" for part in scores.groups]
    tested = sorted((c for c in scores.classes if c.support), key=lambda c: c.f1)
    weakest = "  ".join(f"{c.name} {c.f1:.2f}" for c in tested[:WORST_SHOWN])
    shown.append(f"weakest  {weakest}  (F1)")
    shown += [f"error    {image}: {reason}" for image, reason in scores.errors.items()]
    return result, shown


def describe_part(part: GroupScore) -> str:
    """The classes of a part of the long tail, and how many training images they have."""
    sizes = f"{part.fewest_trained:,}"
    if part.most_trained != part.fewest_trained:
        sizes += f" to {part.most_trained:,}"
    classes = "class" if part.num_classes == 1 else "classes"
    return f"{part.num_classes:,} {classes} of {sizes} training images"


def _score_part(part: GroupScore) -> str:
    if part.recall is None:
        return f"{describe_part(part)}: no image in this split"
    return f"mean recall {part.recall:.3f} over {describe_part(part)}"


def _as_lists(intervals: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {name: list(bounds) for name, bounds in intervals.items()}


def _metrics_table(scores: Evaluation, split: str) -> Table:
    table = Table(
        title=f"{split}: {scores.num_images} images",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("metric", no_wrap=True)
    bare = scores.without_tags
    if bare is None:
        table.add_column("value", justify="right")
        table.add_column("95% interval", justify="right")
    else:
        table.add_column("with tags, 95% interval", justify="right")
        table.add_column("without tags, 95% interval", justify="right")
    for name, value in scores.metrics.items():
        low, high = scores.intervals[name]
        cells = [f"{value:.4f}", f"{low:.4f} - {high:.4f}"]
        if bare is not None:  # in one cell each, so that both fit on a line
            cells = [_with_interval(part, name) for part in (scores, bare)]
        table.add_row(name, *cells)
    return table


def _with_interval(scores: Evaluation, name: str) -> str:
    low, high = scores.intervals[name]
    return f"{scores.metrics[name]:.3f}  {low:.3f} - {high:.3f}"
