"""Runs in, a comparison out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from fieldmark.errors import FieldmarkError, hint
from fieldmark.evaluation.comparison.contenders import NO_BEARING, Contender, load_contender
from fieldmark.evaluation.comparison.differences import (
    Difference,
    correct_for_many,
    find_difference,
)
from fieldmark.evaluation.comparison.entries import Entry, build_entries
from fieldmark.evaluation.comparison.pairing import (
    MatchedSplits,
    OwnSplits,
    Pairing,
    SharedImages,
    pair_entries,
    refuse_other_classes,
)
from fieldmark.evaluation.comparison.records import ComparedPair, ComparedRow, Comparison
from fieldmark.evaluation.comparison.rows import build_row
from fieldmark.evaluation.comparison.verdicts import judge, relative_change
from fieldmark.evaluation.doubts import note_doubts
from fieldmark.evaluation.metrics import LOWER_IS_BETTER, METRICS

_KEYS_NAMED = 6


def compare_runs(
    paths: Sequence[str | Path],
    *,
    baseline: str | Path | None = None,
    metric: str = "accuracy",
    split: str = "test",
) -> Comparison:
    """Hold runs against each other on their stored predictions of `split`.

    Runs whose recipes differ only in the seed are one row. With a baseline every row is held
    against the row it is in, else every row against every other. The order of `paths` plays no
    part. Raises `FieldmarkError` for fewer than two rows or a metric that the predictions do not
    tell, `DataError` for runs that were not tested on the same images, `RunError` for missing,
    broken or non-finite predictions.
    """
    if metric not in METRICS:
        raise FieldmarkError(
            f"metric '{metric}': expected one of {', '.join(METRICS)}.{hint(metric, METRICS)}"
        )
    named = [Path(path).absolute() for path in paths]
    first = None if baseline is None else Path(baseline).absolute()
    unique = sorted({*named, *(() if first is None else (first,))})
    contenders = [load_contender(path, split) for path in unique]
    refuse_other_classes(contenders)
    entries, notes = build_entries(contenders)
    if len(entries) < 2:
        raise FieldmarkError(
            f"compare: {', '.join(map(str, unique)) or 'nothing'} makes one row, and there is "
            "nothing to hold it against. Name runs of two recipes at least"
        )
    rows = {entry.name: build_row(entry) for entry in entries}
    ranked = _rank(entries, rows, metric)
    twos = [(a, b, pair_entries(a, b)) for a, b in _choose_pairs(ranked, first)]
    found = [find_difference(pairing, metric) for _, _, pairing in twos]
    corrected = correct_for_many([difference.p_value for difference in found])
    pairs = [
        _describe_pair(a.name, b.name, metric, difference, p_adjusted)
        for (a, b, _), difference, p_adjusted in zip(twos, found, corrected, strict=True)
    ]
    return Comparison(
        metric=metric,
        split=split,
        num_images=_count_images(contenders),
        rows=tuple(rows[entry.name] for entry in ranked),
        pairs=tuple(pairs),
        notes=(*_gather_notes(ranked, contenders), *notes, *_note_pairings(twos)),
    )


def _rank(entries: Sequence[Entry], rows: Mapping[str, ComparedRow], metric: str) -> list[Entry]:
    """Best first, then by name."""
    for entry in entries:
        if metric not in rows[entry.name].metrics:
            known = ", ".join(rows[entry.name].metrics) or "none, since no image is labelled"
            raise FieldmarkError(
                f"metric '{metric}': the predictions of {entry.runs[0].path} do not tell it. "
                f"They tell {known}"
            )
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    return sorted(entries, key=lambda e: (sign * rows[e.name].metrics[metric], e.name))


def _choose_pairs(ranked: Sequence[Entry], baseline: Path | None) -> list[tuple[Entry, Entry]]:
    if baseline is None:
        return list(combinations(ranked, 2))
    path = str(baseline)
    against = next(entry for entry in ranked if path in {run.path for run in entry.runs})
    return [(entry, against) for entry in ranked if entry is not against]


def _describe_pair(
    a: str, b: str, metric: str, difference: Difference, p_adjusted: float
) -> ComparedPair:
    verdict, images_needed = judge(difference, metric, p_adjusted)
    return ComparedPair(
        a=a,
        b=b,
        metric=metric,
        difference=difference.value,
        interval=difference.interval,
        relative_change=relative_change(difference.against + difference.value, difference.against),
        p_value=difference.p_value,
        p_adjusted=p_adjusted,
        test=difference.test,
        verdict=verdict,
        images_needed=images_needed,
    )


def _count_images(contenders: Sequence[Contender]) -> int:
    return round(sum(len(run.outcomes) for run in contenders) / len(contenders))


def _gather_notes(ranked: Sequence[Entry], contenders: Sequence[Contender]) -> list[str]:
    notes = []
    single = [entry.name for entry in ranked if len(entry.runs) == 1]
    if single:
        what = "is a single seed" if len(single) == 1 else "are single seeds"
        notes.append(
            f"{', '.join(single)} {what}: the intervals say what other images would give, not "
            "what another seed would."
        )
    if len(ranked) == 2 and (differing := _name_differing(*ranked)):
        notes.append(differing)
    told: dict[str, None] = {}
    for run in contenders:
        for doubt in note_doubts(run.predictions, run.train_counts):
            told[doubt] = None
        if run.predictions.errors:
            told[f"{run.name}: {len(run.predictions.errors)} images could not be read."] = None
    return notes + list(told)


def _name_differing(a: Entry, b: Entry) -> str:
    """Which keys of the recipes differ, by name."""
    ours, theirs = (dict(_flatten(e.runs[0].recipe.model_dump(mode="json"))) for e in (a, b))
    keys = [key for key in ours if ours[key] != theirs.get(key) and key not in NO_BEARING]
    if not keys:
        return ""
    shown = [f"{key} ({ours[key]} | {theirs.get(key)})" for key in keys[:_KEYS_NAMED]]
    more = f" and {len(keys) - _KEYS_NAMED} more" if len(keys) > _KEYS_NAMED else ""
    return f"{a.name} | {b.name} differ in {', '.join(shown)}{more}."


def _flatten(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _note_pairings(twos: Sequence[tuple[Entry, Entry, Pairing]]) -> list[str]:
    """What was held against what, where it is not simply everything."""
    notes = []
    for a, b, pairing in twos:
        num_runs = len(a.runs) + len(b.runs)
        if isinstance(pairing, MatchedSplits):
            used = 2 * len(pairing.pairs)
            left = f"; {num_runs - used} runs have no partner" if used < num_runs else ""
            notes.append(
                f"{a.name} and {b.name}: each seed has a test split of its own, so they are "
                f"compared seed by seed over {len(pairing.pairs)} seeds{left}."
            )
        elif isinstance(pairing, OwnSplits):
            notes.append(
                f"{a.name} and {b.name}: no two of their runs were tested on the same images, so "
                "the means over seeds are compared, which tells less than the same seeds would."
            )
        elif isinstance(pairing, SharedImages) and len(pairing.first) < len(a.runs):
            notes.append(
                f"{a.name} and {b.name}: only one of their test splits is shared (seed "
                f"{_shared_seed(a, b)}), so only those two runs are compared."
            )
    return notes


def _shared_seed(a: Entry, b: Entry) -> int:
    return next(a.test_sets[test].seed for test in a.test_sets if test in b.test_sets)
