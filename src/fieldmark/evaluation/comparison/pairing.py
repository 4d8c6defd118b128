"""Which runs of two entries can be held against each other, and what refuses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fieldmark.errors import DataError
from fieldmark.evaluation.comparison.contenders import Contender, ImageIdentity, select_rows
from fieldmark.evaluation.comparison.entries import Entry
from fieldmark.evaluation.outcomes import Outcomes, build_outcomes
from fieldmark.evaluation.resampling import Units, build_units

_NAMED = 3


@dataclass(frozen=True)
class SharedImages:
    """Runs tested on the same images: what counts about the images that all of them could read."""

    first: tuple[Outcomes, ...]
    second: tuple[Outcomes, ...]
    units: Units
    has_groups: bool

    @property
    def num_images(self) -> int:
        """Images that count."""
        return len(self.units.of_image)


@dataclass(frozen=True)
class MatchedSplits:
    """Runs in twos on test sets of their own: one of each entry on each."""

    pairs: tuple[SharedImages, ...]
    test_share: float


@dataclass(frozen=True)
class OwnSplits:
    """Runs on test sets that no run of the other entry has, drawn from the same images."""

    first: tuple[Outcomes, ...]
    second: tuple[Outcomes, ...]
    test_share: float


Pairing = SharedImages | MatchedSplits | OwnSplits


def pair_entries(a: Entry, b: Entry) -> Pairing:
    """Find the strongest way to hold two entries against each other.

    All on the same images; else one of each on the same images, seed by seed; else, where both
    have several seeds and the same pool of images, as two sets of scores. Raises `DataError`
    where none is possible, with the reason.
    """
    if a.shares_images and b.shares_images and a.runs[0].test == b.runs[0].test:
        return share_images(a.runs, b.runs)
    ours, theirs = a.test_sets, b.test_sets
    common = [test for test in ours if test in theirs]
    if len(common) > 1:
        twos = [share_images((ours[test],), (theirs[test],)) for test in common]
        runs = [part[test] for part in (ours, theirs) for test in common]
        return MatchedSplits(tuple(twos), _mean_share(runs))
    if len(common) == 1:
        return share_images((ours[common[0]],), (theirs[common[0]],))
    several = min(len(a.runs), len(b.runs)) > 1
    if several and len({run.pool for run in (*a.runs, *b.runs)}) == 1:
        return OwnSplits(
            tuple(run.outcomes for run in a.runs),
            tuple(run.outcomes for run in b.runs),
            _mean_share([*a.runs, *b.runs]),
        )
    raise DataError(_explain_refusal(a.runs[0], b.runs[0]))


def share_images(first: Sequence[Contender], second: Sequence[Contender]) -> SharedImages:
    """Reduce runs on one test set to the images that all of them could read."""
    runs = (*first, *second)
    counted = np.ones(len(runs[0].predictions), bool)
    for run in runs:
        own = np.zeros_like(counted)
        own[run.outcomes.rows] = True
        counted &= own
    rows = np.flatnonzero(counted).tolist()
    if not rows:
        raise DataError(
            f"{runs[0].path}, {runs[-1].path}: no image is labelled and was readable for both"
        )
    kept = [build_outcomes(select_rows(run.predictions, rows)) for run in runs]
    kept = _with_equal_knowledge(kept)
    groups = [runs[0].groups[row] for row in rows]
    return SharedImages(
        first=tuple(kept[: len(first)]),
        second=tuple(kept[len(first) :]),
        units=build_units(kept[0].strata, groups),
        has_groups=any(groups),
    )


def _with_equal_knowledge(outcomes: list[Outcomes]) -> list[Outcomes]:
    """Without squared errors where one of them has none, so that sums have one layout."""
    if all(one.squared_error is not None for one in outcomes):
        return outcomes
    return [replace(one, squared_error=None) for one in outcomes]


def refuse_other_classes(contenders: Sequence[Contender]) -> None:
    """Raise `DataError` unless all runs tell the same classes apart, in the same task."""
    first = contenders[0]
    for other in contenders[1:]:
        ours, theirs = first.predictions, other.predictions
        if ours.task != theirs.task:
            raise DataError(
                f"{first.path} is {ours.task} and {other.path} is {theirs.task}: "
                "their scores mean different things. Compare runs of one task"
            )
        if ours.class_names != theirs.class_names:
            only = sorted(set(ours.class_names) ^ set(theirs.class_names))
            differ = f"{len(only)} classes are known to one alone: {', '.join(only[:_NAMED])}"
            raise DataError(
                f"{first.path} and {other.path} tell different classes apart: "
                f"{differ if only else 'the same names in another order'}. "
                "Train both on the same table"
            )


def _mean_share(runs: Sequence[Contender]) -> float:
    return float(np.mean([run.test_share for run in runs]))


def _explain_refusal(a: Contender, b: Contender) -> str:
    """Why these two cannot be compared image by image, and what to do about it."""
    start = f"{a.path} and {b.path} were not tested on the same images: "
    ours, theirs = ({image.name: image for image in run.test} for run in (a, b))
    alone = [name for name in ours if name not in theirs]
    missing = [name for name in theirs if name not in ours]
    if not alone and not missing:
        return start + _explain_difference(ours, theirs)
    named = ", ".join((alone or missing)[:_NAMED])
    start += (
        f"{len(alone)} of {len(ours)} were used by the first alone and {len(missing)} of "
        f"{len(theirs)} by the second ({named}). "
    )
    if a.pool == b.pool:
        seeds = f" (seeds {a.seed} and {b.seed})" if a.seed != b.seed else ""
        return (
            f"{start}They divide the same data differently{seeds}. Train both with the same "
            "seed or a column `split`, or several seeds of each"
        )
    return (
        f"{start}Their data differ. Score both on the same labelled images by `fieldmark evaluate "
        "RUN --data DATA`, then compare them with --split and the name it stores them under"
    )


def _explain_difference(ours: dict[str, ImageIdentity], theirs: dict[str, ImageIdentity]) -> str:
    changed = [n for n, image in ours.items() if image.content_hash != theirs[n].content_hash]
    if changed:
        return (
            f"{len(changed)} of {len(ours)} have the same name and other content "
            f"({', '.join(changed[:_NAMED])}). Restore the images and train both on them"
        )
    relabelled = [n for n, image in ours.items() if image.label != theirs[n].label]
    name = relabelled[0]
    return (
        f"{len(relabelled)} of {len(ours)} have another label, {name} is '{ours[name].label}' "
        f"for the first and '{theirs[name].label}' for the second. Train both on the same table"
    )
