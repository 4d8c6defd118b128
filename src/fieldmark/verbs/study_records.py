"""What a study found: its records, and how they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fieldmark.evaluation.comparison.records import Comparison
from fieldmark.planning.studies.expansion import Axis, write_value
from fieldmark.planning.studies.tables import Pivot, Spreading, build_pivot
from fieldmark.runs.study_folder import StudyFolder


@dataclass(frozen=True)
class StudyRun:
    """One variant with one seed.

    metric: what the study compares by. scores: every metric on test; empty where the run failed,
    which `error` then explains. seconds: of training, as `compare` counts them. is_kept: it was
    there before.
    """

    name: str
    variant: str
    seed: int
    path: Path
    metric: str
    scores: Mapping[str, float]
    seconds: float | None = None
    error: str | None = None
    is_kept: bool = False


@dataclass(frozen=True)
class VariantScore:
    """A variant over its seeds. settings: its value on each axis. scores: by metric, on test."""

    name: str
    settings: Mapping[str, Any]
    scores: Mapping[str, Spreading]
    num_seeds: int
    seconds: float | None


@dataclass(frozen=True)
class Study:
    """What each variant reached, and how sure the differences are.

    comparison: against the baseline; None where fewer than two variants can be compared.
    notes: sentences for people.
    """

    path: Path
    metric: str
    seeds: tuple[int, ...]
    axes: tuple[Axis, ...]
    baseline: str
    variants: tuple[VariantScore, ...]
    runs: tuple[StudyRun, ...]
    comparison: Comparison | None
    weights_are_kept: bool
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[StudyRun, ...]:
        """The runs that came to no end."""
        return tuple(run for run in self.runs if run.error is not None)

    @property
    def pivot(self) -> Pivot | None:
        """The metric as a table of two axes; None where there are not exactly two."""
        scores = [(each.settings, each.scores.get(self.metric)) for each in self.variants]
        return build_pivot(self.axes, scores)


def save_study(folder: StudyFolder, found: Study) -> None:
    """Write study.json and table.csv."""
    folder.save_results(describe(found))
    metrics = list(dict.fromkeys(name for run in found.runs for name in run.scores))
    settings = {each.name: each.settings for each in found.variants}
    keys = [axis.key for axis in found.axes]
    header = ["name", *keys, "seed", *metrics, "seconds", "error"]
    folder.save_table(
        header,
        [
            [
                run.variant,
                *(write_value(settings[run.variant][key]) for key in keys),
                run.seed,
                *(run.scores.get(name, "") for name in metrics),
                "" if run.seconds is None else run.seconds,
                run.error or "",
            ]
            for run in found.runs
        ],
    )


def describe(found: Study) -> dict[str, Any]:
    """A study as plain values: what `study.json` and `--json` hold."""
    compared = found.comparison
    return {
        "path": str(found.path),
        "metric": found.metric,
        "seeds": list(found.seeds),
        "baseline": found.baseline,
        "axes": [
            {"key": axis.key, "label": axis.label, "values": list(axis.values)}
            for axis in found.axes
        ],
        "variants": [_describe_variant(each, found.metric) for each in found.variants],
        "table": None if found.pivot is None else asdict(found.pivot),
        "num_images": None if compared is None else compared.num_images,
        "rows": [] if compared is None else [asdict(row) for row in compared.rows],
        "pairs": [] if compared is None else [asdict(pair) for pair in compared.pairs],
        "runs": [
            {
                "name": run.name,
                "variant": run.variant,
                "seed": run.seed,
                "path": str(run.path),
                "scores": dict(run.scores),
                **({"seconds": run.seconds} if run.error is None else {"error": run.error}),
            }
            for run in found.runs
        ],
        "failed": [run.name for run in found.failed],
        "notes": list(found.notes),
    }


def _describe_variant(each: VariantScore, metric: str) -> dict[str, Any]:
    spread = each.scores.get(metric)
    return {
        "name": each.name,
        "settings": dict(each.settings),
        "mean": None if spread is None else spread.mean,
        "deviation": None if spread is None else spread.deviation,
        "num_seeds": each.num_seeds,
        "seconds": each.seconds,
        "scores": {name: asdict(value) for name, value in each.scores.items()},
    }
