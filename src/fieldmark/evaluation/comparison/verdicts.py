"""What a difference comes to, in words."""

from __future__ import annotations

import math

from scipy import stats

from fieldmark.evaluation.comparison.differences import LEVEL, POWER, Difference
from fieldmark.evaluation.metrics import is_better

OPEN = "cannot be told apart"
_OUT_OF_REACH = 10**9


def relative_change(value: float, baseline: float) -> float | None:
    """(value - baseline) / |baseline|; None where the baseline is 0."""
    return None if baseline == 0 else (value - baseline) / abs(baseline)


def judge(difference: Difference, metric: str, p_adjusted: float) -> tuple[str, int | None]:
    """The verdict about the first of the two, and the images that would settle an open one.

    So many that a true difference of this size is told with a chance of 80%, at the level that
    the correction for many comparisons leaves.
    """
    if p_adjusted < LEVEL:
        return ("better" if is_better(metric, difference.value, 0.0) else "worse"), None
    seeds = f" and {difference.num_seeds} seeds" if difference.num_seeds > 1 else ""
    start = f"{OPEN} on {difference.num_images:,} images{seeds}"
    if abs(difference.value) < 1e-12:
        return f"{start}: they score the same", None
    wanted = _wanted_variance(difference, p_adjusted)
    if difference.images == 0:
        return f"{start}; {_name_seeds(difference, wanted)}", None
    room = wanted - difference.seeds
    if room <= 0:
        return f"{start}; more seeds would be needed, not more images", None
    needed = round_up(max(1.1, difference.images / room) * difference.num_images)
    if needed > _OUT_OF_REACH:
        return f"{start}; no number of images in reach would do", None
    return f"{start}; about {needed:,} would be needed", needed


def round_up(count: float) -> int:
    """To two digits: it is an estimate."""
    unit: int = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / unit) * unit


def _wanted_variance(difference: Difference, p_adjusted: float) -> float:
    """The variance at which this difference would be told."""
    many = max(1.0, p_adjusted / difference.p_value) if difference.p_value > 0 else 1.0
    reach = stats.norm.ppf(1 - LEVEL / many / 2) + stats.norm.ppf(POWER)
    return float((difference.value / reach) ** 2)


def _name_seeds(difference: Difference, wanted: float) -> str:
    """How many seeds, for test sets that go with the seed."""
    room = wanted - difference.rest
    if room <= 0:
        return "more images would be needed, not only more seeds"
    needed = max(difference.num_seeds + 1, difference.num_seeds * difference.seeds / room)
    return f"about {math.ceil(needed):,} seeds would be needed"
